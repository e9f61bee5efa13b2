from __future__ import annotations

import numpy as np
import pytest

from safetyqc.judge.compare import compare
from safetyqc.judge.grouped import compare_groups
from safetyqc.judge.ratings import align
from safetyqc.records import Judgment, Label, Score
from safetyqc.results.compare import OVERALL, POOLED, GroupedBy

CRITERIA = "abc"


def judgment(judge: str, number: int, cells: str) -> Judgment:
    outcomes = {"p": "pass", "f": "fail", "u": "unscored", "n": "na"}
    scores = tuple(
        Score(criterion=c, outcome=outcomes[o], unscored_reason="bad_json" if o == "u" else None)  # type: ignore[arg-type]
        for c, o in zip(CRITERIA, cells, strict=False)
    )
    passed = False if "f" in cells else None if "u" in cells else True
    return Judgment(
        conversation_id=f"c{number}", judge=judge, rubric="r", rubric_hash="h", scores=scores, passed=passed
    )


def label(number: int, outcome: str) -> Label:
    return Label.model_validate({"conversation_id": f"c{number}", "criterion": "a", "outcome": outcome})


def grouped(judgments: list[Judgment], labels: list[Label], groups: dict[str, str], **given: object) -> GroupedBy:
    comparison = compare(judgments, labels, resamples=50)
    return compare_groups(comparison, align(judgments, labels), "language", groups, set(given))


def test_each_group_has_the_figures_of_a_comparison_of_its_conversations_alone() -> None:
    cells = ["p", "f", "u", "p", "p", "f", "n", "p"]
    judged = [judgment("x", n, cell) for n, cell in enumerate(cells)]
    labels = [label(n, "pass") for n in range(len(cells))]
    groups = {f"c{n}": "zh" if n % 2 else "en" for n in range(len(cells))}
    found = grouped(judged, labels, groups, c0=True, c1=True, c2=True)
    assert [(g.name, g.conversations, g.guessed) for g in found.groups] == [("en", 4, 2), ("zh", 4, 1)]
    for group in found.groups:
        own = [j for j in judged if groups[j.conversation_id] == group.name]
        alone = compare(own, [x for x in labels if groups[x.conversation_id] == group.name], resamples=50)
        assert [c.model_copy(update={"corrected": ()}) for c in alone.criteria] == list(group.criteria)
    english = found.groups[0].criterion("a")
    assert english is not None
    assert english.counts[0].unscored_by_reason == {"bad_json": 1}


def test_a_group_that_differs_is_told_with_how_far_and_for_how_many_rates_that_is_adjusted() -> None:
    judged = [judgment("x", n, "f" if n < 30 and n % 3 else "p") for n in range(120)]
    labels = [label(n, "pass") for n in range(120)]
    groups = {f"c{n}": ("ar", "en", "zh")[min(n // 30, 2)] for n in range(120)}
    found = grouped(judged, labels, groups)
    assert {(d.group, d.criterion, d.measure) for d in found.unlike} >= {
        ("ar", "a", "pass rate"),
        ("ar", "a", "agreement with labels"),
    }
    (worst,) = (d for d in found.unlike if (d.group, d.criterion, d.measure) == ("ar", "a", "pass rate"))
    assert worst.difference.value == pytest.approx(10 / 30 - 1)
    assert worst.difference.high < 0
    # three groups of pass rate and agreement, on the criterion and on whole conversations, whose label follows
    assert found.tests == 3 * 2 * 2
    assert found.groups[0].criterion(OVERALL) is not None


def test_of_two_groups_each_is_the_rest_of_the_other_so_that_one_is_held_against_it() -> None:
    judged = [judgment("x", n, "p" if n % 4 else "f") for n in range(40)]
    found = grouped(judged, [], {f"c{n}": "ab"[n % 2] for n in range(40)})
    assert found.tests == 2  # the criterion's pass rate, and that of whole conversations


@pytest.mark.parametrize("tied", [False, True])
def test_of_equal_groups_hardly_any_comparison_calls_one_unlike(tied: bool) -> None:
    """At most one comparison in twenty, also where the cells of a conversation stand or fall together."""
    random, alarms, draws = np.random.default_rng(7), 0, 80
    groups = {f"c{n}": "abcdef"[n % 6] for n in range(120)}
    for _ in range(draws):
        passes = random.random((120, 1 if tied else 3)) < 0.8
        cells = np.broadcast_to(passes, (120, 3))
        judged = [judgment("x", n, "".join("fp"[int(p)] for p in row)) for n, row in enumerate(cells)]
        comparison = compare(judged, resamples=2)
        assert comparison.criterion(POOLED) is not None
        alarms += bool(compare_groups(comparison, align(judged), "type", groups, ()).unlike)
    assert alarms <= 0.05 * draws + 2  # two standard errors of 80 draws


def test_a_criterion_that_nobody_was_asked_within_a_group_is_no_error() -> None:
    judged = [judgment("x", n, "pp" if n < 5 else "p") for n in range(10)]
    found = grouped(judged, [], {f"c{n}": "ab"[n >= 5] for n in range(10)})
    second = found.groups[1].criterion("b")
    assert second is None or second.counts == ()
