"""Counts a run into a Summary: the one set of numbers that every face of the report draws.

It deliberately corrects no pass rate: that needs labels and the judge stage, and the caller hands the results in.
Rates are over conversations that are in (distinct, current, not rejected), so that a rewrite counts once and a
duplicate not at all, and the failed ones among them are counted although export leaves them out: a rate over what
passed would always be 1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safetyqc import __version__
from safetyqc.errors import ConfigError, choose_from
from safetyqc.reports import quality, texts
from safetyqc.reports.actions import list_actions
from safetyqc.reports.hints import Hints
from safetyqc.reports.prospect import measure_prospect
from safetyqc.reports.recorded import count_recorded
from safetyqc.reports.snapshot import Snapshot, read_snapshot
from safetyqc.results.compare import OVERALL
from safetyqc.results.guesses import LETTERS, Fact, how_right
from safetyqc.results.rates import Bar, BarOf, Rate, Verdict
from safetyqc.results.report import (
    UNCATEGORISED,
    Balance,
    CriterionRates,
    Missing,
    RunFacts,
    Share,
    Spent,
    StageCost,
    Step,
    StepName,
    Summary,
)
from safetyqc.text import run_flag

if TYPE_CHECKING:
    from safetyqc.records import Failure
    from safetyqc.reports.diff import Difference
    from safetyqc.reports.seen import Seen
    from safetyqc.results.compare import CorrectedRate
    from safetyqc.results.findings import Diversity
    from safetyqc.store import Store
    from safetyqc.store.standing import Status

_LOST_AT: dict[StepName, tuple[Status, ...]] = {
    "filtered": ("rejected",),
    "apart": ("reference",),
    "distinct": ("duplicate",),
    "judged": ("unjudged",),
    "scored": ("unscored",),
    "kept": ("failed", "discarded", "superseded"),  # the last two only where a ledger is damaged
}
"""Which fates leave the funnel at which step; every fate but kept leaves it at one."""


_UNNAMED = (UNCATEGORISED, "unknown")
"""What stands where nobody, not even a judge, said anything."""


def summarise(
    store: Store,
    judge: str | None = None,
    category: str | None = None,
    *,
    only: Collection[str] | None = None,
    bars: Mapping[str, Any] | None = None,
    corrected: Sequence[CorrectedRate] = (),
    diversity: Diversity | None = None,
) -> Summary:
    """Count a run.

    Args:
        judge: whose verdict decides; None for the run's own.
        category: count this one alone.
        only: count these ids alone, and their rewrites.
        bars: smallest pass rates by criterion or `overall`; None for those remembered with the run.
        corrected: pass rates corrected by labels, which the judge stage computes.
        diversity: what the conversations cover, which the dedup stage measures.

    Raises:
        UserError: no such judge or category in this run.
        ConfigError: a bar for a criterion that the rubric has not.
    """
    return summarise_snapshot(read_snapshot(store, judge, category, only=only, bars=bars), corrected, diversity)


def summarise_snapshot(
    snapshot: Snapshot, corrected: Sequence[CorrectedRate] = (), diversity: Diversity | None = None
) -> Summary:
    """Count what was read of a run; raises what `summarise` raises for bars."""
    criteria = quality.count_criteria(snapshot)
    summary = Summary(
        run=_facts(snapshot),
        total=len(snapshot.originals),
        kept=sum(fate.status == "kept" for _, fate in snapshot.fates),
        verdict=_verdict(snapshot, criteria, corrected),
        funnel=_funnel(snapshot),
        balance=_balance(snapshot),
        criteria=criteria,
        missing=_missing(snapshot),
        reasons=quality.count_reasons(snapshot),
        filters=quality.count_filters(snapshot),
        duplicates=texts.count_duplicates(snapshot),
        references=texts.count_references(snapshot),
        openings=texts.count_openings(snapshot.in_play, snapshot.category_of),
        prospect=measure_prospect(snapshot),
        diversity=diversity,
        shape=texts.measure_shape(snapshot),
        rewrites=quality.count_rewrites(snapshot),
        judges=quality.list_judges(snapshot),
        agreements=quality.list_agreements(snapshot),
        recorded=count_recorded(snapshot),
        labelled=len({label.conversation_id for label in snapshot.labels}),
        annotators=tuple(sorted({label.annotator for label in snapshot.labels})),
        corrected=tuple(corrected),
        probes=snapshot.probes,
        spent=_spent(snapshot),
        actions=(),
    )
    folder = snapshot.store.folder
    hints = Hints(snapshot.cast, folder, run_flag(folder))
    return summary.model_copy(update={"actions": list_actions(summary, hints)})


def to_json(summary: Summary, difference: Difference | None = None) -> str:
    """The Summary as JSON in ASCII: no character of a hostile string reaches a terminal unescaped.

    A comparison with another run stands under the key `difference`.
    """
    values = summary.model_dump(mode="json")
    if difference is not None:
        values["difference"] = difference.model_dump(mode="json")
    return json.dumps(values, indent=2, ensure_ascii=True)


def _facts(snapshot: Snapshot) -> RunFacts:
    judge, rubric_hash = snapshot.judge or (None, None)
    verdict = next(snapshot.store.judgments(*snapshot.judge), None) if snapshot.judge else None
    originals = snapshot.originals
    return RunFacts(
        folder=str(snapshot.store.folder),
        safetyqc=__version__,
        judge=judge,
        rubric=verdict.rubric if verdict else snapshot.rubric.get("id"),
        rubric_hash=rubric_hash or snapshot.rubric.get("hash"),
        category=snapshot.category,
        seed=snapshot.plan.get("seed"),
        authors=dict(Counter(c.author for c in originals if c.author).most_common()),
        sources=dict(Counter(c.file for c in originals if c.file).most_common()),
        origins=dict(Counter(c.origin for c in snapshot.conversations).most_common()),
    )


def _verdict(snapshot: Snapshot, criteria: tuple[CriterionRates, ...], corrected: Sequence[CorrectedRate]) -> Verdict:
    rates = {c.id: c.overall for c in criteria}
    known = {OVERALL, *rates, *(c["id"] for c in snapshot.rubric.get("criteria", ()))}
    by_labels = {c.criterion: c for c in corrected if c.labels}
    bars: list[Bar] = []
    for name, setting in snapshot.bars.items():
        if name not in known:
            raise ConfigError(f"no criterion {name!r} to hold a bar", where="bars", fix=choose_from(name, known))
        bars += (
            hold_bar(name, of, goal, rates.get(name, Rate()), by_labels.get(name)) for of, goal in setting.goals.items()
        )
    return Verdict(met=all(b.met for b in bars) if bars else None, bars=tuple(bars))


def hold_bar(name: str, of: BarOf, goal: float, rate: Rate, corrected: CorrectedRate | None = None) -> Bar:
    """Hold a rate, or its correction, against a bar; nothing scored misses it."""
    asked = corrected if of != "rate" else None
    bar = Bar(name=name, bar=goal, rate=rate, met=False, certain=False, of=of, corrected=asked)
    found = bar.estimate
    if found is None:
        return bar
    met = (found.low if of == "low" else found.value) >= goal
    surely = of == "low" or (found.low >= goal if met else found.high < goal)
    return bar.model_copy(update={"met": met, "certain": surely})


def _funnel(snapshot: Snapshot) -> tuple[Step, ...]:
    fates = Counter(fate.status for _, fate in snapshot.fates)
    written = fates.total()
    steps = []
    planned = snapshot.plan.get("count")
    if planned is not None and snapshot.category:
        planned = (snapshot.plan.get("per_category") or {}).get(snapshot.category, 0)
    if planned is not None:
        steps.append(Step(name="planned", count=planned))
    by_origin = Counter(c.origin for c in snapshot.originals)
    places = {c.scenario.index for c in snapshot.originals if c.scenario and c.origin == "generated"}
    unwritten = max((planned or 0) - len(places), 0)
    others = [f"{by_origin[o]} {o}" for o in ("imported", "augmented") if by_origin[o] and by_origin[o] != written]
    steps.append(Step(name="written", count=written, lost=unwritten, note=", ".join(others)))
    left = written
    for name, statuses in _LOST_AT.items():
        lost = sum(fates[status] for status in statuses)
        if name == "apart" and not lost and not (snapshot.dedup and snapshot.dedup.against):
            continue  # most runs are held against no reference set
        left -= lost
        steps.append(Step(name=name, count=left, lost=lost, note=_note(snapshot, name)))
    return tuple(steps)


def _note(snapshot: Snapshot, step: StepName) -> str:
    """What a step's figures alone would tell wrongly: a stage that never ran lets everything pass."""
    if step == "filtered" and not (snapshot.rejections or snapshot.has_run("filter")):
        return "no filter has run"
    if step == "distinct" and not (snapshot.groups or snapshot.has_run("dedup")):
        return "not searched for"
    return _mended(snapshot) if step == "kept" else ""


def _mended(snapshot: Snapshot) -> str:
    mended = sum(
        fate.status == "kept" and snapshot.standings[c.id].status == "superseded" for c, fate in snapshot.fates
    )
    return f"{mended} of those kept by rewriting" if mended else ""


def _balance(snapshot: Snapshot) -> Balance:
    found = Balance(
        categories=_shares(
            snapshot, snapshot.category_of, _only(snapshot, snapshot.plan.get("per_category")), lambda c: c.category
        ),
        intents=_shares(
            snapshot,
            snapshot.intent_of,
            None if snapshot.category else snapshot.plan.get("per_intent"),
            lambda c: c.intent,
        ),
        languages=_shares(snapshot, lambda c: c.spoken, None, lambda c: c.language),
    )
    judge = snapshot.judge[0] if snapshot.judge else None
    shares: dict[Fact, tuple[Share, ...]] = {
        "category": found.categories,
        "intent": found.intents,
        "language": found.languages,
    }
    measured = {
        fact: how_right(fact, LETTERS if fact == "language" else judge)
        for fact, named in shares.items()
        if any(share.guessed for share in named)
    }
    return found.model_copy(update={"measured": measured})


def _only(snapshot: Snapshot, planned: Mapping[str, int] | None) -> Mapping[str, int] | None:
    if planned is None or snapshot.category is None:
        return planned
    return {name: count for name, count in planned.items() if name == snapshot.category}


def _shares(
    snapshot: Snapshot,
    name_of: Callable[[Seen], str],
    planned: Mapping[str, int] | None,
    told: Callable[[Seen], str | None],
) -> tuple[Share, ...]:
    names = {c.id: name_of(c) for c in snapshot.originals}
    written = Counter(names.values())
    guessed = Counter(names[c.id] for c in snapshot.originals if told(c) is None and names[c.id] not in _UNNAMED)
    tried = {r.parent_id for r in snapshot.rewrites}
    kept: Counter[str] = Counter()
    still_open: Counter[str] = Counter()
    filled: Counter[str] = Counter()  # places of the plan that are not lost; imports fill none
    for c, fate in snapshot.fates:
        is_open = fate.status in ("unjudged", "unscored") or (fate.status == "failed" and c.id not in tried)
        kept[names[c.id]] += fate.status == "kept"
        still_open[names[c.id]] += is_open
        filled[names[c.id]] += c.origin == "generated" and (is_open or fate.status == "kept")
    everything = kept.total()
    order = [*(planned or {}), *sorted(name for name in written if name not in (planned or {}))]
    return tuple(
        Share(
            name=name,
            planned=planned.get(name, 0) if planned is not None else None,
            written=written[name],
            kept=kept[name],
            kept_share=kept[name] / everything if everything else None,
            open=still_open[name],
            missing=max(planned.get(name, 0) - filled[name], 0) if planned is not None else None,
            guessed=guessed[name],
        )
        for name in order
    )


def _missing(snapshot: Snapshot) -> tuple[Missing, ...]:
    planned = _only(snapshot, snapshot.plan.get("per_category"))
    written = Counter(snapshot.category_of(c) for c in snapshot.originals)
    attempts = Counter((f.category, f.kind) for f in snapshot.failures if f.stage in ("generate", "augment"))
    unwritten = Counter((f.category, f.kind) for f in _last_failures(snapshot))
    judged: dict[str, list[str]] = {name: [] for name in [*(planned or {}), *sorted(written)]}
    for conversation in snapshot.in_play:
        judged.setdefault(snapshot.category_of(conversation), []).append(conversation.id)
    return tuple(
        Missing(
            category=category,
            planned=planned.get(category, 0) if planned is not None else None,
            written=written[category],
            unwritten={kind: n for (name, kind), n in unwritten.most_common() if name == category},
            attempts_failed={kind: n for (name, kind), n in attempts.most_common() if name == category},
            unjudged=sum(i not in snapshot.verdicts for i in ids),
            unscored=quality.count_unscored(snapshot.verdicts[i] for i in ids if i in snapshot.verdicts),
            passed=quality.rate_conversations(snapshot.verdicts[i] for i in ids if i in snapshot.verdicts),
        )
        for category, ids in judged.items()
    )


def _last_failures(snapshot: Snapshot) -> Iterable[Failure]:
    """The last failure of every place of the plan that holds no conversation (places are named `scenario-INDEX`)."""
    written = {f"scenario-{c.scenario.index}" for c in snapshot.originals if c.scenario}
    last = {f.record_id: f for f in snapshot.failures if f.stage == "generate" and f.record_id not in written}
    return last.values()


def _spent(snapshot: Snapshot) -> Spent:
    stages: dict[str, StageCost] = {}
    for timing in snapshot.timings:
        stages[timing.stage] = StageCost(stage=timing.stage, wall_s=timing.wall_s, items=timing.items)
    for spending in snapshot.spending:
        one = StageCost(
            stage=spending.stage,
            models=(spending.model,),
            calls=spending.calls,
            prompt_tokens=spending.prompt_tokens,
            completion_tokens=spending.completion_tokens,
            cost_usd=spending.cost_usd,
            unpriced=spending.unpriced,
        )
        stages[spending.stage] = _plus(stages.get(spending.stage, StageCost(stage=spending.stage)), one)
    total = StageCost(stage="total")
    for stage in stages.values():
        total = _plus(total, stage)
    kept = 0 if snapshot.category else sum(fate.status == "kept" for _, fate in snapshot.fates)
    return Spent(
        stages=tuple(stages.values()),
        total=total,
        cost_usd_per_kept=total.cost_usd / kept if kept and total.unpriced < max(total.calls, 1) else None,
        tokens_per_kept=(total.prompt_tokens + total.completion_tokens) / kept if kept else None,
        wall_s_per_kept=total.wall_s / kept if kept else None,
    )


def _plus(one: StageCost, other: StageCost) -> StageCost:
    numbers = ("calls", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced", "wall_s", "items")
    summed = {name: getattr(one, name) + getattr(other, name) for name in numbers}
    return StageCost(stage=one.stage, models=tuple(dict.fromkeys([*one.models, *other.models])), **summed)
