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
from dataclasses import dataclass, field
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Client, FormatRefused, Reply, Request

_HEAD = 4
_MOST_STARTS = 5
_ERRORS: dict[str, type[ModelError]] = {e.__name__: e for e in (ModelError, FatalModelError, FormatRefused)}
_CANCEL = "cancel"


def open_lane(name: str, *, api_key: str | None, timeout_s: float) -> Client:
    """Make the `direct` or `litellm` lane; each imports what it needs only now."""
    if name == "direct":
        from safetyqc.llm.direct import DirectClient

        return DirectClient(api_key=api_key, timeout_s=timeout_s)
    from safetyqc.llm.litellm_client import LitellmClient

    return LitellmClient(api_key=api_key, timeout_s=timeout_s)


def auto_workers(lane: str) -> int:
    """Workers that pay off: litellm uses up a core at a few hundred calls a second, the direct lane does not."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if lane == "litellm" and cores > 1 else 0


# ---- the parent's side ----------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """One process and the requests that it has not answered yet."""

    process: asyncio.subprocess.Process
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
            _send(worker.process, (number, request))
            return await answer
        except asyncio.CancelledError:
            _send(worker.process, (number, _CANCEL))
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
        worker = _Worker(process)
        _send(process, self._setup)
        worker.reader = asyncio.create_task(self._read(worker))
        self._workers.append(worker)
        self._started.append(worker)

    async def _read(self, worker: _Worker) -> None:
        """Hand answers out until the worker ends; whoever still waits then may try again."""
        assert worker.process.stdout is not None
        try:
            while (message := await _receive(worker.process.stdout)) is not None:
                number, told = message
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


def _send(process: asyncio.subprocess.Process, message: Any) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(_pack(message))


def _settle(answer: asyncio.Future[Reply], told: Reply | dict[str, Any]) -> None:
    if isinstance(told, Reply):
        answer.set_result(told)
    else:
        answer.set_exception(_revive(told))


def _pack(message: Any) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(_HEAD, "big") + body


async def _receive(stream: asyncio.StreamReader) -> Any:
    """The next message; None at the end. Pickle is safe here: both ends are this program, on a pipe of its own."""
    try:
        length = int.from_bytes(await stream.readexactly(_HEAD), "big")
        return pickle.loads(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _tell(error: ModelError) -> dict[str, Any]:
    return {"type": type(error).__name__, **vars(error)}


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
    lane = open_lane(**await _receive(stream))
    tasks: dict[int, asyncio.Task[None]] = {}

    async def answer(number: int, request: Request) -> None:
        try:
            told: Any = await lane.complete(request)
        except ModelError as error:
            told = _tell(error)
        finally:
            del tasks[number]
        answers.write(_pack((number, told)))

    while (message := await _receive(stream)) is not None:
        number, asked = message
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
