"""Runs a stage in batches: its requests are put aside, submitted together, and answered hours later at half the price.

The same command again goes on: it collects what has been answered, does what that allows, and submits what is still
missing (re-asks, further votes of unclassified conversations). Nothing waits for a batch here but `wait_for_all`. A
model without a batch API is asked call by call in the same command, which says so.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetyqc.errors import FatalModelError, Interrupted, ModelError
from safetyqc.llm.batch.folder import BatchFolder
from safetyqc.llm.batch.wire import NoBatches, endpoint_path
from safetyqc.llm.hosts import wire_name
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.llm.batch.desk import BatchDesk
    from safetyqc.llm.batch.outcomes import Collected
    from safetyqc.llm.batch.parking import ParkingClient
    from safetyqc.pipeline.session import Session
    from safetyqc.store import Batch

T = TypeVar("T")
Tell = Callable[[str], None]


async def in_batches(session: Session, stage: str, work: Callable[[], Awaitable[T]], tell: Tell, command: str) -> T:
    """Do a stage's work with its requests of `stage` put aside for batches; what is parked in the end is submitted.

    Args:
        work: the stage; called again, then call by call, for a model that turns out to have no batch API.
        command: what to type later for the answers to be used.

    Raises:
        FatalModelError: the provider could not be asked, with what to do about it.
        BudgetReached: nothing more fits into the budget.
    """
    parking, desk = session.batching
    parking.park(stage, tell)
    try:
        for found in await collect_all(session):
            tell(tell_collected(found))
        parking.refresh()
        while True:
            done = await work()
            if not parking.parked or await _submit(parking, desk, tell, command):
                return done
    finally:
        parking.park(None)


async def _submit(parking: ParkingClient, desk: BatchDesk, tell: Tell, command: str) -> bool:
    """Submit what is parked; False when a model has no batches and the stage is to be done again without."""
    parked, submitted = parking.take(), 0
    try:
        async for batch in desk.submit(parked, command):
            submitted += batch.requests
            tell(tell_submitted(batch, half_price=desk.is_half_price(batch.model, batch.api_base)))
    except NoBatches as error:
        parking.ask_callwise(error.model)
        tell(f"{error.reason}: asking call by call, at the full price")
        return False
    except ModelError as error:
        raise _explain(error) from error
    finally:
        parking.refresh()
    if left := len(parked) - submitted:
        tell(f"  {left:,} more do not fit into --max-cost")
    return True


def _explain(error: ModelError) -> FatalModelError:
    """What still fails after its retries ends the command, with what to do next."""
    if isinstance(error, FatalModelError):
        return error
    fix = "the same command again goes on: it first looks at the provider for what was submitted"
    return FatalModelError(error.reason, fix=fix)


async def collect_all(session: Session, files: Sequence[Path] = ()) -> list[Collected]:
    """Finish what a killed command had begun to submit, then fetch what every open batch has answered.

    Args:
        files: results of batches that were written as files, beside those in their folders.

    Raises:
        FatalModelError: the provider cannot be asked, with what to do about it.
    """
    desk = session.batching[1]
    try:
        await desk.resume()
        return await desk.collect(files)
    except ModelError as error:
        raise _explain(error) from error


async def wait_for_all(session: Session, every_s: float, tell: Tell, files: Sequence[Path] = ()) -> list[Collected]:
    """Collect until no batch is open.

    Raises:
        Interrupted: the user asked to stop; batches go on at the provider.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    session.stop.on_press(lambda: loop.call_soon_threadsafe(stopped.set))
    while True:
        collected = await collect_all(session, files)
        if not any(found.batch.is_open for found in collected):
            return collected
        for found in collected:
            tell(tell_collected(found))
        try:
            await asyncio.wait_for(stopped.wait(), every_s)
        except TimeoutError:
            continue
        raise Interrupted("stopped waiting; the batches go on at the provider")


# ---- words ----------------------------------------------------------------------------------------------------------


def tell_submitted(batch: Batch, *, half_price: bool) -> str:
    """Say what was submitted and what it may cost, or who is to run it."""
    if batch.folder:
        return _tell_written(batch, BatchFolder(batch.folder))
    most = "price unknown" if batch.most_usd is None else f"at most ${batch.most_usd:.2f}"
    price = " at the batch price" if half_price else "" if batch.most_usd is None else ", counted at the full price"
    return f"submitted batch {batch.batch_id} ({batch.model}): {counted(batch.requests, 'request')}, {most}{price}"


def _tell_written(batch: Batch, folder: BatchFolder) -> str:
    file, answers = folder.requests(batch.tag), folder.results / f"{batch.tag}.jsonl"
    head = f"wrote {counted(batch.requests, 'request')} for {batch.model}: {file}"
    if batch.endpoint != "chat":
        return f"{head}\n  they ask {endpoint_path(batch.endpoint)}, which `vllm run-batch` does not answer"
    line = ["vllm", "run-batch", "-i", str(file), "-o", str(answers), "--model", wire_name(batch.model)]
    return f"{head}\n  where the model is: {shlex.join(line)}"


def tell_collected(found: Collected) -> str:
    """Say what a look at a batch brought, in one line and one more per oddity."""
    batch, state = found.batch, found.state
    head = f"batch {batch.batch_id or batch.tag} ({batch.model}): {_status(batch, state.status if state else '')}"
    if state is not None and not state.has_ended:
        head += f", {state.done + state.failed:,} of {batch.requests:,} done"
    parts = [f"{found.answered:,} answered"] if found.answered else []
    parts += [f"{found.unusable:,} cut off, filtered or refused"] if found.unusable else []
    parts += [f"{found.failed.total():,} without an answer"] if found.failed else []
    parts += [f"${found.cost_usd:.4f}"] if found.cost_usd else []
    lines = ["; ".join([head, *parts])]
    lines += [f"  {count:,}: {reason}" for reason, count in found.failed.most_common(5)]
    return "\n".join([*lines, *(f"  {remark}" for remark in found.remarks)])


def _status(batch: Batch, provider: str) -> str:
    if batch.folder and batch.status == "submitted":
        return f"{batch.requests:,} requests in {BatchFolder(batch.folder).requests(batch.tag)}"
    words = {
        "prepared": "not submitted yet (the same command, or `batch collect`, does it)",
        "submitting": "perhaps submitted (`batch collect` looks for it)",
        "given_up": "given up",
    }
    return words.get(batch.status) or provider or batch.status
