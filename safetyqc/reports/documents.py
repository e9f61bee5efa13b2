"""Writes a Summary as Markdown: a report for a pull request, and the parts that a dataset card has of it.

It shows no text of a conversation: a pull request is read by people who did not ask for harmful text. Names from data
(categories, judges, files) are escaped for Markdown, HTML and tables, since they are as hostile as the texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.advice import tell_mix
from safetyqc.reports.probe_rows import probe_rows
from safetyqc.reports.recorded import HEADINGS, recorded_rows
from safetyqc.reports.wording import (
    LOST_BY,
    STEP_NAMES,
    duration,
    estimated,
    interval,
    money,
    number,
    percent,
    tell_all_right,
    tell_bars,
    tell_guesses,
    tell_right,
    tell_selection,
)
from safetyqc.results.rates import Rate
from safetyqc.results.report import CriterionRates, Step, Summary
from safetyqc.text import counted, shorten

if TYPE_CHECKING:
    from safetyqc.reports.diff import Difference

_SPECIAL = re.compile(r"[\\`*\[\]()#!|~<>&@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")


def render_markdown(
    summary: Summary, difference: Difference | None = None, sections: Iterable[str] | None = None
) -> str:
    """Render a report for a pull request, or the named sections of it in the given order.

    Raises:
        UserError: a section that Markdown has not, since it shows text of conversations or is a picture.
    """
    chosen = list(SECTIONS) if sections is None else list(sections)
    for name in chosen:
        if name not in SECTIONS:
            raise UserError(f"Markdown has no section {name!r}", where="--md", fix=choose_from(name, SECTIONS))
    parts = ["# Safety data report", *(SECTIONS[name](summary) for name in chosen)]
    parts.insert(len(parts) - (chosen[-1:] == ["actions"]), _moves(difference) if difference else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Any string as one line that Markdown, HTML and a table leave alone; mentions and links included."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", shorten(str(text), 300))


def make_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table whose cells are Markdown; all columns but the first align right."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join(["---"] + ["---:"] * (len(headings) - 1)) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def titled(title: str, text: str) -> str:
    """Write a section; nothing where it has no text."""
    return f"## {title}\n\n{text}" if text else ""


def _pass_rates(summary: Summary) -> str:
    return f"{escape(tell_selection(summary))}.\n\n{tell_rates(summary.criteria)}" if summary.criteria else ""


def _groups(summary: Summary) -> str:
    tables = []
    for found in summary.groups:
        names = dict.fromkeys(name for c in found.criteria for name in c.categories)
        rows = [
            (escape(name), escape(c.id), *_rate(c.categories[name]), number(found.guessed.get(name, 0)))
            for name in names
            for c in found.criteria
            if name in c.categories
        ]
        headings = (escape(found.by), "criterion", "passes", "95% interval", "n", "unscored", "worst–best", "guessed")
        tables.append(make_table(headings, rows))
        if guessed := sum(found.guessed.values()):
            tables.append(escape(tell_right(found.by, found.guesser, guessed)))
    return "\n\n".join(tables)


def _judges(summary: Summary) -> str:
    rows = [
        (
            escape(j.judge) + (" (decides)" if j.deciding else ""),
            number(j.judged),
            percent(j.overall.rate),
            interval(j.overall.low, j.overall.high),
            number(j.overall.unscored),
            money(j.cost_usd),
        )
        for j in summary.judges
    ]
    return make_table(("judge", "judged", "passes", "95% interval", "unscored", "cost"), rows) if rows else ""


def _cost(summary: Summary) -> str:
    rows = [
        (
            s.stage,
            *map(number, (s.calls, s.prompt_tokens, s.completion_tokens)),
            money(s.cost_usd),
            duration(s.wall_s),
        )
        for s in (*summary.spent.stages, summary.spent.total)
    ]
    return make_table(("stage", "calls", "tokens in", "tokens out", "cost", "time"), rows) if len(rows) > 1 else ""


def _headline(summary: Summary) -> str:
    met = summary.verdict.met
    verdict = f"{'✅' if met else '❌'} {tell_bars(summary.verdict)}. " if summary.verdict.bars else ""
    bars = f"\n\n{_bars(summary)}" if summary.verdict.bars else ""
    facts = summary.run
    judged = f"judged by `{as_code(facts.judge)}`" if facts.judge else "not judged yet"
    rubric = f", rubric `{as_code(facts.rubric)}` `{(facts.rubric_hash or '')[:8]}`" if facts.rubric else ""
    mix = f"\n\n{escape(mixed)}." if (mixed := tell_mix(summary.prospect)) else ""
    return f"{verdict}**{summary.kept:,} of {summary.total:,} conversations kept**, {judged}{rubric}.{mix}{bars}"


def as_code(text: object) -> str:
    """Any string as one that stays within a pair of backticks."""
    return shorten(str(text), 1000).replace("`", "'")


def _bars(summary: Summary) -> str:
    rows = [
        (
            f"{('✅' if b.certain else '⚠️') if b.met else '❌'} {escape(b.title)}",
            percent(b.bar),
            percent(estimated(b.estimate)[0]),
            interval(*estimated(b.estimate)[1:]),
            number(b.n),
            b.doubt,
        )
        for b in summary.verdict.bars
    ]
    return make_table(("bar", "at least", "passes", "95% interval", "n", ""), rows)


def _funnel(summary: Summary) -> str:
    rows = [(STEP_NAMES[s.name], number(s.count), number(s.lost) if s.lost else "", _why(s)) for s in summary.funnel]
    return make_table(("step", "left", "lost", ""), rows)


def _why(step: Step) -> str:
    return "; ".join(part for part in (LOST_BY[step.name] if step.lost else "", escape(step.note)) if part)


def tell_balance(summary: Summary) -> str:
    """Write how the run is spread, and what of it is guessed."""
    tables = []
    balance = summary.balance
    for title, shares in (
        ("category", balance.categories),
        ("intent", balance.intents),
        ("language", balance.languages),
    ):
        rows = [
            (escape(s.name), number(s.planned), number(s.written), number(s.kept), percent(s.kept_share))
            for s in shares
        ]
        guessed = tell_guesses(shares)
        heading = f"{title} ({guessed})" if guessed else title
        tables.append(make_table((heading, "planned", "written", "kept", "share of kept"), rows) if rows else "")
    right = "\n".join(f"- {escape(line)}" for line in tell_all_right(balance, summary.run.judge))
    return "\n\n".join(part for part in (*tables, right) if part)


def tell_rates(criteria: Sequence[CriterionRates]) -> str:
    """Write a row for each criterion: its rate, and that before selection."""
    rows = [(escape(c.id) + (" (gate)" if c.gate else ""), *_rate(c.overall), *_before(c)) for c in criteria]
    headings = ("criterion", "passes", "95% interval", "n", "unscored", "worst–best", "before selection", "n before")
    return make_table(headings, rows)


def _before(criterion: CriterionRates) -> tuple[str, str]:
    return percent(criterion.before_selection.rate), number(criterion.before_selection.n)


def _rate(rate: Rate) -> tuple[str, ...]:
    bounds = interval(rate.worst, rate.best) if rate.unscored else ""
    return percent(rate.rate), interval(rate.low, rate.high), number(rate.n), number(rate.unscored), bounds


def _actions(summary: Summary) -> str:
    return "\n".join(f"- {escape(a.problem)}: `{as_code(a.command)}`" for a in summary.actions)


def _recorded(summary: Summary) -> str:
    rows = [tuple(map(escape, row)) for row in recorded_rows(summary.recorded)]
    return make_table(HEADINGS, rows) if rows else ""


SECTIONS: dict[str, Callable[[Summary], str]] = {
    "headline": _headline,
    "funnel": lambda summary: titled("Funnel", _funnel(summary)),
    "balance": lambda summary: titled("Balance", tell_balance(summary)),
    "rates": lambda summary: titled("Pass rates", _pass_rates(summary)),
    "groups": lambda summary: titled("Pass rates by group", _groups(summary)),
    "corrected": lambda summary: titled(
        "Corrected pass rates", tell_corrected(summary) if summary.corrected or summary.labels_aside else ""
    ),
    "judges": lambda summary: titled("Judges", _judges(summary)),
    "recorded": lambda summary: titled("Recorded verdicts", _recorded(summary)),
    "probes": lambda summary: titled("What models did", tell_probes(summary)),
    "cost": lambda summary: titled("Cost and time", _cost(summary)),
    "actions": lambda summary: titled("What to do next", _actions(summary)),
}
"""Every section that Markdown has, by the name that `--section` takes."""


def _moves(difference: Difference) -> str:
    from safetyqc.reports.diff import adjusted, moves_to_show

    rows = [
        (
            escape(m.criterion if m.category is None else f"{m.category}: {m.criterion}"),
            percent(m.before.rate),
            percent(m.after.rate),
            f"{100 * m.difference:+.1f}",
            interval(m.low, m.high),
            "by choosing" if m.chosen else "moved" if m.sure else "noise",
        )
        for m in moves_to_show(difference)
    ]
    title = f"## What moved since {escape(difference.before.folder)}"
    judge = f"By `{as_code(difference.after.judge or 'no judge')}` in both runs; {adjusted(difference)}."
    return f"{title}\n\n{judge}\n\n" + make_table(("rate", "before", "after", "points", "95% interval", ""), rows)


def tell_corrected(summary: Summary) -> str:
    """The judge's rates as labels correct them, and who labelled; what cannot be corrected says why."""
    rows = [
        (
            escape(c.criterion),
            percent(c.judge_rate),
            percent(estimated(c.rate)[0]) if c.rate else c.refused or "",
            interval(*estimated(c.rate)[1:]),
            f"{percent(c.labels_alone.value)} ({interval(*estimated(c.labels_alone)[1:])})" if c.labels_alone else "–",
            number(c.labels),
            number(c.labelled_not_applicable),
        )
        for c in summary.corrected
    ]
    heads = ("criterion", "judge says", "corrected by labels", "95% interval", "labels alone", "labels", "labelled na")
    by = f" by {', '.join(map(escape, summary.annotators))}" if summary.annotators else ""
    aside = "".join(f"\n- not counted: {escape(why)}" for why in summary.labels_aside)
    made = "\n\n".join(part for part in (make_table(heads, rows) if rows else "", aside) if part)
    return f"{counted(summary.labelled, 'conversation')} labelled{by}.\n\n{made}"


def tell_probes(summary: Summary) -> str:
    """Write what probed models did; nothing where the run keeps no probe."""
    headings, rows = probe_rows(summary.probes)
    told = [f"- `{as_code(p.name)}`, by {escape(', '.join(p.judges))}: {escape(p.verdict)}" for p in summary.probes]
    return f"{make_table(headings, [(escape(m), *cells) for m, *cells in rows])}\n\n" + "\n".join(told) if rows else ""
