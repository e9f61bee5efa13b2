"""Commands that do everything in order: run, demo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.judging import Decide
from safetyqc.cli.output import in_run, next_step, note, refuse_overwriting, say, show
from safetyqc.cli.session import in_session, read_files
from safetyqc.cli.writing import Count, Mode, Shares, Twins, read_shares
from safetyqc.config import choose_model, load_config
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.pipeline.demo import Measured
    from safetyqc.pipeline.outputs import Exported
    from safetyqc.pipeline.session import Session

DEMO_RUN = Path("safetyqc-demo")
Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Quality-control these instead of generating.", show_default=False),
]
Rewriter = Annotated[
    str | None,
    typer.Option("--rewriter", metavar="MODEL", help="Who mends weak ones (default: the author).", show_default=False),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds", metavar="N", min=0, help="Rewrite attempts per conversation (default: 1).", show_default=False
    ),
]
Kept = Annotated[
    int | None,
    typer.Option(
        "--kept",
        metavar="N",
        min=1,
        help="Draw again until N of each category passed, instead of -n written ones.",
        show_default=False,
    ),
]
MaxCandidates = Annotated[
    int | None,
    typer.Option(
        "--max-candidates",
        metavar="N",
        min=1,
        help="With --kept: stop after N conversations were drawn (default: 5 for each that is to be kept).",
        show_default=False,
    ),
]
Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="FILE", help="Where the kept ones go (default: RUN/export).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command()(demo)


@o.asking
def run(
    asked: o.Asking,
    files: Files = None,
    count: Count = None,
    kept: Kept = None,
    max_candidates: MaxCandidates = None,
    model: o.Model = None,
    judge: o.Judges = None,
    decide: Decide = False,
    rewriter: Rewriter = None,
    mode: Mode = None,
    language: o.Languages = None,
    turns: o.Turns = None,
    taxonomy: o.Taxonomy = None,
    shares: Shares = None,
    twins: Twins = None,
    rounds: Rounds = None,
    rubric: o.Rubric = None,
    seed: o.Seed = None,
    export: Export = None,
    format_name: o.Format = None,
    val_share: o.ValShare = None,
    dry_run: o.DryRun = False,
    skip_bad_lines: o.SkipBadLines = False,
) -> None:
    """Do everything from generating to exporting, judged in between; the same command again resumes.

    Example: safetyqc run -n 600 -m together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo --max-cost 5
    """
    flags: dict[str, Any] = {
        "generate.count": count,
        "generate.kept": kept,
        "generate.max_candidates": max_candidates,
        "generate.model": model,
        "generate.mode": mode,
        "generate.languages": o.split(language),
        "generate.turns": turns,
        "generate.taxonomy": taxonomy,
        "generate.shares": read_shares(shares),
        "generate.twins": twins,
        "generate.seed": seed,
        "judge.models": tuple(judge) if judge else None,
        "judge.rubric": rubric,
        "rewrite.model": rewriter,
        "rewrite.rounds": rounds,
        "export.path": export,
        "export.format": format_name,
        "export.val_share": val_share,
    }
    from safetyqc.pipeline.roles import recall

    refuse_kept(kept, count, files)
    config = recall(asked.config(flags), "author", writes=not files, follows=not files)
    if not files and config.generate.model is None:
        config = load_config(config, {"generate.model": choose_model(None)})
    do_all(config, files or [], decide=decide, dry_run=dry_run, skip_bad_lines=skip_bad_lines, quiet=asked.quiet)
    if dry_run:
        note("the same command without --dry-run does it")
    else:
        next_step(f"safetyqc report{in_run(config)} --html report.html")


def refuse_kept(kept: int | None, count: int | None, files: list[str] | None) -> None:
    """Refuse what `--kept` cannot be meant with.

    Raises:
        UserError: with files, or with a number to be written.
    """
    if kept is not None and files:
        raise UserError("files are not written, so they cannot be drawn again", where="--kept", fix="leave one out")
    if kept is not None and count is not None:
        fix = "--kept 60 for 60 of each category that passed, -n 600 for 600 written ones"
        raise UserError("--kept and -n are two goals", where="--kept", fix=fix)


def do_all(
    config: Config,
    files: list[str],
    *,
    write: bool | None = None,
    decide: bool = False,
    dry_run: bool = False,
    skip_bad_lines: bool = False,
    quiet: bool = False,
) -> None:
    """Estimate, run everything, report; shared by `run` and `demo`."""
    from safetyqc.pipeline.choices import check_settings

    refuse_overwriting({"--export": config.export.path}, *files, config=config)
    check_settings(config, writes=write or not files, judges=True, rewrites=config.rewrite.rounds > 0)
    inputs = read_files(files, config, skip_bad_lines=skip_bad_lines)

    async def work(session: Session) -> None:
        from safetyqc.pipeline.estimate import check_keys, estimate_run, render_estimate
        from safetyqc.pipeline.order import run_all

        _introduce(config)
        lines = estimate_run(session, [result for _, result in inputs], decide=decide)
        note(render_estimate(lines))
        if dry_run:
            return
        check_keys(session, lines)
        exported = await run_all(session, inputs, say, write=write, decide=decide)
        _report(session, exported)
        note(exported.told if exported else "nothing passed, so nothing was exported")
        for path in exported.files if exported else ():
            note(f"  {path}")

    with _folder(config, scratch=dry_run) as folder:
        in_session(config.model_copy(update={"run": folder}), work, create=True, quiet=quiet)


@contextmanager
def _folder(config: Config, *, scratch: bool) -> Iterator[Path]:
    """The run's folder; for an estimate of a run that does not exist yet one that is gone afterwards."""
    if scratch and not config.run.exists():
        with TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield config.run


def _introduce(config: Config) -> None:
    """Say who works, and plainly so when it is the model that is only for trying."""
    from safetyqc.llm.hosts import EMBEDDED
    from safetyqc.llm.llama import TRY_OUT_NOTE
    from safetyqc.pipeline.choices import family_warnings, warn_of_silence

    if EMBEDDED in (config.generate.model, config.rewrite.model):
        note(TRY_OUT_NOTE)
    for warning in (*family_warnings(config), *warn_of_silence(config)):
        note(f"warning: {warning}")


def _report(session: Session, exported: Exported | None) -> None:
    from safetyqc.pipeline.outputs import summarise_run
    from safetyqc.reports.terminal import render_report

    summary = exported.summary if exported else summarise_run(session.store, session.config, diversity=True)
    show(render_report(summary))


def demo(
    folder: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run.")] = DEMO_RUN,
    per_category: Annotated[
        int, typer.Option("--per-category", metavar="N", min=0, help="Conversations to write per category.")
    ] = 2,
    quiet: o.Quiet = False,
) -> None:
    """Try everything on a small embedded model and a bundled sample: no key, about a minute.

    Example: safetyqc demo
    """
    from safetyqc.llm.llama import prepare_embedded
    from safetyqc.pipeline.demo import SAMPLE, demo_config, measure_embedded
    from safetyqc.store import Store

    if per_category:
        prepare_embedded()
    config = demo_config(folder, per_category)
    do_all(config, [str(SAMPLE)], write=per_category > 0, decide=True, quiet=quiet)
    with Store.read(folder) as store:
        _show_measured(measure_embedded(store))
    note("Nothing that the embedded model wrote is exported: no judge here was shown to tell whether it is any good.")
    note(f"A guard or an LLM judge would decide about it: safetyqc judge{in_run(config)} -m MODEL")
    next_step(
        f"safetyqc report{in_run(config)} --html report.html",
        f"safetyqc compare{in_run(config)}",
        "safetyqc judge guards",
    )


def _show_measured(rows: Sequence[Measured]) -> None:
    """Draw how the embedded judge does on the sample."""
    from safetyqc.reports.drawing import block, table

    drawn = table("the embedded judge", "right", "wrong", "says nothing", numbers=(1, 2, 3))
    for row in rows:
        drawn.add_row(row.criterion, str(row.right), str(row.wrong), str(row.silent))
    show(block("Measured against the sample's reader", drawn))
