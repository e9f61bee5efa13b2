"""Sets two runs side by side: what moved, and whether it is more than noise; then draws it for a terminal.

Each rate gets Newcombe's interval of the difference of two separate samples. For the same conversations judged twice
that interval is wider than need be, so it calls too little a change rather than too much. With many cells some leave
their interval by chance: how many were looked at is said. Imports rich only to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyqc.errors import NotComparableError
from safetyqc.records import Record
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.reports.wording import interval, number, percent
from safetyqc.results.report import Rate, RunFacts, Summary
from safetyqc.results.statistics import difference_interval
from safetyqc.text import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.store import Store
    from safetyqc.store.standing import Standing

_SHOWN = 12


class Move(Record):
    """One rate in both runs; `low` and `high` are the 95% interval of `after` less `before`, `sure` leaves 0 out."""

    criterion: str
    category: str | None
    before: Rate
    after: Rate
    difference: float
    low: float
    high: float
    sure: bool


class Count(Record):
    """One plain count in both runs."""

    name: str
    before: int
    after: int


class ChangedVerdict(Record):
    """One conversation that both runs hold and that stands elsewhere now."""

    conversation_id: str
    before: str
    after: str
    reason: str


class Difference(Record):
    """What moved from one run to another; of the `cells` rates compared, 1 in 20 may seem to move by chance."""

    before: RunFacts
    after: RunFacts
    counts: tuple[Count, ...]
    moves: tuple[Move, ...]
    cells: int
    shared: int = 0
    """Conversations that both runs hold."""
    changed: tuple[ChangedVerdict, ...] = ()


def compare_runs(
    before: Summary, after: Summary, changed: tuple[ChangedVerdict, ...] = (), shared: int = 0
) -> Difference:
    """Set two summaries side by side.

    Raises:
        NotComparableError: they were judged by different rubrics, or narrowed to different categories.
    """
    _check(before.run, after.run)
    old = _rates(before)
    moves = tuple(_move(cell, old[cell], rate) for cell, rate in _rates(after).items() if cell in old)
    moves = tuple(m for m in moves if m.before.n and m.after.n)
    names = ("planned", "written", "filtered", "distinct", "judged", "scored", "kept")
    steps_before, steps_after = ({s.name: s.count for s in summary.funnel} for summary in (before, after))
    return Difference(
        before=before.run,
        after=after.run,
        counts=tuple(
            Count(name=n, before=steps_before.get(n, 0), after=steps_after.get(n, 0))
            for n in names
            if n in steps_before or n in steps_after
        ),
        moves=moves,
        cells=len(moves),
        shared=shared,
        changed=changed,
    )


def compare_stores(before: Store, after: Store, old: Summary, new: Summary) -> Difference:
    """Set two runs side by side, with the conversations that stand elsewhere now.

    Raises:
        NotComparableError: as `compare_runs`.
    """
    was, now = (_standings(store, summary.run) for store, summary in ((before, old), (after, new)))
    shared = [i for i in now if i in was]
    changed = tuple(
        ChangedVerdict(conversation_id=i, before=was[i].status, after=now[i].status, reason=now[i].reason)
        for i in shared
        if was[i].status != now[i].status
    )
    return compare_runs(old, new, changed, len(shared))


def _standings(store: Store, facts: RunFacts) -> dict[str, Standing]:
    """Where the conversations stand that a summary was narrowed to."""
    snapshot = read_snapshot(store, facts.judge, facts.category, bars={})
    return {c.id: snapshot.standings[c.id] for c in snapshot.conversations}


def _check(before: RunFacts, after: RunFacts) -> None:
    for what in ("rubric_hash", "category"):
        one, other = getattr(before, what), getattr(after, what)
        if one != other:
            raise NotComparableError(
                f"the runs differ in {what.replace('_', ' ')}: {one!r} and {other!r}",
                where=f"{before.folder} and {after.folder}",
                fix="judge both by the same rubric, or narrow both to the same category",
            )


def _rates(summary: Summary) -> dict[tuple[str, str | None], Rate]:
    rates: dict[tuple[str, str | None], Rate] = {(c.id, None): c.overall for c in summary.criteria}
    rates |= {(c.id, name): rate for c in summary.criteria for name, rate in c.categories.items()}
    return rates


def _move(cell: tuple[str, str | None], before: Rate, after: Rate) -> Move:
    low, high = difference_interval(after.passed, after.n, before.passed, before.n)
    return Move(
        criterion=cell[0],
        category=cell[1],
        before=before,
        after=after,
        difference=(after.rate or 0.0) - (before.rate or 0.0),
        low=low,
        high=high,
        sure=low > 0 or high < 0,
    )


def moves_to_show(difference: Difference) -> list[Move]:
    """Every criterion as a whole, then the cells that surely moved, the largest first."""
    whole = [m for m in difference.moves if m.category is None]
    cells = [m for m in difference.moves if m.category is not None and m.sure]
    return whole + sorted(cells, key=lambda m: -abs(m.difference))


def render_diff(difference: Difference) -> RenderableType:
    """Draw it for a terminal."""
    from rich.console import Group
    from rich.text import Text

    from safetyqc.reports.drawing import BAD, FAINT, GOOD, block, mark, say, table

    counts = table("", "before", "after", "", numbers=(1, 2, 3))
    for c in difference.counts:
        counts.add_row(say(c.name), number(c.before), number(c.after), f"{c.after - c.before:+,}")
    moves = table("rate", "before", "after", "moved", "95% interval", "", numbers=(1, 2, 3, 4))
    for m in moves_to_show(difference):
        name = say(m.criterion if m.category is None else f"  {m.category}: {m.criterion}", width=44)
        verdict = mark("good" if m.difference > 0 else "bad") if m.sure else Text("noise", style=FAINT)
        moved = Text(f"{100 * m.difference:+.1f}", style="" if not m.sure else GOOD if m.difference > 0 else BAD)
        moves.add_row(name, percent(m.before.rate), percent(m.after.rate), moved, interval(m.low, m.high), verdict)
    note = f"{counted(difference.cells, 'rate')} compared; about 1 in 20 seems to move by chance alone"
    parts = [counts, moves, _changed(difference)]
    title = f"What moved since {say(difference.before.folder).plain}"
    return Group(block(title, *parts, note=note), Text())


def _changed(difference: Difference) -> RenderableType:
    from rich.text import Text

    from safetyqc.reports.drawing import FAINT, say, table

    if not difference.changed:
        return Text(f"none of {counted(difference.shared, 'shared conversation')} stands elsewhere now", style=FAINT)
    made = table(f"{len(difference.changed):,} of {difference.shared:,} stand elsewhere", "before", "now", "", wide=3)
    for c in difference.changed[:_SHOWN]:
        made.add_row(say(c.conversation_id), c.before, c.after, say(c.reason, FAINT, 100))
    if len(difference.changed) > _SHOWN:
        made.add_row(f"and {len(difference.changed) - _SHOWN:,} more", "", "", "")
    return made
