"""What engines share whose work is done elsewhere: in processes of this machine, or by actors of a cluster.

A task that asks no model is done there, item by item. A task that asks models stays in this process, and its requests
are sent from there, one attempt each: ledger, limits, budget and retries have to see every call in one place. Whoever
does it holds nothing that could be lost: when it dies, what it had in hand has to be tried again. How items get there
and answers back is each engine's own.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from safetyqc.errors import FatalModelError, Interrupted, ModelError, SafetyqcError
from safetyqc.pipeline.engine import Context, Task, outcome_of

if TYPE_CHECKING:
    from safetyqc.llm.client import Client, Reply, Request
    from safetyqc.llm.lanes import Lane

T = TypeVar("T")
R = TypeVar("R")

UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError)
"""What pickle raises for what cannot go elsewhere."""


@dataclass(frozen=True)
class Sending:
    """The task of a lane: send one request once."""

    lane: Lane
    api_key: str | None = field(repr=False)
    timeout_s: float

    asks = True

    async def do(self, item: Request, context: Context) -> dict[str, Any]:
        """Return the reply as plain values, which are pickled five times as fast as records."""
        reply = await self.open(context).complete(item)
        return {**vars(reply), "usage": (reply.usage.prompt_tokens, reply.usage.completion_tokens)}

    def open(self, context: Context) -> Client:
        """The lane in this process."""
        return context.made(self, lambda: self.lane.open(self.api_key, self.timeout_s))


class Doing(Protocol):
    """Whoever has tasks done elsewhere, item by item."""

    async def do(self, task: Task[T, R], item: T) -> R:
        """Have one item done.

        Raises:
            WorkerDied: whoever had it is gone, which another attempt may mend.
            SafetyqcError: what the task raised there.
        """
        ...


class RemoteLane:
    """A Client that has its requests sent elsewhere."""

    def __init__(self, pool: Doing, task: Sending) -> None:
        self._pool, self._task = pool, task

    async def complete(self, request: Request) -> Reply:
        """See Client."""
        from safetyqc.llm.client import Reply
        from safetyqc.records import Usage

        told = await self._pool.do(self._task, request)
        prompt_tokens, completion_tokens = told.pop("usage")
        return Reply(**told, usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens))

    async def close(self) -> None:
        """See Client; the pool is the engine's to close."""


class WorkerDied(ModelError):
    """Whoever had the item is gone."""

    def __init__(self) -> None:
        super().__init__("provider_error", "a worker process died", retryable=True)


class Awaited:
    """Items that somebody elsewhere has in hand, by their numbers, and who waits for them here."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self) -> tuple[int, asyncio.Future[Any]]:
        """A number that no other item has, and what will hold its answer; `forget` it in the end."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        return number, answer

    def forget(self, number: int) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(number, None)

    def answer(self, number: int, result: Any) -> None:
        """Hand an answer to whoever waits for it, an error as one that is raised."""
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if isinstance(result, SafetyqcError):
            waiting.set_exception(result)
        else:
            waiting.set_result(result)

    def give_up(self) -> None:
        """Whoever had them is gone."""
        for number in self._waiting:
            self.answer(number, WorkerDied())


# ---- the other side -------------------------------------------------------------------------------------------------


Tell = Callable[[tuple[int, Any]], object]
"""Gets an item's number and its result."""


class Worker:
    """Does items of the tasks that it is told, several at a time, and knows nothing that could not be told again."""

    def __init__(self) -> None:
        gc.set_threshold(50_000, 20, 100)  # litellm's million objects all stay, and this process is nobody else's
        self.tasks: dict[int, Task[Any, Any]] = {}
        self.context = Context(_no_client)
        self._doing: dict[int, asyncio.Task[None]] = {}

    def start(self, number: int, task: int, item: Any, tell: Tell) -> None:
        """Begin with an item; `tell` gets its result, or the error that it met, in any case."""
        self._doing[number] = asyncio.create_task(self._do(number, self.tasks[task], item, tell))

    def cancel(self, number: int) -> None:
        """Do not go on with an item."""
        if doing := self._doing.get(number):
            doing.cancel()

    async def _do(self, number: int, task: Task[Any, Any], item: Any, tell: Tell) -> None:
        result: Any = Interrupted("cancelled")
        try:
            result = await task.do(item, self.context)
        except SafetyqcError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - see `engine`: it is this item's outcome
            result = outcome_of(error)
        finally:
            self._doing.pop(number, None)
            tell((number, result))


def _no_client() -> Client:
    """Refuse a task of another process what only the driver has."""
    raise FatalModelError("a task that is said to ask no model asked one", fix="say so in its `asks`")


def packed(said: list[tuple[Any, ...]]) -> bytes:
    """What one side says, pickled; a defect in the place of what cannot be: nobody must wait for an answer for ever."""
    try:
        return pickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL)
    except UNPICKLABLE:
        return pickle.dumps([_portable(one) for one in said])


def _portable(said: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        pickle.dumps(said)
    except UNPICKLABLE as error:
        return (*said[:-1], outcome_of(error))
    return said
