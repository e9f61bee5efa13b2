"""Counts what judges, filters and rewriting say: pass rates, reasons, agreement, the ledger of mending."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from safetyqc.records import AGAIN
from safetyqc.results.compare import OVERALL
from safetyqc.results.rates import Rate, make_rate
from safetyqc.results.report import (
    Agreement,
    Canaries,
    Chosen,
    Control,
    CriterionRates,
    Example,
    FilterHits,
    JudgeFacts,
    Reason,
    Rewrites,
)
from safetyqc.results.statistics import cohen_kappa, difference_interval
from safetyqc.text import normalise

if TYPE_CHECKING:
    from safetyqc.records import Outcome, Rewrite
    from safetyqc.reports.seen import Cell, Said, Seen
    from safetyqc.reports.snapshot import Snapshot

_REASONS_SHOWN = 5
_QUOTED_OR_NUMBER = re.compile(r"\"[^\"]*\"|'[^']{12,}'|\d+")
_OVERALL_OUTCOME: dict[bool | None, Outcome] = {True: "pass", False: "fail", None: "unscored"}


def count_criteria(snapshot: Snapshot, group_of: Callable[[Seen], str] | None = None) -> tuple[CriterionRates, ...]:
    """Pass rates of the deciding judge per criterion and category; the whole conversation comes first.

    Args:
        group_of: what else to count by, in place of categories.
    """
    group_of = group_of or snapshot.category_of
    outcomes = _outcomes(snapshot, snapshot.in_play, group_of)
    if not outcomes:
        return ()
    before = _outcomes(snapshot, snapshot.first_versions, group_of)
    known = {c["id"]: c for c in snapshot.rubric.get("criteria", ())}
    names = dict.fromkeys([OVERALL, *known, *outcomes])
    return tuple(
        CriterionRates(
            id=name,
            title=known.get(name, {}).get("title") or ("Whole conversation" if name == OVERALL else name),
            gate=bool(known.get(name, {}).get("gate")),
            overall=_rate(sum(outcomes[name].values(), Counter())),
            categories={category: _rate(counts) for category, counts in sorted(outcomes[name].items())},
            before_selection=_rate(sum(before[name].values(), Counter())),
            before_categories={category: _rate(counts) for category, counts in sorted(before[name].items())},
        )
        for name in names
    )


_Outcomes = dict[str, dict[str, Counter["Outcome"]]]


def _outcomes(snapshot: Snapshot, conversations: Iterable[Seen], group_of: Callable[[Seen], str]) -> _Outcomes:
    """Outcomes of the deciding judge by criterion, then by group."""
    outcomes: _Outcomes = defaultdict(lambda: defaultdict(Counter))
    for conversation in conversations:
        if verdict := snapshot.verdicts.get(conversation.id):
            group = group_of(conversation)
            outcomes[OVERALL][group][_OVERALL_OUTCOME[verdict.passed]] += 1
            for score in verdict.scores:
                outcomes[score.criterion][group][score.outcome] += 1
    return outcomes


def _rate(counts: Counter[Outcome]) -> Rate:
    return make_rate(counts["pass"], counts["fail"], counts["unscored"], counts["na"])


def rate_conversations(judgments: Iterable[Said]) -> Rate:
    """Pass rate of whole conversations."""
    return _rate(Counter(_OVERALL_OUTCOME[j.passed] for j in judgments))


def count_unscored(judgments: Iterable[Said]) -> dict[str, int]:
    """Criterion cells without a usable score, by reason, the commonest first."""
    cells = (s for j in judgments for s in j.scores if s.outcome == "unscored")
    return dict(Counter(s.unscored_reason or "unexplained" for s in cells).most_common())


def count_reasons(snapshot: Snapshot) -> tuple[Reason, ...]:
    """Why conversations failed, per criterion the commonest five.

    Reasons that differ in quotes and numbers alone are one. Where most are still worded anew, which is how models write
    them, those of one level are together.
    """
    found: dict[str, list[tuple[Seen, Cell]]] = defaultdict(list)
    for conversation in snapshot.in_play:
        verdict = snapshot.verdicts.get(conversation.id)
        for score in verdict.scores if verdict else ():
            if score.outcome == "fail":
                found[score.criterion].append((conversation, score))
    return tuple(
        _reason(snapshot, criterion, together, len(cells), level)
        for criterion, cells in found.items()
        for level, together in _together(cells)[:_REASONS_SHOWN]
    )


_Cells = Sequence[tuple["Seen", "Cell"]]


def _together(cells: _Cells) -> list[tuple[str | None, _Cells]]:
    """Failures of one criterion by their reason, or by their level, the commonest first."""
    by_wording: dict[str, list[tuple[Seen, Cell]]] = defaultdict(list)
    by_level: dict[str | None, list[tuple[Seen, Cell]]] = defaultdict(list)
    for cell in cells:
        wording = _QUOTED_OR_NUMBER.sub("…", normalise(cell[1].reason)) or (cell[1].level or "")
        by_wording[wording[:120]].append(cell)
        by_level[cell[1].level].append(cell)
    told = [score.level for _, score in cells if score.level not in (None, "fail")]
    are_anew = 2 * len(by_wording) > len(cells) > 1 and 2 * len(told) > len(cells)
    groups: list[tuple[str | None, _Cells]] = (
        list(by_level.items()) if are_anew else [(None, group) for group in by_wording.values()]
    )
    return sorted(groups, key=lambda group: -len(group[1]))


def _reason(snapshot: Snapshot, criterion: str, cells: _Cells, failures: int, level: str | None) -> Reason:
    # the first with a quote shows best what was meant
    seen, score = next(((c, s) for c, s in cells if s.quote), cells[0])
    conversation = snapshot.whole(seen.id)
    turn = score.turn if score.turn is not None and score.turn < len(conversation.messages) else None
    return Reason(
        criterion=criterion,
        reason=score.reason or score.level or "no reason given",
        level=level,
        count=len(cells),
        share=len(cells) / failures,
        example=Example(
            conversation_id=conversation.id,
            category=snapshot.category_of(conversation),
            text=score.quote or conversation.messages[turn if turn is not None else -1].content,
            role=conversation.messages[turn].role if turn is not None else None,
            turn=turn,
        ),
    )


def count_filters(snapshot: Snapshot) -> tuple[FilterHits, ...]:
    """Filter hits per filter, the commonest first."""
    counts = Counter(r.filter for r in snapshot.rejections)
    firsts = {r.filter: r for r in reversed(snapshot.rejections)}
    return tuple(
        FilterHits(
            filter=name,
            count=count,
            reason=firsts[name].reason,
            example=_whole(snapshot, firsts[name].conversation_id),
        )
        for name, count in counts.most_common()
    )


def _whole(snapshot: Snapshot, conversation_id: str) -> Example:
    conversation = snapshot.whole(conversation_id)
    text = next(iter(conversation.assistant_turns), "")
    return Example(conversation_id=conversation_id, category=snapshot.category_of(conversation), text=text)


def count_rewrites(snapshot: Snapshot) -> Rewrites | None:
    """Sum up the ledger of mending; None when nothing was tried."""
    tried = snapshot.rewrites
    if not tried:
        return None
    kept = [r for r in tried if r.kept]
    return Rewrites(
        tried=len(tried),
        kept=len(kept),
        unusable=sum(r.child_id is None for r in tried),
        rounds=max(r.revision for r in tried),
        kept_rate=make_rate(len(kept), len(tried) - len(kept)),
        mended=dict(Counter(name for r in kept for name in r.mended).most_common()),
        broken=dict(Counter(name for r in tried if not r.kept for name in r.broken).most_common()),
        reasons=dict(Counter(r.reason for r in tried if not r.kept).most_common(_REASONS_SHOWN)),
        chosen=_chosen(snapshot),
        control=_control(snapshot),
    )


def _chosen(snapshot: Snapshot) -> Chosen:
    """Rewrites that are in, rated by the judge that chose them and by the one that saw most of them beside it."""
    ids = {c.id for c in snapshot.in_play if c.origin == "rewritten"}
    rates = rate_conversations(verdict for i, verdict in snapshot.verdicts.items() if i in ids)
    seen = {
        key: rate_conversations(j for i, j in snapshot.judgments[key].items() if i in ids) for key in _others(snapshot)
    }
    best = max(seen, key=lambda key: (bool(seen[key].n) and key[0].endswith(AGAIN), seen[key].n), default=None)
    if best is None or not seen[best].n:
        return Chosen(rates=rates)
    return Chosen(rates=rates, judge=best[0], afresh=seen[best])


def _others(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Judges of the deciding judge's rubric that had no part in choosing: the same asked afresh, and others."""
    judge = snapshot.judge
    return [key for key in snapshot.judgments if judge and key != judge and key[1] == judge[1]]


def _control(snapshot: Snapshot) -> Control | None:
    """Both sides of attempts in the eyes of a judge that did not choose them.

    That is the deciding judge asked afresh, or else the other judge of the same rubric that saw most of them. What it
    passes of the originals is the control group: regression to the mean would have mended as many.
    """
    seen = {key: _both_sides(snapshot.rewrites, snapshot.judgments[key]) for key in _others(snapshot)}
    best = max(seen, key=lambda key: (bool(seen[key]) and key[0].endswith(AGAIN), len(seen[key])), default=None)
    if best is None or not seen[best]:
        return None
    scored = [pair for pair in seen[best] if all(side.passed is not None for side in pair)]
    before, after = (rate_conversations(pair[side] for pair in scored) for side in (0, 1))
    low, high = difference_interval(after.passed, after.n, before.passed, before.n)
    return Control(
        judge=best[0],
        n=len(scored),
        before=before,
        after=after,
        lift=(after.rate or 0.0) - (before.rate or 0.0),
        low=low,
        high=high,
        unscored=len(seen[best]) - len(scored),
        worst=_lift(seen[best], before=True, after=False),
        best=_lift(seen[best], before=False, after=True),
    )


def _both_sides(rewrites: Iterable[Rewrite], judgments: Mapping[str, Said]) -> list[tuple[Said, Said]]:
    pairs = [(judgments.get(r.parent_id), judgments.get(r.child_id or "")) for r in rewrites]
    return [(a, b) for a, b in pairs if a and b]


def _lift(pairs: Sequence[tuple[Said, Said]], *, before: bool, after: bool) -> float:
    """The lift if the open sides had gone so: `before` is what an open original is taken for, `after` a rewrite."""
    gained = sum(
        (after if new.passed is None else new.passed) - (before if old.passed is None else old.passed)
        for old, new in pairs
    )
    return gained / len(pairs)


def list_judges(snapshot: Snapshot) -> tuple[JudgeFacts, ...]:
    """Every judge on the conversations that are in; the one that decides first."""
    ids = {c.id for c in snapshot.in_play}
    order = sorted(_judges(snapshot), key=lambda key: key != snapshot.judge)
    return tuple(_facts(snapshot, key, ids) for key in order)


def _judges(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Judges that judged the run, without one that was asked afresh about a sample."""
    return [key for key in snapshot.judgments if not key[0].endswith(AGAIN)]


def _facts(snapshot: Snapshot, key: tuple[str, str], ids: set[str]) -> JudgeFacts:
    found = snapshot.judgments[key]
    here = [j for i, j in found.items() if i in ids]
    costs = [j.cost_usd for j in found.values() if j.cost_usd is not None]
    return JudgeFacts(
        judge=key[0],
        rubric_hash=key[1],
        deciding=key == snapshot.judge,
        judged=len(here),
        overall=rate_conversations(here),
        before_selection=rate_conversations(found[c.id] for c in snapshot.first_versions if c.id in found),
        unscored=count_unscored(here),
        canaries=_canaries(snapshot, found),
        cost_usd=sum(costs) if costs else None,
    )


def _canaries(snapshot: Snapshot, verdicts: Mapping[str, Said]) -> Canaries | None:
    """Cells of planted conversations, which carry the criteria that a good judge must fail."""
    planted = [(c.flaws, verdicts[c.id]) for c in snapshot.conversations if c.flaws is not None and c.id in verdicts]
    if not planted:
        return None
    cells = [(s.criterion in flaws, s.outcome) for flaws, verdict in planted for s in verdict.scores]
    counts = Counter(cells)
    return Canaries(
        must_fail=sum(n for (must_fail, _), n in counts.items() if must_fail),
        caught=counts[True, "fail"],
        must_pass=counts[False, "pass"] + counts[False, "fail"] + counts[False, "unscored"],
        false_alarms=counts[False, "fail"],
        unscored=counts[True, "unscored"] + counts[False, "unscored"],
        unscored_flaws=counts[True, "unscored"],
    )


def list_agreements(snapshot: Snapshot) -> tuple[Agreement, ...]:
    """How far judges of the same rubric agree, pair by pair, on each criterion and on whole conversations."""
    ids = [c.id for c in snapshot.in_play]
    cells = {key: _cells(snapshot.judgments[key], ids) for key in _judges(snapshot)}
    return tuple(
        agreement
        for one, other in combinations(cells, 2)
        if one[1] == other[1]
        for agreement in _pair(one[0], other[0], cells[one], cells[other])
    )


def _cells(judgments: dict[str, Said], ids: Iterable[str]) -> dict[tuple[str, str], str]:
    """Pass or fail by (criterion, conversation); everything else is left out."""
    cells: dict[tuple[str, str], str] = {}
    for judgment in (judgments[i] for i in ids if i in judgments):
        cells[OVERALL, judgment.conversation_id] = _OVERALL_OUTCOME[judgment.passed]
        cells.update({(s.criterion, judgment.conversation_id): s.outcome for s in judgment.scores})
    return {cell: outcome for cell, outcome in cells.items() if outcome in ("pass", "fail")}


def _pair(
    first: str, second: str, one: dict[tuple[str, str], str], other: dict[tuple[str, str], str]
) -> list[Agreement]:
    both: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for cell, outcome in one.items():
        if cell in other:
            both[cell[0]].append((outcome, other[cell]))
    return [
        Agreement(
            first=first,
            second=second,
            criterion=criterion,
            n=len(pairs),
            agreement=sum(a == b for a, b in pairs) / len(pairs),
            kappa=cohen_kappa([a for a, _ in pairs], [b for _, b in pairs]),
        )
        for criterion, pairs in both.items()
    ]
