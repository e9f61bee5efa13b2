"""Commands that judge: judge, judge attack."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.groups import DefaultCommand, DefaultGroup
from safetyqc.cli.output import (
    in_run,
    next_step,
    note,
    refuse_overwriting,
    result,
    show,
    show_json,
    typed_flags,
    write_jsonl,
)
from safetyqc.cli.reading import Reading
from safetyqc.cli.reading import reading as reading_options
from safetyqc.cli.session import called, in_session, next_after_batch
from safetyqc.config import load_config
from safetyqc.judge.table import judge_forms
from safetyqc.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from safetyqc.config import Config
    from safetyqc.judge.attack import AttackRow
    from safetyqc.pipeline.session import Session
    from safetyqc.reports.views import Run
    from safetyqc.results.card import JudgeCard

Judged = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="Brought into the run first; - for stdin. Without it: the run.", show_default=False
    ),
]
JudgeModels = Annotated[
    list[str] | None,
    o.TableOption("--model", "-m", "--judge", names=judge_forms, metavar="JUDGE", help=o.WHO_JUDGES),
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


WHOSE_CARD = "Whose card: {names}, or a model (default: the run's first judge)."
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
    judges.command("attack")(attack)
    judges.command("card")(card)
    judges.command("guards")(guards)
    app.add_typer(judges, name="judge")


@o.asking
@reading_options
def judge(
    asked: o.Asking,
    reading: Reading,
    file: Judged = None,
    models: JudgeModels = None,
    decide: Decide = False,
    rubric: o.Rubric = None,
    jsonl: Verdicts = None,
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
    from safetyqc.pipeline.shards import is_sharded, refuse_nested

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
    refuse_overwriting({"--jsonl": jsonl}, file, asked.config_file, config=config)
    in_folder = jsonl is not None and is_sharded(file, jsonl)
    if file is not None and jsonl is not None and in_folder:
        refuse_nested(file, jsonl)
    with called(config):
        verdicts = api.judge(
            file,
            run=config.run,
            decide=decide,
            skip_bad=skip_bad_lines,
            batch=batch_dir or batch,
            quiet=asked.quiet,
            config=config,
        )
    if verdicts.waiting:
        next_after_batch(config)
        return
    if jsonl:
        _write_verdicts(jsonl, verdicts, in_folder=in_folder)
    if file is None and not (verdicts.call.done or verdicts.call.missing):
        note(_nothing_to_do(verdicts, config))
    elif str(jsonl) != "-" and not in_folder:  # a report holds all of the run
        show(verdicts.render())
        _show_canaries(verdicts, config)
    next_step(f"safetyqc report{in_run(config)}", *([f"safetyqc compare{in_run(config)}"] * (verdicts.judges > 1)))


def _write_verdicts(out: Path, verdicts: Run, *, in_folder: bool) -> None:
    from safetyqc.pipeline.shards import write_shards

    read = verdicts.call.read
    if in_folder and read is not None:
        made = write_shards(out, read, verdicts.lines())
        files = counted(len(made["shards"]), "file")
        note(f"wrote {counted(made['conversations'], 'verdict')} in {files} and their manifest to {out}")
        return
    write_jsonl(out, (json.dumps(line, ensure_ascii=False) for line in verdicts.lines()), "verdict")


def _nothing_to_do(verdicts: Run, config: Config) -> str:
    left = len(verdicts.unscored)
    if not left:
        return "nothing to do: every conversation has its verdicts"
    them = f"{counted(left, 'conversation')} unscored"
    again = f"`safetyqc judge --retry-unscored{in_run(config)}` asks about these anew"
    return f"nothing to do: all are judged, {them}: {again}"


def attack(
    models: JudgeModels = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", metavar="NAME", help="Only this one; repeatable.", show_default=False),
    ] = None,
    rubric: o.Rubric = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    api_base: o.ApiBase = None,
    lane: o.Lane = None,
    as_json: o.AsJson = False,
) -> None:
    """Try to talk a judge round: forged verdicts, closed fences, orders, authority, padding, unicode, role names.

    Example: safetyqc judge attack -m local -m openai/gpt-4o-mini
    """
    from safetyqc.pipeline.order import attack_judges

    flags = {"run": run, "judge.models": tuple(models) if models else None, "judge.rubric": rubric}
    config = load_config(config_file, flags | o.model_flags(api_base=api_base, lane=lane))
    rows: list[AttackRow] = []

    async def work(session: Session) -> None:
        rows.extend(await attack_judges(session, attacks))

    in_session(config, work, create=True)
    if as_json:
        show_json([asdict(row) for row in rows])
    else:
        show(_attack_table(rows))
    same = {"-m": models, "--rubric": rubric, "--api-base": api_base, "--lane": lane, "--config": config_file}
    here = in_run(config)
    next_step(f"safetyqc judge{typed_flags(same)}{here} --canaries", f"safetyqc compare{here} --labels FILE")


@o.asking
def card(
    asked: o.Asking,
    model: Annotated[
        str | None,
        o.TableOption("--model", "-m", "--judge", names=judge_forms, metavar="JUDGE", help=WHOSE_CARD),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels of the run's conversations, or of its own; repeatable.",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        str | None, typer.Option("--truth", metavar="ANNOTATOR", help="Whose labels are the truth.", show_default=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Also write it as Markdown.", show_default=False)
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", metavar="N", min=0, help="Ask about N again, in other words and orders; 0: do not."),
    ] = 40,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the estimate: calls, tokens, cost.")] = False,
    rubric: o.Rubric = None,
    as_json: o.AsJson = False,
) -> None:
    """Say how far a judge can be believed, and where: agreement with labels, wording spread, flips, length, cost.

    Example: safetyqc judge card -m local --labels labels.jsonl
    """
    from safetyqc.formats.labels import read_labels
    from safetyqc.pipeline.carding import Asked, card_of
    from safetyqc.pipeline.choices import check_settings

    flags: dict[str, Any] = {"judge.models": (model,) if model else None, "judge.rubric": rubric}
    config = asked.config(flags)
    refuse_overwriting({"--md": markdown}, asked.config_file, *(labels or []), config=config)
    check_settings(config, judges=True)
    for path in labels or ():
        read_labels(path)  # a mistake in it is said before a run is made
    how = Asked(sample, dry_run)

    async def work(session: Session) -> JudgeCard | None:
        return await card_of(session, labels or [], how, note, truth=truth)

    made = in_session(config, work, create=True, quiet=asked.quiet)
    if made is None:
        next_step("the same command without --dry-run")
        return
    from safetyqc.formats.writing import write_text
    from safetyqc.reports.judge_card import card_markdown, render_card

    if markdown:
        write_text(markdown, card_markdown(made))
        note(f"wrote {markdown}")
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        show(render_card(made))
    next_step(f"safetyqc compare{in_run(config)}{typed_flags({'--labels': labels})}")


def guards(as_json: o.AsJson = False) -> None:
    """List the guard models that can judge, whom each asks, and what of the bundled rubric each of them judges.

    Example: safetyqc judge data.jsonl -m guard:qwen3guard@vllm/Qwen/Qwen3Guard-Gen-4B --api-base http://localhost:8000/v1
    """
    from safetyqc.judge.guards.file import guard_names, load_guard

    known = [load_guard(name) for name in guard_names()]
    if as_json:
        fields = {"id", "title", "models", "usual", "licence", "sources", "checked", "notes", "endpoint"}
        rows = [guard.model_dump(mode="json", include=fields) for guard in known]
        show_json([row | {"judges": sorted(g.says) or "any criterion"} for row, g in zip(rows, known, strict=True)])
        return
    from safetyqc.reports.drawing import table

    drawn = table("guard", "judges; without @MODEL it asks", wide=1)
    for guard in known:
        judged = ", ".join(guard.says) or "any criterion, as its policy"
        drawn.add_row(f"guard:{guard.id}", f"{judged}\n{guard.usual}")
    show(drawn)
    next_step("safetyqc judge FILE -m guard:NAME@MODEL --api-base URL  # its self-check runs first")


def _attack_table(rows: list[AttackRow]) -> Table:
    from safetyqc.reports.drawing import table

    drawn = table("judge", "attack", "tried", "flipped", "silenced", numbers=(2, 3, 4))
    for row in rows:
        drawn.add_row(row.judge, row.attack, str(row.tried), str(row.flipped), str(row.silenced))
    return drawn


def _show_canaries(verdicts: Run, config: Config) -> None:
    from safetyqc.judge.canaries import check_canaries

    for found in check_canaries(verdicts.judgments()) if config.judge.canaries else ():
        caught = f"caught {found.caught} of {found.must_fail} planted flaws ({found.unscored_flaws} of them unscored)"
        alarms = f"{found.false_alarms} false alarms on {found.must_pass} sound answers"
        result(f"canaries, {found.judge}: {caught}, {alarms}, {found.unscored} unscored")
