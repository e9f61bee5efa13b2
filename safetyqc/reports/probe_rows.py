"""Probes of a run -> one table: a row a model, a column a measure; whoever shows it makes names harmless."""

from __future__ import annotations

from collections.abc import Sequence

from safetyqc.reports.wording import interval, percent
from safetyqc.results.probe import TITLES, Measure, ProbeFacts


def probe_rows(probes: Sequence[ProbeFacts]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The headings and the rows; no rows without probes."""
    names = [name for name in TITLES if any(name in probe.measures for probe in probes)]
    rows = []
    for probe in probes:
        found = [probe.measures.get(name, Measure(name=name)) for name in names]
        cells = [f"{percent(m.rate)} ({interval(m.low, m.high)})" if m.rate is not None else "–" for m in found]
        rows.append((", ".join(probe.models), *cells))
    return ("model", *(TITLES[name] for name in names)), rows
