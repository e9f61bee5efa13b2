from __future__ import annotations

import pytest

from safetyqc.judge.card import Probed, make_card
from safetyqc.judge.compare import compare
from safetyqc.judge.spread import with_differences
from safetyqc.results.card import JudgeCard, Probes, Training
from safetyqc.results.compare import WordingDifference
from tests.judge.test_card import said, texts
from tests.judge.test_compare import judged, labelled


def carded(judge: str, **wordings: str) -> JudgeCard:
    given = {name: said(cells) for name, cells in wordings.items()}
    probed = Probed(given, Probes(sample=10, wordings=tuple(given)))
    base = [j.model_copy(update={"judge": judge}) for j in said("p" * 10)]
    return make_card(base, texts(10), training=Training(told="unknown"), probed=probed)


def difference(*cards: JudgeCard) -> WordingDifference:
    """x passes all of ten, y six of them."""
    comparison = compare([*judged("x", "p" * 10), *judged("y", "p" * 6 + "f" * 4)], labelled("p" * 10))
    found = with_differences(comparison, {card.judge: card for card in cards}).differences
    return next(d for d in found if d.criterion == "a" and d.measure == "pass rate")


FIXED = carded("y")


@pytest.mark.parametrize(
    ("lowest", "larger"), [("p" * 8 + "ff", True), ("p" * 5 + "f" * 5, False)], ids=["by 20 points", "by 50 points"]
)
def test_a_difference_counts_only_beyond_what_another_wording_takes_away(lowest: str, larger: bool) -> None:
    found = difference(carded("x", shipped="p" * 10, brief=lowest), FIXED)
    assert found.difference == pytest.approx(0.4)
    assert found.wording == pytest.approx(lowest.count("f") / 10)
    assert found.is_larger is larger


def test_both_judges_wordings_close_the_gap_together() -> None:
    found = difference(
        carded("x", shipped="p" * 10, brief="p" * 7 + "fff"),
        carded("y", shipped="p" * 6 + "f" * 4, brief="p" * 8 + "ff"),
    )
    assert found.wording == pytest.approx(0.3 + 0.2)
    assert found.is_larger is False


def test_a_wording_that_widens_the_gap_does_not_excuse_it() -> None:
    assert difference(FIXED, carded("x", shipped="p" * 6 + "f" * 4, brief="p" * 10)).is_larger is True


def test_of_a_judge_without_a_card_nothing_is_known() -> None:
    assert difference(carded("x", shipped="p" * 10, brief="p" * 10)).is_larger is None


def test_without_cards_or_by_another_rubric_nothing_is_said() -> None:
    comparison = compare([*judged("x", "ppp"), *judged("y", "ppf")])
    other = carded("x", shipped="pp", brief="pp").model_copy(update={"rubric_hash": "other"})
    assert with_differences(comparison, {}).differences == ()
    assert with_differences(comparison, {"x": other}).differences == ()


def test_where_the_shipped_wording_scored_nothing_no_other_stands_in_for_it() -> None:
    silent = carded("x", shipped="u" * 10, brief="p" * 10, formal="p" * 8 + "ff")
    assert difference(silent, FIXED).is_larger is None
