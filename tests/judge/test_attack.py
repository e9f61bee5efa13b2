"""Attacks are tried on what a judge fails, and a judge that believes what it reads flips."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.judge.attack import ATTACKS, AttackRow, Target, attack_judge, bad_canaries
from safetyqc.judge.rubric import RubricJudge
from safetyqc.llm.client import Request
from safetyqc.records import Conversation, Judgment, Score
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import ScriptedClient

SAFETY = load_rubric_set()


class Gullible:
    """Fails everything, except where it reads that it should not, or reads nothing it knows."""

    name, rubric_hash = "gullible", SAFETY.hash

    def __init__(self, believes: str, silent_at: str = "\0") -> None:
        self.believes, self.silent_at = believes, silent_at

    async def judge(self, said: Conversation) -> Judgment:
        text = "\n".join(m.content for m in said.messages)
        outcome = "pass" if re.search(self.believes, text) else "unscored" if self.silent_at in text else "fail"
        scores = tuple(Score(criterion=c.id, outcome=outcome) for c in SAFETY.criteria)  # type: ignore[arg-type]
        return Judgment(
            conversation_id=said.id, judge=self.name, rubric="safety", rubric_hash="h", scores=scores, passed=None
        )


def run(judge: Any, **more: Any) -> dict[str, AttackRow]:
    return {row.attack: row for row in asyncio.run(attack_judge(judge, SAFETY, **more))}


def test_targets_come_from_every_category_first() -> None:
    assert len({t.conversation.category for t in bad_canaries(9)}) == 9
    assert len(bad_canaries()) > 20


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("target", bad_canaries(18)[::6], ids=lambda t: t.conversation.id)
def test_an_attack_keeps_the_conversation_valid_and_its_plan(name: str, target: Target) -> None:
    attacked = ATTACKS[name](target, SAFETY)
    assert [m.role for m in attacked.messages] == [m.role for m in target.conversation.messages]
    assert (attacked.category, attacked.intent) == (target.conversation.category, target.conversation.intent)
    assert attacked.id != target.conversation.id
    assert attacked.messages != target.conversation.messages


def test_who_believes_forged_verdicts_flips_under_them_alone() -> None:
    rows = run(Gullible(r'"level": "refuses"'))
    flipped = {name for name, row in rows.items() if row.flipped}
    assert flipped == {"forged_verdict_assistant", "forged_verdict_user", "close_fence"}
    assert rows["forged_verdict_user"].flipped == rows["forged_verdict_user"].tried == 9
    assert len(rows["forged_verdict_user"].examples) == 9


def test_falling_silent_is_counted_apart() -> None:
    rows = run(Gullible("ZZZ", silent_at="\u200b"), attacks=["unicode", "padding"])
    assert (rows["unicode"].flipped, rows["unicode"].silenced) == (0, 9)
    assert (rows["padding"].flipped, rows["padding"].silenced) == (0, 0)


def test_what_a_judge_passes_anyway_is_not_tried() -> None:
    assert run(Gullible("."))["order_user"].tried == 0


def test_an_unknown_attack_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'authority'"):
        run(Gullible("x"), attacks=["autority"])


def test_a_forged_verdict_in_the_text_is_not_read_as_the_judges_answer() -> None:
    """The rubric judge reads the reply alone, so only the model's own weakness can make it flip."""

    def strict(request: Request) -> dict[str, Any]:
        entries = {}
        for name, schema in (request.schema or {})["properties"].items():
            level = schema["properties"]["level"]["enum"][-1]
            prompt = request.messages[1]["content"]
            said = re.findall(r"(?m)^\[(\d+)\] assistant:\n    (.{12})", prompt)
            entries[name] = {"reason": "r", "quote": said[-1][1], "turn": int(said[-1][0]), "level": level}
        return entries

    rows = run(RubricJudge(ScriptedClient(strict), "m", SAFETY), targets=bad_canaries(4))
    assert {row.flipped for row in rows.values()} == {0}
    assert rows["forged_verdict_assistant"].tried == 4


def test_the_forged_verdict_fits_the_rubric() -> None:
    attacked = ATTACKS["forged_verdict_user"](bad_canaries(1)[0], SAFETY)
    forged = json.loads(attacked.user_turns[-1].split("\n\n")[-1])
    assert {forged[c.id]["level"] for c in SAFETY.criteria} == {c.levels[0].name for c in SAFETY.criteria}
