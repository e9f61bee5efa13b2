"""label plan: which conversations to label, how many, and how well rates are known then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, show, show_json
from safetyqc.config import load_config
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.results.label_plan import LabelPlan

_RATES_SHOWN = 12
_FEW_LABELS = 30


def plan(
    half_width: Annotated[
        float | None,
        typer.Option(
            "--for",
            metavar="SHARE",
            help="Know every rate to so much on each side, with 95% confidence: 0.03.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", metavar="N", min=1, help="Or plan N labels.", show_default=False),
    ] = None,
    criteria: Annotated[
        list[str] | None,
        typer.Option(
            "--criterion", metavar="NAME", help="Only this one (repeatable; default: all).", show_default=False
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="category", help="Know the rate of each category so well.", show_default=False),
    ] = None,
    seed: o.Seed = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Draw the conversations to label, so that corrected rates get the interval that you want for the fewest labels.

    The draw is kept in the run: typed again, it goes on from there, and more are drawn where labels show the need.

    Example: safetyqc label plan --for 0.05
    """
    if (half_width is None) == (count is None):
        raise UserError(
            "say how well rates are to be known, or how many labels there are to be",
            where="label plan",
            fix="safetyqc label plan --for 0.05, or safetyqc label plan -n 100",
        )
    config = load_config(config_file, {"run": run, "generate.seed": seed})
    from safetyqc.formats.sheets import unused_name
    from safetyqc.review.plan import Wanted, plan_labels
    from safetyqc.store import Store

    wanted = Wanted(half_width, count, tuple(dict.fromkeys(criteria or ())), by, config.generate.seed)
    with Store.open(config.run) as store:
        found = plan_labels(store, wanted)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show(_render(found))
    left = found.to_label - found.labelled
    if left:
        next_step(
            f"safetyqc review{in_run(config)}", f"safetyqc label export {unused_name()} -n {left}{in_run(config)}"
        )


def _render(found: LabelPlan) -> RenderableType:
    from rich.console import Group

    from safetyqc.reports.drawing import block, say, table
    from safetyqc.reports.wording import number, percent

    strata = table(
        "judge says" if len(found.criteria) == 1 else "drawn",
        "conversations",
        "to label",
        "labelled",
        numbers=(1, 2, 3),
    )
    for row in found.strata:
        cells = [number(n) for n in (row.conversations, row.to_label, row.labelled)]
        strata.add_row(
            say(row.stratum), cells[0], f"{cells[1]} ({percent(row.to_label / row.conversations)})", cells[2]
        )
    rates = table("criterion", "of", "conversations", "labels", "known to", "at most to", numbers=(2, 3, 4, 5))
    worst = sorted(found.rates, key=lambda rate: -rate.half_width)[:_RATES_SHOWN]
    for rate in worst:
        rates.add_row(
            say(rate.criterion),
            say(rate.group or "all"),
            number(rate.conversations),
            number(rate.labels),
            _points(rate.half_width),
            _points(rate.half_width_all),
        )
    left_out = len(found.rates) - len(worst)
    steps = table("labels", "every rate known to", numbers=(0, 1))
    for step in found.steps:
        steps.add_row(number(step.labels), _points(step.half_width))
    title = f"Label {number(found.to_label)} of {number(found.conversations)} conversations"
    return Group(
        block(title, strata, note=_note(found)),
        block("What to expect", rates, note=f"and {left_out} rates that are known better" if left_out else ""),
        block("Other numbers of labels", steps, note=""),
    )


def _points(half_width: float) -> str:
    return f"± {100 * half_width:.1f}"


def _note(found: LabelPlan) -> str:
    parts = [f"draw {found.draw}"]
    if found.even_draw is not None:
        parts.append(f"drawn evenly it would take {found.even_draw:,}")
    if found.labels_alone is not None:
        save = "" if found.labels_alone > found.to_label else ": its verdicts save none here"
        parts.append(f"without the judge's verdicts, {found.labels_alone:,}{save}")
    if found.known_errors < _FEW_LABELS:
        parts.append("how often the judge is wrong is assumed until there are labels: plan again after 30")
    return "; ".join(parts)
