"""Maps a task over items: what an engine is, and the one that runs everything in this process's event loop.

An item's failure is handed back as its outcome: a ModelError, the wait for a batch, or an exception that nobody planned
(a `defect`), which must not cost the other items. Any other error of safetyqc's own (a wrong key, a reached budget, an
interruption, a full disk) stops the map: nothing new starts, what is in flight finishes, then it is raised. Results
come as they finish. No engine knows a stage, a model or the store; another one is a file and a line in
`engines.ENGINES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from safetyqc.errors import Deferred, FatalModelError, Interrupted, ModelError, SafetyqcError

if TYPE_CHECKING:
    from safetyqc.dedup.blocks import Spread
    from safetyqc.llm.client import Client

T = TypeVar("T")
R = TypeVar("R")
T_in = TypeVar("T_in", contravariant=True)
R_out = TypeVar("R_out", covariant=True)
M = TypeVar("M")

_PACKAGE = Path(__file__).parents[1]
_LONGEST_TEXT = 300

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask to stop: Ctrl-C, whoever ends the process, and the end of its terminal."""


class Task(Protocol[T_in, R_out]):
    """What is done to every item of a map: frozen and picklable, so that any process can do it.

    It holds names and settings, makes what it works with in the process that runs it (`Context.made`), and neither
    reads nor writes the store: whoever maps writes what comes back.
    """

    @property
    def asks(self) -> bool:
        """Whether it asks models. If it does not, all of its time is this machine's own."""
        ...

    async def do(self, item: T_in, context: Context) -> R_out:
        """Do it.

        Raises:
            ModelError: the item failed.
            Deferred: its answer comes with a batch.
            SafetyqcError: any other: no further item could be done.
        """
        ...


class Context:
    """What a task finds in the process that runs it: the client that answers it, and what it has made for itself."""

    def __init__(self, open_client: Callable[[], Client]) -> None:
        self.open_client = open_client
        self._made: dict[int, tuple[object, object]] = {}

    @property
    def client(self) -> Client:
        """The client, opened at its first use."""
        return self.open_client()

    def made(self, task: object, make: Callable[[], M]) -> M:
        """What `task` works with, made at its first item."""
        known = self._made.get(id(task))
        if known is None:
            known = self._made[id(task)] = task, make()  # the task too, or another could get its id
        return cast("M", known[1])


class Engine(Protocol):
    """Runs maps, and sends requests to models; where is its own business."""

    def map(
        self, items: Iterable[T], task: Task[T, R], context: Context
    ) -> AsyncIterator[tuple[T, R | ModelError | Deferred]]:
        """Yield (item, outcome) as they finish; see the module for what is raised."""
        ...

    def open_lane(self, name: str, *, api_key: str | None, timeout_s: float) -> Client:
        """Open a lane that sends requests, one attempt each; ledger, limits, budget and retries stay with the door."""
        ...

    def spread(self) -> Spread | None:
        """Where calls of functions are run, for what is no map; None: nowhere but in this process."""
        ...

    def did(self) -> str:
        """With what it has done how much, as a line to close with; empty where there is nothing to tell."""
        ...

    async def close(self) -> None:
        """End what it has started."""
        ...


@dataclass(frozen=True)
class EngineSettings:
    """What engines are made with.

    Args:
        concurrency: items in flight that wait for models.
        size: processes or actors; 0 lets the engine choose.
        address: of the cluster, for an engine that has one; None: one on this machine, or what its environment says.
    """

    concurrency: int = 16
    size: int = 0
    address: str | None = None


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

    def __init__(self, settings: EngineSettings | None = None, stop: Stop | None = None) -> None:
        self._concurrency, self.stop = (settings or EngineSettings()).concurrency, stop or Stop()

    def map(
        self, items: Iterable[T], task: Task[T, R], context: Context
    ) -> AsyncIterator[tuple[T, R | ModelError | Deferred]]:
        """See Engine. What asks no model waits for nothing, and may end anywhere when the stop is pressed."""

        async def ask(item: T) -> R:
            return await task.do(item, context)

        async def compute(item: T) -> R:
            with self.stop.at_once():
                return await task.do(item, context)

        return in_one_loop(items, ask if task.asks else compute, concurrency=self._concurrency, stop=self.stop)

    def open_lane(self, name: str, *, api_key: str | None, timeout_s: float) -> Client:
        """See Engine."""
        from safetyqc.llm.lanes import open_lane

        return open_lane(name, api_key=api_key, timeout_s=timeout_s)

    def spread(self) -> None:
        """See Engine."""

    def did(self) -> str:
        """See Engine."""
        return ""

    async def close(self) -> None:
        """See Engine."""


async def in_one_loop(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, concurrency: int = 16, stop: Stop | None = None
) -> AsyncGenerator[tuple[T, R | ModelError | Deferred]]:
    """Do `work` for every item in this loop; yields (item, outcome) as they finish.

    Raises:
        SafetyqcError: one that an item raised and that is no outcome, after those in flight have finished.
        Interrupted: the stop was pressed before every item was done.
    """
    stop, concurrency = stop or Stop(), max(concurrency, 1)
    flow: _Flow[T, R] = _Flow(iter(items), stop, asyncio.Semaphore(3 * concurrency))
    loop = asyncio.get_running_loop()
    workers = [loop.create_task(flow.run(work)) for _ in range(concurrency)]
    flow.expect(workers)
    # A signal handler runs between two steps of the loop and would not wake it: only a thread-safe call does
    with collecting_seldom(), stop.on_cancel(lambda: loop.call_soon_threadsafe(_cancel, workers)):
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
    if stop.requested and (flow.cancelled or flow.has_more()):
        raise Interrupted("stopped before every item was done")


@dataclass
class _Flow(Generic[T, R]):
    """Items on their way through the workers of one map; `room` keeps finished ones from piling up unread."""

    queue: Iterator[T]
    stop: Stop
    room: asyncio.Semaphore
    finished: asyncio.Queue[tuple[T, R | ModelError | Deferred] | None] = field(default_factory=asyncio.Queue)
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
                outcome: R | ModelError | Deferred = await work(item)
            except Exception as error:  # noqa: BLE001 - a bug that one item meets must not cost all the others
                if isinstance(error, SafetyqcError) and not is_outcome(error):
                    self.halt = self.halt or error
                    return
                outcome = outcome_of(error)
            self.finished.put_nowait((item, outcome))

    def has_more(self) -> bool:
        """Whether any item was not started."""
        return not isinstance(next(self.queue, _END), _End)


def is_outcome(error: Exception) -> bool:
    """Whether an error of safetyqc's own is about its item alone."""
    return isinstance(error, ModelError | Deferred) and not isinstance(error, FatalModelError)


def outcome_of(error: Exception) -> ModelError | Deferred:
    """An item's exception as its outcome: one that nobody planned is told with its text and its place."""
    if isinstance(error, ModelError | Deferred):
        return error
    return ModelError("defect", describe(error))


def describe(error: Exception) -> str:
    """An exception that nobody planned in one line, without what looks like a key."""
    from safetyqc.llm.secrets import redact
    from safetyqc.text import shorten

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    last = (own or frames)[-1:]
    place = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    text = redact(str(error)).encode("utf-8", "replace").decode()
    return f"{type(error).__name__}: {shorten(text, _LONGEST_TEXT)}{place}"


@contextmanager
def collecting_seldom() -> Iterator[None]:
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
