"""Commands that are about judges: judge attack, judge card, judge guards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note, refuse_overwriting, show, show_json, typed_flags
from safetyqc.cli.session import in_session
from safetyqc.config import load_config
from safetyqc.judge.table import judge_forms

if TYPE_CHECKING:
    from rich.table import Table

    from safetyqc.judge.attack import AttackRow
    from safetyqc.pipeline.session import Session
    from safetyqc.results.card import JudgeCard

WHOSE_CARD = "Whose card: {names}, or a model (default: the run's first judge)."


def attack(
    models: o.JudgeModels = None,
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


def _attack_table(rows: list[AttackRow]) -> Table:
    from safetyqc.reports.drawing import table

    drawn = table("judge", "attack", "tried", "flipped", "silenced", numbers=(2, 3, 4))
    for row in rows:
        drawn.add_row(row.judge, row.attack, str(row.tried), str(row.flipped), str(row.silenced))
    return drawn


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
    truth: o.Truth = None,
    markdown: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Also write it as Markdown.", show_default=False)
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", metavar="N", min=0, help="Ask about N again, in other words and orders; 0: do not."),
    ] = 40,
    dry_run: o.DryRun = False,
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
        fields = {"id", "title", "models", "usual", "licence", "sources", "checked", "unverified", "notes", "endpoint"}
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
