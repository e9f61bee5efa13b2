"""Draws a Summary for a terminal of 80 columns and more, on light and dark, or without any colour through a pipe.

It counts nothing. Harmful text is masked unless asked for, and every string of the run is made harmless. Needs rich, so
it is imported only when a report is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.advice import is_lopsided, tell_mix
from safetyqc.reports.bars import render_bars
from safetyqc.reports.brief import render_criteria, render_recorded, render_unlike
from safetyqc.reports.drawing import (
    ACCENT,
    BAD,
    FAINT,
    GOOD,
    WARN,
    Bar,
    Command,
    begins,
    block,
    mark,
    masked,
    reasoned,
    refusals_told,
    say,
    table,
)
from safetyqc.reports.duplicates import nearness_of, render_matches, render_nearness
from safetyqc.reports.heat import HeatTable, render_groups
from safetyqc.reports.probe import render_kept, render_latest
from safetyqc.reports.wording import (
    LOST_BY,
    STEP_NAMES,
    duration,
    estimated,
    interval,
    money,
    number,
    percent,
    similarity,
    tell_all_right,
    tell_bars,
    tell_guesses,
    tell_open,
    tell_selection,
)
from safetyqc.results.findings import Coverage
from safetyqc.results.report import Action, Redraws, Rewrites, Share, Spread, Summary
from safetyqc.text import counted

_SHOWN_MATCHES = 5
_ACTIONS = 3  # on one screen, beside the last

Section = Callable[[Summary, bool], RenderableType | None]
"""Draws one part of a summary; the flag says whether harmful text may be shown. None when there is nothing to say."""


def render_report(
    summary: Summary, *, sections: Sequence[str] | None = None, full: bool = False, unmask: bool = False,
    say_empty: bool = True,
) -> RenderableType:  # fmt: skip
    """Draw a report of one screen, every section with `full`, or the named ones in the given order.

    A named one that is empty says so with `say_empty`, which is for those that a person asked for.

    Raises:
        UserError: no such section.
    """
    check_sections(sections)
    usual = _FULL if full else _BRIEF
    drawn = [draw(summary, unmask) for draw in ([SECTIONS[name] for name in sections] if sections else usual)]
    more = [] if sections or full else [say("the rest of the report: --full, or --section NAME", FAINT)]
    return Group(*_present(drawn, bool(sections) and say_empty), Text(), *more)


def check_sections(sections: Sequence[str] | None) -> None:
    """Find a section that does not exist, before anything is counted or written.

    Raises:
        UserError: no such section.
    """
    for name in sections or ():
        if name not in SECTIONS:
            raise UserError(f"no section {name!r}", where="--section", fix=choose_from(name, SECTIONS))


def _present(drawn: list[RenderableType | None], asked_for: bool) -> list[RenderableType]:
    """Leave empty sections out of the whole report; one that was asked for says that it is empty."""
    nothing = Padding(Text("nothing to show here yet", style=FAINT), (1, 0, 0, 2))
    return [part if part is not None else nothing for part in drawn if part is not None or asked_for]


def _headline(summary: Summary, _: bool) -> RenderableType:
    planned = next((s.count for s in summary.funnel if s.name == "planned"), None)
    goal = max(planned or 0, summary.total)
    share = summary.kept / goal if goal else None
    kept = Text.assemble(
        (f"{summary.kept:,}", "bold"), f" of {goal:,} conversations kept", f"  {percent(share)}" if goal else ""
    )
    facts = summary.run
    said = [f"run {facts.folder}", f"judge {facts.judge}" if facts.judge else "not judged yet"]
    if facts.rubric:
        said.append(f"rubric {facts.rubric} {(facts.rubric_hash or '')[:8]}")
    if facts.category:
        said.append(f"category {facts.category} only")
    lines: list[RenderableType] = [Text(), kept]
    if goal:
        lines.append(Bar([(summary.kept / goal, GOOD)], widest=60))
    if mix := tell_mix(summary.prospect):
        lines.append(say(mix, WARN if summary.prospect and is_lopsided(summary.prospect) else FAINT))
    lines.append(say("  ·  ".join(said), FAINT))
    verdict = [_verdict_line(summary)] if summary.verdict.bars else []
    return Group(*lines, *verdict, *render_bars(summary))


def _verdict_line(summary: Summary) -> Text:
    told = tell_bars(summary.verdict)
    return Text.assemble(
        mark("good" if summary.verdict.met else "bad"), (f" {told}", f"bold {GOOD if summary.verdict.met else BAD}")
    )


def _funnel(summary: Summary, _: bool) -> RenderableType | None:
    if not summary.total:
        return None
    top = max(step.count for step in summary.funnel)
    made = table("", "", "left", "lost", "", numbers=(2, 3), wide=1)
    for step in summary.funnel:
        lost = Text(f"−{step.lost:,}", style=WARN) if step.lost else Text("")
        why = LOST_BY[step.name] if step.lost else ""
        note = "; ".join(part for part in (why, step.note) if part)
        style = GOOD if step.name == "kept" else ACCENT
        made.add_row(
            STEP_NAMES[step.name], Bar([(step.count / top, style)]), number(step.count), lost, say(note, FAINT)
        )
    return block("Funnel", made)


def _balance(summary: Summary, _: bool) -> RenderableType | None:
    balance = summary.balance
    groups = {"category": balance.categories, "intent": balance.intents, "language": balance.languages}
    shown = {title: shares for title, shares in groups.items() if len(shares) > 1 or title == "category"}
    if not balance.categories:
        return None
    planned = any(s.planned is not None for shares in shown.values() for s in shares)
    made = table("", "", *(["planned"] if planned else []), "written", "kept", "share", numbers=range(2, 6), wide=1)
    for title, shares in shown.items():
        guessed = tell_guesses(shares)
        made.add_row(say(f"{title}, {guessed}" if guessed else title, FAINT))
        for row in _share_rows(shares, planned):
            made.add_row(*row)
    right = [say(line, FAINT) for line in tell_all_right(balance, summary.run.judge)]
    return block("Balance", made, *right, note="heavy: kept; dashed: may still be kept")


def _share_rows(shares: Sequence[Share], planned: bool) -> Iterator[list[RenderableType]]:
    widest = max([1, *(max(s.planned or 0, s.written) for s in shares)])
    for s in shares:
        bar = Bar([(s.kept / widest, WARN if s.missing else GOOD), (s.open / widest, FAINT)])
        plan = [number(s.planned)] if planned else []
        yield [say(s.name, width=34), bar, *plan, number(s.written), number(s.kept), percent(s.kept_share, 0)]


def _rates(summary: Summary, _: bool) -> RenderableType | None:
    if not summary.criteria:
        return None
    legend = "share passed, 95% Wilson interval, n scored; `3?` = 3 unscored, in no rate"
    if silent := [c.id for c in summary.criteria if not c.is_asked]:
        legend += f"\nnot asked, because this judge cannot judge it: {', '.join(silent)}"
    table = HeatTable(summary.criteria, {b.name: b.bar for b in summary.verdict.bars if b.of == "rate"})
    return block("Pass rates", say(tell_selection(summary), FAINT), table, note=legend)


def _corrected(summary: Summary, _: bool) -> RenderableType | None:
    if not summary.corrected and not summary.labels_aside:
        return None
    made = table("criterion", "judge", "corrected", "95%", "labels alone", "labels", numbers=range(1, 6))
    for c in (c for c in summary.corrected if not c.refused):
        value, low, high = estimated(c.rate)
        labels = number(c.labels) + (f" + {c.labelled_not_applicable:,} na" if c.labelled_not_applicable else "")
        alone = interval(*estimated(c.labels_alone)[1:]) or "–"
        made.add_row(say(c.criterion), percent(c.judge_rate), percent(value), interval(low, high), alone, labels)
    refused = [say(f"{c.criterion}: {c.refused}", FAINT) for c in summary.corrected if c.refused]
    doubt = [say(f"{why}: the corrected rates may not hold", WARN) for why in summary.label_doubts]
    doubt += [say(f"not counted: {why}", WARN) for why in summary.labels_aside]
    people = f"labels of {', '.join(summary.annotators)}" if summary.annotators else "labels"
    note = f"corrected for the judge's own errors by {people}; na: people call it not applicable, outside the rate"
    return block("Corrected pass rates", *([made] if made.row_count else []), *refused, *doubt, note=note)


def _missing(summary: Summary, _: bool) -> RenderableType | None:
    rows = [m for m in summary.missing if m.unwritten or m.attempts_failed or m.unjudged or m.unscored]
    if not rows:
        return None
    made = table("category", "never written", "not judged", "unscored cells", "worst–best", numbers=(2, 4))
    for m in rows:
        unjudged = number(m.unjudged) if m.unjudged else ""
        bounds = interval(m.passed.worst, m.passed.best)
        made.add_row(say(m.category), _counts(m.unwritten), unjudged, _counts(m.unscored), bounds)
    return block("Missing", made, note="what is in no rate; the bounds count it all as failed, then all as passed")


def _counts(counts: dict[str, int]) -> Text:
    return say(", ".join(f"{name} {count:,}" for name, count in counts.items()), FAINT)


def _reasons(summary: Summary, unmask: bool) -> RenderableType | None:
    if not summary.reasons:
        return None
    parts: list[RenderableType] = []
    for criterion, reasons in groupby(summary.reasons, key=lambda r: r.criterion):
        made = Table.grid(padding=(0, 2))
        made.add_column(justify="right", width=6)
        made.add_column(ratio=1)
        for reason in reasons:
            level = Text.assemble(say(reason.level, "bold"), ", such as: ") if reason.level else Text()
            told = level + reasoned(reason.reason, unmask=unmask)
            made.add_row(Text(f"{reason.count:,}×", style="bold"), told)
            if reason.example.text:
                made.add_row(
                    "", _example(reason.example.conversation_id, reason.example.turn, reason.example.text, unmask)
                )
        parts += [say(criterion, f"bold {BAD}"), made]
    return block("Why conversations failed", *parts, note="" if unmask else "examples are masked; --unmask shows them")


def _example(conversation_id: str, turn: int | None, text: str, unmask: bool) -> Text:
    place = f"{conversation_id} message {turn + 1}" if turn is not None else conversation_id
    return Text.assemble(say(place, FAINT), "  ", masked(text, unmask=unmask, width=110))


def _filters(summary: Summary, unmask: bool) -> RenderableType | None:
    if not summary.filters:
        return None
    made = table("filter", "hits", "first hit", numbers=(1,), wide=2)
    for hit in summary.filters:
        place = say(f"{hit.example.conversation_id}  ", FAINT)
        made.add_row(say(hit.filter), number(hit.count), Text.assemble(place, " ", reasoned(hit.reason, unmask=unmask)))
    return block("Filters", made)


def _duplicates(summary: Summary, unmask: bool) -> RenderableType | None:
    found = summary.duplicates
    redraws = _redraws(found.redraws)
    if not found.searched:
        return block("Duplicates", Text("not searched for yet"), redraws) if redraws else None
    told = f"{counted(found.groups, 'group')}, {found.dropped:,} dropped, {found.exact:,} of them the same text"
    if not found.groups:
        return block("Duplicates", Text("none found"), redraws)
    made = table("kept", "size", "similarity", "category", "begins", numbers=(1, 2), wide=4)
    for group in found.largest:
        opening = masked(group.opening, unmask=unmask, width=60)
        made.add_row(
            say(group.kept), number(group.size), f"≥ {group.lowest_similarity:.2f}", say(group.category), opening
        )
    return block("Duplicates", made, redraws, note=told)


def _redraws(found: Redraws) -> Text | None:
    """Say how often writing came upon what the run already held."""
    said = []
    if found.drafts:
        said.append(f"{counted(found.drafts, 'draft')} said what the run already held: ")
        said.append(f"{counted(found.scenarios, 'scenario')} drawn again for it, {found.given_up:,} given up. ")
    if found.variants:
        said.append(f"{counted(found.variants, 'variant')} turned down as copies. ")
    if not said:
        return None
    return Text("while writing: " + "".join(said)).append_text(_counts(found.categories))


def _nearest(summary: Summary, _: bool) -> RenderableType | None:
    facts = summary.duplicates.facts
    if facts is None:
        return None
    nearness = facts.nearness
    if summary.run.category:
        nearness = nearness_of(nearness, summary.run.category)
    return render_nearness(nearness)


def _references(summary: Summary, unmask: bool) -> RenderableType | None:
    found = summary.references
    if found is None:
        return None
    return render_matches(found.nearest, found.removed + found.marked, found.search, _SHOWN_MATCHES, unmask=unmask)


def _diversity(summary: Summary, unmask: bool) -> RenderableType | None:
    found = summary.diversity
    if found is None or not found.conversations:
        return None
    headings = ("", "n", "pairs", "intents", "nearest ¼", "½", "¾", "commonest opening")
    made = table(*headings, numbers=range(1, 7))
    rows: list[tuple[str, int, Coverage]] = [("all", found.measured, found)]
    rows += [(name, c.conversations, c) for name, c in found.categories.items()]
    for name, n, figures in rows:
        quartiles = [similarity(value, found.nearest_from) for value in figures.nearest[1:4]]
        opening = Text.assemble(
            percent(figures.opening_share, 0), " ", begins(figures.opening, unmask=unmask, width=24)
        )
        made.add_row(
            say(name, width=30), number(n), f"{figures.distinct_2:.2f}", f"{figures.effective_intents:,.1f}",
            *quartiles, opening,
        )  # fmt: skip
    measured = "" if found.measured == found.conversations else f"{found.measured:,} of {found.conversations:,}; "
    note = (
        f"{measured}share of different words {found.distinct_1:.2f}, of word pairs as below; intents: as many wholly "
    )
    note += "different requests would be as varied; nearest: similarity to the most similar other"
    return block("Diversity", made, note=note)


def _openings(summary: Summary, unmask: bool) -> RenderableType | None:
    found = summary.openings
    if not found.n or found.entropy_bits is None:
        return None
    even = f", evenness {found.evenness:.2f}" if found.evenness is not None else ""
    told = f"{found.distinct:,} different among {found.n:,}, entropy {found.entropy_bits:.1f} bits{even}"
    made = table("first six words of the first answer", "", "count", "share", numbers=(2, 3), wide=1)
    for top in found.top:
        made.add_row(
            begins(top.text, unmask=unmask),
            Bar([(top.share, ACCENT)], widest=24),
            number(top.count),
            percent(top.share),
        )
    return block("Openings", made, refusals_told(found.refusals), note=told)


def _shape(summary: Summary, _: bool) -> RenderableType | None:
    shape = summary.shape
    if not shape.n:
        return None
    lengths = table("characters a turn", "least", "¼", "median", "¾", "95%", "most", numbers=range(1, 7))
    for name, spread in (("user", shape.user_characters), ("assistant", shape.assistant_characters)):
        if spread:
            lengths.add_row(name, *_quantiles(spread))
    widest = max(shape.exchanges.values())
    turns = table("exchanges", "", "conversations", numbers=(0, 2), wide=1)
    for exchanges, count in list(shape.exchanges.items())[:12]:
        turns.add_row(str(exchanges), Bar([(count / widest, ACCENT)]), number(count))
    languages = Text("languages  ", style=FAINT).append_text(_counts(shape.languages))
    if shape.languages_guessed:
        languages.append(f"  ({shape.languages_guessed:,} guessed from the text)", style=FAINT)
    return block("Shape", turns, lengths, languages)


def _quantiles(spread: Spread) -> list[str]:
    return [
        number(v) for v in (spread.least, spread.quarter, spread.median, spread.three_quarters, spread.p95, spread.most)
    ]


def _rewrites(summary: Summary, _: bool) -> RenderableType | None:
    found = summary.rewrites
    if found is None:
        return None
    rate = found.kept_rate
    lines = [
        Text(f"{found.tried:,} tried, {found.kept:,} kept: {percent(rate.rate)} ({interval(rate.low, rate.high)})"),
        _lift(found),
    ]
    for title, counts in (("mended", found.mended), ("broken", found.broken), ("not kept because", found.reasons)):
        if counts:
            lines.append(Text(f"{title}: ").append_text(_counts(counts)))
    return block("Rewrites", *lines)


def _lift(found: Rewrites) -> Text:
    control = found.control
    if control is None:
        return Text("no control group: how much of it is chance alone is not known", style=FAINT)
    said = f"{control.judge}, which did not choose them: {percent(control.before.rate)} passed before, "
    said += f"{percent(control.after.rate)} after; lift {100 * control.lift:+.1f} points"
    return say(f"{said} ({interval(control.low, control.high)}), n {control.n:,}{tell_open(control)}")


def _judges(summary: Summary, _: bool) -> RenderableType | None:
    if not summary.judges:
        return None
    headings = ["judge", "judged", "passes", "95% interval", "before selection", "unscored", "cost"]
    planted = any(j.canaries for j in summary.judges)
    made = table(*headings, *(["caught", "false", "planted, unscored"] if planted else []), numbers=range(1, 10))
    for j in summary.judges:
        rate, of = j.overall, j.canaries
        name = Text.assemble(say(j.judge, width=60), (" (decides)" if j.deciding else "", FAINT))
        figures = [number(j.judged), percent(rate.rate), interval(rate.low, rate.high)]
        figures += [percent(j.before_selection.rate), number(rate.unscored)]
        caught = [f"{of.caught}/{of.must_fail}", f"{of.false_alarms}/{of.must_pass}", number(of.unscored)] if of else []
        made.add_row(name, *figures, money(j.cost_usd), *caught)
    labelled = f"{counted(summary.labelled, 'conversation')} with labels"
    note = (
        f"{labelled}; caught, false: of planted flaws and good cells, unscored ones included" if planted else labelled
    )
    return block("Judges", made, _agreements(summary), note=note)


def _agreements(summary: Summary) -> Table | None:
    if not summary.agreements:
        return None
    made = table("agreement", "on", "n", "same", "kappa", numbers=(2, 3, 4))
    for a in summary.agreements:
        kappa = "–" if a.kappa is None else f"{a.kappa:.2f}"
        made.add_row(
            say(f"{a.first} / {a.second}", width=40), say(a.criterion), number(a.n), percent(a.agreement), kappa
        )
    return made


def _cost(summary: Summary, _: bool) -> RenderableType | None:
    spent = summary.spent
    if not spent.stages:
        return None
    made = table("stage", "calls", "tokens in", "tokens out", "cost", "time", numbers=range(1, 6))
    for stage in (*spent.stages, spent.total):
        cost = money(stage.cost_usd) if stage.calls > stage.unpriced else "–"
        cost += f" + {stage.unpriced:,} unpriced" if stage.unpriced and stage.calls > stage.unpriced else ""
        figures = [number(stage.calls), number(stage.prompt_tokens), number(stage.completion_tokens), cost]
        made.add_row(say(stage.stage), *figures, duration(stage.wall_s), style="bold" if stage is spent.total else "")
    per_kept = ""
    if spent.tokens_per_kept is not None and spent.wall_s_per_kept is not None:
        per_kept = f"per kept conversation: {money(spent.cost_usd_per_kept)}, {number(spent.tokens_per_kept)} tokens, "
        per_kept += duration(spent.wall_s_per_kept)
    return block("Cost and time", made, note=per_kept)


def _actions(summary: Summary, _: bool) -> RenderableType | None:
    return _to_do(summary.actions) if summary.actions else None


def _gravest(summary: Summary, _: bool) -> RenderableType | None:
    """The first actions, and the last, which says what comes when all is well."""
    if len(summary.actions) <= _ACTIONS + 1:
        return _actions(summary, _)
    left = len(summary.actions) - _ACTIONS - 1
    return _to_do([*summary.actions[:_ACTIONS], summary.actions[-1]], f"{left} more: --section actions")


def _to_do(actions: Sequence[Action], more: str = "") -> RenderableType:
    kinds = {"error": "bad", "warning": "warning", "hint": "hint"}
    made = Table.grid(padding=(0, 1))
    for action in actions:
        made.add_row(mark(kinds[action.severity]), say(action.problem))
        made.add_row("", Command(action.command))
    return block("What to do next", made, *([say(more, FAINT)] if more else []))


SECTIONS: dict[str, Section] = {
    "headline": _headline,
    "funnel": _funnel,
    "criteria": render_criteria,
    "unlike": render_unlike,
    "balance": _balance,
    "rates": _rates,
    "groups": render_groups,
    "corrected": _corrected,
    "missing": _missing,
    "reasons": _reasons,
    "filters": _filters,
    "references": _references,
    "duplicates": _duplicates,
    "nearest": _nearest,
    "diversity": _diversity,
    "openings": _openings,
    "shape": _shape,
    "rewrites": _rewrites,
    "judges": _judges,
    "recorded": render_recorded,
    "probes": render_kept,
    "cost": _cost,
    "actions": _actions,
}
"""Every section by the name that `--section` takes, in the order of the report."""
_BRIEF = (_headline, _funnel, render_criteria, render_unlike, render_groups, render_latest, _gravest)  # fits one screen
_FULL = [section for name, section in SECTIONS.items() if name != "criteria"]  # `rates` says that by category
