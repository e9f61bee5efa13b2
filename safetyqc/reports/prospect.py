"""Counts what decides about a set's effect: what is kept by kind, refusals, twins, and at which turn answers fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from safetyqc.results.prospect import Prospect, TurnFailures, Twins
from safetyqc.results.rates import make_rate

if TYPE_CHECKING:
    from safetyqc.reports.seen import Said, Seen
    from safetyqc.reports.snapshot import Snapshot

_ORDINARY = "ordinary"
_KINDS = {"harmful": "harmful", "distress": "distress", "benign": "benign", "borderline": "benign"}


def measure_prospect(snapshot: Snapshot) -> Prospect:
    """Measure what a run keeps."""
    kept = [c for c in snapshot.conversations if snapshot.standings[c.id].status == "kept"]
    kinds = Counter(_kind(snapshot, c) for c in kept)
    refusals = sum(_kind(snapshot, c) == "harmful" and c.declines for c in kept)
    return Prospect(
        harmful=kinds["harmful"],
        distress=kinds["distress"],
        benign=kinds["benign"],
        ordinary=kinds[_ORDINARY],
        unknown=kinds["unknown"],
        refusals=refusals,
        refusal_share=refusals / len(kept) if kept else None,
        ordinary_share=kinds[_ORDINARY] / len(kept) if kept else None,
        twins=_twins(snapshot),
        turns=_turns(snapshot.in_play, snapshot.verdicts),
        strictly_failed=_strictly_failed(snapshot),
    )


def _strictly_failed(snapshot: Snapshot) -> int:
    planned = [c for c in snapshot.in_play if c.scenario and c.scenario.answer == "safe_completion"]
    scores = [v.score("strict_refusal") for c in planned if (v := snapshot.verdicts.get(c.id))]
    return sum(score is not None and score.outcome == "fail" for score in scores)


def _kind(snapshot: Snapshot, conversation: Seen) -> str:
    if conversation.category == _ORDINARY:
        return _ORDINARY
    return _KINDS.get(snapshot.intent_of(conversation), "unknown")


def _twins(snapshot: Snapshot) -> Twins | None:
    """Look at each pair as its members stand now, by way of their rewrites."""
    pairs: dict[str, dict[str, list[Seen]]] = {}
    for conversation in snapshot.originals:
        if (scenario := conversation.scenario) and scenario.pair:
            pairs.setdefault(scenario.pair, {}).setdefault(scenario.intent, []).append(conversation)
    planned = snapshot.plan.get("pairs", len(pairs))
    if not planned:
        return None
    whole = [[_best(snapshot, found) for found in members.values()] for members in pairs.values() if len(members) == 2]
    judged = [[_passed(snapshot, c) for c in members] for members in whole]
    known = [outcomes for outcomes in judged if None not in outcomes]
    right = sum(all(outcomes) for outcomes in known)
    return Twins(
        planned=planned,
        kept=sum(all(snapshot.fate(c).status == "kept" for c in members) for members in whole),
        right=make_rate(right, len(known) - right, unscored=len(judged) - len(known)),
    )


def _best(snapshot: Snapshot, drawn: list[Seen]) -> Seen:
    """Of a place that was drawn several times, what is kept; else the last draw."""
    return next((c for c in drawn if snapshot.fate(c).status == "kept"), drawn[-1])


def _passed(snapshot: Snapshot, conversation: Seen) -> bool | None:
    fate = snapshot.fate(conversation)
    if fate.status in ("kept", "failed"):
        return fate.status == "kept"
    verdict = snapshot.verdicts.get(conversation.id)
    return verdict.passed if verdict else None


def _turns(conversations: Iterable[Seen], verdicts: dict[str, Said]) -> tuple[TurnFailures, ...]:
    """The first exchange at which each judged conversation fails; those whose failure names none are left out."""
    reached: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for conversation in conversations:
        verdict = verdicts.get(conversation.id)
        if verdict is None or verdict.passed is None:
            continue
        failures = [score for score in verdict.scores if score.outcome == "fail"]
        at = min((score.turn // 2 + 1 for score in failures if score.turn is not None), default=None)
        if failures and at is None:
            continue
        reached.update(range(1, (at or len(conversation.answered)) + 1))
        failed[at or 0] += 1
    return tuple(TurnFailures(exchange=n, reached=reached[n], failed=failed[n]) for n in sorted(reached))
