"""Writes a Summary as Markdown: a report for a pull request, and a dataset card beside an export.

Neither shows text of a conversation: a pull request and a card are read by people who did not ask for harmful text.
Names from data (categories, judges, files) are escaped for Markdown, HTML and tables, since they
are as hostile as the texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.probe_rows import probe_rows
from safetyqc.reports.wording import (
    LOST_BY,
    STEP_NAMES,
    duration,
    estimated,
    interval,
    money,
    number,
    percent,
    tell_bars,
    tell_guesses,
    tell_refusals,
    tell_selection,
)
from safetyqc.results.compare import OVERALL
from safetyqc.results.rates import Rate
from safetyqc.results.report import CriterionRates, Step, Summary
from safetyqc.text import counted, shorten

if TYPE_CHECKING:
    from safetyqc.reports.diff import Difference

_SPECIAL = re.compile(r"[\\`*\[\]()#!|~<>&@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
CardKind = Literal["kept", "pairs", "verdicts"]
_REQUESTS = "The requests may be harmful by nature"
_KINDS: dict[CardKind, tuple[str, str, str, str]] = {
    "kept": (
        "Safety conversations",
        "Multi-turn safety conversations for supervised fine-tuning",
        "sft",
        f"{_REQUESTS}; the answers were judged.",
    ),
    "pairs": (
        "Safety preference pairs",
        "A better and a worse answer to the same prompt, for preference training",
        "dpo",
        f"{_REQUESTS}, and so may the rejected answers: a judge failed them, and passed the chosen ones.",
    ),
    "verdicts": (
        "Safety answers with verdicts",
        "Answers that passed and answers that failed, for training on single verdicts",
        "kto",
        f"{_REQUESTS}, and so may the answers that failed.",
    ),
}
"""Title, what it is about, the tag, and what whoever opens it should know."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


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


def dataset_card(
    summary: Summary,
    *,
    files: Mapping[str, int],
    lines: Mapping[str, int] | None = None,
    splits: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    licence: str = "other",
    kind: CardKind = "kept",
) -> str:
    """Render a dataset card with Hugging Face front matter, to be written beside an export.

    Args:
        files: name and number of conversations of every file that was written.
        lines: how many lines each has, where some were repeated.
        splits: the file of each split, by its name, which `datasets.load_dataset` goes by.
        notes: what a reader of the files must know: what was repeated, what their form does not hold.
        licence: an identifier of the Hub; `other` says nothing about it.
        kind: what a line is about: a conversation that was kept, a pair of answers, or an answer and its verdict.
    """
    title, about, tag, warning = _KINDS[kind]
    parts = [
        _front_matter(summary, sum((lines or files).values()), splits or {}, licence, (title, tag)),
        f"# {title}",
        f"{about}, made and checked with safetyqc {escape(summary.run.safetyqc)}. {warning}",
        _files(files, lines or files),
        "## Provenance\n\n" + _provenance(summary),
        "## Composition\n\n" + _composition(summary, notes),
        "## Quality before export\n\n" + _quality(summary),
        _titled("What models did", _probes(summary)),
        "## Limits\n\n" + _limits(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(files: Mapping[str, int], lines: Mapping[str, int]) -> str:
    rows = [(escape(name), number(count), number(lines[name])) for name, count in files.items()]
    return _table(("file", "conversations", "lines"), rows)


def _composition(summary: Summary, notes: Sequence[str]) -> str:
    """The run has this balance; what export then repeated is said after it."""
    before = "Conversations that were kept, each counted once." if notes else ""
    said = "\n".join(f"- {escape(line)}" for line in notes)
    return "\n\n".join(part for part in (before, _balance(summary), said) if part)


def escape(text: object) -> str:
    """Any string as one line that Markdown, HTML and a table leave alone; mentions and links included."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", shorten(str(text), 300))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join(["---"] + ["---:"] * (len(headings) - 1)) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _titled(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _pass_rates(summary: Summary) -> str:
    return f"{escape(tell_selection(summary))}.\n\n{_rates(summary.criteria)}" if summary.criteria else ""


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
        tables.append(_table(headings, rows))
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
    return _table(("judge", "judged", "passes", "95% interval", "unscored", "cost"), rows) if rows else ""


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
    return _table(("stage", "calls", "tokens in", "tokens out", "cost", "time"), rows) if len(rows) > 1 else ""


def _headline(summary: Summary) -> str:
    met = summary.verdict.met
    verdict = f"{'✅' if met else '❌'} {tell_bars(summary.verdict)}. " if summary.verdict.bars else ""
    bars = f"\n\n{_bars(summary)}" if summary.verdict.bars else ""
    facts = summary.run
    judged = f"judged by `{_code(facts.judge)}`" if facts.judge else "not judged yet"
    rubric = f", rubric `{_code(facts.rubric)}` `{(facts.rubric_hash or '')[:8]}`" if facts.rubric else ""
    return f"{verdict}**{summary.kept:,} of {summary.total:,} conversations kept**, {judged}{rubric}.{bars}"


def _code(text: object) -> str:
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
    return _table(("bar", "at least", "passes", "95% interval", "n", ""), rows)


def _funnel(summary: Summary) -> str:
    rows = [(STEP_NAMES[s.name], number(s.count), number(s.lost) if s.lost else "", _why(s)) for s in summary.funnel]
    return _table(("step", "left", "lost", ""), rows)


def _why(step: Step) -> str:
    return "; ".join(part for part in (LOST_BY[step.name] if step.lost else "", escape(step.note)) if part)


def _balance(summary: Summary) -> str:
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
        tables.append(_table((heading, "planned", "written", "kept", "share of kept"), rows) if rows else "")
    return "\n\n".join(t for t in tables if t)


def _rates(criteria: Sequence[CriterionRates]) -> str:
    rows = [(escape(c.id) + (" (gate)" if c.gate else ""), *_rate(c.overall), *_before(c)) for c in criteria]
    headings = ("criterion", "passes", "95% interval", "n", "unscored", "worst–best", "before selection", "n before")
    return _table(headings, rows)


def _before(criterion: CriterionRates) -> tuple[str, str]:
    return percent(criterion.before_selection.rate), number(criterion.before_selection.n)


def _rate(rate: Rate) -> tuple[str, ...]:
    bounds = interval(rate.worst, rate.best) if rate.unscored else ""
    return percent(rate.rate), interval(rate.low, rate.high), number(rate.n), number(rate.unscored), bounds


def _actions(summary: Summary) -> str:
    return "\n".join(f"- {escape(a.problem)}: `{_code(a.command)}`" for a in summary.actions)


SECTIONS: dict[str, Callable[[Summary], str]] = {
    "headline": _headline,
    "funnel": lambda summary: _titled("Funnel", _funnel(summary)),
    "balance": lambda summary: _titled("Balance", _balance(summary)),
    "rates": lambda summary: _titled("Pass rates", _pass_rates(summary)),
    "groups": lambda summary: _titled("Pass rates by group", _groups(summary)),
    "corrected": lambda summary: _titled(
        "Corrected pass rates", _corrected(summary) if summary.corrected or summary.labels_aside else ""
    ),
    "judges": lambda summary: _titled("Judges", _judges(summary)),
    "probes": lambda summary: _titled("What models did", _probes(summary)),
    "cost": lambda summary: _titled("Cost and time", _cost(summary)),
    "actions": lambda summary: _titled("What to do next", _actions(summary)),
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
    judge = f"By `{_code(difference.after.judge or 'no judge')}` in both runs; {adjusted(difference)}."
    return f"{title}\n\n{judge}\n\n" + _table(("rate", "before", "after", "points", "95% interval", ""), rows)


def _front_matter(summary: Summary, rows: int, splits: Mapping[str, str], licence: str, named: tuple[str, str]) -> str:
    """YAML, written as JSON strings, which are YAML: a hostile name cannot break out of its quotes."""
    size = next((name for limit, name in _SIZES if rows < limit), "n>1M")
    languages = [code for code in summary.shape.languages if re.fullmatch(r"[a-z]{2,3}", code)]
    fields: dict[str, object] = {
        "pretty_name": named[0],
        "license": licence,
        "language": languages,
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["safety", named[1], "conversational", "safetyqc", *(["synthetic"] if summary.run.authors else [])],
    }
    if splits:
        data_files = [{"split": name, "path": path} for name, path in splits.items()]
        fields["configs"] = [{"config_name": "default", "data_files": data_files}]
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---"])


def _provenance(summary: Summary) -> str:
    facts = summary.run
    lines = [f"- written by `{_code(name)}`: {counted(n, 'conversation')}" for name, n in facts.authors.items()]
    lines += [f"- imported from `{_code(name)}`: {counted(n, 'conversation')}" for name, n in facts.sources.items()]
    if summary.rewrites:
        lines.append(f"- mended after judging: {counted(summary.rewrites.kept, 'conversation')}")
    if summary.references and not summary.references.search.marked_only:
        lines += [
            f"- kept clear of `{_code(name)}`: {counted(n, 'conversation')} near it left out"
            for name, n in summary.references.files.items()
        ]
    for judge in summary.judges:
        role = "decided what was kept" if judge.deciding else "second opinion"
        lines.append(f"- judge `{_code(judge.judge)}` ({role}), {counted(judge.judged, 'conversation')}")
    if facts.rubric:
        lines.append(f"- rubric `{_code(facts.rubric)}`, hash `{facts.rubric_hash}`")
    if facts.seed is not None:
        lines.append(f"- seed of the plan: {facts.seed}")
    total = summary.spent.total
    if total.calls:
        cost = f", {money(total.cost_usd)}" if total.unpriced < total.calls else ""
        lines.append(f"- took {total.calls:,} model calls{cost}")
    return "\n".join(lines)


def _quality(summary: Summary) -> str:
    said = (
        "Share that passed, over distinct conversations that passed the filters, before those that failed were left "
        "out. Intervals are 95% Wilson; unscored ones are in no rate."
    )
    return (
        f"{said}\n\n{escape(tell_selection(summary))}.\n\n{_rates(summary.criteria)}"
        if summary.criteria
        else "Not judged."
    )


def _corrected(summary: Summary) -> str:
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
    made = "\n\n".join(part for part in (_table(heads, rows) if rows else "", aside) if part)
    return f"{counted(summary.labelled, 'conversation')} labelled{by}.\n\n{made}"


def _probes(summary: Summary) -> str:
    headings, rows = probe_rows(summary.probes)
    told = [f"- `{_code(p.name)}`, by {escape(', '.join(p.judges))}: {escape(p.verdict)}" for p in summary.probes]
    return f"{_table(headings, [(escape(m), *cells) for m, *cells in rows])}\n\n" + "\n".join(told) if rows else ""


def _limits(summary: Summary) -> str:
    lines = []
    judge = summary.run.judge or ""
    if summary.corrected or summary.labels_aside:
        lines.append(_corrected(summary) + "\n")
        lines += [f"- {escape(why)}: the corrected rates may not hold" for why in summary.label_doubts]
    elif judge:
        lines.append(f"- no labels: how often `{_code(judge)}` is wrong on this data is not known")
    overall = next((c.overall for c in summary.criteria if c.id == OVERALL), None)
    if overall and overall.unscored:
        lines.append(f"- {counted(overall.unscored, 'conversation')} unscored and left out")
    if not summary.duplicates.searched:
        lines.append("- duplicates were not searched for")
    if said := tell_refusals(summary.openings.refusals):
        lines.append(f"- {escape(said)}")
    lines.append("- a pass is a judge's opinion of a text, not a promise about a model that is trained on it")
    return "\n".join(lines)
