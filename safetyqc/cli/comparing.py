"""Commands that measure judges: compare, train-judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note, refuse_overwriting, result, show, show_json, typed, typed_flags
from safetyqc.cli.session import called
from safetyqc.config import load_config


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(compare)
    app.command("train-judge")(train_judge)


def compare(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="Conversations with recorded verdicts or labels; without it: the run.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", metavar="FILE", help="Labels that count as truth; repeatable.", show_default=False),
    ] = None,
    truth: o.Truth = None,
    partial: o.Partial = "pass",
    shared_only: Annotated[
        bool, typer.Option("--shared-only", help="Leave out what not every judge judged, instead of refusing.")
    ] = False,
    by: o.By = None,
    disagreements: Annotated[int, typer.Option("--show", metavar="N", min=0, help="Show N disagreements.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the disagreements as a page.", show_default=False),
    ] = None,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show harmful text.")] = False,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Compare judges with each other and with labels: pass rates, agreement, where they differ, which to choose.

    Example: safetyqc compare --labels labels.jsonl --show 10
    """
    config = load_config(config_file, {"run": run})
    refuse_overwriting({"--html": html}, file, config_file, *(labels or []), config=config)
    from safetyqc import api
    from safetyqc.reports.compare import render_comparison, render_disagreements

    marks = labels or ()
    with called(config, saves=False):
        compared = api.compare(
            file,
            run=config.run,
            labels=marks,
            truth=truth,
            partial=partial,
            shared_only=shared_only,
            by=by or (),
            config=config,
        )
    if as_json:
        show_json(compared.comparison.model_dump(mode="json"))
    else:
        show(render_comparison(compared.comparison))
    if disagreements and not as_json:
        show(render_disagreements(compared.disagreements(disagreements), unmask=unmask))
    if html:
        compared.write_html(html)
        note(f"wrote {html}")
    same = {"--labels": labels, "--truth": truth, "--partial": partial != "pass" and partial, "--config": config_file}
    again = (
        (f" {typed(file)}" if file else "")
        + typed_flags(same | {"--shared-only": shared_only, "--by": by})
        + in_run(config)
    )
    shown = f"safetyqc compare{again} --show 10"
    next_step(*(() if disagreements else (shown,)), *((f"safetyqc report{in_run(config)}",) if file is None else ()))


def train_judge(
    labels: Annotated[
        list[Path], typer.Argument(metavar="LABELS...", help="Conversations with labels in their lines.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the weights go.")] = Path(
        "judge-weights.json"
    ),
    fresh: Annotated[bool, typer.Option("--from-scratch", help="Do not start from the shipped weights.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Refit the embedded judge on your own labels; says how well it does on what it was not trained on.

    Example: safetyqc train-judge labels.jsonl --out my-judge.json
    """
    refuse_overwriting({"--out": out}, *labels)
    from safetyqc.pipeline.training import train_on_files

    for line in train_on_files(labels, out, from_scratch=fresh, force=force):
        result(line)
    model = typed_flags({"-m": f"trained:{out}"})
    next_step(f"safetyqc judge FILE{model}", f"safetyqc compare{typed_flags({'--labels': list(labels)})}")
