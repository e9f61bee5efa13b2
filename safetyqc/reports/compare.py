"""A Comparison and its disagreements in, a terminal's tables and one HTML page out.

Computes nothing. Imports rich at module top: only commands that show a comparison import it. Conversations, quotes and
names are hostile: in the terminal they are plain text without control characters, and masked unless asked for; in the
page they are escaped, blurred until asked for, and a content policy forbids scripts. The page
has no script at all; a checkbox and CSS lift the blur.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from safetyqc.records import Message, Outcome
from safetyqc.reports.compare_groups import render_groups
from safetyqc.reports.drawing import (
    BAD,
    FAINT,
    GOOD,
    WARN,
    block,
    masked,
    reasoned,
    say,
    table,
)
from safetyqc.reports.wording import NAME_WIDTH, in_percent, interval, money, number, percent, short_name, span
from safetyqc.results.compare import (
    OVERALL,
    POOLED,
    Accuracy,
    Agreement,
    Comparison,
    CorrectedRate,
    Counted,
    CriterionComparison,
    Disagreement,
    RaterCounts,
    Side,
    WordingDifference,
)
from safetyqc.text import counted, printable, shorten

_MESSAGE, _MASKED = 400, 60
_TITLES = {OVERALL: "overall: the whole conversation", POOLED: "all criteria: every cell that all were asked"}


def render_comparison(comparison: Comparison) -> RenderableType:
    """Draw what to choose, then every criterion's tables, prices and notes; fits 80 columns."""
    return Group(
        _recommendation(comparison),
        Text(),
        _head(comparison),
        *(_criterion(criterion, comparison) for criterion in comparison.criteria),
        *(render_groups(found, comparison) for found in comparison.by),
        *([_differences(comparison.differences)] if comparison.differences else []),
        _prices(comparison),
        *(say(f"note: {note}", WARN) for note in comparison.notes),
    )


def _head(comparison: Comparison) -> Text:
    what = f"{counted(len(comparison.judges), 'judge')} on {counted(comparison.conversations, 'conversation')}"
    names = dict.fromkeys((shorten(comparison.rubric, 30), comparison.rubric_hash[:12]))
    lines = [f"{what}, rubric {' '.join(names)}"]
    if comparison.left_out:
        lines.append(f"{counted(comparison.left_out, 'conversation')} left out: not every judge judged them")
    if comparison.truth:
        people = ", ".join(short_name(a) for a in comparison.annotators)
        lines.append(
            f"labels on {counted(comparison.labelled, 'conversation')} by {people}; "
            f"the truth is {short_name(comparison.truth)}"
        )
    raters = dict.fromkeys([*comparison.judges, *comparison.annotators])
    lines += [
        f"{short} is {shorten(name, 400)}" for name in raters if (short := short_name(name)) != shorten(name, 400)
    ]
    lines += [_told(found) for found in comparison.counted]
    lines.append(f"intervals: {comparison.confidence:.0%}; unscored is in no rate and no kappa, worst–best counts it")
    return Text("\n".join(lines))


def _told(found: Counted) -> str:
    """Say whether the run's report counts the same conversations."""
    if found.compared == found.reported == found.first_versions:
        return "these are the conversations that `report` counts"
    where = ", ".join(f"{count:,} {name}" for name, count in found.standings.items())
    return (
        f"all {counted(found.compared, 'judged conversation')} of the run ({where}); the rates of `report` are over "
        f"the {found.reported:,} that are in, those before selection over "
        f"{counted(found.first_versions, 'first version')}"
    )


def _criterion(criterion: CriterionComparison, comparison: Comparison) -> RenderableType:
    truth = short_name(comparison.truth or "")
    partial = [c for c in criterion.corrected if c.labels < c.n]
    parts: list[RenderableType] = [_counts(criterion.counts), *_reasons(criterion.counts)]
    if criterion.accuracies:
        parts += [Text(), _accuracies(criterion.accuracies, truth), *_remarks(criterion)]
        parts += [Text(), _finds(criterion.accuracies)]
    if criterion.agreements:
        parts += [Text(), _agreements("judges", criterion.agreements), *_agreement_remarks(criterion)]
    if criterion.human_ceiling:
        parts += [Text(), _agreements("people", criterion.human_ceiling)]
    if partial:
        parts += [Text(), _corrected(partial)]
    return block(_TITLES.get(criterion.criterion, criterion.criterion), *parts)


def _counts(counts: Sequence[RaterCounts]) -> Table:
    made = table("verdicts", "pass", "fail", "na", "unscored", "rate", "interval", "worst–best", numbers=range(1, 8))
    for row in counts:
        rate = row.pass_rate
        made.add_row(
            _name(row.rater),
            number(row.passed),
            number(row.failed),
            number(row.na),
            Text(number(row.unscored), style=WARN if row.unscored else ""),
            percent(rate.value if rate else None),
            in_percent(rate),
            interval(row.worst, row.best) if row.unscored else "",
        )
    return made


def _reasons(counts: Sequence[RaterCounts]) -> list[Text]:
    return [
        say(f"{row.rater}: unscored: " + ", ".join(f"{r} {n:,}" for r, n in row.unscored_by_reason.items()), FAINT)
        for row in counts
        if row.unscored
    ]


def _accuracies(accuracies: Sequence[Accuracy], truth: str) -> Table:
    made = table(f"against {truth}", "n", "same", "kappa", "interval", "Brier", "ECE", numbers=range(1, 7))
    for row in accuracies:
        made.add_row(
            _name(row.rater),
            number(row.n),
            percent(row.agreement),
            _decimal(row.kappa.value if row.kappa else None, 3),
            span(row.kappa),
            _decimal(row.calibration.brier if row.calibration else None, 3),
            _decimal(row.calibration.ece if row.calibration else None, 3),
        )
    return made


_SET_ASIDE: dict[Outcome, str] = {"unscored": "left unscored", "na": "called not applicable"}


def _remarks(criterion: CriterionComparison) -> list[Text]:
    baselines = {a.majority_baseline for a in criterion.accuracies if a.majority_baseline is not None}
    lines = []
    if baselines:
        low, high = percent(min(baselines)), percent(max(baselines))
        shown = low if low == high else f"{low} to {high} (each on its own cells)"
        lines.append(say(f"always saying the commoner label would be the same in {shown}", FAINT))
    for row in criterion.accuracies:
        for outcome, what in _SET_ASIDE.items():
            count = sum(cells.get(outcome, 0) for label, cells in row.confusion.items() if label != "na")
            if count:
                lines.append(say(f"{row.rater}: {counted(count, 'labelled cell')} {what}, not in these numbers", WARN))
    return lines


def _finds(accuracies: Sequence[Accuracy]) -> Table:
    columns = ("failures", "found", "missed", "unscored", "false alarm", "precision", "recall", "F1")
    made = table(*columns, numbers=range(1, 8))
    for row in accuracies:
        made.add_row(
            _name(row.rater),
            number(row.confusion["fail"]["fail"]),
            number(row.confusion["fail"]["pass"]),
            number(row.confusion["fail"]["unscored"]),
            number(row.confusion["pass"]["fail"]),
            _decimal(row.precision_fail),
            _decimal(row.recall_fail),
            _decimal(row.f1_fail),
        )
    return made


def _agreement_remarks(criterion: CriterionComparison) -> list[Text]:
    told = "1st/2nd: cells that only this one passes; p: McNemar's exact test, of equal pass rates and of being right "
    lines = [Text(told + "equally often", style=FAINT)]
    if criterion.alpha is not None:
        lines.append(Text(f"Krippendorff's alpha over all judges: {criterion.alpha:.3f}"))
    conflicts = sum(a.na_conflicts for a in criterion.agreements)
    if conflicts:
        lines.append(Text(f"{counted(conflicts, 'cell')} that only one of a pair calls not applicable", style=WARN))
    return lines


def _agreements(title: str, agreements: Sequence[Agreement]) -> Table:
    made = table(title, "n", "same", "kappa", "interval", "1st/2nd", "p rate", "p right", numbers=range(1, 8))
    for row in agreements:
        made.add_row(
            Text(f"{short_name(row.first)} /\n{short_name(row.second)}"),
            number(row.n),
            percent(row.agreement),
            _decimal(row.kappa.value if row.kappa else None, 3),
            span(row.kappa),
            f"{row.only_first_passes:,}/{row.only_second_passes:,}",
            _p(row.mcnemar_p),
            _p(row.more_often_right_p),
        )
    return made


def _corrected(rates: Sequence[CorrectedRate]) -> Table:
    heads = ("corrected pass rate", "judge", "labels", "of", "corrected", "interval", "alone")
    made = table(*heads, numbers=range(1, 5))
    for rate in rates:
        made.add_row(
            _name(rate.judge),
            percent(rate.judge_rate),
            number(rate.labels) + (f" + {rate.labelled_not_applicable:,} na" if rate.labelled_not_applicable else ""),
            number(rate.n),
            percent(rate.rate.value if rate.rate else None),
            say(rate.refused, WARN) if rate.refused else Text(in_percent(rate.rate)),
            Text(in_percent(rate.labels_alone)),
        )
    return made


_LARGER = {None: "unknown: one has no card", True: "larger", False: "not larger"}


def _differences(differences: Sequence[WordingDifference]) -> RenderableType:
    made = table("differ in points", "pass rate", "", "labels", "", numbers=(1, 3))
    pairs: dict[tuple[str, str, str], dict[str, WordingDifference]] = {}
    for found in differences:
        pairs.setdefault((found.criterion, found.first, found.second), {})[found.measure] = found
    for (criterion, first, second), measured in pairs.items():
        cells: list[str] = []
        for measure in ("pass rate", "agreement with labels"):
            gap = measured.get(measure)
            wording = "" if gap is None or gap.wording is None else f" than {100 * gap.wording:.1f}"
            cells += [f"{100 * gap.difference:+.1f}", _LARGER[gap.is_larger] + wording] if gap else ["–", ""]
        made.add_row(say(f"{criterion}: {short_name(first)} / {short_name(second)}", width=120), *cells)
    told = "how far other wordings of the question alone could close the gap, by the judges' cards"
    return block("larger than what wording alone moves?", made, note=told)


def _prices(comparison: Comparison) -> RenderableType:
    made = table("per 1,000 conversations", "cost", "seconds", "unpriced", numbers=(1, 2, 3), wide=0)
    for price in comparison.prices:
        made.add_row(
            say(price.judge, width=2 * NAME_WIDTH),
            money(price.cost_usd_per_1000),
            number(price.latency_s_per_1000),
            number(price.unpriced) if price.unpriced else "",
        )
    return block("price", made, note="seconds: one by one; unpriced: calls whose price is not known")


def _recommendation(comparison: Comparison) -> RenderableType:
    chosen = comparison.recommendation
    name = say(chosen.judge, f"bold {GOOD}", width=60) if chosen.judge else Text("none", style=f"bold {WARN}")
    return block("recommended", name, Text(printable(chosen.reason)))


def _name(rater: str) -> Text:
    return Text(short_name(rater))


def _decimal(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def render_disagreements(disagreements: Iterable[Disagreement], *, unmask: bool = False) -> RenderableType:
    """Draw each conversation, then what every rater said of it; all but the first words masked unless `unmask`."""
    parts = [_disagreement(number, found, unmask) for number, found in enumerate(disagreements, 1)]
    if not parts:
        return Text("no disagreement: nobody says pass where another says fail")
    return Group(*parts, Text() if unmask else Text("\n--unmask shows the texts", style=FAINT))


def _disagreement(number: int, found: Disagreement, unmask: bool) -> RenderableType:
    conversation = found.conversation
    facts = ", ".join(shorten(f, 60) for f in (conversation.id, conversation.category, conversation.intent) if f)
    return block(
        f"{number}. {shorten(found.criterion, 60)}: {facts}",
        *(_message(index, message, unmask) for index, message in enumerate(conversation.messages, 1)),
        *(_side(side, unmask) for side in found.sides),
    )


def _message(number: int, message: Message, unmask: bool) -> Text:
    width = _MESSAGE if unmask else _MASKED
    return Text(f"message {number}, {message.role}: ", style=FAINT) + masked(
        message.content, unmask=unmask, width=width
    )


_STYLES = {"pass": GOOD, "fail": BAD, "na": FAINT, "unscored": WARN}


def _side(side: Side, unmask: bool) -> Text:
    line = Text("› ") + Text(short_name(side.rater), style="bold") + Text(" (label): " if side.is_label else ": ")
    line += Text(side.outcome, style=_STYLES[side.outcome])
    if side.level and side.level != side.outcome:
        line += Text(f" ({shorten(side.level, 40)})")
    if side.probability is not None:
        line += Text(f", P(pass) {side.probability:.2f}")
    if side.reason:
        line += Text(": ") + reasoned(side.reason, unmask=unmask, width=_MESSAGE)
    if side.quote:
        where = f"message {side.turn + 1}: " if side.turn is not None else ""
        line += Text(f"\n  quotes {where}", style=FAINT) + masked(side.quote, unmask=unmask, width=_MESSAGE)
    return line
