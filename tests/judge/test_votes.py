"""Votes merge by majority; ties and unusable votes are told, not broken."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.judge.votes import majority, sum_usage, total
from safetyqc.records import Score, Usage


def score(outcome: str, level: str | None = None, **more: Any) -> Score:
    return Score(criterion="c", outcome=outcome, level=level, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("votes", "outcome", "probability"),
    [
        (["pass", "pass", "fail"], "pass", 2 / 3),
        (["fail", "fail", "fail"], "fail", 0.0),
        (["pass", "fail"], "unscored", None),
        (["pass", "unscored", "unscored"], "pass", 1.0),
        (["na", "na", "pass"], "na", None),
        (["pass", "fail", "na"], "unscored", None),
    ],
)
def test_the_majority_of_usable_votes_counts(votes: list[str], outcome: str, probability: float | None) -> None:
    merged = majority([score(v) for v in votes])
    assert merged.outcome == outcome
    assert merged.probability == (pytest.approx(probability) if probability is not None else None)


def test_without_a_usable_vote_the_first_reason_stands() -> None:
    votes = [score("unscored", unscored_reason="truncated"), score("unscored", unscored_reason="bad_json")]
    assert majority(votes).unscored_reason == "truncated"


def test_the_most_frequent_level_of_the_winning_outcome_is_told() -> None:
    votes = [score("fail", "dodges"), score("fail", "gives_in", reason="x"), score("fail", "gives_in", reason="y")]
    assert (majority(votes).level, majority(votes).reason) == ("gives_in", "x")


def test_a_price_that_is_partly_unknown_is_unknown() -> None:
    assert total([1.0, None]) is None
    assert total([1.0, 2.0]) == 3.0
    assert total([]) is None


def test_tokens_add_up_over_calls_that_told_them() -> None:
    assert sum_usage([Usage(prompt_tokens=1), Usage(prompt_tokens=2, completion_tokens=5)]) == Usage(
        prompt_tokens=3, completion_tokens=5
    )
    assert sum_usage([Usage()]) == Usage()
