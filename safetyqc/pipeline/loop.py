"""Opens a run for one call and runs its async work: on a loop of its own, or on the caller's.

A sync call also works where a loop is running already, as in a notebook: its loop then has a thread of its own, and
nobody's loop is patched. Ctrl-C is answered where Python allows it, in the main thread: the first one lets what is in
flight finish, the second cancels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from safetyqc.pipeline.engine import Stop
from safetyqc.pipeline.progress import is_hushed
from safetyqc.text import reveal

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.llm.client import Client
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.stages import Tally

T = TypeVar("T")

_STOP: ContextVar[Stop | None] = ContextVar("safetyqc_stop", default=None)
"""What Ctrl-C presses during the present sync call; None where the caller's loop runs the work."""


@dataclass(frozen=True)
class Listener:
    """Who hears what a call does while it does it.

    Args:
        tell: gets what each stage did, as soon as it is done.
        note: gets a line that is not the result: a warning, what a batch is doing.
        skipped: gets what was read, when something of it was left out.
        command: what goes on later with a run; None for calling the same function again.
    """

    tell: Callable[[Tally], None]
    note: Callable[[str], None]
    skipped: Callable[[ReadResult], None]
    command: str | None = None


def _note(text: str) -> None:
    sys.stderr.write(f"safetyqc: {reveal(text.strip())}\n")
    sys.stderr.flush()


def _tell_skipped(read: ReadResult) -> None:
    total = len(read.skipped) + len(read.conversations)
    _note(f"{read.path}: skipped {len(read.skipped):,} of {total:,} rows (see .skipped)")


def _deaf(_: object) -> None:
    """Hears nothing: results say what was done."""


_IN_PYTHON = Listener(_deaf, _note, _tell_skipped)
_QUIET = Listener(_deaf, _deaf, _deaf)
_LISTENER: ContextVar[Listener | None] = ContextVar("safetyqc_listener", default=None)


def listener(*, quiet: bool = False) -> Listener:
    """Who listens now: the command line where it said so, else stderr, or nobody."""
    return _LISTENER.get() or (_QUIET if quiet else _IN_PYTHON)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let this one hear what calls do while the block runs."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@dataclass(frozen=True)
class Opening:
    """How to open a run for one call; the arguments are those of `open_session`."""

    config: Config
    create: bool = False
    quiet: bool = False
    client: Client | None = None


async def in_session(opening: Opening, work: Callable[[Session], Awaitable[T]]) -> T:
    """Open the run, do the work, close everything.

    Raises:
        RunError: the run cannot be opened; and whatever the work raises.
    """
    session = _open(opening)
    try:
        return await work(session)
    finally:
        await session.close()


def in_plain_session(opening: Opening, work: Callable[[Session], T], note: Callable[[str], None]) -> T:
    """Do the same with work that waits for nothing: no loop is needed, and Ctrl-C can end it in its midst."""
    stop = Stop()
    with _on_ctrl_c(stop, note):
        session = _open(opening, stop)
        try:
            return work(session)
        finally:
            with contextlib.suppress(StopIteration):
                session.close().send(None)  # without a client there is nothing to wait for


def run_here(work: Callable[[], Coroutine[Any, Any, T]], note: Callable[[str], None]) -> T:
    """Run a coroutine to its end, whether or not a loop is running in this thread.

    Args:
        note: told when Ctrl-C is pressed.
    """
    stop = Stop()
    token = _STOP.set(stop)
    try:
        with _on_ctrl_c(stop, note):
            return asyncio.run(work()) if not _is_running() else _in_thread(work)
    finally:
        _STOP.reset(token)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """For work without a run that may end anywhere: Ctrl-C raises Interrupted rather than KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # somebody else answers it
        return
    stop = Stop()
    with _on_ctrl_c(stop, _deaf), stop.at_once():
        yield


def _open(opening: Opening, stop: Stop | None = None) -> Session:
    from safetyqc.pipeline.session import open_session

    client = Lent(opening.client) if opening.client is not None else None
    quiet = opening.quiet or is_hushed()
    session = open_session(opening.config, create=opening.create, quiet=quiet, client=client)
    session.stop = stop or _STOP.get() or session.stop
    return session


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that called)
            ended.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="safetyqc-loop")
    thread.start()
    while thread.is_alive():
        thread.join(0.1)  # on Windows no signal is answered while a thread is waited for without end
    return ended.result()


@contextlib.contextmanager
def _on_ctrl_c(stop: Stop, note: Callable[[str], None]) -> Iterator[None]:
    """Only the main thread hears signals; a call in another one ends when what runs it says so."""

    def tell(press: int) -> None:
        if press == 1:
            note("\nstopping: what is in flight finishes and is saved; press Ctrl-C again to cancel it")
        else:
            note("\ncancelling")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with stop.on_ctrl_c(tell):
        yield


class Lent:
    """A client of the caller's own: asked, and left open, since the caller may go on with it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.complete = client.complete

    async def close(self) -> None:
        """Leave it to its owner."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
