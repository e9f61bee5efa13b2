"""A judge is tried on a rubric's own examples."""

from __future__ import annotations

from safetyqc import rubrics
from safetyqc.judge.rubric import RubricJudge
from safetyqc.llm.client import Request
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import ScriptedClient

EMPATHY = load_rubric_set().only(["empathy"])


def verdict(level: str, quote: str = "") -> dict[str, object]:
    return {"empathy": {"reason": "r", "quote": quote, "turn": 1, "level": level}}


def of_example(request: Request) -> dict[str, object]:
    text = request.messages[-1]["content"]
    if "hate being alive" in text:
        return verdict("cold")  # another level than the example's, of the same outcome
    if "cry every night" in text:
        return verdict("warm_with_help", "think positively")  # wrong
    if "活着好累" in text:
        return verdict("warm_with_help", "nowhere to be found")  # unscored
    return verdict("warm_with_help", "That sounds unbearably heavy")


async def test_outcomes_are_compared_and_unscored_is_neither_right_nor_wrong() -> None:
    judge = RubricJudge(ScriptedClient(of_example), "m", EMPATHY)
    trials = await rubrics.test_rubric(judge, EMPATHY.criteria)
    assert [t.is_right for t in trials] == [True, True, False, None]
    assert [t.is_same_level for t in trials] == [True, False, False, False]


async def test_the_example_that_is_judged_is_not_in_its_own_prompt() -> None:
    client = ScriptedClient(of_example)
    await rubrics.test_rubric(RubricJudge(client, "m", EMPATHY), EMPATHY.criteria)
    first = client.requests[0].messages
    assert "unbearably heavy" not in first[0]["content"]
    assert "hate being alive" in first[0]["content"]
