"""Verdicts that stand beside conversations (a set's own safety labels, other judges') -> counts by whoever gave them.

They decide nothing: beside each count stands how often the judge that decides says the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.reports.wording import number, percent
from safetyqc.results.report import Recorded

if TYPE_CHECKING:
    from safetyqc.reports.snapshot import Snapshot

HEADINGS = ("recorded by", "on", "pass", "fail", "judge says the same")


def count_recorded(snapshot: Snapshot) -> tuple[Recorded, ...]:
    """Count them over the conversations that are in; whoever recorded no verdict on any of them is left out."""
    judged = {
        (c.id, score.criterion): score.outcome
        for c in snapshot.in_play
        if c.recorded and (verdict := snapshot.verdicts.get(c.id))
        for score in verdict.scores
        if score.outcome in ("pass", "fail")
    }
    outcomes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    both: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for conversation in snapshot.in_play:
        for judge, criterion, outcome in conversation.recorded:
            outcomes[judge, criterion][outcome] += 1
            if said := judged.get((conversation.id, criterion)):
                both[judge, criterion].append(said == outcome)
    return tuple(
        Recorded(by=by[0], criterion=by[1], passed=n["pass"], failed=n["fail"], both=len(both[by]), same=sum(both[by]))
        for by, n in sorted(outcomes.items())
    )


def recorded_rows(recorded: Sequence[Recorded]) -> list[tuple[str, ...]]:
    """A row for each, under HEADINGS; whoever shows it makes names harmless."""
    return [
        (
            told.by,
            told.criterion,
            number(told.passed),
            number(told.failed),
            f"{percent(told.same / told.both)} of {number(told.both)}" if told.both else "–",
        )
        for told in recorded
    ]
