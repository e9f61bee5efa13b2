"""Maps an async function over records with bounded concurrency; knows no stage, no model and no store.

An item's ModelError is handed back as its outcome; a fatal error, a reached budget or an interruption stops the map:
nothing new starts, what is in flight finishes, then the error is raised. The one surprising thing: results come in the
order in which they finish, so a caller that wants order sorts by its own key.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from safetyqc.errors import BudgetReached, FatalModelError, Interrupted, ModelError

T = TypeVar("T")
R = TypeVar("R")

_STOPPING = (FatalModelError, BudgetReached, Interrupted)


class Engine(Protocol):
    """Runs map stages; where and how parallel is its own business."""

    def map(self, items: Iterable[T], work: Callable[[T], Awaitable[R]]) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Yield (item, result or ModelError) as they finish."""
        ...


class Stop:
    """A request to stop, in two steps: first let what is in flight finish, then cancel it."""

    def __init__(self) -> None:
        self.presses = 0
        self._on_cancel: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """True once anybody asked to stop."""
        return self.presses > 0

    def press(self) -> None:
        """Ask to stop; the second time, cancel."""
        self.presses += 1
        if self.presses > 1:
            for cancel in self._on_cancel:
                cancel()

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """Register what the second press does."""
        self._on_cancel.append(cancel)

    @contextmanager
    def on_ctrl_c(self, tell: Callable[[int], None]) -> Iterator[None]:
        """Turn Ctrl-C (and SIGTERM) into presses while the block runs; `tell` gets the number of the press."""

        def handle(*_: object) -> None:
            self.press()
            tell(self.presses)

        before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, old in before.items():
                signal.signal(s, old)


class LocalEngine:
    """One event loop, at most `concurrency` items in flight."""

    def __init__(self, concurrency: int = 16, stop: Stop | None = None) -> None:
        self.concurrency = max(concurrency, 1)
        self.stop = stop or Stop()

    async def map(
        self, items: Iterable[T], work: Callable[[T], Awaitable[R]]
    ) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Yield (item, result or ModelError) as they finish.

        Raises:
            FatalModelError, BudgetReached: raised by an item, after those in flight have finished.
            Interrupted: the stop was pressed before every item was done.
        """
        queue = iter(items)
        flight: dict[asyncio.Task[R], T] = {}
        halt: BaseException | None = None
        self.stop.on_cancel(lambda: _cancel(flight))
        try:
            while True:
                while halt is None and not self.stop.requested and len(flight) < self.concurrency:
                    upcoming = next(queue, _END)
                    if isinstance(upcoming, _End):
                        break
                    flight[asyncio.ensure_future(work(upcoming))] = upcoming
                if not flight:
                    break
                done, _ = await asyncio.wait(flight, return_when=asyncio.FIRST_COMPLETED, timeout=0.5)
                for task in done:
                    item = flight.pop(task)
                    outcome = _outcome(task)
                    if isinstance(outcome, _STOPPING):
                        halt = halt or outcome
                    else:
                        yield item, outcome
        finally:
            _cancel(flight)
            await asyncio.gather(*flight, return_exceptions=True)
        if halt is not None:
            raise halt
        if self.stop.requested and (self.stop.presses > 1 or next(queue, _END) is not _END):
            raise Interrupted("stopped before every item was done")


class _End:
    """Marks the end of the items; None could be an item."""


_END = _End()


def _cancel(tasks: Iterable[asyncio.Task[R]]) -> None:
    for task in list(tasks):
        task.cancel()


def _outcome(task: asyncio.Task[R]) -> R | ModelError | BudgetReached | Interrupted:
    if task.cancelled():
        return Interrupted("cancelled")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, (ModelError, BudgetReached, Interrupted)):
        return error
    raise error
