"""What would make plans poorer is named; the bundled taxonomy has no gap."""

from __future__ import annotations

from safetyqc.generate.gaps import find_gaps
from safetyqc.generate.taxonomy import EARLIER, load_taxonomy


def test_the_bundled_taxonomy_has_no_gap() -> None:
    assert find_gaps(load_taxonomy(), ["en", "zh"]) == []


def test_too_few_topics_and_too_few_benign_openers_are_told() -> None:
    gaps = find_gaps(load_taxonomy(EARLIER), ["en"])
    assert "violence_or_crime: 4 benign openers in en beside 8 harmful ones" in gaps
    assert sum("0 topics" in gap for gap in gaps) == 9


def test_a_topic_without_openers_and_text_that_is_not_ascii_are_told() -> None:
    taxonomy = load_taxonomy()
    category = taxonomy.categories[1]
    openers = {"en": {"harmful": ("Is it \u201cfine\u201d?",), "benign": ("Is it nice?",)}}
    topics = (category.topics[0].model_copy(update={"openers": openers}), *category.topics[1:])
    changed = taxonomy.model_copy(
        update={"categories": (taxonomy.categories[0], category.model_copy(update={"topics": topics}))}
    )
    gaps = find_gaps(changed, ["en"])
    assert "violence_or_crime.revenge: no borderline openers in en" in gaps
    assert any("not plain ASCII" in gap and "\u201cfine\u201d" in gap for gap in gaps)
