"""A promise holds as often as it says, and none is made where labels are too few."""

from __future__ import annotations

import random

import pytest

from safetyqc.judge.promise import labels_needed, promise


def test_the_fewest_labels_are_told() -> None:
    assert labels_needed(0.9, 0.95) == 29
    told = promise("c", [(0.9, True)] * 28)
    assert told.min_certainty is None
    assert "28 labels are too few" in told.why
    assert "at least 29" in told.why


def test_perfect_agreement_promises_everything() -> None:
    told = promise("c", [(0.5 + i / 200, True) for i in range(100)])
    assert told.min_certainty == 0.5
    assert (told.kept, told.agreement) == (100, 1.0)


def test_a_judge_that_is_often_wrong_when_sure_gets_no_promise() -> None:
    told = promise("c", [(1.0, i % 4 > 0) for i in range(200)])
    assert told.min_certainty is None
    assert "150 agree" in told.why


def test_the_unsure_part_is_escalated_and_the_sure_part_kept() -> None:
    sure, unsure = [(0.95, True)] * 100, [(0.6, i % 2 == 0) for i in range(100)]
    told = promise("c", [*sure, *unsure])
    assert told.min_certainty == 0.95
    assert told.kept == 100


def test_cells_of_equal_certainty_stand_or_fall_together() -> None:
    told = promise("c", [(1.0, True)] * 300)
    assert told.kept == 300


def test_few_labels_start_where_fewer_slips_are_borne_and_the_unsure_ones_are_not_counted() -> None:
    sure, unsure = [(0.95 - i / 1000, True) for i in range(40)], [(0.6, i % 2 == 0) for i in range(14)]
    told = promise("c", [*sure, *unsure])
    assert told.min_certainty == sure[-1][0]
    assert (told.kept, told.agreement) == (40, 1.0)


@pytest.mark.parametrize("labels", [50, 150])
@pytest.mark.parametrize("judge", ["steady", "graded"])
def test_a_promise_is_broken_at_most_as_often_as_it_may_be(judge: str, labels: int) -> None:
    """Over many draws of labels, the true agreement of what is kept is below 0.9 in at most 5% (and noise)."""
    rng = random.Random(7)
    broken = made = 0
    for _ in range(600):
        certainties = [rng.uniform(0.5, 1) for _ in range(labels)]

        def truth(certainty: float) -> float:
            return 0.89 if judge == "steady" else 0.55 + 0.42 * (certainty - 0.5) / 0.5

        told = promise("c", [(c, rng.random() < truth(c)) for c in certainties])
        if told.min_certainty is None:
            continue
        made += 1
        limit = told.min_certainty
        # Mean agreement over a uniform certainty from the threshold to 1
        broken += truth((limit + 1) / 2) < 0.9
    assert broken / 600 <= 0.07
    assert made > 0
