"""Draws pass rates by category and criterion as a table that fits any width: several below each other where it must.

Needs rich, so it is imported only to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from safetyqc.reports.drawing import BAD, FAINT, GOOD, WARN, block, fits, say, table
from safetyqc.reports.wording import interval, percent, tell_right
from safetyqc.results.rates import Rate
from safetyqc.results.report import CriterionRates, Summary

_CELL_WIDTH = 9
BEFORE = "before selection"


@dataclass(frozen=True)
class HeatTable:
    """Categories down, criteria across; as many tables below each other as the width asks for."""

    criteria: Sequence[CriterionRates]
    bars: Mapping[str, float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        criteria = self.criteria
        names = list(dict.fromkeys(name for c in criteria for name in c.categories))
        first = min(fits([*names, BEFORE]), 26)
        width = max(_CELL_WIDTH, *(fits(_heading(c).split()) for c in criteria)) + 2
        across = max((options.max_width - first - 2) // width, 1)
        across = ceil(len(criteria) / ceil(len(criteria) / across))  # 3 and 3 rather than 5 and 1
        for start in range(0, len(criteria), across):
            if start:
                yield Text()
            yield self._table(criteria[start : start + across], names, first)

    def _table(self, criteria: Sequence[CriterionRates], names: list[str], first: int) -> Table:
        made = table("", *("" for _ in criteria), numbers=range(1, len(criteria) + 1))
        made.columns[0].width = first
        for column, criterion in zip(made.columns[1:], criteria, strict=True):
            column.header, column.min_width = Text(_heading(criterion)), _CELL_WIDTH
        rows = [("all", [c.overall for c in criteria])]
        if any(c.is_selected for c in self.criteria):
            rows.append((BEFORE, [c.before_selection for c in criteria]))
        rows += [(name, [c.categories.get(name, Rate()) for c in criteria]) for name in names]
        for name, rates in rows:
            cells = [_cell(rate, self.bars.get(c.id)) for rate, c in zip(rates, criteria, strict=True)]
            made.add_row(say(name, "bold" if name in ("all", BEFORE) else "", 26), *cells)
        return made


def _heading(criterion: CriterionRates) -> str:
    """One word a line, so that columns stay narrow."""
    words = say(criterion.id.replace("_", " "), width=40).plain.split()
    return "\n".join([*words, "(gate)"] if criterion.gate else words)


def _cell(rate: Rate, bar: float | None) -> Text:
    unscored = f" {rate.unscored:,}?" if rate.unscored else ""
    if rate.rate is None:
        return Text(unscored.strip() or "·", style=WARN if unscored else FAINT)
    first = Text(percent(rate.rate, 0 if rate.rate in (0, 1) else 1), style=f"bold {_heat(rate.rate, bar)}")
    first.append(unscored, style=f"not bold {WARN}")
    return first.append(f"\n{interval(rate.low, rate.high, 0)} {_compact(rate.n)}", style=f"not bold {FAINT}")


def _heat(rate: float, bar: float | None) -> str:
    """Against the user's bar where there is one, else against what usually is good enough to train on."""
    good, poor = (bar, bar) if bar is not None else (0.95, 0.8)
    return GOOD if rate >= good else WARN if rate >= poor else BAD


def _compact(n: int) -> str:
    return str(n) if n < 1000 else f"{n / 1000:.1f}k" if n < 9950 else f"{n / 1000:.0f}k"


def render_groups(summary: Summary, _: bool) -> RenderableType | None:
    """Draw the same by every other fact that was asked for."""
    drawn = []
    for found in summary.groups:
        guessed = sum(found.guessed.values())
        title = f"Pass rates by {say(found.by).plain}" + (f", {guessed:,} guessed" if guessed else "")
        right = [say(tell_right(found.by, found.guesser, guessed), FAINT)] if guessed else []
        drawn.append(block(title, HeatTable(found.criteria, {}), *right))
    return Group(*drawn) if drawn else None
