"""Draws parts of the report: a line for each criterion, the categories unlike the rest, what others recorded.

It counts nothing but which categories differ: those whose rate is not that of all others taken together, adjusted for
how many there are. Needs rich, so it is imported only when a report is shown.
"""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from safetyqc.reports.drawing import BAD, FAINT, GOOD, WARN, block, mark, say, table
from safetyqc.reports.recorded import HEADINGS, recorded_rows
from safetyqc.reports.wording import estimated, interval, number, percent, tell_chosen, tell_right
from safetyqc.results.compare import OVERALL
from safetyqc.results.rates import Rate, make_rate
from safetyqc.results.report import CriterionRates, Summary
from safetyqc.results.statistics import difference_interval, difference_p, holm


def render_criteria(summary: Summary, _: bool) -> RenderableType | None:
    """Draw one line for each criterion: the judge's rate, what labels make of it, and what stood there before."""
    asked = [c for c in summary.criteria if c.is_asked]
    if not asked:
        return None
    corrected = {c.criterion: c for c in summary.corrected if c.rate}
    selected = any(c.is_selected for c in asked)
    headings = ["", "passes", "95%", "n", "unscored"]
    headings += ["by labels"] if corrected else []
    headings += ["before\nselection"] if selected else []
    made = table(*headings, numbers=range(1, len(headings)))
    made.columns[0].no_wrap = True
    for c in asked:
        rate = c.overall
        unscored = Text(number(rate.unscored) if rate.unscored else "", style=WARN)
        row: list[Text | str] = [_name(c), percent(rate.rate), interval(rate.low, rate.high), number(rate.n), unscored]
        if corrected:
            row.append(_by_labels(estimated(corrected[c.id].rate)) if c.id in corrected else "")
        made.add_row(*row, *([percent(c.before_selection.rate)] if selected else []))
    silent = ", ".join(c.id for c in summary.criteria if not c.is_asked)
    told = [f"not asked, because this judge cannot judge it: {silent}"] if silent else []
    told += [chosen] if (chosen := tell_chosen(summary)) else []
    note = "of what is in: the best of copies, rewrites in place of what they mend" if selected else ""
    return block("Pass rates", made, *(say(line, FAINT) for line in told), note=note)


def _name(criterion: CriterionRates) -> Text:
    if criterion.id == OVERALL:
        return Text("whole conversation", style="bold")
    return say(criterion.id + (" (gate)" if criterion.gate else ""))


def _by_labels(estimate: tuple[float | None, float | None, float | None]) -> str:
    value, low, high = estimate
    return f"{percent(value)} ({interval(low, high, 0)})"


def render_unlike(summary: Summary, _: bool) -> RenderableType | None:
    """Draw the categories whose pass rate is not that of the others; one line where none is told apart."""
    whole = next((c for c in summary.criteria if c.id == OVERALL), None)
    sides = [(name, rate, _others(whole.overall, rate)) for name, rate in whole.categories.items()] if whole else []
    sides = [(name, rate, rest) for name, rate, rest in sides if rate.n and rest.n]
    if not sides:
        return None
    differ = holm([difference_p(rate.passed, rate.n, rest.passed, rest.n) for _, rate, rest in sides])
    found = [side for side, differs in zip(sides, differ, strict=True) if differs]
    guessed = sum(share.guessed for share in summary.balance.categories)
    right = [say(tell_right("category", summary.run.judge, guessed), FAINT)] if guessed else []
    if not found:
        told = f"none of {len(sides)} surely passes more or less often than the rest"
        return block("Categories unlike the rest", Text(told, style=FAINT), *right)
    made = table("", "passes", "n", "the rest", "points", "95%", numbers=range(1, 6))
    for name, rate, rest in sorted(found, key=lambda side: side[1].rate or 0):
        worse = (rate.rate or 0) < (rest.rate or 0)
        low, high = difference_interval(rate.passed, rate.n, rest.passed, rest.n)
        line = Text.assemble(mark("bad" if worse else "good"), " ", say(name))
        points = Text(f"{100 * ((rate.rate or 0) - (rest.rate or 0)):+.1f}", style=BAD if worse else GOOD)
        made.add_row(line, percent(rate.rate), number(rate.n), percent(rest.rate), points, interval(low, high))
    told = f"adjusted for {len(sides)} categories (Holm); --section rates shows all"
    return block("Categories unlike the rest", made, *right, note=told)


def render_recorded(summary: Summary, _: bool) -> RenderableType | None:
    """Draw what stands beside the conversations, by whoever gave it."""
    if not summary.recorded:
        return None
    made = table(*HEADINGS, numbers=range(2, 5))
    for by, criterion, *figures in recorded_rows(summary.recorded):
        made.add_row(say(by, width=40), say(criterion), *figures)
    return block(
        "Recorded verdicts", made, note="what a set's makers, or judges asked elsewhere, said; decides nothing"
    )


def _others(whole: Rate, one: Rate) -> Rate:
    return make_rate(whole.passed - one.passed, whole.failed - one.failed)
