"""Runs one stage over a run: finds what is left to do, has it done, writes every result as it comes.

Each function can be interrupted at any moment and called again; it then goes on with what is missing: nothing is marked
as done, what is left is worked out from the records themselves. No function here calls another stage's function: their
order is `pipeline.order`'s business.
"""

from __future__ import annotations

import shlex
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.pipeline.engine import describe
from safetyqc.records import PASSES_LATER, Conversation, Failure, FailureKind, Judgment, Rejection, Scenario, Score
from safetyqc.store.standing import deciding_judge
from safetyqc.store.unread import Unread
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.pipeline.known import Known
    from safetyqc.pipeline.mapper import Mapper
    from safetyqc.pipeline.tasks import Filtering, Judging, Writing
    from safetyqc.pipeline.waves import Waves
    from safetyqc.store import Store

REDRAW_HELPS: frozenset[FailureKind] = frozenset(
    {"refused_by_model", "filtered_by_provider", "truncated", "bad_json", "bad_structure", "duplicate"}
)
"""Failures that other openers may avoid; a network error is not one of them."""

_TRIED = 10
"""First conversations of a judge that has given no verdict yet: nothing usable in all of them ends the run."""
_UNUSABLE = frozenset(get_args(FailureKind)) - {
    *("defect", "duplicate", "not_reliable", "unsure", "not_shown", "tie", "not_recorded")
}
_WRITTEN_TOGETHER = 20_000
"""Conversations whose hits are written together, in the run's order; what was looked at before a stop stays."""
_ASKED_AGAIN = PASSES_LATER | {"not_recorded"}
"""A file of verdicts may have grown since, and looking costs nothing."""


@dataclass(frozen=True)
class Tally:
    """What one call of a stage did.

    Args:
        already: results that earlier calls had given.
        done: results of this call.
        failed: what gave no usable result in this call, by kind.
        told: what else is worth saying, a line each.
        waiting: what is done by a later call, once a batch is collected.
        changed: what was there and says something else now.
    """

    stage: str
    already: int = 0
    done: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    waiting: int = 0
    changed: int = 0

    @property
    def missing(self) -> int:
        """How many gave no result in this call."""
        return sum(self.failed.values())


def together(tallies: Sequence[Tally]) -> Tally:
    """What several calls of one stage did in all."""
    failed: Counter[str] = Counter()
    for tally in tallies:
        failed.update(tally.failed)
    already, done, waiting, changed = (
        sum(getattr(tally, name) for tally in tallies) for name in ("already", "done", "waiting", "changed")
    )
    told = tuple(dict.fromkeys(line for tally in tallies for line in tally.told))
    return Tally(tallies[0].stage, already, done, failed, told, waiting, changed)


def unwritten(store: Store, task: Writing, scenarios: Iterable[Scenario]) -> list[Scenario]:
    """The scenarios that have no conversation yet, each at its next draw: no failed request is ever repeated."""
    written = store.written_scenarios()
    failed = Counter(f.record_id for f in store.failures("generate") if f.kind in REDRAW_HELPS)
    return [redrawn(task, s, failed[scenario_name(s)]) for s in scenarios if s.index not in written]


async def write_conversations(
    store: Store,
    mapper: Mapper,
    todo: Sequence[Scenario],
    task: Writing,
    known: Known,
    *,
    waves: Waves | None = None,
    already: int = 0,
    redraws: int = 0,
) -> Tally:
    """Have scenarios written, each in up to 1 + `redraws` draws.

    What is a copy of what is decided in the plan's order, so that equal runs keep equal conversations.

    Args:
        known: what the run holds; a draft that nearly says the same is drawn again.
        waves: names before each wave what was used too often; None for one wave that is told nothing.
        already: scenarios that earlier calls had written.
    """
    kinds: Counter[str] = Counter()
    total = already + len(todo)
    done = waiting = 0
    for redraws_left in range(redraws, -1, -1):
        again: list[Scenario] = []
        for wave in waves.cut(todo) if waves else [list(todo)]:
            async for scenario, outcome in mapper.in_order("generate", wave, task, already=already + done, total=total):
                error = outcome if isinstance(outcome, ModelError) else _add_draft(store, known, outcome)
                if error is None:
                    done += 1
                    if waves and not isinstance(outcome, ModelError):
                        waves.add(outcome)
                    continue
                store.add_failures([_failed_draw(task, scenario, error)]).result()
                if redraws_left and error.kind in REDRAW_HELPS:
                    again.append(redrawn(task, scenario, 1))
                else:
                    kinds[error.kind] += 1
            waiting += mapper.deferred
        todo = again
    return Tally("generate", already, done, kinds, waiting=waiting)


def redrawn(task: Writing, scenario: Scenario, times: int) -> Scenario:
    """The same place of the plan, drawn again so many times."""
    from safetyqc.generate.scenarios import redraw

    for _ in range(times):
        scenario = redraw(task.taxonomy, task.config.generate.seed, scenario)
    return scenario


def _add_draft(store: Store, known: Known, draft: Conversation) -> ModelError | None:
    """Add a draft to the run, or say why not."""
    if near := known.add(draft):
        return ModelError("duplicate", f"similarity {near.similarity:.2f} with {near.conversation_id}")
    try:
        store.add_conversations([draft])
    except ValueError as error:  # what no file can hold, such as half a surrogate pair
        return ModelError("defect", describe(error))
    return None


def _failed_draw(task: Writing, scenario: Scenario, error: ModelError) -> Failure:
    return Failure(
        stage="generate",
        record_id=scenario_name(scenario),
        kind=error.kind,
        reason=error.reason,
        category=scenario.category,
        attempt=scenario.draw,
        model=task.model,
    )


def scenario_name(scenario: Scenario) -> str:
    """Name a place of the plan, whatever its draw: failures of all draws belong together."""
    return f"scenario-{scenario.index}"


async def filter_run(store: Store, mapper: Mapper, task: Filtering) -> Tally:
    """Apply the cheap rules to every conversation that they have not seen with these settings; counts all of them."""
    settings = task.version()
    todo = Unread(store, store.unfiltered(settings))
    for start in range(0, len(todo), _WRITTEN_TOGETHER):
        part = todo[start : start + _WRITTEN_TOGETHER]
        found: dict[str, tuple[Rejection, ...]] = {}
        async for conversation, outcome in mapper.map("filter", part, task, already=start, total=len(todo)):
            if isinstance(outcome, ModelError):  # what no rule could look at is not let through, and looked at again
                outcome = (Rejection(conversation_id=conversation.id, filter=outcome.kind, reason=outcome.reason),)
            found[conversation.id] = outcome
        names = [name for name in part.ids() if name in found]
        met_bugs = {name for name in names if any(hit.filter == "defect" for hit in found[name])}
        for looked_at, by in (([n for n in names if n not in met_bugs], settings), (sorted(met_bugs), "")):
            store.put_rejections([hit for name in looked_at for hit in found[name]], looked_at, by)
    planted = {place.id for place in store.placed() if place.origin == "canary"}
    first: dict[str, str] = {}
    for hit in store.rejections():
        first.setdefault(hit.conversation_id, hit.filter)
    kinds = Counter(rule for name, rule in first.items() if name not in planted)
    return Tally("filter", 0, sum(store.count_conversations().values()) - len(planted) - kinds.total(), kinds)


async def judge_run(
    store: Store,
    mapper: Mapper,
    task: Judging,
    *,
    only: Iterable[str] | None = None,
    fresh: bool = False,
    retry: bool = False,
) -> Tally:
    """Score every conversation that this judge has not yet scored, or could not for a reason that may have passed.

    Args:
        only: ids to restrict it to; None for all that no filter rejected.
        fresh: also what it has scored.
        retry: also what it left unscored, for whatever reason.

    Raises:
        FatalModelError: a judge that asks a model said nothing usable of the first ten, or no answer came at all; what
            it said is written.
    """
    judge = task.judge(mapper.context)
    todo, already, older = _left(store, judge, only, fresh=fresh, retry=retry)
    unscored: Counter[str] = Counter()
    last: Future[int] | None = None
    done = 0
    tried = _TRIED if task.asks and not store.has_scored(judge.name, judge.rubric_hash) else 0
    useless: list[Judgment] = []
    try:
        async for conversation, outcome in mapper.map("judge", todo, task, already=already, first=tried):
            if last and last.done():
                last.result()  # a full disk must end the run now, not after the last paid call
            judgment, last = _put(store, judge, task, conversation, outcome)
            unscored.update(s.unscored_reason or "unscored" for s in judgment.scores if s.outcome == "unscored")
            done += 1
            useless += [judgment] if done <= tried and _is_useless(judgment) else []
            if done == len(useless) == tried:
                raise _gives_nothing(task, judge, useless)
        if done == len(useless) and unscored.keys() == {"provider_error"}:
            raise _gives_nothing(task, judge, useless)
    finally:
        if last:
            last.result()
    told = _of_other_versions(judge, older)
    return Tally("judge", already, done, unscored, told=told, waiting=mapper.deferred)


def _left(
    store: Store, judge: Judge, only: Iterable[str] | None, *, fresh: bool, retry: bool
) -> tuple[Unread, int, int]:
    """What a judge has still to judge, how many it need not, and how many of those are by an earlier version of it."""
    out = _set_aside(store) if only is None else frozenset()
    left = array("q")
    already = older = 0
    for number, name, judged in store.looked(judge.name, judge.rubric_hash, only):
        if name in out:
            continue
        why = judged.unscored if judged else ()
        if judged is None or fresh or (why and (retry or not _ASKED_AGAIN.isdisjoint(why))):
            left.append(number)
            continue
        already += 1
        older += judge.version is not None and judged.version not in (None, judge.version)
    return Unread(store, left), already, older


def is_asked_again(kind: str) -> bool:
    """Whether a later call asks again about what was left unscored for this reason."""
    return kind in _ASKED_AGAIN


def _is_useless(judgment: Judgment) -> bool:
    """Whether the model was asked and nothing of what it said can be used."""
    asked = [score for score in judgment.scores if score.outcome != "na"]
    return bool(asked) and all(s.outcome == "unscored" and s.unscored_reason in _UNUSABLE for s in asked)


def _gives_nothing(task: Judging, judge: Judge, useless: Sequence[Judgment]) -> FatalModelError:
    there = f" --api-base {shlex.quote(task.base)}" if task.base else ""
    ask = f"`safetyqc models check -m {shlex.quote(task.models[0])}{there}`"
    scores = [score for judgment in useless for score in judgment.scores if score.outcome == "unscored"]
    (kind, _), *_ = Counter(score.unscored_reason for score in scores).most_common(1)
    reason = next(score.reason for score in scores if score.unscored_reason == kind)
    if kind == "provider_error":
        what = f"no answer of {judge.name} about {counted(len(useless), 'conversation')}: {reason}"
        return FatalModelError(what, fix=f"see that the server is up ({ask} asks it once), then the same command again")
    what = f"{judge.name} said nothing usable of the first {len(useless)} conversations: mostly {kind} ({reason})"
    return FatalModelError(what, fix=f"{ask} tells what it can do; judge with a larger model")


def _put(
    store: Store, judge: Judge, task: Judging, conversation: Conversation, outcome: Judgment | ModelError
) -> tuple[Judgment, Future[int]]:
    """Write a judgment; where there is none, or none that a file can hold, one that says so."""
    try:
        judgment = _unscored(judge, task, conversation, outcome) if isinstance(outcome, ModelError) else outcome
        return judgment, store.put_judgments([judgment])
    except ValueError as error:
        judgment = _unscored(judge, task, conversation, ModelError("defect", describe(error)))
        return judgment, store.put_judgments([judgment])


def _unscored(judge: Judge, task: Judging, conversation: Conversation, error: ModelError) -> Judgment:
    """What stands for a judgment that did not come about: every criterion that could apply is left open, with why."""
    told = conversation.category, conversation.intent
    scores = tuple(
        Score(criterion=c.id, outcome="na", reason=f"does not apply to {conversation.intent} conversations")
        if c.applicability(*told) == "never"
        else Score(criterion=c.id, outcome="unscored", reason=error.reason, unscored_reason=error.kind)
        for c in task.rubric.criteria
    )
    return Judgment(
        conversation_id=conversation.id,
        judge=judge.name,
        rubric=task.rubric.id,
        rubric_hash=judge.rubric_hash,
        scores=scores,
        passed=task.rubric.passed(scores),
        category=conversation.category,
        intent=conversation.intent,
        prompt_hash=judge.version,
    )


def failure_of(stage: str, conversation: Conversation, error: ModelError, model: str | None = None) -> Failure:
    """A conversation's failure in a stage, as the run remembers it."""
    return Failure(
        stage=stage,
        record_id=conversation.id,
        kind=error.kind,
        reason=error.reason,
        category=conversation.category,
        model=model,
    )


def _of_other_versions(judge: Judge, count: int) -> tuple[str, ...]:
    """Say that verdicts of two versions of a judge stand under one name, which no rate could show."""
    if not count:
        return ()
    were = f"{count:,} verdicts are" if count > 1 else "1 verdict is"
    return (f"{were} by an earlier version of {judge.name}: `safetyqc judge --fresh` judges everything again",)


def eligible(store: Store) -> set[str]:
    """Ids that are worth a judge's time: not rejected by a filter, not a rewrite that was already turned down."""
    return store.conversation_ids() - _set_aside(store)


def has_unjudged(store: Store) -> bool:
    """Whether the judge that decides has not seen something that is neither set aside nor a copy nor near a reference;
    found without holding what is known of all."""
    judge = deciding_judge(store) or ("", "")
    gone = _set_aside(store) | {drop.id for drop in store.drops()}
    gone |= {match.conversation_id for match in store.matches() if match.removed}
    gone |= {place.id for place in store.placed() if place.origin == "canary"}
    return any(judged is None and name not in gone for _, name, judged in store.looked(*judge))


def _set_aside(store: Store) -> frozenset[str | None]:
    rejected = {r.conversation_id for r in store.rejections()}
    return frozenset(rejected | {r.child_id for r in store.rewrites() if not r.kept})
