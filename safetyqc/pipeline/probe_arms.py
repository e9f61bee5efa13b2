"""The models of a probe -> their answers: asked through the run's door, read from a file, or taken from a probe.

What an arm's names mean is decided here: `answers:FILE`, a probe that the run keeps or a file holds, or a model. Every
answer is written down as it comes, so a probe that was stopped goes on. It judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from safetyqc.errors import InputError, ModelError, UserError
from safetyqc.pipeline.choices import places_of, price_table
from safetyqc.pipeline.estimate import StageEstimate
from safetyqc.probe.answers import KIND, AnswerFile, read_answers
from safetyqc.probe.asking import SAMPLED, Asked, Speaker
from safetyqc.records import stable_id
from safetyqc.results.probe import Answer, ArmName, ProbeResult, Prompt

if TYPE_CHECKING:
    from safetyqc.pipeline.engine import Context
    from safetyqc.pipeline.session import Session

_ANSWER_TOKENS = 200


@dataclass(frozen=True)
class Probing:
    """A prompt in, a model's answer out: a task for any engine."""

    speaker: Speaker

    asks = True

    async def do(self, item: Asked, context: Context) -> Answer:
        """See Task; costs a call a turn."""
        return await self.speaker.answer(item, context.client)


@dataclass(frozen=True)
class Member:
    """One training run of an arm: a speaker that is asked, a file of answers, or an earlier probe."""

    name: str
    speaker: Speaker | None = None
    file: AnswerFile | None = None
    probe: ProbeResult | None = None

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that came with its answers."""
        return self.file.prompts if self.file else list(self.probe.prompts) if self.probe else []


@dataclass
class ArmPlan:
    """An arm before it is asked."""

    name: ArmName
    members: list[Member]
    answers: list[Answer] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """Its models, one for each training run."""
        return [member.name for member in self.members]


def plan_arm(session: Session, name: ArmName, specs: Sequence[str], order: Sequence[Prompt]) -> ArmPlan:
    """Find out what an arm's names mean.

    Raises:
        UserError: a judge where a model is meant, or a file that cannot be used.
    """
    return ArmPlan(name, [_member(session, spec, order) for spec in specs])


def _member(session: Session, spec: str, order: Sequence[Prompt]) -> Member:
    from safetyqc.judge.table import check_writer

    if (kept := session.store.probes().get(spec)) is not None:
        return Member(spec, probe=_probe(kept, f"{session.config.run} ({spec})"))
    if spec.startswith(KIND):
        file = read_answers(spec, order)
        return Member(f"{KIND}{file.name}", file=file)  # without its folder: results are handed on
    if Path(spec).is_file():
        return Member(Path(spec).name, probe=_read_probe(spec))
    check_writer(spec)
    settings = session.config.probe
    warm = SAMPLED if settings.samples > 1 else 0.0
    return Member(
        spec,
        Speaker(
            spec,
            session.config.models.api_base,
            warm if settings.temperature is None else settings.temperature,
            settings.max_tokens,
        ),
    )


def _read_probe(path: str) -> ProbeResult:
    from safetyqc.formats.opened import read_text

    try:
        return _probe(json.loads(read_text(path)), path)
    except ValueError as error:
        fix = f"give a file of `safetyqc probe --json`, or answers:{path} for a model's answers"
        raise InputError("is no probe", path=path, fix=fix) from error


def _probe(value: object, where: str) -> ProbeResult:
    try:
        return ProbeResult.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise UserError(f"is no probe of this version: {at}: {first['msg']}", where=where, fix="probe again") from error


def missing_asks(session: Session, arm: ArmPlan, prompts: Sequence[Prompt]) -> dict[int, list[Asked]]:
    """What the arm's models have still to be asked, by training run; known answers join the arm."""
    fresh, samples = session.config.models.fresh, session.config.probe.samples
    left: dict[int, list[Asked]] = {}
    for run, member in enumerate(arm.members):
        if member.speaker is None:
            arm.answers += _read(member, run, prompts)
            continue
        known = {} if fresh else session.store.probe_answers(_key(member.speaker))
        for asked in (Asked(prompt, run, sample) for prompt in prompts for sample in range(samples)):
            if (told := known.get(asked.key)) is not None:
                arm.answers.append(Answer.model_validate(told).model_copy(update={"run": run}))
            else:
                left.setdefault(run, []).append(asked)
    return left


def _read(member: Member, run: int, prompts: Sequence[Prompt]) -> list[Answer]:
    wanted = {prompt.id for prompt in prompts}
    if member.file:
        found = member.file.to(prompts)
    else:
        found = [a for a in member.probe.answers.get("model", ()) if a.prompt in wanted] if member.probe else []
    if not found:
        fix = "ask for the prompts that it answers: --prompts FILE, or leave --prompts out"
        raise UserError("answers none of the prompts", where=member.name, fix=fix)
    # Where one file holds several training runs they are the arm's, one after the other
    return [answer.model_copy(update={"run": run + answer.run, "verdicts": {}}) for answer in found]


async def ask_arm(session: Session, arm: ArmPlan, left: dict[int, list[Asked]]) -> int:
    """Ask what is missing; returns how many answers wait for a batch."""
    waiting = 0
    for run, todo in left.items():
        speaker = arm.members[run].speaker
        if speaker is None:
            continue
        key, store = _key(speaker), session.store
        stage = f"probe {arm.name}" if arm.name != "model" else "probe"
        already = sum(answer.run == run for answer in arm.answers)
        async for asked, said in session.mapper.map(stage, todo, Probing(speaker), already=already):
            answer = said if isinstance(said, Answer) else _failed(asked, said)
            if answer.failure is None:
                store.put_probe_answers(key, {asked.key: answer.model_dump(mode="json")}).result()
            arm.answers.append(answer)
        waiting += session.mapper.deferred
    return waiting


def _failed(asked: Asked, error: ModelError) -> Answer:
    return Answer(prompt=asked.prompt.id, run=asked.run, sample=asked.sample, failure=error.kind, reason=error.reason)


def _key(speaker: Speaker) -> str:
    return stable_id("m", [speaker.model, speaker.api_base, speaker.temperature, speaker.max_tokens])


def estimate_arm(
    session: Session, arm: ArmPlan, left: dict[int, list[Asked]], count: Callable[[str], int]
) -> list[StageEstimate]:
    """What asking the rest of an arm will take, a line for each of its models."""
    lines = []
    for run, member in enumerate(arm.members):
        if member.speaker is None:
            continue
        todo, model = left.get(run, []), member.speaker.model
        calls = sum(len(asked.prompt.turns) for asked in todo)
        # A later turn is asked with all that was said before
        read = sum(
            sum(map(count, a.prompt.turns[: n + 1])) + n * _ANSWER_TOKENS
            for a in todo
            for n in range(len(a.prompt.turns))
        )
        expected = price_table(session.config).estimate(
            model,
            calls=calls,
            prompt_tokens=read // max(calls, 1),
            completion_tokens=min(_ANSWER_TOKENS, member.speaker.max_tokens),
            api_base=places_of(session.config).base(model),
        )
        already = sum(answer.run == run for answer in arm.answers)
        lines.append(StageEstimate(f"probe {arm.name}", model, len(todo), already, expected))
    return lines
