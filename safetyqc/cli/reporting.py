"""Commands that show or hand over the result: report, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.options import parse_shares
from safetyqc.cli.output import in_run, next_step, note, refuse_overwriting, show
from safetyqc.cli.session import called, hints_of
from safetyqc.config import load_config

if TYPE_CHECKING:
    from safetyqc.reports.views import Report
    from safetyqc.results.report import Summary

BARS_MISSED = 4
"""Exit code of `report --check` when a pass rate lies below its bar."""
JUDGE_CHANGED = 5
"""Exit code of `report --check` when the judge no longer agrees with the frozen set's labels."""
_CHECK_HELP = (
    f"Exit {BARS_MISSED} when a pass rate lies below its bar in safetyqc.yaml, "
    f"{JUDGE_CHANGED} when the judge misses a bar of the frozen set."
)

Section = Annotated[
    list[str] | None,
    typer.Option("--section", metavar="NAME", help="Only this section, also of --md; repeatable.", show_default=False),
]
Category = Annotated[
    str | None, typer.Option("--category", metavar="NAME", help="Only this category.", show_default=False)
]
Whose = Annotated[
    str | None,
    typer.Option("--judge", metavar="NAME", help="Whose verdicts (default: who decides).", show_default=False),
]
Markdown = Annotated[
    Path | None, typer.Option("--md", metavar="FILE", help="Write Markdown, for a pull request.", show_default=False)
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write verdicts, safe for spreadsheets.", show_default=False),
]
Since = Annotated[
    Path | None, typer.Option("--against", metavar="DIR", help="What moved since another run.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(report)
    app.command()(export)
    app.command()(push)


def report(
    section: Section = None,
    full: Annotated[bool, typer.Option("--full", help="All sections, not only what fits one screen.")] = False,
    by: o.By = None,
    category: Category = None,
    judge: Whose = None,
    html: o.Page = None,
    markdown: Markdown = None,
    csv: Csv = None,
    against: Since = None,
    check: Annotated[bool, typer.Option("--check", help=_CHECK_HELP)] = False,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show harmful text in examples.")] = False,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Show on one screen what a run holds; --full shows all of it, --html writes it as a page with every conversation.

    Example: safetyqc report --html report.html
    """
    config = load_config(config_file, {"run": run})
    pages = {"--html": html, "--md": markdown, "--csv": csv}
    refuse_overwriting(pages, config_file, config=config)
    from safetyqc import api
    from safetyqc.reports.terminal import check_sections

    check_sections(section)
    to_draw = _sections(section, full=full, check=check, by=bool(by), pages=any(pages.values()))
    with called(config, saves=False):
        found = api.report(
            config.run,
            html=html,
            markdown=markdown,
            csv=csv,
            sections=section,
            judge=judge,
            category=category,
            by=by or (),
            against=against,
            diversity=as_json or html is not None or full or "diversity" in (section or ()),
            need_bars=check,
            config=config,
        )
    for path in found.files:
        note(f"wrote {path}")
    if as_json:
        typer.echo(found.to_json())
    else:
        _render(found, to_draw, full=full, unmask=unmask)
    _fail_where_asked(found.summary(), check=check)
    if not as_json:
        pages_left = () if html else (f"safetyqc report{in_run(config)} --html report.html",)
        next_step(*pages_left, *((hints_of(config).export(),) if found.summary().kept else ()))


def _sections(named: list[str] | None, *, full: bool, check: bool, by: bool, pages: bool) -> list[str] | None:
    """What the terminal shows: what was named; with pages to write only whether bars are met; None: the usual."""
    if named or full or not pages:
        return named
    return [*(["headline"] if check else []), *(["groups"] if by else [])]


def _fail_where_asked(summary: Summary, *, check: bool) -> None:
    if summary.frozen and not summary.frozen.met:
        note("the judge changed: it misses bars of the frozen set, so the data's rates say nothing for now")
        raise typer.Exit(JUDGE_CHANGED)
    if check and summary.verdict.met is False:
        raise typer.Exit(BARS_MISSED)


def _render(found: Report, sections: list[str] | None, *, full: bool, unmask: bool) -> None:
    from safetyqc.reports.terminal import render_report

    if sections is None or sections:
        show(render_report(found.summary(), sections=sections, full=full, unmask=unmask))
    if found.difference:
        from safetyqc.reports.diff import render_diff

        show(render_diff(found.difference))


def export(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to (nanochat has a default).", show_default=False)
    ] = None,
    format_name: o.Format = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Write a dataset folder: card, data, trainers' settings."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="ID", help="For the card, as the Hub names it.")
    ] = None,
    val_share: o.ValShare = None,
    oversample: Annotated[
        list[str] | None,
        typer.Option(
            "--oversample",
            metavar="CATEGORY=FACTOR",
            help="Repeat a category in training; repeatable.",
            show_default=False,
        ),
    ] = None,
    mix: Annotated[
        Path | None,
        typer.Option("--mix", metavar="FILE", help="Mix ordinary conversations into the training file."),
    ] = None,
    safety_share: Annotated[
        float | None,
        typer.Option("--safety-share", metavar="SHARE", help="With --mix: safety's share of the lines (default: 0.1)."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="NAME", help="Whose verdicts decide (default: the first).", show_default=False),
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Replace what is there.", show_default=False)] = None,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Write what passed, and nothing else, for a fine-tuning pipeline.

    Example: safetyqc export --format openai train.jsonl --val-share 0.1
    """
    flags: dict[str, Any] = {
        "run": run,
        "export.path": path,
        "export.format": format_name,
        "export.folder": folder,
        "export.licence": licence,
        "export.val_share": val_share,
        "export.oversample": parse_shares(oversample, "--oversample") if oversample else None,
        "export.mix": mix,
        "export.safety_share": safety_share,
        "export.force": force,
    }
    config = load_config(config_file, flags)
    refuse_overwriting({"FILE": config.export.path}, config_file, config.export.mix, config=config)
    from safetyqc import api

    with called(config, saves=False):
        exported = api.export(config.run, judge=judge, config=config)
    for file in exported.files:
        typer.echo(file)
    note(exported.told)
    if exported.format == "nanochat":
        note("docs/nanochat.md says how to mix the file into training")
    next_step(f"safetyqc report{in_run(config)} --html report.html")


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="As export --folder wrote it.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset on the Hub; made if it is new.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it (default: private).")] = False,
) -> None:
    """Upload a dataset folder to the Hugging Face Hub, as it was exported; needs huggingface_hub and its login.

    Example: safetyqc push safety-set my-name/my-safety-set
    """
    from safetyqc.pipeline.publishing import push_folder

    typer.echo(push_folder(folder, repository, public=public))
