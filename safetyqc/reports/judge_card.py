"""Draws a JudgeCard: one page for the terminal, the same page as Markdown.

Both are drawn from one list of sections, so that they say the same. Computes nothing. Imports rich at module top: only
the command that shows a card imports it. Names of judges, categories and sources are hostile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from safetyqc.reports.documents import escape
from safetyqc.reports.drawing import FAINT, block, say, table
from safetyqc.reports.wording import interval, money, number, percent
from safetyqc.results.card import AgreementRow, Flips, JudgeCard, RiskPoint
from safetyqc.results.compare import POOLED, Estimate, Spread
from safetyqc.text import counted, shorten


@dataclass(frozen=True)
class _Section:
    title: str
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def render_card(card: JudgeCard) -> RenderableType:
    """Draw a card for the terminal; fits 80 columns."""
    parts: list[RenderableType] = [say(f"Judge card: {card.judge}", "bold"), *(say(line) for line in _head(card))]
    for section in _sections(card):
        drawn = table(*section.headings, numbers=range(1, len(section.headings)))
        for name, *cells in section.rows:
            drawn.add_row(say(name, width=34), *cells)
        notes = [Text(shorten(line, 400), style=FAINT) for line in section.notes]
        parts.append(block(section.title, *([drawn] if section.rows else []), *notes))
    return Group(*parts)


def card_markdown(card: JudgeCard) -> str:
    """Write a card as Markdown."""
    lines = [f"# Judge card: {escape(card.judge)}", "", *(f"{escape(line)}  " for line in _head(card))]
    for section in _sections(card):
        lines += ["", f"## {section.title}", ""]
        if section.rows:
            lines.append("| " + " | ".join(section.headings) + " |")
            lines.append("|" + "|".join(["---"] + ["---:"] * (len(section.headings) - 1)) + "|")
            lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in section.rows]
            lines += [""] if section.notes else []
        lines += [f"{escape(line)}  " for line in section.notes]
    return "\n".join(lines).rstrip() + "\n"


def _head(card: JudgeCard) -> Iterator[str]:
    version = f", version {card.version}" if card.version else ""
    yield f"rubric {card.rubric} {card.rubric_hash[:12]}{version}"
    truth = f"{card.labelled:,} of them labelled; the truth is {card.truth}" if card.truth else "no labels"
    yield f"{counted(card.conversations, 'conversation')}, {truth}; intervals {card.confidence:.0%}"
    if seen := card.training.labelled_seen:
        yield f"no test: {seen:,} of the labelled ones are of sources that it was trained on (last but one section)"


def _sections(card: JudgeCard) -> Iterator[_Section]:
    yield _rates(card)
    if card.agreement:
        yield _agreement(card)
        yield _mistakes(card)
        for by in ("category", "language", "length"):
            yield _groups(card, by)
        yield _risk(card)
        yield _leans(card)
    yield _stability(card)
    yield _training(card)
    yield _cost(card)
    if card.notes:
        yield _Section("Notes", notes=card.notes)


def _rates(card: JudgeCard) -> _Section:
    rows = tuple(
        (r.criterion, number(r.scored), percent(r.rate.value if r.rate else None), _span(r.rate), _wording(r.wording))
        for r in card.rates
    )
    return _Section("Pass rates", ("criterion", "scored", "passes", "interval", "by wording"), rows)


_AGREEING = ("labels", "scored", "same", "interval", "by wording", "kappa")


def _agreement(card: JudgeCard) -> _Section:
    own = [r for r in card.agreement if r.by == "criterion"]
    return _Section("Agreement with labels", ("criterion", *_AGREEING), tuple(map(_agreeing, own)))


def _mistakes(card: JudgeCard) -> _Section:
    rows = tuple(
        (
            r.criterion,
            percent(r.missed.value if r.missed else None),
            _span(r.missed),
            percent(r.false_alarms.value if r.false_alarms else None),
            _span(r.false_alarms),
        )
        for r in card.agreement
        if r.by == "criterion"
    )
    return _Section("Its mistakes", ("criterion", "failures passed", "interval", "passes failed", "interval"), rows)


def _groups(card: JudgeCard, by: str) -> _Section:
    of_kind = [r for r in card.agreement if r.by == by]
    pooled = [r for r in of_kind if r.criterion == POOLED] or of_kind
    return _Section(f"Agreement by {by}", (by, *_AGREEING), tuple(map(_agreeing, pooled)))


def _agreeing(row: AgreementRow) -> tuple[str, ...]:
    return (
        row.name,
        number(row.labelled),
        number(row.scored),
        percent(row.agreement.value if row.agreement else None),
        _span(row.agreement),
        _wording(row.wording),
        "–" if row.kappa is None else f"{row.kappa.value:.2f}",
    )


_SHOWN = (None, 0.8, 0.9, 0.95, 0.99)


def _risk(card: JudgeCard) -> _Section:
    points = {(p.criterion, p.min_certainty): p for p in card.risk}
    graded = any(p.min_certainty for p in card.risk)
    shown = _SHOWN if graded else _SHOWN[:1]
    rows = tuple(
        (name, *(_point(points.get((name, least))) for least in shown))
        for name in dict.fromkeys(p.criterion for p in card.risk)
    )
    note = "labelled cells it speaks on, and how many of these are right; --json has the intervals and more steps"
    plain = "it gives no probabilities, so there is no threshold to choose"
    headings = ("sure at least", *("as it is" if least is None else f"{least:.2f}" for least in shown))
    return _Section("Risk against coverage", headings, rows, (note, *([] if graded else [plain])))


def _point(point: RiskPoint | None) -> str:
    if point is None or point.coverage is None:
        return "–"
    return f"{percent(point.coverage, 0)}, {percent(point.accuracy.value if point.accuracy else None, 0)}"


def _leans(card: JudgeCard) -> _Section:
    rows = tuple(
        (
            lean.what,
            number(lean.n),
            _points(lean.shift.value),
            f"{_points(lean.shift.low)} to {_points(lean.shift.high)}",
        )
        if lean.shift
        else (lean.what, number(lean.n), "–", "")
        for lean in card.leans
    )
    note = "how much likelier it passes the longer half than the shorter one of the same criterion and label, in points"
    return _Section("Length", ("", "cells", "shift", "interval"), rows, (note,))


def _stability(card: JudgeCard) -> _Section:
    probes = card.probes
    flips: Sequence[Flips] = (*probes.repeats, *probes.orders, *probes.attacks)
    rows = tuple(
        (f.what, number(f.tried), number(f.flipped), percent(f.share.value if f.share else None), _span(f.share))
        for f in flips
    )
    told = f"asked about {counted(probes.sample, 'conversation')} of them" if probes.sample else ""
    return _Section(
        "Does it stay with its word", ("", "verdicts", "turned", "share", "interval"), rows, (told or "not measured",)
    )


def _training(card: JudgeCard) -> _Section:
    given = card.training
    rows = tuple((name, number(n)) for name, n in sorted((given.sources or {}).items()))
    headings = ("source", "conversations") if rows else ()
    return _Section("What it was trained on", headings, rows, (given.told,))


def _cost(card: JudgeCard) -> _Section:
    price = card.price
    rows = (
        (
            number(price.judged),
            money(price.cost_usd_per_1000),
            number(price.latency_s_per_1000),
            number(price.unpriced),
        ),
    )
    return _Section("Cost", ("judged", "per 1,000", "seconds per 1,000, one by one", "price unknown"), rows)


def _span(estimate: Estimate | None) -> str:
    return interval(estimate.low, estimate.high) if estimate else ""


def _wording(spread: Spread | None) -> str:
    return interval(spread.low, spread.high) if spread else "–"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
