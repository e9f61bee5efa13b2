"""A lane that runs in processes of its own, so that a second core is not idle while litellm keeps the first one busy.

The parent keeps the ledger, the limits, the budget and the retries; a worker turns one Request into one Reply or error
and knows nothing else. A worker that dies costs its requests one attempt and is started again. The one surprising
thing: workers end by themselves when the parent is gone, even by kill -9, because their standard input ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import FormatRefused, Reply, Request
from safetyqc.llm.lanes import LANES, find_lane
from safetyqc.records import Usage

_HEAD = 4
_MOST_STARTS = 5
_ERRORS: dict[str, type[ModelError]] = {e.__name__: e for e in (ModelError, FatalModelError, FormatRefused)}
_CANCEL = "cancel"
_REPLY = Reply.__name__


def auto_workers(lane: str) -> int:
    """Workers that pay off: several where one process would use up a core, as litellm's lane does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if lane in LANES and LANES[lane].fills_a_core and cores > 1 else 0


# ---- the parent's side ----------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """One process and the requests that it has not answered yet."""

    process: asyncio.subprocess.Process
    outbox: _Outbox
    waiting: dict[int, asyncio.Future[Reply]] = field(default_factory=dict)
    reader: asyncio.Task[None] | None = None


class WorkerLane:
    """A Client that spreads requests over `count` processes."""

    def __init__(self, name: str, count: int, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self._setup = {"name": name, "api_key": api_key, "timeout_s": timeout_s}
        self._count, self._starts = count, 0
        self._workers: list[_Worker] = []
        self._started: list[_Worker] = []
        self._starting: asyncio.Task[None] | None = None
        self._numbers = itertools.count()

    async def complete(self, request: Request) -> Reply:
        """Let the least busy worker send one request once.

        Raises:
            ModelError: what the worker's lane raised; or the worker died, which a retry may mend.
        """
        while len(self._workers) < self._count:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
        worker = min(self._workers, key=lambda one: len(one.waiting))
        number = next(self._numbers)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        worker.waiting[number] = answer
        try:
            worker.outbox.put((number, request))
            return await answer
        except asyncio.CancelledError:
            worker.outbox.put((number, _CANCEL))
            raise
        finally:
            worker.waiting.pop(number, None)

    async def _start(self) -> None:
        if self._starts >= self._count + _MOST_STARTS:
            raise FatalModelError("worker processes keep dying", fix="use --workers 0 and look at the messages above")
        self._starts += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        worker = _Worker(process, _Outbox(process.stdin))
        worker.outbox.put(self._setup)
        worker.reader = asyncio.create_task(self._read(worker))
        self._workers.append(worker)
        self._started.append(worker)

    async def _read(self, worker: _Worker) -> None:
        """Hand answers out until the worker ends; whoever still waits then may try again."""
        assert worker.process.stdout is not None
        try:
            async for number, told in _hear(worker.process.stdout):
                answer = worker.waiting.get(number)
                if answer is not None and not answer.done():
                    _settle(answer, told)
        finally:
            if worker in self._workers:
                self._workers.remove(worker)
            for answer in worker.waiting.values():
                if not answer.done():
                    answer.set_exception(ModelError("provider_error", "a worker process died", retryable=True))
            await worker.process.wait()

    async def close(self) -> None:
        """End the workers, which close their connections first."""
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
            body = pickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL)
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


def _settle(answer: asyncio.Future[Reply], told: dict[str, Any]) -> None:
    if told["type"] == _REPLY:
        del told["type"]
        prompt_tokens, completion_tokens = told.pop("usage")
        answer.set_result(Reply(**told, usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)))
    else:
        answer.set_exception(_revive(told))


def _tell(outcome: Reply | ModelError) -> dict[str, Any]:
    """An outcome as plain values, which are pickled five times as fast as records."""
    told = {"type": type(outcome).__name__, **vars(outcome)}
    if isinstance(outcome, Reply):
        told["usage"] = (outcome.usage.prompt_tokens, outcome.usage.completion_tokens)
    return told


def _revive(told: dict[str, Any]) -> ModelError:
    """The error that a worker told of, of the same type where the door knows it."""
    kind = _ERRORS.get(told["type"], ModelError)
    if kind is FatalModelError:
        return FatalModelError(told["reason"], fix=told["fix"])
    if kind is FormatRefused:
        return FormatRefused(told["reason"])
    return ModelError(
        told["kind"],
        told["reason"],
        retryable=told["retryable"],
        retry_after_s=told["retry_after_s"],
        overload=told["overload"],
        unreachable=told["unreachable"],
    )


# ---- the worker's side ----------------------------------------------------------------------------------------------


async def _work(out: int) -> None:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(0, "rb"))
    answers, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(out, "wb"))
    outbox, heard = _Outbox(answers), _hear(stream)
    if (setup := await anext(heard, None)) is None:
        return
    lane = find_lane(setup["name"]).open(setup["api_key"], setup["timeout_s"])
    tasks: dict[int, asyncio.Task[None]] = {}

    async def answer(number: int, request: Request) -> None:
        try:
            outcome: Reply | ModelError = await lane.complete(request)
        except ModelError as error:
            outcome = error
        finally:
            del tasks[number]
        outbox.put((number, _tell(outcome)))

    async for number, asked in heard:
        if asked == _CANCEL:
            if number in tasks:
                tasks[number].cancel()
        else:
            tasks[number] = asyncio.create_task(answer(number, asked))
    await lane.close()


def main() -> None:
    """Answer requests from standard input until it ends."""
    # Ctrl-C reaches the whole terminal; stopping is the parent's decision
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not stand between the answers
    out = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(_work(out))


if __name__ == "__main__":
    main()
