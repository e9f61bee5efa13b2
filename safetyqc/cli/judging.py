"""The command that judges: judge; the group of those that are about judges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import measuring
from safetyqc.cli import options as o
from safetyqc.cli.groups import DefaultCommand, DefaultGroup
from safetyqc.cli.output import (
    in_run,
    next_step,
    note,
    refuse_overwriting,
    result,
    show,
    write_jsonl,
)
from safetyqc.cli.reading import Reading
from safetyqc.cli.reading import reading as reading_options
from safetyqc.cli.session import called, next_after_batch
from safetyqc.errors import OutputError
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.reports.views import Run
    from safetyqc.reports.views import Verdicts as Judgments

Judged = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="Brought into the run first; - for stdin. Without it: the run.", show_default=False
    ),
]
Votes = Annotated[
    int | None,
    typer.Option("--votes", metavar="N", min=1, help="Ask each judge this often; majority.", show_default=False),
]
PerCriterion = Annotated[
    bool | None,
    typer.Option("--per-criterion", help="One call per criterion instead of one per conversation.", show_default=False),
]
Fallback = Annotated[
    str | None,
    typer.Option(
        "--fallback-judge", metavar="MODEL", help="Asked when a judge gives nothing usable.", show_default=False
    ),
]

Verdicts = Annotated[
    Path | None,
    typer.Option(
        "--jsonl",
        metavar="OUT",
        help="Write a verdict per conversation, in input order; - for stdout. Of a folder: a file each, in a folder.",
        show_default=False,
    ),
]
Columns = Annotated[
    Path | None,
    typer.Option("--parquet", metavar="OUT", help="The same verdicts as Parquet.", show_default=False),
]
Canaries = Annotated[
    bool | None,
    typer.Option("--canaries", help="Slip in known good and bad ones; never exported.", show_default=False),
]
CascadeLabels = Annotated[
    list[Path] | None,
    typer.Option(
        "--labels", metavar="FILE", help="Labels that a cascade chooses its thresholds on.", show_default=False
    ),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement",
        metavar="SHARE",
        min=0,
        max=1,
        help="What a cascade promises (default: 0.9).",
        show_default=False,
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence",
        metavar="SHARE",
        min=0,
        max=1,
        help="How surely it promises (default: 0.95).",
        show_default=False,
    ),
]


Retry = Annotated[
    bool | None,
    typer.Option(
        "--retry-unscored", help="Ask anew about what was left unscored, and nothing else.", show_default=False
    ),
]
Decide = Annotated[
    bool, typer.Option("--decide", help="The first judge named here decides what the run keeps from now on.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    judges = typer.Typer(cls=DefaultGroup, rich_markup_mode=None, help="Score conversations by a rubric.")
    judges.command("run", cls=DefaultCommand)(judge)
    judges.command("attack")(measuring.attack)
    judges.command("card")(measuring.card)
    judges.command("guards")(measuring.guards)
    app.add_typer(judges, name="judge")


@o.asking
@reading_options
def judge(
    asked: o.Asking,
    reading: Reading,
    file: Judged = None,
    models: o.JudgeModels = None,
    decide: Decide = False,
    rubric: o.Rubric = None,
    jsonl: Verdicts = None,
    parquet: Columns = None,
    votes: Votes = None,
    per_criterion: PerCriterion = None,
    fallback: Fallback = None,
    canaries: Canaries = None,
    labels: CascadeLabels = None,
    min_agreement: MinAgreement = None,
    confidence: Confidence = None,
    skip_bad_lines: o.SkipBadLines = False,
    retry_unscored: Retry = None,
    fresh: o.Fresh = None,
    batch: o.Batch = False,
    batch_dir: o.BatchDir = None,
) -> None:
    """Score conversations against a rubric with one or more judges.

    Example: safetyqc judge data.jsonl -m local -m openai/gpt-4o-mini --jsonl verdicts.jsonl

    See also: safetyqc judge attack
    """
    from safetyqc import api

    flags: dict[str, Any] = {
        "judge.models": tuple(models) if models else None,
        "judge.rubric": rubric,
        "judge.votes": votes,
        "judge.per_criterion": per_criterion,
        "judge.fallback": fallback,
        "judge.canaries": canaries,
        "judge.labels": tuple(labels) if labels else None,
        "judge.min_agreement": min_agreement,
        "judge.confidence": confidence,
        "models.fresh": fresh,
        "judge.retry_unscored": retry_unscored,
        **reading,
    }
    config = asked.config(flags)
    outputs = {"--jsonl": jsonl, "--parquet": parquet}
    refuse_overwriting(outputs, file, asked.config_file, config=config)
    shards = _shards_of(file, outputs)
    with called(config):
        verdicts = api.judge(
            file,
            run=config.run,
            decide=decide,
            skip_bad=skip_bad_lines,
            shards=shards,
            shard_format="jsonl" if jsonl else "parquet",
            batch=batch_dir or batch,
            quiet=asked.quiet,
            config=config,
        )
    if verdicts.waiting:
        next_after_batch(config)
        return
    _write_verdicts(verdicts, jsonl, parquet, shards)
    if file is None and not (verdicts.call.done or verdicts.call.missing):
        note(_nothing_to_do(verdicts, config))
    elif str(jsonl) != "-" and shards is None:  # a report holds all of the run
        show(verdicts.render())
        _show_canaries(verdicts, config)
    next_step(f"safetyqc report{in_run(config)}", *([f"safetyqc compare{in_run(config)}"] * (verdicts.judges > 1)))


def _shards_of(file: str | None, outputs: Mapping[str, Path | None]) -> Path | None:
    """The folder that the verdicts of each file of a folder go into; None where they go into one file, or nowhere."""
    from safetyqc.pipeline.shards import is_sharded, refuse_nested

    given = {flag: out for flag, out in outputs.items() if out is not None}
    if str(given.get("--parquet")) == "-":
        raise OutputError("cannot be written to stdout", where="--parquet -", fix="give a file, or take --jsonl -")
    sharded = [out for out in given.values() if is_sharded(file, out)]
    if file is None or not sharded:
        return None
    if len(given) > 1:
        fix = "give one of the two; the same command with the other one then judges nothing anew"
        raise OutputError("a folder is judged into one folder", where=" and ".join(given), fix=fix)
    refuse_nested(file, sharded[0])
    return sharded[0]


def _write_verdicts(verdicts: Judgments, jsonl: Path | None, parquet: Path | None, shards: Path | None) -> None:
    from safetyqc.formats.opened import name_of
    from safetyqc.formats.verdict_table import write_table

    if shards and verdicts.manifest:
        files = counted(len(verdicts.manifest["shards"]), "file")
        many = counted(verdicts.manifest["conversations"], "verdict")
        note(f"{many} in {files} and their manifest stand in {name_of(shards)}")
        return
    if parquet:
        note(f"wrote {counted(write_table(parquet, verdicts.lines()), 'verdict')} to {name_of(parquet)}")
    if jsonl:
        write_jsonl(jsonl, (json.dumps(line, ensure_ascii=False) for line in verdicts.lines()), "verdict")


def _nothing_to_do(verdicts: Run, config: Config) -> str:
    unjudged = sum("overall" in one.reasons for one in verdicts.unscored)
    left = len(verdicts.unscored) - unjudged
    if not left:
        out = f"; not asked about: {unjudged:,} out by filters or as copies" if unjudged else ""
        return f"nothing to do: every conversation that is in has its verdicts{out}"
    them = f"{counted(left, 'conversation')} unscored"
    again = f"`safetyqc judge --retry-unscored{in_run(config)}` asks about these anew"
    return f"nothing to do: all are judged, {them}: {again}"


def _show_canaries(verdicts: Run, config: Config) -> None:
    from safetyqc.judge.canaries import check_canaries

    for found in check_canaries(verdicts.judgments()) if config.judge.canaries else ():
        caught = f"caught {found.caught} of {found.must_fail} planted flaws ({found.unscored_flaws} of them unscored)"
        alarms = f"{found.false_alarms} false alarms on {found.must_pass} sound answers"
        result(f"canaries, {found.judge}: {caught}, {alarms}, {found.unscored} unscored")
