"""Commands that ask a model to write: generate, rewrite, augment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.options import parse_counts, parse_shares
from safetyqc.cli.output import in_run, next_step, note, say
from safetyqc.cli.session import called, hints_of, in_session, next_after_batch

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session

Count = Annotated[
    int | None,
    typer.Option(
        "-n", "--count", metavar="N", min=1, help="How many conversations (default: 600).", show_default=False
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode", metavar="oneshot|dialogue", help="Whole conversation at once, or turn by turn.", show_default=False
    ),
]
Assistant = Annotated[
    str | None,
    typer.Option(
        "--assistant", metavar="MODEL", help="Who answers in dialogue mode (default: the author).", show_default=False
    ),
]
TopUp = Annotated[
    list[str] | None,
    typer.Option(
        "--top-up",
        metavar="CATEGORY=N",
        help="Plan N more of a category; repeatable. The same again goes on until they are written.",
        show_default=False,
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(
        "--shares",
        metavar="NAME=N,...",
        help="Shares of harmful, benign and ordinary requests (default: harmful=0.6,benign=0.4).",
        show_default=False,
    ),
]
Twins = Annotated[
    bool | None,
    typer.Option(
        "--twins/--no-twins",
        help="Deal harmful requests with benign look-alikes of the same words (default: yes).",
        show_default=False,
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Answer the prompts of a file (XSTest, HarmBench, your own) instead of writing by plan; repeatable.",
        show_default=False,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option("--rounds", metavar="N", min=1, help="Attempts per conversation (default: 1).", show_default=False),
]
More = Annotated[
    list[str],
    typer.Option(
        "--more",
        metavar="CATEGORY=N",
        help="Keep N more variants of a category; repeatable. The same again goes on until they are kept.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(generate)
    app.command()(rewrite)
    app.command()(augment)


@o.asking
def generate(
    asked: o.Asking,
    count: Count = None,
    model: o.Model = None,
    assistant: Assistant = None,
    mode: Mode = None,
    language: o.Languages = None,
    turns: o.Turns = None,
    taxonomy: o.Taxonomy = None,
    shares: Shares = None,
    twins: Twins = None,
    top_up: TopUp = None,
    prompts: Prompts = None,
    seed: o.Seed = None,
    fresh: o.Fresh = None,
    batch: o.Batch = False,
    batch_dir: o.BatchDir = None,
) -> None:
    """Write safety conversations into a run, by a seeded, exactly balanced plan.

    Example: safetyqc generate -n 600 -m openrouter/meta-llama/llama-3.3-70b-instruct
    """
    from safetyqc import api

    flags: dict[str, Any] = {
        "generate.count": count,
        "generate.model": model,
        "generate.assistant": assistant,
        "generate.mode": mode,
        "generate.languages": o.split(language),
        "generate.turns": turns,
        "generate.taxonomy": taxonomy,
        "generate.shares": read_shares(shares),
        "generate.twins": twins,
        "generate.seed": seed,
        "models.fresh": fresh,
    }
    config = asked.config(flags)
    wanted = parse_counts(top_up or [], "--top-up")
    with called(config):
        written = api.generate(
            run=config.run,
            top_up=wanted,
            prompts=prompts,
            batch=batch_dir or batch,
            quiet=asked.quiet,
            config=config,
        )
    if written.call.missing and not prompts:
        note("  run the same command again to try the missing ones with other openers")
    if written.waiting:
        next_after_batch(config)
        return
    next_step(hints_of(config).judge(), f"safetyqc report{in_run(config)}")


def read_shares(told: str | None) -> dict[str, float] | None:
    """Read `harmful=0.6,benign=0.4`; None stays None.

    Raises:
        UserError: not of that form, or no such share.
    """
    from safetyqc.generate.dealing import SIDES

    return None if told is None else parse_shares(list(o.split(told) or ()), "--shares", list(SIDES))


@o.asking
def rewrite(
    asked: o.Asking,
    model: o.Model = None,
    judge: o.Judges = None,
    rounds: Rounds = None,
    rubric: o.Rubric = None,
    batch: o.Batch = False,
    batch_dir: o.BatchDir = None,
) -> None:
    """Mend conversations that failed; a rewrite is kept only if nothing that passed now fails.

    Example: safetyqc rewrite -m openai/gpt-4o --judge openrouter/anthropic/claude-sonnet-4 --rounds 2
    """
    from safetyqc import api

    flags: dict[str, Any] = {
        "rewrite.model": model,
        "rewrite.rounds": rounds,
        "judge.models": tuple(judge) if judge else None,
        "judge.rubric": rubric,
    }
    config = asked.config(flags)
    with called(config):
        rewritten = api.rewrite(run=config.run, batch=batch_dir or batch, quiet=asked.quiet, config=config)
    if rewritten.waiting:
        next_after_batch(config)
        return
    next_step(f"safetyqc report{in_run(config)} --section rewrites", hints_of(config).export())


@o.asking
def augment(
    asked: o.Asking, wanted: More, model: o.Model = None, judge: o.Judges = None, rubric: o.Rubric = None
) -> None:
    """Write variants of what passed: other tones, scenarios and wordings; filtered, judged, no duplicates.

    Example: safetyqc augment --more self_harm_support=20 --more privacy_and_personal_data=20 -m openai/gpt-4o
    """
    from safetyqc.pipeline.choices import author_model, rewriter_model
    from safetyqc.pipeline.order import augment as augment_stage
    from safetyqc.pipeline.roles import recall, toy_notes

    flags: dict[str, Any] = {
        "rewrite.model": model,
        "judge.models": tuple(judge) if judge else None,
        "judge.rubric": rubric,
    }
    config = asked.config(flags)
    counts = parse_counts(wanted, "--more")
    config = recall(config, "rewriter", rewrites=True)
    for line in toy_notes(rewriter_model(config) or author_model(config)):
        note(line)

    async def work(session: Session) -> None:
        say(await augment_stage(session, counts))

    in_session(config, work, quiet=asked.quiet)
    next_step(f"safetyqc report{in_run(config)}", hints_of(config).export())
