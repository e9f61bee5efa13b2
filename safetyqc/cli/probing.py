"""Commands that measure models: probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import escaped, in_run, next_step, note, refuse_overwriting, show, typed_flags
from safetyqc.cli.session import called, next_after_batch
from safetyqc.errors import UserError

BARS_MISSED = 4
"""Exit code of `probe --check` when a bar is missed, or the model is worse than what it is held against."""

Probes = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Who is probed: as litellm names it, local, local:PATH.gguf, nanochat:URL, or answers:FILE; repeat it for "
        "training runs of one recipe.",
    ),
]
Before = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="MODEL|PROBE",
        help="What it was before: a model, an earlier probe's name in the run, or its JSON file; repeatable.",
        show_default=False,
    ),
]
Control = Annotated[
    list[str] | None,
    typer.Option(
        "--control", metavar="MODEL", help="Trained the same way on other rows; repeatable.", show_default=False
    ),
]
ProbeJudges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="JUDGE",
        help="Who judges the answers: words (they decline or not), or any judge; the first decides "
        "(default: words, with local beside it).",
        show_default=False,
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts instead of the shipped set; harmful=FILE or benign=FILE where a file does not say it; "
        "repeatable.",
        show_default=False,
    ),
]
Sample = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", min=1, help="Ask N of the prompts, twins together.", show_default=False),
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", metavar="K", min=1, help="Answers to each prompt (default: 1).", show_default=False),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", min=0, help="Of the answers (default: 0, or 0.7 for several samples).", show_default=False
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", metavar="N", min=1, help="Of an answer (default: 300).", show_default=False),
]
Train = Annotated[
    list[Path] | None,
    typer.Option(
        "--train",
        metavar="FILE",
        help="What the model was trained on: prompts near it are left out (default: what the run holds); repeatable.",
        show_default=False,
    ),
]
AnswerLabels = Annotated[
    list[Path] | None,
    typer.Option("--labels", metavar="FILE", help="People's labels of answers, to correct rates.", show_default=False),
]
Check = Annotated[
    bool, typer.Option("--check", help=f"Exit {BARS_MISSED} when a bar of safetyqc.yaml is missed, or it got worse.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(probe)


@o.asking
def probe(
    asked: o.Asking,
    models: Probes,
    against: Before = None,
    control: Control = None,
    judges: ProbeJudges = None,
    rubric: o.Rubric = None,
    prompts: Prompts = None,
    sample: Sample = None,
    samples: Samples = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    train: Train = None,
    labels: AnswerLabels = None,
    html: o.Page = None,
    check: Check = False,
    dry_run: o.DryRun = False,
    fresh: o.Fresh = None,
    batch: o.Batch = False,
    as_json: o.AsJson = False,
) -> None:
    """Say what a model does, before and after training: refusals, safe completions, harm, over-refusal, nonsense.

    Example: safetyqc probe -m answers:after.jsonl --against answers:before.jsonl --html probe.html
    """
    flags: dict[str, Any] = {
        "judge.rubric": rubric,
        "probe.prompts": tuple(prompts) if prompts else None,
        "probe.sample": sample,
        "probe.samples": samples,
        "probe.temperature": temperature,
        "probe.max_tokens": max_tokens,
        "probe.train": tuple(train) if train else None,
        "probe.labels": tuple(labels) if labels else None,
        "models.fresh": fresh,
    }
    config = asked.config(flags)
    refuse_overwriting({"--html": html}, asked.config_file, *(train or []), *(labels or []), config=config)
    if check and not (config.probe.bars or against):
        fix = "set some in safetyqc.yaml, such as `probe: {bars: {twin_metric: 0.6}}`, or give --against"
        raise UserError("there are no bars to check", where="--check", fix=fix)
    from safetyqc import api

    with called(config):
        probed = api.probe(
            models,
            config.run,
            against=against,
            control=control,
            judge=judges,
            only_estimate=dry_run,
            batch=batch,
            quiet=asked.quiet,
            config=config,
        )
    if probed.found is None:
        next_step("the same command without --dry-run") if dry_run else next_after_batch(config)
        return
    if html:
        probed.write_html(html)
        note(f"wrote {html}")
    if as_json:
        typer.echo(escaped(probed.to_json()))
    else:
        show(probed.render())
    if check and (probed.result.bars_met is False or probed.result.word == "worse"):
        raise typer.Exit(BARS_MISSED)
    if not as_json:
        again = typed_flags({"-m": "MODEL", "--against": probed.result.name})
        next_step(f"safetyqc probe{again}{in_run(config)}  # what another model changes")
