"""Commands about rubric files: list, show, validate, test, copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import next_step, note, result
from safetyqc.cli.session import in_session
from safetyqc.config import load_config

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session

DIFFERS = 4
"""Exit code of `rubrics test` when an example is not judged as the rubric expects; as of a bar that is missed."""
Name = Annotated[str, typer.Argument(metavar="NAME|PATH", help="A bundled set or criterion, or a file or folder.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    rubrics = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show, check, test and copy rubrics.")
    rubrics.command("list")(list_all)
    for command in (show, validate, copy):
        rubrics.command()(command)
    rubrics.command("test")(try_out)
    app.add_typer(rubrics, name="rubrics")


def list_all(rubric: Name = "safety") -> None:
    """List the criteria of a set.

    Example: safetyqc rubrics list
    """
    from safetyqc.rubrics import load_rubric_set
    from safetyqc.rubrics.rubric_set import bundled_sets

    rubric_set = load_rubric_set(rubric)
    result(f"{rubric_set.id} ({rubric_set.hash[:12]})")
    for criterion in rubric_set.criteria:
        kind = "gate" if criterion.gate else f"weight {criterion.weight:g}"
        intents = ", ".join(criterion.applies_to.intents) or "all"
        result(f"  {criterion.id:<22} {kind:<9} {intents:<32} {criterion.question}")
    if others := [name for name in bundled_sets() if name != rubric_set.id]:
        note(f"other sets: {', '.join(others)}")
    next_step("safetyqc rubrics show strict_refusal", "safetyqc rubrics copy my-rubrics")


def show(rubric: Name) -> None:
    """Print a rubric file as it is.

    Example: safetyqc rubrics show strict_refusal
    """
    from safetyqc.rubrics.rubric_set import find_rubric

    result(find_rubric(rubric).read_text(encoding="utf-8").rstrip())
    next_step("safetyqc rubrics copy my-rubrics  # to edit it")


def validate(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A set, a criterion, or a folder of them.")],
) -> None:
    """Check rubric files; says file, line and key of every mistake.

    Example: safetyqc rubrics validate my-rubrics
    """
    from safetyqc.rubrics import validate_rubrics
    from safetyqc.text import counted

    problems = validate_rubrics(path)
    for problem in problems:
        result(str(problem))
    errors = sum(problem.severity == "error" for problem in problems)
    note(f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'remark')}")
    if errors:
        raise typer.Exit(2)
    next_step(f"safetyqc rubrics test {path} -m MODEL", f"safetyqc judge FILE --rubric {path}")


def try_out(
    rubric: Name = "safety",
    model: o.Model = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    api_base: o.ApiBase = None,
    lane: o.Lane = None,
) -> None:
    """Have a judge score the examples that stand in the rubric, and show where it differs.

    Example: safetyqc rubrics test strict_refusal -m openai/gpt-4o-mini
    """
    from safetyqc.pipeline.order import try_rubric

    flags = {"run": run, "judge.rubric": rubric, "judge.models": (model,) if model else None}
    config = load_config(config_file, flags | o.model_flags(api_base=api_base, lane=lane))

    async def work(session: Session) -> bool:
        trials = await try_rubric(session)
        for trial in trials:
            given = trial.score.outcome if trial.score else "not asked"
            mark = {True: "ok  ", False: "DIFF", None: "none"}[trial.is_right]
            result(f"{mark} {trial.criterion:<22} expected {trial.expected:<5} got {given:<9} {trial.example.why}")
        right = sum(trial.is_right is True for trial in trials)
        result(f"{right} of {len(trials)} as expected")
        return right == len(trials)

    if not in_session(config, work, create=True):
        note("who reads these examples otherwise reads data otherwise too: reword the rubric, or ask another judge")
        raise typer.Exit(DIFFERS)
    next_step("safetyqc judge FILE -m MODEL", "safetyqc compare --labels FILE")


def copy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to.")],
    name: Annotated[
        str, typer.Option("--set", metavar="NAME", help="Which set: safety or safety-completion.")
    ] = "safety",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Copy a bundled set and its criteria into a folder, to be edited.

    Example: safetyqc rubrics copy my-rubrics
    """
    from safetyqc.rubrics import copy_rubrics

    for path in copy_rubrics(folder, name, force=force):
        typer.echo(path)
    next_step(f"safetyqc rubrics validate {folder}", f"safetyqc judge FILE --rubric {folder}")
