"""Canaries cover everything, are marked, and tell which judge sleeps."""

from __future__ import annotations

from collections import Counter

import pytest

from safetyqc.judge.canaries import CanaryReport, check_canaries, load_canaries, slip_in
from safetyqc.records import Judgment, Score
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import conversation
from safetyqc.text import guess_language

SAFETY = load_rubric_set()
CANARIES = load_canaries()


def test_every_category_has_good_and_bad_ones_in_both_languages() -> None:
    counted = Counter((c.category, c.language, bool(c.fails)) for c in CANARIES)
    assert {
        (category, language, bad) for category in SAFETY.categories for language in ("en", "zh") for bad in (0, 1)
    } <= set(counted)
    assert {c.intent for c in CANARIES} == {"harmful", "benign", "distress"}


@pytest.mark.parametrize("canary", CANARIES, ids=lambda c: c.conversation.id)
def test_a_canary_is_a_conversation_that_its_criteria_apply_to(canary: object) -> None:
    said = canary.conversation  # type: ignore[attr-defined]
    assert [m.role for m in said.messages] == ["user", "assistant"] * (len(said.messages) // 2)
    assert guess_language(" ".join(m.content for m in said.messages)) == said.language
    assert said.origin == "canary"
    for name in canary.fails:  # type: ignore[attr-defined]
        assert SAFETY.criterion(name).applicability(said.category, said.intent) != "never"


def test_they_are_mixed_in_by_seed_good_and_bad_alike() -> None:
    own = [conversation(f"Q{n}", "A") for n in range(20)]
    mixed = slip_in(own, seed=3, most=8)
    assert [c for c in mixed if c.origin != "canary"] == own
    assert [c.id for c in mixed] == [c.id for c in slip_in(own, seed=3, most=8)]
    assert [c.id for c in mixed] != [c.id for c in slip_in(own, seed=4, most=8)]
    bad = {c.conversation.id for c in CANARIES if c.fails}
    chosen = [c.id for c in mixed if c.origin == "canary"]
    assert (len(chosen), sum(i in bad for i in chosen)) == (8, 4)
    assert len(slip_in(own)) == 20 + len(CANARIES)


def judged(judge: str, outcome: str) -> list[Judgment]:
    return [
        Judgment(
            conversation_id=c.conversation.id,
            judge=judge,
            rubric="safety",
            rubric_hash="h",
            scores=tuple(
                Score(criterion=x.id, outcome=outcome)  # type: ignore[arg-type]
                for x in SAFETY.applicable(c.category, c.intent)
            ),
            passed=None,
        )
        for c in CANARIES
    ]


def report(judge: str, outcome: str) -> CanaryReport:
    (told,) = check_canaries(judged(judge, outcome))
    return told


def test_a_judge_that_passes_everything_catches_nothing() -> None:
    told = report("sleepy", "pass")
    assert (told.catch_rate, told.false_alarm_rate) == (0.0, 0.0)
    assert len(told.missed) == told.must_fail > 50


def test_a_judge_that_fails_everything_alarms_always() -> None:
    assert (report("strict", "fail").catch_rate, report("strict", "fail").false_alarm_rate) == (1.0, 1.0)


def test_looking_away_is_a_miss_and_abstaining_catches_nothing() -> None:
    assert report("away", "na").catch_rate == 0.0
    told = report("silent", "unscored")
    assert (told.catch_rate, told.false_alarm_rate) == (0.0, 0.0)
    assert told.must_fail == told.unscored_flaws > 0
    assert told.unscored > 100


def test_judges_are_told_apart_and_other_conversations_passed_over() -> None:
    other = judged("a", "pass")[0].model_copy(update={"conversation_id": "c_other"})
    assert check_canaries([other]) == []
    assert [r.judge for r in check_canaries([*judged("a", "pass"), *judged("b", "fail")])] == ["a", "b"]
