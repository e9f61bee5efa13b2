"""Draws a probe in the terminal: the verdict, the measures of every arm side by side, what changed, and where.

`render_kept` and `render_latest` draw the probes that a run keeps, in its report. Needs rich, so it is imported by
those faces alone. It shows no prompt and no answer: these are for the page.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from safetyqc.reports.drawing import BAD, FAINT, GOOD, WARN, block, mark, say, table
from safetyqc.reports.wording import interval, number, percent
from safetyqc.results.probe import (
    LESS_IS_BETTER,
    OUTCOMES,
    TITLES,
    Arm,
    ArmName,
    Change,
    Comparison,
    Measure,
    ProbeFacts,
    ProbeResult,
)
from safetyqc.results.report import Summary
from safetyqc.text import counted

_HEADS: dict[ArmName, str] = {"before": "before", "model": "model", "control": "control"}
_SHOWN = 12
_LATEST = 3  # on one screen
_COLOURS = {"better": GOOD, "worse": BAD, "cannot tell": WARN}


def render_probe(found: ProbeResult) -> RenderableType:
    """Draw everything."""
    arms = {name: found.arms[name] for name in _HEADS if name in found.arms}
    return Group(
        _verdict(found),
        block("Measures", _measures(arms), note=f"by {found.judges[0]}; 95% intervals over prompts"),
        *(_changes(comparison) for comparison in found.comparisons),
        block("Outcomes", _outcomes(arms), note="answers by the kind of their prompt"),
        *_judges(found),
        *_bars(found),
        *([block("Notes", *(say(note, FAINT, 300) for note in found.notes))] if found.notes else ()),
    )


def render_kept(summary: Summary, _: bool) -> RenderableType | None:
    """Draw every probe that a run keeps: what each measure came to, a row a measure and a block a model."""
    return Group(*(_kept(facts) for facts in summary.probes)) if summary.probes else None


def _kept(facts: ProbeFacts) -> RenderableType:
    drawn = table("", "rate", "95%", "n", "unscored", numbers=range(1, 5), wide=0)
    for name in TITLES:
        if (m := facts.measures.get(name)) is not None:
            open_ = Text(number(m.unscored) if m.unscored else "", style=WARN)
            drawn.add_row(TITLES[name], percent(m.rate), interval(m.low, m.high), number(m.n), open_)
    by = f"{counted(facts.prompts, 'prompt')} of {facts.prompt_set}, by {', '.join(facts.judges)}"
    title = f"What {say(', '.join(facts.models), width=50).plain} does"
    return block(title, say(facts.verdict), drawn, note=say(by, width=200).plain)


def render_latest(summary: Summary, _: bool) -> RenderableType | None:
    """Draw a line for the last models that were probed: the first number to look at, and the verdict."""
    if not summary.probes:
        return None
    lines = []
    for facts in summary.probes[-_LATEST:]:
        twins = facts.measures.get("twin_metric")
        rate = percent(twins.rate) if twins and twins.rate is not None else "–"
        told = say(facts.verdict, FAINT, 200)
        lines.append(Text.assemble(say(", ".join(facts.models), width=40), ("  twins right ", FAINT), rate, "  ", told))
    note = f"{counted(len(summary.probes), 'probe')} kept: --section probes"
    return block("What models did", *lines, note=note)


def _verdict(found: ProbeResult) -> RenderableType:
    asked = found.prompt_set
    counts = ", ".join(f"{n:,} {kind}" for kind, n in asked.counts.items())
    models = "; ".join(f"{name}: {', '.join(arm.models)}" for name, arm in found.arms.items())
    word = Text(found.verdict, style=f"bold {_COLOURS.get(found.word or '', '')}".strip())
    return Group(
        say(models, FAINT),
        say(f"{asked.name} {asked.hash}: {counts}; {asked.pairs:,} twins", FAINT),
        Text(),
        word,
    )


def _measures(arms: dict[ArmName, Arm]) -> RenderableType:
    drawn = table("", *(_HEADS[name] for name in arms), "n", numbers=range(1, len(arms) + 2), wide=0)
    for name, title in TITLES.items():
        if not any(name in arm.measures for arm in arms.values()):
            continue
        cells = [_cell(arm.measures.get(name)) for arm in arms.values()]
        counts = {str(arm.measures[name].n) for arm in arms.values() if name in arm.measures}
        drawn.add_row(title, *cells, "/".join(sorted(counts)))
    return drawn


def _cell(measure: Measure | None) -> Text:
    if measure is None or measure.rate is None:
        return Text(f"· ({measure.unscored} unscored)" if measure else "·", style=FAINT)
    open_ = f" {measure.unscored}?" if measure.unscored else ""
    told = Text.assemble(f"{measure.rate:.2f} ", (f"{measure.low:.2f}–{measure.high:.2f}", FAINT), (open_, WARN))
    if measure.corrected is not None and (by_labels := measure.corrected.rate) is not None:
        told.append(f"\nby labels {by_labels.value:.2f} ").append(f"{by_labels.low:.2f}–{by_labels.high:.2f}", FAINT)
    return told


def _changes(comparison: Comparison) -> RenderableType:
    drawn = table("", "change", "95% interval", "up/down", "p", "seen from", numbers=(1, 2, 3, 4, 5), wide=0)
    overall = [change for change in comparison.changes if change.group == "all"]
    within = [change for change in comparison.changes if change.group != "all" and change.is_certain]
    for change in overall:
        drawn.add_row(Text(TITLES[change.measure]), *_figures(change))
    for change in sorted(within, key=lambda c: c.p_adjusted)[:_SHOWN]:
        drawn.add_row(Text(f"  {change.group}: {_short(change)}"), *_figures(change))
    more = [say(f"{len(within) - _SHOWN} more categories changed: see --html", FAINT)] if len(within) > _SHOWN else []
    note = "Holm's p in categories; seen from: the smallest difference found with 80% power"
    return block(f"Against {comparison.against}", drawn, *more, note=note)


def _short(change: Change) -> str:
    return TITLES[change.measure].partition(":")[0]


def _figures(change: Change) -> list[Text]:
    if change.difference is None:
        return [Text("·", style=FAINT)] * 4 + [Text(f"n {change.n}", style=FAINT)]
    good = (change.difference < 0) == (change.measure in LESS_IS_BETTER)
    style = (GOOD if good else BAD) if change.is_certain else ""
    return [
        Text(f"{change.difference:+.2f}", style=style),
        Text(f"{change.low:+.2f}–{change.high:+.2f}", style=FAINT),
        Text(f"{change.up}/{change.down} of {change.n}"),
        Text(f"{change.p_adjusted:.3f}" if change.p_adjusted >= 0.001 else "<.001"),
        Text(f"{change.smallest:.2f}", style=FAINT),
    ]


def _outcomes(arms: dict[ArmName, Arm]) -> RenderableType:
    seen = [o for o in OUTCOMES if any(found.get(o) for arm in arms.values() for found in arm.outcomes.values())]
    drawn = table("", *(name.replace("_", " ") for name in seen), numbers=range(1, len(seen) + 1))
    for name, arm in arms.items():
        for kind, found in arm.outcomes.items():
            title = f"{_HEADS[name]}, {kind}" if len(arms) > 1 else kind
            drawn.add_row(title, *(str(found[o]) if found.get(o) else Text("·", style=FAINT) for o in seen))
    return drawn


def _judges(found: ProbeResult) -> list[RenderableType]:
    if len(found.judges) < 2:
        return []
    arm = found.arms["model"]
    drawn = table("the model by", *found.judges, numbers=range(1, len(found.judges) + 1), wide=0)
    for name, title in TITLES.items():
        if any(name in arm.by_judge[judge] for judge in found.judges):
            drawn.add_row(title, *(_cell(arm.by_judge[judge].get(name)) for judge in found.judges))
    note = f"{found.judges[0]} decides; they differ on {len(found.disagreements):,} prompts"
    return [block("Judges", drawn, note=note)]


def _bars(found: ProbeResult) -> list[RenderableType]:
    if not found.bars:
        return []
    drawn = table("", "", "rate", "bar", numbers=(2, 3), wide=1)
    for bar in found.bars:
        limit = "at most" if bar.name in LESS_IS_BETTER else "at least"
        sure = "" if bar.certain else " (not certain)"
        rate = "·" if bar.rate is None else f"{bar.rate:.2f}"
        drawn.add_row(mark("good" if bar.met else "bad"), TITLES[bar.name] + sure, rate, f"{limit} {bar.bar:.2f}")
    return [block("Bars", drawn)]
