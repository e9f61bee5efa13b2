"""Answers of a probe -> verdicts: what is known at once, by words, and by each judge that was named.

A judge sees an answer as a conversation with the prompt's own intent; equal answers are judged once. Nothing here joins
the run: what a judge says of a probe is no verdict on the run's conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError
from safetyqc.pipeline.order import make_judges
from safetyqc.probe.exchange import conversation_of
from safetyqc.probe.outcomes import WORDS, by_judgment, by_words, instant
from safetyqc.results.probe import Answer, Prompt, Verdict
from safetyqc.rubrics import load_rubric_set

if TYPE_CHECKING:
    from safetyqc.pipeline.probe_arms import ArmPlan
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.tasks import Judging
    from safetyqc.records import Conversation, Judgment


async def make_probe_judges(session: Session, specs: Sequence[str]) -> dict[str, Judging | None]:
    """The judges by the names that verdicts carry; `words` is none that could be asked."""
    rubric = load_rubric_set(session.config.judge.rubric)
    named: dict[str, Judging | None] = {}
    for spec in specs:
        if spec == WORDS:
            named[WORDS] = None
            continue
        (task,) = await make_judges(session, rubric, [spec])
        named[task.judge(session.mapper.context).name] = task
    return named


async def judge_arms(
    session: Session, arms: Sequence[ArmPlan], prompts: Sequence[Prompt], judges: dict[str, Judging | None]
) -> int:
    """Give every answer its verdict by every judge; returns how many verdicts wait for a batch."""
    known = {prompt.id: prompt for prompt in prompts}
    waiting = 0
    exchanges: dict[str, Conversation] = {}
    for arm in arms:
        arm.answers = [_settled(known[answer.prompt], answer, judges) for answer in arm.answers]
        exchanges |= {c.id: c for answer in arm.answers if (c := _open(known[answer.prompt], answer)) is not None}
    for name, task in judges.items():
        if task is None:
            continue
        said: dict[str, Judgment | ModelError] = {}
        async for conversation, outcome in session.mapper.map("judge the answers", list(exchanges.values()), task):
            said[conversation.id] = outcome
        waiting += session.mapper.deferred
        for arm in arms:
            arm.answers = [_judged(known[answer.prompt], answer, name, said) for answer in arm.answers]
    return waiting


def _settled(prompt: Prompt, answer: Answer, judges: dict[str, Judging | None]) -> Answer:
    """With the verdicts that need no asking."""
    at_once = instant(prompt, answer)
    if at_once is not None:
        return answer.model_copy(update={"verdicts": dict.fromkeys(judges, at_once)})
    words = {WORDS: by_words(prompt, answer)} if WORDS in judges else {}
    return answer.model_copy(update={"verdicts": words})


def _open(prompt: Prompt, answer: Answer) -> Conversation | None:
    """The exchange that judges have to see; None where all is known."""
    return None if instant(prompt, answer) else conversation_of(prompt, answer)


def _judged(prompt: Prompt, answer: Answer, judge: str, said: dict[str, Judgment | ModelError]) -> Answer:
    if judge in answer.verdicts or (found := said.get(conversation_of(prompt, answer).id)) is None:
        return answer
    if isinstance(found, ModelError):
        verdict = Verdict(outcome="unscored", why=found.reason, unscored_reason=found.kind)
    else:
        verdict = by_judgment(prompt, answer, found)
    return answer.model_copy(update={"verdicts": answer.verdicts | {judge: verdict}})
