"""Sets two runs side by side: what moved, and whether it is more than noise; then draws it for a terminal.

Each rate gets Newcombe's interval of the difference of two separate samples. For the same conversations judged twice
that interval is wider than need be, so it calls too little a change rather than too much. What counts as moved is
adjusted for how many rates were looked at (Holm). Imports rich only to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyqc.errors import NotComparableError
from safetyqc.records import Record, conversation_id
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.reports.wording import interval, number, percent
from safetyqc.results.rates import Rate
from safetyqc.results.report import RunFacts, Summary
from safetyqc.results.statistics import difference_interval, difference_p, holm
from safetyqc.text import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.store import Store
    from safetyqc.store.standing import Standing

_SHOWN = 12
_DIFFERS = 0.05


class Move(Record):
    """One rate in both runs; `low` and `high` are the 95% interval of `after` less `before`, on its own.

    `sure`: it moved, also when it is considered that many rates were compared. `chosen`: what moved it is the choice
    among copies or rewrites alone, since the rates of first versions do not differ.
    """

    criterion: str
    category: str | None
    before: Rate
    after: Rate
    difference: float
    low: float
    high: float
    sure: bool
    chosen: bool = False


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
    """What moved from one run to another, both by the verdicts of one judge.

    Of two equal runs at most 1 in 20 shows any of its `cells` rates as moved.
    """

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
    both = [(cell, old[cell], rate) for cell, rate in _rates(after).items() if cell in old and old[cell].n and rate.n]
    sure = holm([difference_p(now.passed, now.n, was.passed, was.n) for _, was, now in both])
    first = [_rates(summary, before=True) for summary in (before, after)]
    moves = tuple(
        _move(cell, was, now, sure=moved, chosen=moved and not _differ(*(rates.get(cell) for rates in first)))
        for (cell, was, now), moved in zip(both, sure, strict=True)
    )
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
    shared = [(i, was[i][1], standing) for i, (text, standing) in now.items() if i in was and was[i][0] == text]
    changed = tuple(
        ChangedVerdict(conversation_id=i, before=old_standing.status, after=standing.status, reason=standing.reason)
        for i, old_standing, standing in shared
        if old_standing.status != standing.status
    )
    return compare_runs(old, new, changed, len(shared))


def _standings(store: Store, facts: RunFacts) -> dict[str, tuple[str, Standing]]:
    """What each conversation says, its system message included, and where it stands: those of a summary."""
    snapshot = read_snapshot(store, facts.judge, facts.category, bars={})
    return {
        c.id: (conversation_id(c.messages, system=c.system), snapshot.standings[c.id])
        for c in store.conversations()
        if c.id in snapshot.by_id
    }


def _check(before: RunFacts, after: RunFacts) -> None:
    fixes = {
        "judge": "judge one of them by the other's judge: a judge's opinion of a change is no change of the data",
        "rubric_hash": "judge both by the same rubric",
        "category": "narrow both to the same category",
    }
    for what, fix in fixes.items():
        one, other = getattr(before, what), getattr(after, what)
        if one != other:
            raise NotComparableError(
                f"the runs differ in {what.replace('_', ' ')}: {one!r} and {other!r}",
                where=f"{before.folder} and {after.folder}",
                fix=fix,
            )


def _rates(summary: Summary, *, before: bool = False) -> dict[tuple[str, str | None], Rate]:
    """Rates by criterion and category, of what is in or, with `before`, before anything was chosen."""
    rates: dict[tuple[str, str | None], Rate] = {}
    for c in summary.criteria:
        rates[c.id, None] = c.before_selection if before else c.overall
        rates |= {(c.id, name): r for name, r in (c.before_categories if before else c.categories).items()}
    return rates


def _differ(was: Rate | None, now: Rate | None) -> bool:
    """Whether rates of first versions differ, or cannot be told not to: a summary of an earlier version has none."""
    if was is None or now is None or not was.n or not now.n:
        return True
    return difference_p(now.passed, now.n, was.passed, was.n) < _DIFFERS


def _move(cell: tuple[str, str | None], before: Rate, after: Rate, *, sure: bool, chosen: bool) -> Move:
    low, high = difference_interval(after.passed, after.n, before.passed, before.n)
    return Move(
        criterion=cell[0],
        category=cell[1],
        before=before,
        after=after,
        difference=(after.rate or 0.0) - (before.rate or 0.0),
        low=low,
        high=high,
        sure=sure,
        chosen=chosen,
    )


def moves_to_show(difference: Difference) -> list[Move]:
    """Every criterion as a whole, then the cells that surely moved, the largest first."""
    whole = [m for m in difference.moves if m.category is None]
    cells = [m for m in difference.moves if m.category is not None and m.sure]
    return whole + sorted(cells, key=lambda m: -abs(m.difference))


def adjusted(difference: Difference) -> str:
    """Say how many rates were looked at, and that what counts as moved considers it."""
    return f"{counted(difference.cells, 'rate')} compared; moved = also when adjusted for their number (Holm)" + (
        "; by choosing = first versions do not differ, the choice among copies or rewrites does"
        if any(m.chosen for m in difference.moves)
        else ""
    )


def render_diff(difference: Difference) -> RenderableType:
    """Draw it for a terminal."""
    from rich.console import Group
    from rich.text import Text

    from safetyqc.reports.drawing import BAD, FAINT, GOOD, block, mark, say, table

    counts = table("", "before", "after", "", numbers=(1, 2, 3))
    for c in difference.counts:
        counts.add_row(say(c.name), number(c.before), number(c.after), f"{c.after - c.before:+,}")
    moves = table("rate", "before", "after", "moved", "95% interval", "", numbers=(1, 2, 3, 4), wide=0)
    for m in moves_to_show(difference):
        name = say(m.criterion if m.category is None else f"  {m.category}: {m.criterion}", width=44)
        told = m.sure and not m.chosen
        kind = "good" if m.difference > 0 else "bad"
        verdict = mark(kind) if told else Text("by choosing" if m.chosen else "noise", style=FAINT)
        moved = Text(f"{100 * m.difference:+.1f}", style="" if not told else GOOD if m.difference > 0 else BAD)
        moves.add_row(name, percent(m.before.rate), percent(m.after.rate), moved, interval(m.low, m.high), verdict)
    note = f"by {say(difference.after.judge or 'no judge').plain} in both; {adjusted(difference)}"
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
