"""Opens a run for a command, runs its async work, and turns Ctrl-C into a clean stop."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from safetyqc.cli.output import in_run, next_step, note
from safetyqc.errors import BudgetReached, Interrupted, UserError

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.pipeline.session import Session

T = TypeVar("T")


def in_session(
    config: Config, work: Callable[[Session], Awaitable[T]], *, create: bool = False, quiet: bool = False
) -> T:
    """Open the run, do the work, close everything; Ctrl-C once lets what is in flight finish, twice cancels it.

    Raises:
        Interrupted: with the command that resumes.
        BudgetReached: with the command that goes on.
    """

    async def run() -> T:
        from safetyqc.pipeline.session import open_session

        session = open_session(config, create=create, quiet=quiet)
        try:
            with session.stop.on_ctrl_c(_tell):
                return await work(session)
        finally:
            await session.close()

    try:
        return asyncio.run(run())
    except Interrupted as error:
        raise Interrupted(
            f"stopped; everything answered is saved in {config.run}. Go on with:\n  {command()}"
        ) from error
    except BudgetReached as error:
        raise BudgetReached(
            f"{error}\n  everything answered is saved in {config.run}; go on with a higher --max-cost"
        ) from error


async def staged(session: Session, stage: str, work: Callable[[], Awaitable[T]], *, batch: bool) -> T:
    """Do a stage's work, with `--batch` in batches."""
    if not batch:
        return await work()
    from safetyqc.pipeline.batching import in_batches

    return await in_batches(session, stage, work, note, command())


def next_after_batch(config: Config) -> None:
    """Say what to type while something waits for a batch."""
    next_step(f"safetyqc batch collect{in_run(config)} --wait", f"{command()}  (uses the answers)")


def refuse_fresh_batch(*, batch: bool, fresh: bool | None) -> None:
    """With --fresh the command that uses a batch's answers would ask for them anew, for ever.

    Raises:
        UserError: both were given.
    """
    if batch and fresh:
        raise UserError("--batch and --fresh exclude each other", fix="give --run NEW to ask everything again")


def _tell(press: int) -> None:
    if press == 1:
        note("\nstopping: what is in flight finishes and is saved; press Ctrl-C again to cancel it")
    else:
        note("\ncancelling")


def command() -> str:
    """The command line that is running, ready to be typed again."""
    return shlex.join(["safetyqc", *sys.argv[1:]])
