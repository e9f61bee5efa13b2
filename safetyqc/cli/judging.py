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
    indices,
    next_step,
    note,
    read,
    refuse_overwriting,
    say,
    show,
    show_json,
    typed_flags,
    write_jsonl,
)
from safetyqc.cli.session import in_session, next_after_batch, refuse_fresh_batch, staged
from safetyqc.config import load_config
from safetyqc.judge.table import judge_forms

if TYPE_CHECKING:
    from rich.table import Table

    from safetyqc.judge.attack import AttackRow
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Conversation, Judgment

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


def register(app: typer.Typer) -> None:
    """Add these commands."""
    judges = typer.Typer(cls=DefaultGroup, rich_markup_mode=None, help="Score conversations by a rubric.")
    judges.command("run", cls=DefaultCommand)(judge)
    judges.command("attack")(attack)
    judges.command("guards")(guards)
    app.add_typer(judges, name="judge")


def judge(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="Brought into the run first; - for stdin. Without it: the run.", show_default=False
        ),
    ] = None,
    models: JudgeModels = None,
    rubric: o.Rubric = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="OUT",
            help="Write a verdict per conversation, in input order; - for stdout.",
            show_default=False,
        ),
    ] = None,
    votes: Votes = None,
    per_criterion: PerCriterion = None,
    fallback: Fallback = None,
    canaries: Annotated[
        bool | None,
        typer.Option("--canaries", help="Slip in known good and bad ones; never exported.", show_default=False),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels", metavar="FILE", help="Labels that a cascade chooses its thresholds on.", show_default=False
        ),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement",
            metavar="SHARE",
            min=0,
            max=1,
            help="What a cascade promises (default: 0.9).",
            show_default=False,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="SHARE",
            min=0,
            max=1,
            help="How surely it promises (default: 0.95).",
            show_default=False,
        ),
    ] = None,
    skip_bad_lines: o.SkipBadLines = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    api_base: o.ApiBase = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    stand_in: o.StandIn = None,
    lane: o.Lane = None,
    engine: o.Engine = None,
    workers: o.Workers = None,
    fresh: o.Fresh = None,
    batch: o.Batch = False,
    quiet: o.Quiet = False,
) -> None:
    """Score conversations against a rubric with one or more judges.

    Example: safetyqc judge data.jsonl -m local -m openai/gpt-4o-mini --jsonl verdicts.jsonl

    See also: safetyqc judge attack
    """
    from safetyqc.pipeline.choices import check_settings
    from safetyqc.pipeline.order import family_warnings, import_conversations, judge_all

    refuse_fresh_batch(batch=batch, fresh=fresh)
    flags: dict[str, Any] = {
        "run": run,
        "judge.models": tuple(models) if models else None,
        "judge.rubric": rubric,
        "judge.votes": votes,
        "judge.per_criterion": per_criterion,
        "judge.fallback": fallback,
        "judge.canaries": canaries,
        "judge.labels": tuple(labels) if labels else None,
        "judge.min_agreement": min_agreement,
        "judge.confidence": confidence,
    }
    settings = o.model_flags(
        api_base=api_base,
        concurrency=concurrency,
        max_cost=max_cost,
        stand_in=stand_in,
        lane=lane,
        engine=engine,
        workers=workers,
        fresh=fresh,
    )
    config = load_config(config_file, flags | settings)
    refuse_overwriting({"--jsonl": jsonl}, file, config_file, config=config)
    check_settings(config, judges=True)
    result = read(file, skip_bad_lines=skip_bad_lines) if file is not None else None
    for warning in family_warnings(config):
        note(f"warning: {warning}")

    async def work(session: Session) -> None:
        conversations = None
        if result is not None and file is not None:
            tally, conversations = import_conversations(session, file, result)
            say(tally)
        only = [c.id for c in conversations] if conversations is not None else None
        tallies = await staged(session, "judge", lambda: judge_all(session, only), batch=batch)
        for tally in tallies:
            say(tally)
            waiting.append(tally.waiting)
        if any(waiting):
            return
        if jsonl:
            stored = (c for c in session.store.conversations() if c.origin != "canary")
            wanted = list(stored) if conversations is None else conversations
            _write_verdicts(session, jsonl, wanted, indices(wanted, of_file=file is not None))
        if file is None and not any(tally.done or tally.failed for tally in tallies):
            note("nothing to do: every conversation has its verdicts")
        elif str(jsonl) != "-":
            _show_rates(session, only)

    waiting: list[int] = []
    in_session(config, work, create=result is not None, quiet=quiet)
    if any(waiting):
        next_after_batch(config)
        return
    next_step(f"safetyqc report{in_run(config)}", f"safetyqc compare{in_run(config)}  (with two judges or labels)")


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
    next_step("safetyqc judge FILE -m guard:NAME@MODEL --api-base URL  (its self-check runs first)")


def _attack_table(rows: list[AttackRow]) -> Table:
    from safetyqc.reports.drawing import table

    drawn = table("judge", "attack", "tried", "flipped", "silenced", numbers=(2, 3, 4))
    for row in rows:
        drawn.add_row(row.judge, row.attack, str(row.tried), str(row.flipped), str(row.silenced))
    return drawn


def _write_verdicts(session: Session, path: Path, conversations: list[Conversation], places: list[int]) -> None:
    from safetyqc.store.standing import deciding_judgments

    verdicts = {j.conversation_id: j for j in deciding_judgments(session.store)}
    lines = (
        json.dumps(verdict_line(index, conversation, verdicts.get(conversation.id)), ensure_ascii=False)
        for index, conversation in zip(places, conversations, strict=True)
    )
    write_jsonl(path, lines, "verdict")


def verdict_line(index: int, conversation: Conversation, judgment: Judgment | None) -> dict[str, Any]:
    """One line of `judge --jsonl`: stable, documented in docs/machine-interface.md."""
    criteria = {
        score.criterion: {
            "outcome": score.outcome,
            "reason": score.reason or (score.unscored_reason or ""),
            "quote": score.quote,
            "probability": score.probability,
        }
        for score in (judgment.scores if judgment else ())
    }
    passed = judgment.passed if judgment else None
    return {"index": index, "id": conversation.id, "criteria": criteria, "passed": passed}


def _show_rates(session: Session, only: list[str] | None) -> None:
    from safetyqc.reports.summary import summarise
    from safetyqc.reports.terminal import render_report

    summary = summarise(session.store, only=only, bars=session.config.bars)
    show(render_report(summary, sections=["headline", "rates", "reasons"]))
    if session.config.judge.canaries:
        _show_canaries(session)


def _show_canaries(session: Session) -> None:
    from safetyqc.judge.canaries import check_canaries

    for found in check_canaries(session.store.judgments()):
        caught = f"caught {found.caught} of {found.must_fail} planted flaws"
        alarms = f"{found.false_alarms} false alarms on {found.must_pass} sound answers"
        typer.echo(f"canaries, {found.judge}: {caught}, {alarms}, {found.unscored} unscored")
