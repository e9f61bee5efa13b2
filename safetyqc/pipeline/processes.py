"""An engine whose work is done in processes of their own, so that more than one core is busy.

What is done there is told in `elsewhere`. Sending a request through litellm takes many times the CPU of wording a
question and reading its answer, so a task that asks models need not move: each of its calls would cross twice between
processes, to the door and out again.

A process that dies costs its items one attempt and is started again. Processes end by themselves when this one is gone,
even by kill -9, because their standard input ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from safetyqc.errors import Deferred, FatalModelError, ModelError
from safetyqc.llm.lanes import count_cores, find_lane
from safetyqc.pipeline.elsewhere import Awaited, RemoteLane, Sending, Worker, WorkerDied, packed
from safetyqc.pipeline.engine import Context, EngineSettings, Stop, Task, in_one_loop

if TYPE_CHECKING:
    from safetyqc.llm.client import Client

T = TypeVar("T")
R = TypeVar("R")

_HEAD = 4
_MOST_STARTS = 5
_MOST_DEATHS = 3
"""An item whose process died so often is given up: perhaps it is what kills them."""
_IN_FLIGHT_EACH = 32
"""Items that a process holds at a time; enough to be told of in one message, few enough for a stop to be quick."""
_CANCEL = "cancel"
_PROGRAM = f"from {__name__} import main; main()"
"""Not `-m`: then this module would be there twice, and its classes would not be themselves."""


class ProcessEngine:
    """See the module; `size` processes are started when there is something for them to do."""

    def __init__(self, settings: EngineSettings, stop: Stop) -> None:
        self._concurrency, self._stop = settings.concurrency, stop
        self._pool = Pool(settings.size or count_cores())

    def map(
        self, items: Iterable[T], task: Task[T, R], context: Context
    ) -> AsyncIterator[tuple[T, R | ModelError | Deferred]]:
        """See Engine."""

        async def send(item: T) -> R:
            for _ in range(_MOST_DEATHS - 1):
                with contextlib.suppress(WorkerDied):
                    return await self._pool.do(task, item)
            return await self._pool.do(task, item)

        if task.asks:
            here = self._concurrency
            return in_one_loop(items, lambda item: task.do(item, context), concurrency=here, stop=self._stop)
        return in_one_loop(items, send, concurrency=_IN_FLIGHT_EACH * self._pool.size, stop=self._stop)

    def open_lane(self, name: str, *, api_key: str | None, timeout_s: float) -> Client:
        """See Engine."""
        return RemoteLane(self._pool, Sending(find_lane(name), api_key, timeout_s))

    def spread(self) -> None:
        """See Engine; compiled loops take all cores of this machine by themselves."""

    def did(self) -> str:
        """See Engine."""
        return ""

    async def close(self) -> None:
        """See Engine."""
        await self._pool.close()


# ---- this side ------------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """One process, the tasks that it knows, and the items that it has not answered yet."""

    process: asyncio.subprocess.Process
    outbox: _Outbox
    tasks: set[int] = field(default_factory=set)
    awaited: Awaited = field(default_factory=Awaited)
    reader: asyncio.Task[None] | None = None


class Pool:
    """Processes that do tasks; started as they are needed."""

    def __init__(self, size: int) -> None:
        self.size, self._starts = size, 0
        self.workers: list[_Worker] = []
        self._started: list[_Worker] = []
        self._starting: asyncio.Task[None] | None = None
        self._tasks: dict[int, Task[Any, Any]] = {}

    async def do(self, task: Task[T, R], item: T) -> R:
        """Let the least busy process do one item; see Doing."""
        while len(self.workers) < self.size:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
        worker, name = min(self.workers, key=lambda one: len(one.awaited)), id(task)
        if name not in worker.tasks:
            pickle.dumps(task)  # a task that cannot go says so here
            worker.tasks.add(name)
            self._tasks[name] = task  # as long as there are processes, no other task may get its id
            worker.outbox.put((None, name, task))
        number, answer = worker.awaited.expect()
        try:
            worker.outbox.put((number, name, item))
            found: R = await answer
            return found
        except asyncio.CancelledError:
            worker.outbox.put((number, name, _CANCEL))
            raise
        finally:
            worker.awaited.forget(number)

    async def _start(self) -> None:
        if self._starts >= self.size + _MOST_STARTS:
            fix = "use --engine local and look at the messages above"
            raise FatalModelError("worker processes keep dying", fix=fix)
        self._starts += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        worker = _Worker(process, _Outbox(process.stdin))
        worker.reader = asyncio.create_task(self._read(worker))
        self.workers.append(worker)
        self._started.append(worker)

    async def _read(self, worker: _Worker) -> None:
        """Hand answers out until the process ends; whoever still waits then may try again."""
        assert worker.process.stdout is not None
        try:
            async for number, result in _hear(worker.process.stdout):
                worker.awaited.answer(number, result)
        finally:
            if worker in self.workers:
                self.workers.remove(worker)
            worker.awaited.give_up()
            await worker.process.wait()

    async def close(self) -> None:
        """End the processes, which close their connections first."""
        workers, self._started = self._started, []
        for worker in workers:
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        for worker in workers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.process.wait(), 5)
            if worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()
            if worker.reader is not None:
                await worker.reader


class _Outbox:
    """Sends what one turn of the loop has to say as one message: it wakes the other process once, and what requests
    share, such as a system message, is in it once."""

    def __init__(self, pipe: asyncio.StreamWriter | asyncio.WriteTransport) -> None:
        self._pipe = pipe
        self._said: list[Any] = []

    def put(self, said: Any) -> None:
        """Say it in this turn; in vain when the other end is gone."""
        if not self._said:
            asyncio.get_running_loop().call_soon(self._send)
        self._said.append(said)

    def _send(self) -> None:
        said, self._said = self._said, []
        if not self._pipe.is_closing():
            body = packed(said)
            self._pipe.write(len(body).to_bytes(_HEAD, "big") + body)


async def _hear(stream: asyncio.StreamReader) -> AsyncIterator[Any]:
    """What the other end says, one by one, until it ends.

    Pickle is safe here: both ends are this program, on a pipe of its own.
    """
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            length = int.from_bytes(await stream.readexactly(_HEAD), "big")
            for said in pickle.loads(await stream.readexactly(length)):
                yield said


# ---- the other side -------------------------------------------------------------------------------------------------


async def _work(out: int) -> None:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(0, "rb"))
    answers, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(out, "wb"))
    outbox, worker = _Outbox(answers), Worker()
    async for number, name, said in _hear(stream):
        if number is None:
            worker.tasks[name] = said
        elif said == _CANCEL:
            worker.cancel(number)
        else:
            worker.start(number, name, said, outbox.put)
    for task in worker.tasks.values():
        if isinstance(task, Sending):
            await task.open(worker.context).close()


def main() -> None:
    """Do what standard input says until it ends."""
    # Ctrl-C reaches the whole terminal, and a service's end all of its processes: stopping is the other side's decision
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # Whatever a library prints must not stand between the answers
    out = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(_work(out))


if __name__ == "__main__":
    main()
