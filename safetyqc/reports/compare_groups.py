"""Draws how judges do by a fact of the conversations: which groups are unlike the rest, then each criterion's tables.

Computes nothing. Needs rich, so it is imported only when a comparison is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from safetyqc.reports.drawing import FAINT, WARN, block, say, table
from safetyqc.reports.wording import in_percent, number, percent, short_name, span, tell_groups
from safetyqc.results.compare import Accuracy, Agreement, Comparison, CriterionComparison, GroupedBy
from safetyqc.text import shorten

_GROUP = 18
"""Characters for the name of a group; with a judge's name and four numbers it fits 80 columns."""


def render_groups(found: GroupedBy, comparison: Comparison) -> RenderableType:
    """Draw which groups differ, then each criterion's pass rates by group, and how they agree."""
    said = [say(line, WARN if found.unlike or "guess" in line else FAINT) for line in tell_groups(found)]
    parts: list[RenderableType] = []
    for criterion in comparison.criteria:
        of_groups = [(g.name, own) for g in found.groups if (own := g.criterion(criterion.criterion))]
        parts += [Text(), _verdicts(criterion.criterion, of_groups)]
        agreeing = _agreeing(of_groups, short_name(comparison.truth) if comparison.truth else None)
        parts += [agreeing] if agreeing.row_count else []
    return block(f"by {shorten(found.by, 40)}", *said, *parts)


_OfGroups = list[tuple[str, CriterionComparison]]


def _verdicts(criterion: str, of_groups: _OfGroups) -> Table:
    made = table(shorten(criterion, _GROUP), "", "n", "unscored", "rate", "interval", numbers=range(2, 6))
    for group, compared in of_groups:
        for place, row in enumerate(c for c in compared.counts if c.applicable or c.na):
            rate = row.pass_rate
            unscored = Text(number(row.unscored) if row.unscored else "", style=WARN)
            n, value = number(row.passed + row.failed), percent(rate.value if rate else None)
            made.add_row(_group(group, place), short_name(row.rater), n, unscored, value, in_percent(rate))
    return made


def _agreeing(of_groups: _OfGroups, truth: str | None) -> Table:
    """Draw each judge against the labels by group, or judges against each other where there are none."""
    made = table("", f"against {truth}" if truth else "judges", "n", "same", "kappa", "interval", numbers=range(2, 6))
    for group, compared in of_groups:
        for place, (name, row) in enumerate(_rows(compared, truth)):
            kappa = f"{row.kappa.value:.3f}" if row.kappa else "–"
            made.add_row(_group(group, place), name, number(row.n), percent(row.agreement), kappa, span(row.kappa))
    return made


def _rows(compared: CriterionComparison, truth: str | None) -> Iterator[tuple[str, Accuracy | Agreement]]:
    if truth:
        yield from ((short_name(row.rater), row) for row in compared.accuracies if row.n)
        return
    yield from ((f"{short_name(row.first)} /\n{short_name(row.second)}", row) for row in compared.agreements if row.n)


def _group(name: str, place: int) -> Text:
    """Name a group in its first row alone."""
    return Text("" if place else shorten(name, _GROUP))
