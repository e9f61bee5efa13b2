"""Runs one stage over a run: finds what is left to do, does it, writes every result as it comes.

Each function can be interrupted at any moment and called again; it then goes on with what is missing. No function here
calls another stage's function: their order is `pipeline.order`'s business. The one surprising thing: nothing is
marked as done; what is left is always worked out from the records themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError
from safetyqc.pipeline.known import Known
from safetyqc.records import PASSES_LATER, Conversation, Failure, FailureKind, Scenario

if TYPE_CHECKING:
    from safetyqc.filters import FilterSettings
    from safetyqc.generate.author import Author
    from safetyqc.generate.taxonomy import Taxonomy
    from safetyqc.judge.base import Judge
    from safetyqc.pipeline.session import Session
    from safetyqc.store import Judged

_REDRAW_HELPS: frozenset[FailureKind] = frozenset(
    {"refused_by_model", "filtered_by_provider", "truncated", "bad_json", "bad_structure", "duplicate"}
)
"""Failures that other openers may avoid; a network error is not one of them."""


@dataclass(frozen=True)
class Tally:
    """What one call of a stage did.

    Args:
        already: results that earlier calls had given.
        done: results of this call.
        failed: what gave no usable result in this call, by kind.
        told: what else is worth saying, a line each.
        waiting: what is done by a later call, once a batch is collected.
    """

    stage: str
    already: int = 0
    done: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    waiting: int = 0

    @property
    def missing(self) -> int:
        """How many gave no result in this call."""
        return sum(self.failed.values())


async def write_conversations(
    session: Session, scenarios: Iterable[Scenario], author: Author, taxonomy: Taxonomy, redraws: int
) -> Tally:
    """Have every scenario of the plan written that has no conversation yet; up to 1 + `redraws` draws each.

    A scenario whose earlier draws failed goes on with the next draw, so no failed request is ever repeated.
    """
    store = session.store
    written = store.written_scenarios()
    failed_draws = Counter(f.record_id for f in store.failures("generate") if f.kind in _REDRAW_HELPS)
    planned = list(scenarios)
    todo = [s for s in planned if s.index not in written]
    writer = _Drawer(session, author, taxonomy, redraws, failed_draws)
    kinds: Counter[str] = Counter()
    done = 0
    async for _, outcome in session.map("generate", todo, writer.write, already=len(planned) - len(todo)):
        if isinstance(outcome, ModelError):
            kinds[outcome.kind] += 1
        else:
            done += 1
    return Tally("generate", len(planned) - len(todo), done, kinds, waiting=session.deferred)


class _Drawer:
    """Writes one scenario, drawing it again with other openers while that can help."""

    def __init__(
        self, session: Session, author: Author, taxonomy: Taxonomy, redraws: int, failed_draws: Mapping[str, int]
    ) -> None:
        self._session, self._author, self._taxonomy = session, author, taxonomy
        self._redraws, self._failed_draws = redraws, failed_draws
        self._known = Known(session.config, session.store.conversations())

    async def write(self, scenario: Scenario) -> Conversation:
        from safetyqc.generate.scenarios import redraw

        name = scenario_name(scenario)
        seed = self._session.config.generate.seed
        for _ in range(self._failed_draws.get(name, 0)):
            scenario = redraw(self._taxonomy, seed, scenario)
        for last in [False] * self._redraws + [True]:
            try:
                conversation = await self._author.write(scenario)
                self._refuse_copy(conversation)
            except ModelError as error:
                self._record(scenario, error)
                if last or error.kind not in _REDRAW_HELPS:
                    raise
                scenario = redraw(self._taxonomy, seed, scenario)
            else:
                self._session.store.add_conversations([conversation])
                return conversation
        raise AssertionError("unreachable: the last draw returns or raises")

    def _refuse_copy(self, conversation: Conversation) -> None:
        if near := self._known.add(conversation):
            raise ModelError("duplicate", f"similarity {near.similarity:.2f} with {near.conversation_id}")

    def _record(self, scenario: Scenario, error: ModelError) -> None:
        failure = Failure(
            stage="generate",
            record_id=scenario_name(scenario),
            kind=error.kind,
            reason=error.reason,
            category=scenario.category,
            attempt=scenario.draw,
            model=self._author.model,
        )
        self._session.store.add_failures([failure]).result()


def scenario_name(scenario: Scenario) -> str:
    """Name a place of the plan, whatever its draw: failures of all draws belong together."""
    return f"scenario-{scenario.index}"


def filter_run(session: Session, settings: FilterSettings) -> Tally:
    """Apply the cheap rules to every conversation that they have not seen with these settings."""
    from safetyqc.filters import apply_filters

    store = session.store
    conversations = [c for c in store.conversations() if c.origin != "canary"]
    with session.stop.at_once(), session.timed("filter", len(conversations)):
        hits = [hit for c in conversations for hit in apply_filters(c, settings)]
    store.put_rejections(hits, [c.id for c in conversations])
    rejected = {h.conversation_id: h.filter for h in reversed(hits)}
    return Tally("filter", 0, len(conversations) - len(rejected), Counter(rejected.values()))


async def judge_run(session: Session, judge: Judge, only: Iterable[str] | None = None) -> Tally:
    """Score every conversation that this judge has not yet scored, or could not for a reason that may have passed.

    Args:
        only: ids to restrict it to; None for all that no filter rejected.
    """
    store = session.store
    eligible = _eligible(session) if only is None else store.conversation_ids().intersection(only)
    judged = store.judged(judge.name, judge.rubric_hash)
    settled = {name for name, found in judged.items() if PASSES_LATER.isdisjoint(found.unscored)}
    if session.config.models.fresh:
        settled.clear()
    todo = list(store.conversations(eligible - settled))
    unscored: Counter[str] = Counter()
    last: Future[int] | None = None
    done = 0
    try:
        async for _, outcome in session.map("judge", todo, judge.judge, already=len(eligible) - len(todo)):
            if isinstance(outcome, ModelError):
                raise outcome
            if last and last.done():
                last.result()  # a full disk must end the run now, not after the last paid call
            last = store.put_judgments([outcome])
            unscored.update(s.unscored_reason or "unscored" for s in outcome.scores if s.outcome == "unscored")
            done += 1
    finally:
        if last:
            last.result()
    told = _of_other_versions(judge, (judged[name] for name in eligible & settled))
    return Tally("judge", len(eligible) - len(todo), done, unscored, told=told, waiting=session.deferred)


def _of_other_versions(judge: Judge, settled: Iterable[Judged]) -> tuple[str, ...]:
    """Say that verdicts of two versions of a judge stand under one name, which no rate could show."""
    count = sum(judge.version is not None and found.version not in (None, judge.version) for found in settled)
    if not count:
        return ()
    were = f"{count:,} verdicts are" if count > 1 else "1 verdict is"
    return (f"{were} by an earlier version of {judge.name}: `safetyqc judge --fresh` judges everything again",)


def _eligible(session: Session) -> set[str]:
    """Ids that are worth a judge's time: not rejected by a filter, not a rewrite that was already turned down."""
    rejected = {r.conversation_id for r in session.store.rejections()}
    discarded = {r.child_id for r in session.store.rewrites() if not r.kept}
    return session.store.conversation_ids() - rejected - discarded
