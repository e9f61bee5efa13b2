"""Commands that ask a model to write: generate, rewrite, augment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note, say
from safetyqc.cli.session import in_session, next_after_batch, refuse_fresh_batch, staged
from safetyqc.config import load_config, parse_counts
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(generate)
    app.command()(rewrite)
    app.command()(augment)


def generate(
    count: Annotated[
        int | None,
        typer.Option(
            "-n", "--count", metavar="N", min=1, help="How many conversations (default: 600).", show_default=False
        ),
    ] = None,
    model: o.Model = None,
    assistant: Annotated[
        str | None,
        typer.Option(
            "--assistant",
            metavar="MODEL",
            help="Who answers in dialogue mode (default: the author).",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="oneshot|dialogue",
            help="Whole conversation at once, or turn by turn.",
            show_default=False,
        ),
    ] = None,
    language: o.Languages = None,
    turns: o.Turns = None,
    taxonomy: o.Taxonomy = None,
    top_up: Annotated[
        list[str] | None,
        typer.Option(
            "--top-up",
            metavar="CATEGORY=N",
            help="Plan N more of a category; repeatable. The same again goes on until they are written.",
            show_default=False,
        ),
    ] = None,
    seed: o.Seed = None,
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
    """Write safety conversations into a run, by a seeded, exactly balanced plan.

    Example: safetyqc generate -n 600 -m openrouter/meta-llama/llama-3.3-70b-instruct
    """
    from safetyqc.pipeline.choices import author_mode, check_settings
    from safetyqc.pipeline.order import generate as generate_stage

    flags: dict[str, Any] = {
        "run": run,
        "generate.count": count,
        "generate.model": model,
        "generate.assistant": assistant,
        "generate.mode": mode,
        "generate.languages": o.split(language),
        "generate.turns": turns,
        "generate.taxonomy": taxonomy,
        "generate.seed": seed,
    }
    models = o.model_flags(
        api_base=api_base,
        concurrency=concurrency,
        max_cost=max_cost,
        stand_in=stand_in,
        lane=lane,
        engine=engine,
        workers=workers,
        fresh=fresh,
    )
    config = load_config(config_file, flags | models)
    wanted = parse_counts(top_up or [], "--top-up")
    refuse_fresh_batch(batch=batch, fresh=fresh)
    if batch and author_mode(config) != "oneshot":
        raise UserError("a dialogue cannot go in batches: each turn waits for the one before", fix="--mode oneshot")
    check_settings(config, writes=True, wanted=wanted)

    async def work(session: Session) -> None:
        tally = await staged(session, "generate", lambda: generate_stage(session, wanted), batch=batch)
        say(tally)
        waiting.append(tally.waiting)
        if tally.missing:
            note("  run the same command again to try the missing ones with other openers")

    waiting: list[int] = []
    in_session(config, work, create=True, quiet=quiet)
    if any(waiting):
        next_after_batch(config)
        return
    next_step(f"safetyqc judge{in_run(config)}", f"safetyqc report{in_run(config)}")


def rewrite(
    model: o.Model = None,
    judge: o.Judges = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", metavar="N", min=1, help="Attempts per conversation (default: 1).", show_default=False
        ),
    ] = None,
    rubric: o.Rubric = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    api_base: o.ApiBase = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    stand_in: o.StandIn = None,
    lane: o.Lane = None,
    engine: o.Engine = None,
    workers: o.Workers = None,
    batch: o.Batch = False,
    quiet: o.Quiet = False,
) -> None:
    """Mend conversations that failed; a rewrite is kept only if nothing that passed now fails.

    Example: safetyqc rewrite -m openai/gpt-4o --judge openrouter/anthropic/claude-sonnet-4 --rounds 2
    """
    from safetyqc.pipeline.order import mend

    flags: dict[str, Any] = {
        "run": run,
        "rewrite.model": model,
        "rewrite.rounds": rounds,
        "judge.models": tuple(judge) if judge else None,
        "judge.rubric": rubric,
    }
    config = load_config(
        config_file,
        flags
        | o.model_flags(
            api_base=api_base,
            concurrency=concurrency,
            max_cost=max_cost,
            stand_in=stand_in,
            lane=lane,
            engine=engine,
            workers=workers,
        ),
    )

    async def work(session: Session) -> None:
        tally = await staged(session, "rewrite", lambda: mend(session), batch=batch)
        say(tally)
        waiting.append(tally.waiting)

    waiting: list[int] = []
    in_session(config, work, quiet=quiet)
    if any(waiting):
        next_after_batch(config)
        return
    next_step(f"safetyqc report{in_run(config)} --section rewrites", f"safetyqc export{in_run(config)}")


def augment(
    wanted: Annotated[
        list[str],
        typer.Option(
            "--more",
            metavar="CATEGORY=N",
            help="Keep N more variants of a category; repeatable. The same again goes on until they are kept.",
        ),
    ],
    model: o.Model = None,
    judge: o.Judges = None,
    rubric: o.Rubric = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    api_base: o.ApiBase = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    stand_in: o.StandIn = None,
    lane: o.Lane = None,
    engine: o.Engine = None,
    workers: o.Workers = None,
    quiet: o.Quiet = False,
) -> None:
    """Write variants of what passed: other tones, scenarios and wordings; filtered, judged, no duplicates.

    Example: safetyqc augment --more self_harm_support=20 --more privacy_and_personal_data=20 -m openai/gpt-4o
    """
    from safetyqc.pipeline.order import augment as augment_stage

    flags: dict[str, Any] = {
        "run": run,
        "rewrite.model": model,
        "judge.models": tuple(judge) if judge else None,
        "judge.rubric": rubric,
    }
    config = load_config(
        config_file,
        flags
        | o.model_flags(
            api_base=api_base,
            concurrency=concurrency,
            max_cost=max_cost,
            stand_in=stand_in,
            lane=lane,
            engine=engine,
            workers=workers,
        ),
    )
    counts = parse_counts(wanted, "--more")

    async def work(session: Session) -> None:
        say(await augment_stage(session, counts))

    in_session(config, work, quiet=quiet)
    next_step(f"safetyqc report{in_run(config)}", f"safetyqc export{in_run(config)}")
