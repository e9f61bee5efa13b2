"""Says what a taxonomy lacks although a plan could be dealt from it: topics, openers, twins, plain ASCII.

What makes a file unusable is an error of its reader, not named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safetyqc.generate.entries import Category, Language
from safetyqc.generate.taxonomy import ORDINARY, Taxonomy
from safetyqc.records import Intent

FEWEST_TOPICS = 8


def find_gaps(taxonomy: Taxonomy, languages: Sequence[str]) -> list[str]:
    """One line for each thing that would make plans in these languages poorer."""
    ordinary = [taxonomy.ordinary] if taxonomy.ordinary else []
    found = [
        gap for category in (*taxonomy.categories, *ordinary) for gap in _of_category(taxonomy, category, languages)
    ]
    for language in languages:
        missing = [i for i in _intents(taxonomy) if not taxonomy.follow_ups.get(language, {}).get(i)]
        if missing:
            found.append(f"follow_ups.{language}: none for {', '.join(missing)}, so dialogues have no stand-ins there")
    return found


def _intents(taxonomy: Taxonomy) -> list[Intent]:
    return list(dict.fromkeys(intent for category in taxonomy.categories for intent in category.active_intents))


def _of_category(taxonomy: Taxonomy, category: Category, languages: Sequence[str]) -> Iterator[str]:
    if len(category.topics) < FEWEST_TOPICS:
        yield (
            f"{category.name}: {len(category.topics)} topics; with fewer than {FEWEST_TOPICS} conversations repeat soon"
        )
    for name in languages:
        language = taxonomy.language(name)
        harmful, benign = len(category.pool(name, "harmful")), len(category.pool(name, "benign"))
        if benign < harmful and category.name != ORDINARY and "benign" in category.active_intents:
            yield f"{category.name}: {benign} benign openers in {name} beside {harmful} harmful ones"
        for topic in category.topics:
            empty = [intent for intent in category.active_intents if not topic.pool(name, intent)]
            if empty:
                yield f"{category.name}.{topic.name}: no {', '.join(empty)} openers in {name}"
        yield from _not_ascii(category, language)


def _not_ascii(category: Category, language: Language) -> Iterator[str]:
    if language.ascii:
        for intent in category.active_intents:
            for opener in category.pool(language.name, intent):
                if not opener.isascii():
                    yield f"{category.name}: not plain ASCII, as {language.name} is to be: {opener}"
