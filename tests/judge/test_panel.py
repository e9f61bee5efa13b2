"""A panel combines what its members say and never lets an abstention decide."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from safetyqc.errors import Deferred, FatalModelError, NotComparableError, UserError
from safetyqc.judge.panel import RULES, PanelJudge, combine
from safetyqc.records import Conversation, Judgment, Score
from safetyqc.rubrics import RubricSet, load_rubric_set
from safetyqc.testing import conversation

ONE = load_rubric_set().only(["no_dangerous_steps"])


def score(outcome: str, **more: Any) -> Score:
    return Score(criterion="no_dangerous_steps", outcome=outcome, **more)  # type: ignore[arg-type]


def judgment(name: str, said: Score, **more: Any) -> Judgment:
    return Judgment(
        conversation_id="c", judge=name, rubric=ONE.id, rubric_hash=ONE.hash, scores=(said,), passed=None, **more
    )


class Fixed:
    """Always says the same."""

    def __init__(self, name: str, said: Score, rubric_set: RubricSet = ONE) -> None:
        self.name, self.said, self.rubric_hash = name, said, rubric_set.hash

    async def judge(self, conversation: Conversation) -> Judgment:
        return judgment(self.name, self.said)


class Failing(Fixed):
    """Never says anything."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name, score("pass"))
        self.error = error

    async def judge(self, conversation: Conversation) -> Judgment:
        raise self.error


async def test_a_member_that_waits_for_a_batch_hides_no_member_that_cannot_work() -> None:
    waiting, hopeless = Failing("a", Deferred("goes with a batch")), Failing("b", FatalModelError("wrong key"))
    with pytest.raises(FatalModelError, match="wrong key"):
        await PanelJudge([waiting, hopeless], ONE).judge(conversation())
    with pytest.raises(Deferred):
        await PanelJudge([Fixed("c", score("pass")), waiting], ONE).judge(conversation())


TABLE = [
    ("majority", ["pass", "pass", "fail"], "pass"),
    ("majority", ["pass", "fail"], "unscored"),
    ("majority", ["pass", "unscored"], "pass"),
    ("any-fail", ["pass", "pass", "fail"], "fail"),
    ("any-fail", ["pass", "pass"], "pass"),
    ("any-fail", ["pass", "unscored"], "unscored"),
    ("any-fail", ["fail", "unscored"], "fail"),
    ("mean", ["pass", "pass", "fail"], "pass"),
    ("mean", ["pass", "fail"], "unscored"),
    ("mean", ["na", "na", "pass"], "na"),
    ("mean", ["unscored", "fail"], "fail"),
]


@pytest.mark.parametrize(("rule", "said", "outcome"), TABLE)
def test_each_rule_decides_as_it_says(rule: Any, said: list[str], outcome: str) -> None:
    members = [judgment(str(n), score(s)) for n, s in enumerate(said)]
    assert combine(members, ONE, rule=rule, name="p").scores[0].outcome == outcome


@pytest.mark.parametrize("rule", list(RULES))
def test_a_panel_that_nobody_answered_is_unscored(rule: Any) -> None:
    members = [judgment("a", score("unscored", unscored_reason="truncated"))] * 2
    combined = combine(members, ONE, rule=rule, name="p")
    assert combined.scores[0].unscored_reason == "truncated"
    assert combined.passed is None


def test_the_mean_weighs_probabilities() -> None:
    members = [judgment("a", score("pass", probability=0.55)), judgment("b", score("fail", probability=0.1))]
    combined = combine(members, ONE, rule="mean", name="p").scores[0]
    assert (combined.outcome, combined.value) == ("fail", pytest.approx(0.325))


def test_members_outcomes_costs_and_the_slowest_time_are_kept() -> None:
    members = [
        judgment("a", score("pass"), cost_usd=1.0, latency_s=2.0),
        judgment("b", score("fail"), cost_usd=0.5, latency_s=3.0),
    ]
    combined = combine(members, ONE, rule="any-fail", name="p")
    assert combined.settings["members"] == {"a": {"no_dangerous_steps": "pass"}, "b": {"no_dangerous_steps": "fail"}}
    assert (combined.cost_usd, combined.latency_s, combined.passed) == (1.5, 3.0, False)


def test_a_panel_asks_all_its_members() -> None:
    panel = PanelJudge([Fixed("a", score("pass")), Fixed("b", score("pass"))], ONE)
    assert asyncio.run(panel.judge(conversation("Q", "A"))).passed is True
    assert panel.name == "majority(a, b)"


def test_a_panel_that_cannot_work_is_refused() -> None:
    one, other = Fixed("a", score("pass")), Fixed("b", score("pass"), load_rubric_set())
    with pytest.raises(NotComparableError, match="rubric"):
        PanelJudge([one, other], ONE)
    with pytest.raises(UserError, match="two or more different"):
        PanelJudge([one, one], ONE)
    with pytest.raises(UserError, match="did you mean 'majority'"):
        PanelJudge([one, Fixed("b", score("pass"))], ONE, rule="majorty")  # type: ignore[arg-type]


def test_who_never_scores_a_criterion_has_no_voice_on_it() -> None:
    mute = judgment("mute", score("unscored", unscored_reason="not_reliable"))
    for outcome in ("pass", "fail"):
        for rule in RULES:
            combined = combine([mute, judgment("a", score(outcome))], ONE, rule=rule, name="p")
            assert combined.scores[0].outcome == outcome
    assert combine([mute, mute], ONE, rule="any-fail", name="p").scores[0].unscored_reason == "not_reliable"
