"""Commands about batches that were submitted with --batch: batch status, collect, cancel."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, note, result, show_json
from safetyqc.cli.session import in_session
from safetyqc.config import load_config

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.llm.batch.outcomes import Collected
    from safetyqc.pipeline.session import Session


def register(app: typer.Typer) -> None:
    """Add these commands."""
    batches = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="See, collect or cancel what was submitted with --batch."
    )
    batches.command("status")(status)
    batches.command("collect")(collect)
    batches.command("cancel")(cancel)
    app.add_typer(batches, name="batch")


def status(run: o.Run = None, config_file: o.ConfigFile = None, as_json: o.AsJson = False) -> None:
    """Say how every batch of the run is going; asks the provider, changes nothing.

    Example: safetyqc batch status --run safetyqc-run
    """
    config = load_config(config_file, {"run": run})
    found = asyncio.run(_look(config))
    _show(found, as_json=as_json)
    _next(config, [one for one in found if one.batch.is_open])


async def _look(config: Config) -> list[Collected]:
    """Look without the run's lock: another command may be writing it."""
    from safetyqc.llm.batch.desk import BatchDesk
    from safetyqc.pipeline.session import open_client
    from safetyqc.store import Store

    with Store.read(config.run) as store:
        desk = BatchDesk(store, open_client(config, store))
        try:
            return await desk.look()
        finally:
            await desk.close()


def collect(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Results of requests written by --batch-dir, beside those in its folder.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Ask again until every batch has ended.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Seconds between.")] = 60.0,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Fetch what the run's batches have answered into its ledger; then the command that submitted them uses it.

    Example: safetyqc batch collect --wait
    """
    config = load_config(config_file, {"run": run})
    found: list[Collected] = []
    named = files or []

    async def work(session: Session) -> None:
        from safetyqc.pipeline.batching import collect_all, wait_for_all

        found.extend(await (wait_for_all(session, every, note, named) if wait else collect_all(session, named)))

    in_session(config, work, quiet=True)
    _show(found, as_json=as_json)
    _next(config, found)


def cancel(
    batch: Annotated[str, typer.Argument(metavar="ID", help="As `batch status` names it.")],
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Cancel a batch: what was answered is collected and paid, the rest may be asked again.

    Example: safetyqc batch cancel batch_abc123
    """
    config = load_config(config_file, {"run": run})
    found: list[Collected] = []

    async def work(session: Session) -> None:
        found.append(await session.batching[1].cancel(batch))

    in_session(config, work, quiet=True)
    _show(found, as_json=False)
    _next(config, found)


def _show(found: list[Collected], *, as_json: bool) -> None:
    from safetyqc.pipeline.batching import tell_collected

    if as_json:
        show_json([_told(one) for one in found])
        return
    for one in found:
        result(tell_collected(one))
    if not found:
        result("no batch in this run waits for anything")


def _told(one: Collected) -> dict[str, Any]:
    provider = asdict(one.state) if one.state else None
    counts = {"answered": one.answered, "unusable": one.unusable, "failed": dict(one.failed), "waiting": one.waiting}
    return {"batch": asdict(one.batch), "provider": provider, **counts, "cost_usd": one.cost_usd}


def _next(config: Config, found: list[Collected]) -> None:
    if any(one.batch.is_open for one in found):
        next_step(f"safetyqc batch collect{in_run(config)} --wait")
    else:
        next_step(*dict.fromkeys(one.batch.command for one in found), f"safetyqc report{in_run(config)}")
