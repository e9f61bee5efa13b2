"""Maps an async function over records with bounded concurrency; knows no stage, no model and no store.

An item's ModelError is handed back as its outcome; a fatal error, a reached budget or an interruption stops the map:
nothing new starts, what is in flight finishes, then the error is raised. The one surprising thing: results come in the
order in which they finish, so a caller that wants order sorts by its own key.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from safetyqc.errors import BudgetReached, FatalModelError, Interrupted, ModelError

T = TypeVar("T")
R = TypeVar("R")

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask to stop: Ctrl-C, whoever ends the process, and the end of its terminal."""


class Engine(Protocol):
    """Runs map stages; where and how parallel is its own business."""

    def map(self, items: Iterable[T], work: Callable[[T], Awaitable[R]]) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Yield (item, result or ModelError) as they finish."""
        ...


class Stop:
    """A request to stop, in two steps: first let what is in flight finish, then cancel it."""

    def __init__(self) -> None:
        self.presses = 0
        self._on_cancel: dict[int, Callable[[], object]] = {}
        self._on_press: list[Callable[[], object]] = []
        self._at_once = False

    @property
    def requested(self) -> bool:
        """True once anybody asked to stop."""
        return self.presses > 0

    def press(self) -> None:
        """Ask to stop; the second time, cancel."""
        self.presses += 1
        for tell in self._on_press:
            tell()
        if self.presses > 1:
            for cancel in list(self._on_cancel.values()):
                cancel()

    def on_press(self, tell: Callable[[], object]) -> None:
        """Say what every press does."""
        self._on_press.append(tell)

    @contextmanager
    def on_cancel(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Say what the second press does while the block runs; at once when it was pressed twice before."""
        name = id(cancel)
        self._on_cancel[name] = cancel
        try:
            if self.presses > 1:
                cancel()
            yield
        finally:
            del self._on_cancel[name]

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that looks at no stop and may end anywhere: while the block runs, Ctrl-C ends it in its midst.

        Raises:
            Interrupted: Ctrl-C was pressed, now or before.
        """
        if self.requested:
            raise Interrupted("stopped")
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def on_ctrl_c(self, tell: Callable[[int], None]) -> Iterator[None]:
        """Turn Ctrl-C (SIGTERM, and a terminal that went away) into presses while the block runs.

        Args:
            tell: gets the number of the press; where it would say so may be gone.
        """

        def handle(*_: object) -> None:
            self.press()
            if self._at_once:
                raise Interrupted("stopped")
            with contextlib.suppress(OSError):
                tell(self.presses)

        # A command that was started to outlive its terminal (nohup) ignores SIGHUP, and goes on doing so
        heard = [s for s in STOPPING if s.name != "SIGHUP" or signal.getsignal(s) is not signal.SIG_IGN]
        before = {s: signal.signal(s, handle) for s in heard}
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
        flow: _Flow[T, R] = _Flow(iter(items), self.stop, asyncio.Semaphore(3 * self.concurrency))
        loop = asyncio.get_running_loop()
        workers = [loop.create_task(flow.run(work)) for _ in range(self.concurrency)]
        flow.expect(workers)
        # A signal handler runs between two steps of the loop and would not wake it: only a thread-safe call does
        with _collecting_seldom(), self.stop.on_cancel(lambda: loop.call_soon_threadsafe(_cancel, workers)):
            try:
                while (finished := await flow.finished.get()) is not None:
                    yield finished
                    flow.room.release()
            finally:
                _cancel(workers)
                await asyncio.gather(*workers, return_exceptions=True)
        for worker in workers:
            if not worker.cancelled() and (bug := worker.exception()) is not None:
                raise bug
        if flow.halt is not None:
            raise flow.halt
        if self.stop.requested and (flow.cancelled or flow.has_more()):
            raise Interrupted("stopped before every item was done")


@dataclass
class _Flow(Generic[T, R]):
    """Items on their way through the workers of one map; `room` keeps finished ones from piling up unread."""

    queue: Iterator[T]
    stop: Stop
    room: asyncio.Semaphore
    finished: asyncio.Queue[tuple[T, R | ModelError] | None] = field(default_factory=asyncio.Queue)
    halt: Exception | None = None
    cancelled: bool = False
    _working: int = 0

    def expect(self, workers: list[asyncio.Task[None]]) -> None:
        """Tell the reader when the last of these workers has ended, or the first one with a bug."""
        self._working = len(workers)
        for worker in workers:
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._working -= 1
        self.cancelled = self.cancelled or worker.cancelled()
        if self._working == 0 or (not worker.cancelled() and worker.exception() is not None):
            self.finished.put_nowait(None)

    async def run(self, work: Callable[[T], Awaitable[R]]) -> None:
        """Take items until there are none, or something stops the map."""
        while True:
            await self.room.acquire()
            if self.halt is not None or self.stop.requested:
                return
            item = next(self.queue, _END)
            if isinstance(item, _End):
                return
            try:
                outcome: R | ModelError = await work(item)
            except (FatalModelError, BudgetReached, Interrupted) as error:
                self.halt = self.halt or error
                return
            except ModelError as error:
                outcome = error
            self.finished.put_nowait((item, outcome))

    def has_more(self) -> bool:
        """Whether any item was not started."""
        return not isinstance(next(self.queue, _END), _End)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Look for unreachable cycles a seventieth as often: maps make few, and looking took an eighth of a fast call."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _End:
    """Marks the end of the items; None could be an item."""


_END = _End()


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
