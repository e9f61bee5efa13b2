"""Commands about the labels of a run: label import, label export, label list; label plan is `label_plans`'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import label_plans
from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note, refuse_overwriting, say, show, show_json, typed, typed_flags
from safetyqc.config import load_config
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from safetyqc.pipeline.labelling import LabelCounts
    from safetyqc.review.agreement import Agreement

Annotator = Annotated[
    str | None, typer.Option("--annotator", metavar="NAME", help="Only this person's.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    labels = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring people's labels in and out of a run.")
    labels.command("import")(import_files)
    labels.command("export")(export)
    labels.command("list")(list_all)
    labels.command("plan")(label_plans.plan)
    app.add_typer(labels, name="label")


def import_files(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="CSV, TSV, JSON Lines; exports of Label Studio and Argilla; - for JSON on stdin."
        ),
    ],
    annotator: Annotated[
        str | None,
        typer.Option(
            "--annotator", metavar="NAME", help="Who labelled what names nobody (default: human).", show_default=False
        ),
    ] = None,
    partial: o.Partial = "pass",
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Store people's labels in a run; what one said before of the same cell stays in its history.

    Example: safetyqc label import ann.csv --annotator ann
    """
    config = load_config(config_file, {"run": run})
    from safetyqc import api

    for tally in api.label_import(files, config.run, annotator=annotator, partial=partial, config=config):
        say(tally)
    next_step(f"safetyqc report{in_run(config)} --section corrected", f"safetyqc label list{in_run(config)}")


def export(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A table to label in where it ends in .csv or .tsv, else JSON Lines; - for stdout.",
            show_default=False,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="A table, whatever its name; - for stdout.", show_default=False),
    ] = None,
    annotator: Annotator = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--count",
            metavar="N",
            min=0,
            help="In a table: the next N of the draw that this annotator has not labelled; without a draw, N by chance "
            "(default: all).",
            show_default=False,
        ),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="In JSON Lines: also what was replaced.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Write the labels of a run, or a table to label in; label import takes both back by their ids.

    Example: safetyqc label export sheet.csv -n 100 --annotator ann
    """
    if (path is None) == (csv is None):
        raise UserError("name one file to write", where="label export", fix="safetyqc label export labels.csv")
    target = path or csv or Path()
    config = load_config(config_file, {"run": run})
    refuse_overwriting({"--jsonl": target}, config_file, config=config)
    from safetyqc import api

    sheet = True if csv else None
    told = api.label_export(
        config.run, target, annotator=annotator, sheet=sheet, count=count, history=history, force=force, config=config
    )
    if isinstance(told, str):
        typer.echo(told, nl=False)
        return
    note(f"wrote {target}: {told:,} rows" if told != 1 else f"wrote {target}: 1 row")
    flags = typed_flags({"--annotator": annotator})
    next_step(f"safetyqc label import {typed(str(target))}{flags}{in_run(config)}")


def list_all(
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Say what labels a run holds: by whom, of what, and how far people agree.

    Example: safetyqc label list
    """
    config = load_config(config_file, {"run": run})
    from safetyqc.pipeline.labelling import count_labels
    from safetyqc.store import Store

    with Store.read(config.run) as store:
        found = count_labels(store)
    if as_json:
        show_json(asdict(found))
        return
    if not found.annotators:
        note("no labels")
        next_step(f"safetyqc review{in_run(config)}", f"safetyqc label import FILE{in_run(config)}")
        return
    show(_render(found))
    next_step(f"safetyqc report{in_run(config)} --section corrected", f"safetyqc compare{in_run(config)}")


def _render(found: LabelCounts) -> RenderableType:
    from rich.console import Group

    from safetyqc.reports.drawing import block, say, table
    from safetyqc.reports.wording import number, percent
    from safetyqc.text import counted

    by = table("annotator", "criterion", "pass", "fail", "na", "disputed", numbers=(2, 3, 4, 5))
    for annotator, criteria in found.annotators.items():
        for criterion, counts in criteria.items():
            cells = [number(counts.get(outcome, 0)) for outcome in ("pass", "fail", "na", "disputed")]
            by.add_row(say(annotator), say(criterion), *cells)
    notes = [f"{counted(found.conversations, 'conversation')} with labels"]
    notes += (
        [f"{counted(found.other_wording, 'label')} of another wording of the rubric"] if found.other_wording else []
    )
    notes += [f"{counted(found.replaced, 'label')} replaced by a later one"] if found.replaced else []
    notes += [f"{counted(found.adjudicated, 'cell')} decided between annotators"] if found.adjudicated else []
    parts: list[RenderableType] = [block("Labels", by, note="; ".join(notes))]
    if found.agreement:
        people = _people(found.agreement)
        parts.append(block("People with each other", people, note="no judge can be shown to be better than this"))
    if found.again:
        again = table("annotator", "asked again", "same", "kappa", numbers=(1, 2, 3))
        for own in found.again:
            again.add_row(say(own.annotator), number(own.cells), percent(own.same), _decimals(own.kappa))
        parts.append(block("People with themselves", again, note="what the review page showed them twice"))
    for mixed in found.confusions:
        levels = " against ".join(mixed.levels)
        told = f"{mixed.criterion}: {mixed.times} of {counted(mixed.differences, 'difference')} are {levels}"
        parts.append(say(f"{told}: the rubric's wording may be the cause"))
    return Group(*parts)


def _decimals(coefficient: float | None) -> str:
    return "" if coefficient is None else f"{coefficient:.2f}"


def _people(agreement: Sequence[Agreement]) -> Table:
    from safetyqc.reports.drawing import say, table
    from safetyqc.reports.wording import number, percent

    people = table("criterion", "people", "both", "same", "kappa", "alpha", numbers=(2, 3, 4, 5))
    for of in agreement:
        alone = of.annotators == 2
        for pair in of.pairs:
            names, alpha = say(" / ".join(pair.annotators)), of.alpha if alone else None
            rest = (number(pair.cells), percent(pair.same), _decimals(pair.kappa), _decimals(alpha))
            people.add_row(say(of.criterion), names, *rest)
        if not alone:
            rest = (number(of.cells), percent(of.same), _decimals(of.kappa), _decimals(of.alpha))
            people.add_row(say(of.criterion), f"all {of.annotators}", *rest)
    return people
