"""Draws the user's own bars for the terminal: those of the data, and those of the judge on the frozen set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from safetyqc.reports.drawing import FAINT, mark, say, table
from safetyqc.reports.wording import estimated, interval, number, percent
from safetyqc.results.rates import Bar
from safetyqc.results.report import Frozen, Summary


def render_bars(summary: Summary) -> Iterator[RenderableType]:
    """Every bar and whether it is met; nothing without bars."""
    if summary.verdict.bars:
        yield _table(summary.verdict.bars)
    if summary.frozen:
        yield _frozen(summary.frozen)


def _frozen(frozen: Frozen) -> RenderableType:
    told = "agrees with the frozen set as it should" if frozen.met else "changed: it misses bars of the frozen set"
    line = Text.assemble(mark("good" if frozen.met else "bad"), " ", say(frozen.judge, width=40), f" {told}")
    return Group(line, _table(frozen.bars, "agrees"))


def _table(bars: Sequence[Bar], does: str = "passes") -> Table:
    made = table("bar", "", does, "95% interval", "n", numbers=(2, 3, 4))
    for bar in bars:
        sign = mark("good" if bar.met and bar.certain else "warning" if bar.met else "bad")
        name = Text.assemble(sign, " ", say(bar.title), (f" ≥ {percent(bar.bar)}", FAINT))
        value, low, high = estimated(bar.estimate)
        made.add_row(name, say(bar.doubt, FAINT), percent(value), interval(low, high), number(bar.n))
    return made
