"""Draws what `safetyqc check` found in a file: counts with places to look at, for a terminal of 80 columns and more.

It counts nothing. Needs rich, so it is imported only to draw.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from safetyqc.reports.drawing import (
    ACCENT,
    FAINT,
    GOOD,
    WARN,
    Bar,
    block,
    mark,
    masked,
    reasoned,
    refusals_told,
    say,
    table,
)
from safetyqc.reports.duplicates import render_templates
from safetyqc.reports.wording import number, percent, tell_right
from safetyqc.results.findings import CheckReport, CopyExample, Finding
from safetyqc.results.guesses import LETTERS
from safetyqc.text import counted

_SLICES_SHOWN = 12


def render_check(report: CheckReport, *, unmask: bool = False, explain: bool = False) -> RenderableType:
    """Draw the whole check; with `explain`, also how the file was read."""
    parts = [
        _headline(report),
        _how_read(report) if explain else None,
        _unreadable(report),
        _findings("Structure", report.structure),
        _findings("Rules", report.rules),
        _copies(report, unmask),
        _balance(report),
        _openings(report),
        render_templates(report.templates, unmask=unmask),
    ]
    return Group(*(part for part in parts if part is not None), Text())


def _headline(report: CheckReport) -> RenderableType:
    share = report.clean / report.records if report.records else None
    kind = "none" if share is None else "good" if share == 1 else "warning"
    style = GOOD if share == 1 else WARN
    line = Text.assemble(
        mark(kind),
        " ",
        (f"{report.clean:,}", "bold"),
        f" of {counted(report.records, 'record')} clean",
        f"  {percent(share)}",
    )
    lost = {
        "cannot be read": len(report.unreadable),
        "bad structure": sum(f.count for f in report.structure),
        "hit by a rule": report.rejected,
        "equal copies": report.exact.dropped,
        "near copies": report.near.dropped if report.near else 0,
    }
    said = ", ".join(f"{name} {count:,}" for name, count in lost.items() if count)
    bar = [Bar([(share, style)], widest=60)] if share is not None else []
    return Group(Text(), say(report.path, FAINT), line, *bar, *([say(said, FAINT)] if said else []), *_notes(report))


def _notes(report: CheckReport) -> list[RenderableType]:
    said = ", ".join(f"{name} {count:,}" for name, count in report.notes.items())
    return [say(f"noted: {said}", FAINT)] if said else []


def _how_read(report: CheckReport) -> RenderableType:
    how = report.how
    made = table("", "", "records", numbers=(2,), wide=1)
    for name in how.files[:_SLICES_SHOWN]:
        made.add_row("file", say(name), "")
    if len(how.files) > _SLICES_SHOWN:
        made.add_row("", f"and {len(how.files) - _SLICES_SHOWN:,} more files", "")
    for form, count in how.forms.items():
        made.add_row("form", say(form), number(count))
    for column, what in how.columns.items():
        made.add_row("read", say(f"{column} as {what}"), "")
    if how.system_messages:
        made.add_row("read", "system message", number(how.system_messages))
    for name, count in how.verdicts.items():
        made.add_row("read", say(f"verdicts of {name}, which decide nothing by themselves"), number(count))
    for key, count in how.aside.items():
        made.add_row("set aside", say(f"{key} in meta"), number(count))
    for note, count in report.notes.items():
        made.add_row("noted", say(note), number(count))
    return block("How it was read", made)


def _unreadable(report: CheckReport) -> RenderableType | None:
    if not report.unreadable:
        return None
    shown = [
        Group(
            Text.assemble((f"line {b.line}  ", FAINT), reasoned(b.what, unmask=False)),
            say(f"        fix: {b.fix}", ACCENT),
        )
        for b in report.unreadable[:5]
    ]
    return block("Lines that cannot be read", *shown, note=counted(len(report.unreadable), "line"))


def _findings(title: str, findings: Sequence[Finding]) -> RenderableType | None:
    if not findings:
        return None
    made = table("", "hits", "share", "for example", numbers=(1, 2), wide=3)
    for found in findings:
        example = found.examples[0] if found.examples else None
        place = f"line {example.line}: " if example and example.line else ""
        seen = reasoned(example.text, unmask=False, width=100) if example else Text()
        made.add_row(say(found.name), number(found.count), percent(found.share), Text.assemble((place, FAINT), seen))
    return block(title, made)


def _copies(report: CheckReport, unmask: bool) -> RenderableType | None:
    near = f"similar (≥ {report.min_similarity:.2f})" if report.min_similarity is not None else "similar"
    kinds = [
        (name, copies) for name, copies in (("equal", report.exact), (near, report.near)) if copies and copies.dropped
    ]
    if not kinds:
        return block("Copies", Text("none found"))
    made = table("", "groups", "copies", "share", "for example", numbers=(1, 2, 3), wide=4)
    for name, copies in kinds:
        example = copies.examples[0] if copies.examples else None
        made.add_row(name, number(copies.groups), number(copies.dropped), percent(copies.share), _copy(example, unmask))
    return block("Copies", made)


def _copy(example: CopyExample | None, unmask: bool) -> Text:
    if example is None:
        return Text()
    lines = f"lines {example.kept_line} and {example.dropped_line}" if example.kept_line else ""
    return Text.assemble((f"{lines} ({example.similarity:.2f}) ", FAINT), masked(example.text, unmask=unmask, width=50))


def _balance(report: CheckReport) -> RenderableType | None:
    shown = [b for b in report.balance if any(s.value is not None for s in b.slices)]
    told: list[str] = []
    if not shown:
        return None
    made = table("", "", "count", "share", numbers=(2, 3), wide=1)
    for balance in shown:
        even = balance.smallest_to_largest
        made.add_row(
            say(balance.of, FAINT), say("" if even is None else f"smallest to largest {even:.2f}", FAINT), "", ""
        )
        widest = max(s.share for s in balance.slices)
        for s in balance.slices[:_SLICES_SHOWN]:
            bar = Bar([(s.share / widest, ACCENT)])
            made.add_row(
                say(s.value if s.value is not None else "not told", width=34), bar, number(s.count), percent(s.share)
            )
        if balance.guessed:
            told.append(tell_right(balance.of, LETTERS, balance.guessed))
        if len(balance.slices) > _SLICES_SHOWN:
            made.add_row(f"and {len(balance.slices) - _SLICES_SHOWN} more", "", "", "")
    return block("Balance", made, *(say(line, FAINT) for line in told))


def _openings(report: CheckReport) -> RenderableType | None:
    found = report.openings
    if not found.answers:
        return None
    made = table(f"first {found.first_words} words of the first answer", "", "count", "share", numbers=(2, 3), wide=1)
    for opening in found.commonest:
        made.add_row(
            say(opening.words, width=44),
            Bar([(opening.share, ACCENT)], widest=24),
            number(opening.count),
            percent(opening.share),
        )
    return block(
        "Openings",
        made,
        refusals_told(found.refusals),
        note=f"{found.distinct:,} different among {counted(found.answers, 'first answer')}",
    )
