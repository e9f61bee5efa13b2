"""Runs the two stages that ask a model for better or for more text: rewriting what failed, augmenting what passed.

Every candidate meets the filters and the judges before it counts. The one surprising thing: when the deciding judge is
the very model that rewrote, a second judge (where one was named) has to agree, because a model likes its own text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError, UserError, choose_from
from safetyqc.pipeline.known import Known
from safetyqc.pipeline.stages import Tally
from safetyqc.records import Conversation, Failure, Judgment, Rewrite
from safetyqc.store.standing import classified, deciding_judgments, read_standings

if TYPE_CHECKING:
    from safetyqc.filters import FilterSettings
    from safetyqc.generate.rewrite import AnswerRewriter, Augmenter, Rewriter
    from safetyqc.judge.base import Judge
    from safetyqc.pipeline.session import Session
    from safetyqc.store import Store

_ATTEMPTS_PER_VARIANT = 3
_WISHES = "augmenting"
"""How many variants were asked for that are not there yet, and how many there were before."""


@dataclass(frozen=True)
class Referees:
    """Who says whether a rewrite is better.

    Args:
        deciding: judges every rewrite.
        second: has to agree, if there is one.
        again: the deciding judge asked afresh about a sample of originals and their rewrites. The originals that it
            then passes are the control group: chance alone would have "mended" as many.
    """

    deciding: Judge
    second: Judge | None = None
    again: Judge | None = None


async def rewrite_run(
    session: Session, rewriter: Rewriter | AnswerRewriter, referees: Referees, settings: FilterSettings
) -> Tally:
    """Try to mend every conversation that stands as failed, up to the configured rounds along its lineage.

    Returns:
        `done` counts kept rewrites, `failed` the others by why: a failure's kind, `filtered` or `not_better`.
    """
    rounds = session.config.rewrite.rounds
    bench = _Bench(session, rewriter, referees, settings)
    outcomes: Counter[str] = Counter()
    already = sum(r.kept for r in session.store.rewrites())
    waiting = 0
    while todo := [c for c in bench.weak(rounds) if c.id not in bench.unreachable][: bench.room()]:
        left = {c.id for c in todo}
        async for conversation, outcome in session.map("rewrite", todo, bench.mend):
            left.discard(conversation.id)
            if isinstance(outcome, ModelError):
                bench.unreachable.add(conversation.id)
                outcomes[outcome.kind] += 1
            else:
                outcomes[outcome] += 1
        bench.unreachable |= left  # they wait for a batch: asking again now would bring nothing
        waiting += session.deferred
    return Tally("rewrite", already, outcomes.pop("kept", 0), outcomes, waiting=waiting)


class _Bench:
    """Mends one conversation at a time."""

    def __init__(
        self, session: Session, rewriter: Rewriter | AnswerRewriter, referees: Referees, settings: FilterSettings
    ) -> None:
        self._session, self._rewriter, self._referees, self._settings = session, rewriter, referees, settings
        self.unreachable: set[str] = set()
        """Conversations whose rewriter could not be reached in this call: not an attempt, and not tried again now."""
        self._verdicts: dict[str, Judgment] = {}
        self._attempts: Counter[str] = Counter()

    def weak(self, rounds: int) -> list[Conversation]:
        """Conversations that failed and still have an attempt left."""
        store = self._session.store
        judge = self._referees.deciding
        self._verdicts = {j.conversation_id: j for j in store.judgments(judge.name, judge.rubric_hash)}
        standings = read_standings(store, judge.name)
        self._attempts = Counter(r.parent_id for r in store.rewrites())
        failed = (c for c in store.conversations() if standings[c.id].status == "failed" and c.id in self._verdicts)
        return [c for c in failed if c.revision + self._attempts[c.id] < rounds]

    def room(self) -> int | None:
        """How many more attempts the settings allow in this run; None for any number."""
        limit = self._session.config.rewrite.limit
        return None if limit is None else max(limit - self._attempts.total(), 0)

    async def mend(self, parent: Conversation) -> str:
        """Rewrite, filter, judge and decide; writes down every step and returns what became of it."""
        judgment, attempt = self._verdicts[parent.id], self._attempts[parent.id]
        try:
            child = await self._rewriter.rewrite(parent, judgment, attempt=attempt)
        except ModelError as error:
            if error.kind == "provider_error":
                self._session.store.add_failures([_failure("rewrite", parent, error, self._rewriter.model)]).result()
                raise
            self._settle(parent, attempt, None, kept=False, reason=f"{error.kind}: {error.reason}")
            return error.kind
        return await self._decide(parent, child, attempt, judgment)

    async def _decide(self, parent: Conversation, child: Conversation, attempt: int, before: Judgment) -> str:
        from safetyqc.filters import apply_filters
        from safetyqc.generate.rewrite import accept

        store = self._session.store
        store.add_conversations([child])
        if hits := apply_filters(child, self._settings):
            store.put_rejections(hits, [child.id])
            self._settle(parent, attempt, child, kept=False, reason=f"{hits[0].filter}: {hits[0].reason}")
            return "filtered"
        after = await self._referees.deciding.judge(child)
        store.put_judgments([after]).result()
        verdict = accept(before, after)
        second = self._referees.second
        if verdict.kept and second is not None:
            pair = [await second.judge(parent), await second.judge(child)]
            store.put_judgments(pair).result()
            verdict = accept(*pair)
        await self._control(parent, child)
        self._settle(
            parent,
            attempt,
            child,
            kept=verdict.kept,
            reason=verdict.reason,
            mended=verdict.mended,
            broken=verdict.broken,
        )
        return "kept" if verdict.kept else "not_better"

    async def _control(self, parent: Conversation, child: Conversation) -> None:
        """Judge a fixed sample of originals and rewrites afresh, kept or not, so that luck is not sold as mending."""
        again = self._referees.again
        share = self._session.config.rewrite.control_share
        if again is not None and random.Random(f"control/{parent.id}").random() < share:
            self._session.store.put_judgments([await again.judge(parent), await again.judge(child)]).result()

    def _settle(
        self,
        parent: Conversation,
        attempt: int,
        child: Conversation | None,
        *,
        kept: bool,
        reason: str,
        mended: tuple[str, ...] = (),
        broken: tuple[str, ...] = (),
    ) -> None:
        rewrite = Rewrite(
            parent_id=parent.id,
            child_id=child.id if child else None,
            revision=parent.revision + attempt + 1,
            kept=kept,
            reason=reason,
            judge=self._referees.deciding.name,
            mended=mended,
            broken=broken,
        )
        self._session.store.put_rewrite(rewrite)


async def augment_run(
    session: Session,
    augmenter: Augmenter,
    referees: Referees,
    settings: FilterSettings,
    wanted: Mapping[str, int],
) -> Tally:
    """Write variants of kept conversations until `wanted` more of each category passed, in at most three tries each.

    What an earlier call with the same wishes has not reached is what this one is about.

    Returns:
        `done` counts variants that passed, `failed` the others by why: a failure's kind, `filtered`, `duplicate` or
        `not_passed`.

    Raises:
        UserError: a category of which nothing is kept.
    """
    studio = _Studio(session, augmenter, referees, settings)
    outcomes: Counter[str] = Counter()
    kept, varied = studio.kept_by_category()
    _refuse_unknown(wanted, kept)
    queues = {name: _attempts(kept[name], studio.written) for name in wanted}
    missing = _still_missing(session.store, wanted, varied)
    already = sum(wanted.values()) - missing.total()
    for _ in range(_ATTEMPTS_PER_VARIANT):
        wave = [next(queues[name]) for name, count in missing.items() for _ in range(count)]
        async for (source, _), outcome in session.map("augment", wave, studio.vary):
            word = outcome.kind if isinstance(outcome, ModelError) else outcome
            outcomes[word] += 1
            if word == "kept" and source.category:
                missing[source.category] -= 1
    if missing.total() == 0:
        _close(session.store, wanted)
    return Tally("augment", already, outcomes.pop("kept", 0), outcomes)


def _still_missing(store: Store, wanted: Mapping[str, int], varied: Mapping[str, int]) -> Counter[str]:
    """How many variants are to be kept yet; what there were when these wishes were first heard is noted with the run.

    Else a command that was interrupted would, typed again, ask for all of them once more.
    """
    wishes = store.meta(_WISHES, [])
    wish = next((w for w in wishes if w["wanted"] == dict(wanted)), None)
    if wish is None:
        wish = {"wanted": dict(wanted), "before": {name: varied.get(name, 0) for name in wanted}}
        store.set_meta(_WISHES, [*wishes, wish])
    return Counter({n: max(wish["before"][n] + count - varied.get(n, 0), 0) for n, count in wanted.items()})


def _close(store: Store, wanted: Mapping[str, int]) -> None:
    store.set_meta(_WISHES, [w for w in store.meta(_WISHES, []) if w["wanted"] != dict(wanted)])


def _refuse_unknown(wanted: Mapping[str, int], kept: Mapping[str, list[Conversation]]) -> None:
    for name in wanted:
        if name not in kept:
            fix = choose_from(name, kept) if kept else "run `safetyqc judge` first: only what passed is varied"
            raise UserError(f"nothing of category {name!r} is kept", where="--more", fix=fix)


def _attempts(sources: list[Conversation], written: Counter[str]) -> Iterator[tuple[Conversation, int]]:
    """Sources in turn, each with the number of its next variant, for ever."""
    for turn in count():
        for source in sources:
            yield source, written[source.id] + turn


class _Studio:
    """Writes one variant at a time; what passes joins the run."""

    def __init__(self, session: Session, augmenter: Augmenter, referees: Referees, settings: FilterSettings) -> None:
        self._session, self._augmenter, self._referees, self._settings = session, augmenter, referees, settings
        conversations = list(session.store.conversations())
        self._known = Known(session.config, conversations)
        self.written = Counter(c.parent_id for c in conversations if c.origin == "augmented" and c.parent_id)

    def kept_by_category(self) -> tuple[dict[str, list[Conversation]], Counter[str]]:
        """What variants may be made of (kept conversations that are none themselves, as the judge saw them), and how
        many variants are kept."""
        store, judge = self._session.store, self._referees.deciding.name
        standings = read_standings(store, judge)
        verdicts = {j.conversation_id: j for j in deciding_judgments(store, judge)}
        sources: dict[str, list[Conversation]] = {}
        varied: Counter[str] = Counter()
        for c in store.conversations():
            source = classified(c, verdicts.get(c.id))
            if standings[c.id].status != "kept" or not source.category:
                continue
            if c.origin == "augmented":
                varied[source.category] += 1
            else:
                sources.setdefault(source.category, []).append(source)
        return sources, varied

    async def vary(self, attempt: tuple[Conversation, int]) -> str:
        """Write, filter, compare and judge one variant; returns what became of it."""
        from safetyqc.filters import apply_filters

        source, number = attempt
        store = self._session.store
        try:
            variant = await self._augmenter.augment(source, number)
        except ModelError as error:
            store.add_failures([_failure("augment", source, error, self._augmenter.model)]).result()
            raise
        if hits := apply_filters(variant, self._settings):
            store.add_conversations([variant])
            store.put_rejections(hits, [variant.id])
            return "filtered"
        if near := self._known.add(variant):
            copy = ModelError("duplicate", f"similarity {near.similarity:.2f} with {near.conversation_id}")
            store.add_failures([_failure("augment", source, copy, self._augmenter.model)]).result()
            return "duplicate"
        judgment = await self._referees.deciding.judge(variant)
        store.put_judgments([judgment])  # first: a variant that waits for its verdict would be neither kept nor tried
        store.add_conversations([variant])
        return "kept" if judgment.passed else "not_passed"


def _failure(stage: str, conversation: Conversation, error: ModelError, model: str) -> Failure:
    return Failure(
        stage=stage,
        record_id=conversation.id,
        kind=error.kind,
        reason=error.reason,
        category=conversation.category,
        model=model,
    )
