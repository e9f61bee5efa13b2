"""Runs the two stages that ask a model for better or for more text: rewriting what failed, augmenting what passed.

Every candidate meets the filters and the judges before it counts; nothing is written but here, in the order of what was
to be done, so that equal runs hold equal lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError, UserError, choose_from
from safetyqc.pipeline.engine import describe
from safetyqc.pipeline.stages import Tally, failure_of
from safetyqc.pipeline.tasks import Attempt, Wish
from safetyqc.records import Conversation, Judgment, Rewrite
from safetyqc.store.standing import classified, deciding_judgments, read_standings

if TYPE_CHECKING:
    from safetyqc.config import RewriteSettings
    from safetyqc.pipeline.known import Known
    from safetyqc.pipeline.mapper import Mapper
    from safetyqc.pipeline.tasks import Judging, Mended, Mending, Varied, Varying
    from safetyqc.store import Store

_ATTEMPTS_PER_VARIANT = 3
_WISHES = "augmenting"
"""How many variants were asked for that are not there yet, and how many there were before."""


# ---- rewriting ------------------------------------------------------------------------------------------------------


async def rewrite_run(store: Store, mapper: Mapper, task: Mending, settings: RewriteSettings) -> Tally:
    """Try to mend every conversation that stands as failed, up to the configured rounds along its lineage.

    Returns:
        `done` counts kept rewrites, `failed` the others by why: a failure's kind, `filtered` or `not_better`.
    """
    bench = _Bench(store, task, task.deciding.judge(mapper.context).name)
    outcomes: Counter[str] = Counter()
    already = sum(r.kept for r in store.rewrites())
    waiting = 0
    while todo := bench.todo(settings):
        left = {attempt.parent.id for attempt in todo}
        async for attempt, outcome in mapper.in_order("rewrite", todo, task):
            left.discard(attempt.parent.id)
            outcomes[bench.write(attempt, outcome)] += 1
        bench.unreachable |= left  # they wait for a batch: asking again now would bring nothing
        waiting += mapper.deferred
    return Tally("rewrite", already, outcomes.pop("kept", 0), outcomes, waiting=waiting)


class _Bench:
    """Finds what is to be mended, and writes down what became of it."""

    def __init__(self, store: Store, task: Mending, judge: str) -> None:
        self._store, self._task, self._judge = store, task, judge
        self.unreachable: set[str] = set()
        """Conversations whose rewriter could not be reached in this call: not an attempt, and not tried again now."""

    def todo(self, settings: RewriteSettings) -> list[Attempt]:
        """Conversations that failed and still have an attempt left, no more than the run's limit leaves room for."""
        store = self._store
        standings = read_standings(store, self._judge)
        tried = Counter(r.parent_id for r in store.rewrites())
        room = None if settings.limit is None else max(settings.limit - tried.total(), 0)
        failed = {name for name, standing in standings.items() if standing.status == "failed"} - self.unreachable
        weak = {c.id: c for c in store.conversations(failed) if c.revision + tried[c.id] < settings.rounds}
        found = store.judgments(self._judge, self._task.deciding.rubric.hash, only=weak)
        verdicts = {j.conversation_id: j for j in found}
        return [Attempt(c, verdicts[name], tried[name]) for name, c in weak.items() if name in verdicts][:room]

    def write(self, attempt: Attempt, outcome: Mended | ModelError) -> str:
        """Write an attempt down; returns what became of it in one word."""
        if not isinstance(outcome, ModelError):
            try:
                return self._write_mended(attempt, outcome)
            except ValueError as error:  # what no file can hold, such as half a surrogate pair
                outcome = ModelError("defect", describe(error))
        if outcome.kind in ("provider_error", "defect"):
            self._store.add_failures([failure_of("rewrite", attempt.parent, outcome, self._task.model)]).result()
            self.unreachable.add(attempt.parent.id)
        else:
            self._settle(attempt, None, kept=False, reason=f"{outcome.kind}: {outcome.reason}")
        return outcome.kind

    def _write_mended(self, attempt: Attempt, mended: Mended) -> str:
        child, verdict = mended.child, mended.verdict
        self._store.add_conversations([child])
        if verdict is None:
            self._store.put_rejections(mended.hits, [child.id])
            self._settle(attempt, child, kept=False, reason=f"{mended.hits[0].filter}: {mended.hits[0].reason}")
            return "filtered"
        self._store.put_judgments(mended.judgments).result()
        self._settle(
            attempt,
            child,
            kept=verdict.kept,
            reason=verdict.reason,
            mended=verdict.mended,
            broken=verdict.broken,
        )
        return "kept" if verdict.kept else "not_better"

    def _settle(
        self,
        attempt: Attempt,
        child: Conversation | None,
        *,
        kept: bool,
        reason: str,
        mended: tuple[str, ...] = (),
        broken: tuple[str, ...] = (),
    ) -> None:
        rewrite = Rewrite(
            parent_id=attempt.parent.id,
            child_id=child.id if child else None,
            revision=attempt.parent.revision + attempt.number + 1,
            kept=kept,
            reason=reason,
            judge=self._judge,
            mended=mended,
            broken=broken,
        )
        self._store.put_rewrite(rewrite)


# ---- augmenting -----------------------------------------------------------------------------------------------------


async def augment_run(
    store: Store, mapper: Mapper, task: Varying, judging: Judging, wanted: Mapping[str, int], known: Known
) -> Tally:
    """Write variants of kept conversations until `wanted` more of each category passed, in at most three tries each.

    What an earlier call with the same wishes has not reached is what this one is about.

    Returns:
        `done` counts variants that passed, `failed` the others by why: a failure's kind, `filtered`, `duplicate` or
        `not_passed`.

    Raises:
        UserError: a category of which nothing is kept.
    """
    kept, varied = _kept_by_category(store, judging.judge(mapper.context).name)
    _refuse_unknown(wanted, kept)
    written = Counter(c.parent_id for c in store.conversations() if c.origin == "augmented")
    queues = {name: _wishes(kept[name], written) for name in wanted}
    missing = _still_missing(store, wanted, varied)
    already = sum(wanted.values()) - missing.total()
    outcomes: Counter[str] = Counter()
    for _ in range(_ATTEMPTS_PER_VARIANT):
        wave = [next(queues[name]) for name, count in missing.items() for _ in range(count)]
        candidates = []
        async for wish, outcome in mapper.in_order("augment", wave, task):
            if isinstance(outcome, ModelError):
                store.add_failures([failure_of("augment", wish.source, outcome, task.model)]).result()
                outcomes[outcome.kind] += 1
            elif word := _turned_down(store, task, wish, outcome, known):
                outcomes[word] += 1
            else:
                candidates.append(outcome.variant)
        async for variant, judged in mapper.in_order("judge", candidates, judging):
            word = _join(store, task, variant, judged)
            outcomes[word] += 1
            if word == "kept" and variant.category:
                missing[variant.category] -= 1
    if missing.total() == 0:
        _close(store, wanted)
    return Tally("augment", already, outcomes.pop("kept", 0), outcomes)


def _turned_down(store: Store, task: Varying, wish: Wish, varied: Varied, known: Known) -> str | None:
    """Why a variant is not worth a judge's time, written down; None when it is."""
    variant = varied.variant
    if varied.hits:
        store.add_conversations([variant])
        store.put_rejections(varied.hits, [variant.id])
        return "filtered"
    if near := known.add(variant):
        copy = ModelError("duplicate", f"similarity {near.similarity:.2f} with {near.conversation_id}")
        store.add_failures([failure_of("augment", wish.source, copy, task.model)]).result()
        return "duplicate"
    return None


def _join(store: Store, task: Varying, variant: Conversation, judged: Judgment | ModelError) -> str:
    """Add a judged variant to the run; returns what became of it in one word."""
    if isinstance(judged, ModelError):
        store.add_failures([failure_of("augment", variant, judged, task.model)]).result()
        return judged.kind
    store.put_judgments([judged])  # first: a variant that waits for its verdict would be neither kept nor tried
    store.add_conversations([variant])
    return "kept" if judged.passed else "not_passed"


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


def _wishes(sources: list[Conversation], written: Counter[str | None]) -> Iterator[Wish]:
    """Sources in turn, each with the number of its next variant, for ever."""
    for turn in count():
        for source in sources:
            yield Wish(source, written[source.id] + turn)


def _kept_by_category(store: Store, judge: str) -> tuple[dict[str, list[Conversation]], Counter[str]]:
    """What variants may be made of (kept conversations that are none themselves, as the judge saw them), and how many
    variants are kept."""
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
