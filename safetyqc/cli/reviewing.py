"""The command `review`: a page on this machine on which people label."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note
from safetyqc.config import load_config
from safetyqc.errors import UserError
from safetyqc.formats.labels import TRUTH

if TYPE_CHECKING:
    from safetyqc.review.desk import Desk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("review")(review)


def _queue_names() -> list[str]:
    from safetyqc.review.queues import CHOSEN, QUEUES

    return [name for name in QUEUES if name != CHOSEN]


def review(
    annotator: Annotated[str, typer.Option("--annotator", metavar="NAME", help="Who labels.")] = TRUTH,
    queue: Annotated[
        str | None,
        o.TableOption(
            "--queue",
            names=_queue_names,
            help="What is shown: {names} (default: the run's last plan; without one, all).",
            metavar="NAME",
        ),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This conversation; repeat it.", show_default=False)
    ] = None,
    criteria: Annotated[
        list[str] | None,
        typer.Option(
            "--criterion", metavar="NAME", help="Ask about this one alone; repeat it for several.", show_default=False
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")
    ] = 0,
    idle: Annotated[
        float, typer.Option("--idle", metavar="MINUTES", min=0.01, help="Stop when nobody used the page for so long.")
    ] = 120.0,
    rubric: o.Rubric = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Open a page to label conversations on, by keyboard; every key is stored at once.

    Example: safetyqc review --annotator ann
    """
    config = load_config(config_file, {"run": run, "judge.rubric": rubric})
    name = _checked(annotator)
    from safetyqc.review.agreement import disputes
    from safetyqc.review.opening import Wanted, open_desk
    from safetyqc.store import Store

    wanted = Wanted(name, queue, tuple(ids or ()), tuple(criteria or ()))
    with Store.beside(config.run) as store:
        desk, notes = open_desk(store, config.judge.rubric, wanted)
        for line in notes:
            note(line)
        is_idle = _serve(desk, port, idle * 60, browser=not no_browser)
        _tell_end(desk, idle if is_idle else None)
        differ = any(disputes(store.label_history())) and queue != "adjudicate"
    decide = [f"safetyqc review{in_run(config)} --queue adjudicate"] if differ else []
    next_step(*decide, f"safetyqc report{in_run(config)} --section corrected", f"safetyqc label list{in_run(config)}")


def _checked(annotator: str) -> str:
    name = annotator.strip()
    if not name or not name.isprintable():
        raise UserError(f"{annotator!r} is no name", where="--annotator", fix="name who labels: --annotator ann")
    return name


def _serve(desk: Desk, port: int, idle_s: float, *, browser: bool) -> bool:
    from safetyqc.review.server import ReviewServer, serve

    def ready(address: str) -> None:
        typer.echo(address)  # alone on its line, so that it can be copied and piped
        note("for this machine alone; stop with Ctrl-C: every key is stored already")
        if browser and not webbrowser.open(address):
            note("no browser could be opened: paste the address into one")

    return asyncio.run(serve(ReviewServer(desk, port=port, idle_s=idle_s), ready))


def _tell_end(desk: Desk, idle_minutes: float | None) -> None:
    desk.refresh()
    done, of = len(desk.finished), len(desk.items)
    why = "stopped" if idle_minutes is None else f"stopped: nobody used the page for {idle_minutes:g} minutes"
    left = "" if done == of else "; the same command goes on"
    note(f"{why}; {done:,} of {of:,} in queue {desk.queue!r} labelled by {desk.annotator}{left}")
