"""An engine whose work is done by actors of a Ray cluster: of several machines, or, to try it, of this one.

What actors do is told in `elsewhere`; this process, the driver, has ledger, limits, budget, retries and the store. An
actor that dies, with its machine or without, costs what it had in hand one attempt. Beside maps, functions are called
on arrays that lie in the cluster's memory (`RaySpread`).

Ray starts in some ten seconds and takes a gigabyte on every machine. It does not copy files: what settings name by its
path has to be there on all machines, and so does the same safetyqc. Keys of providers go with the calls, and are
nowhere in the cluster's tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from safetyqc import __version__
from safetyqc.errors import Deferred, FatalModelError, ModelError
from safetyqc.llm.hosts import PROVIDERS
from safetyqc.llm.lanes import find_lane
from safetyqc.pipeline.elsewhere import UNPICKLABLE, Awaited, RemoteLane, Sending, Worker, WorkerDied, packed
from safetyqc.pipeline.engine import Context, EngineSettings, Stop, Task, in_one_loop, outcome_of
from safetyqc.pipeline.ray_cluster import Cluster, RaySpread
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.llm.client import Client

T = TypeVar("T")
R = TypeVar("R")

_IN_FLIGHT_EACH = 64
"""Requests, or items, that an actor holds at a time."""
_DEATHS_AMONG_OTHERS = 2
"""An item whose actor died so often is done by one that has nothing else in hand: so it costs no other item."""
_MOST_DEATHS_IN_A_ROW = 5
"""Beside one for each actor: so many deaths without an answer in between, and the cluster is what is wrong."""
_LOADED = "OPENAI_API_BASE", *{name for p in PROVIDERS.values() for name in (p.key_env, *p.base_envs)}
"""Variables that requests are sent by: actors of other machines get the driver's."""


class RayEngine:
    """See the module; the cluster is reached when there is something to do."""

    def __init__(self, settings: EngineSettings, stop: Stop) -> None:
        self._concurrency, self._stop = settings.concurrency, stop
        self._cluster = Cluster(settings.address)
        self._pool = Pool(self._cluster, settings.size)
        self._spread: RaySpread | None = None

    async def map(
        self, items: Iterable[T], task: Task[T, R], context: Context
    ) -> AsyncIterator[tuple[T, R | ModelError | Deferred]]:
        """See Engine."""

        async def send(item: T) -> R:
            for do in (*[self._pool.do] * _DEATHS_AMONG_OTHERS, self._pool.do_alone):
                with contextlib.suppress(WorkerDied):
                    return await do(task, item)
            return await self._pool.do_alone(task, item)

        many = self._concurrency
        if not task.asks:
            await self._pool.open()
            many = _IN_FLIGHT_EACH * self._pool.size
        do = (lambda item: task.do(item, context)) if task.asks else send
        async with contextlib.aclosing(in_one_loop(items, do, concurrency=many, stop=self._stop)) as found:
            async for one in found:
                yield one

    def open_lane(self, name: str, *, api_key: str | None, timeout_s: float) -> Client:
        """See Engine."""
        return RemoteLane(self._pool, Sending(find_lane(name), api_key, timeout_s))

    def spread(self) -> RaySpread:
        """See Engine; actors go, since they would keep the cores from what is called."""
        self._pool.rest()
        self._spread = self._spread or RaySpread(self._cluster)
        return self._spread

    def did(self) -> str:
        """See Engine."""
        pool, told = self._pool, list[str]()
        if pool.most:
            told.append(f"{counted(pool.most, 'actor')} did {counted(pool.done, 'task')}")
        if pool.died:
            told.append(f"{pool.died:,} of them died and were replaced, and what they had in hand was done again")
        if self._spread:
            told.append(f"{counted(self._spread.calls, 'call')} searched blocks of rows")
        return f"ray, {counted(self._cluster.machines, 'machine')}: {'; '.join(told)}" if told else ""

    async def close(self) -> None:
        """See Engine."""
        self._pool.rest()
        self._cluster.close()


# ---- actors, seen from the driver -----------------------------------------------------------------------------------


@dataclass
class _Worker:
    """One actor: the tasks that it knows, what this turn of the loop has for it, and what it has not answered."""

    actor: Any
    told: dict[int, asyncio.Future[str]] = field(default_factory=dict)
    said: list[tuple[int, int, Any]] = field(default_factory=list)
    awaited: Awaited = field(default_factory=Awaited)
    is_up: bool = False
    """One that the cluster has no room for yet, such as after a machine was lost, gets nothing to do."""


class Pool:
    """Actors that do tasks; started as they are needed, and in the place of those that died."""

    def __init__(self, cluster: Cluster, size: int) -> None:
        self._cluster, self.size = cluster, size
        self.most = self.died = self.done = self._in_a_row = 0
        self.workers: list[_Worker] = []
        self._tasks: dict[int, Task[Any, Any]] = {}
        self._hearing: set[asyncio.Task[None]] = set()
        self._alone: _Worker | None = None
        self._news = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reach the cluster, which decides how many actors there are where nobody said so."""
        if not self._cluster.is_open:
            self._opening = self._opening or asyncio.ensure_future(asyncio.to_thread(self._cluster.open))
            await asyncio.shield(self._opening)
        self.size = self.size or self._cluster.cores

    async def do(self, task: Task[T, R], item: T) -> R:
        """Let the least busy actor do one item; see Doing."""
        await self.open()
        while True:
            while len(self.workers) < self.size:
                self._start()
            if up := [worker for worker in self.workers if worker.is_up]:
                return await self._by(min(up, key=lambda one: len(one.awaited)), task, item)
            self._news.clear()
            await self._news.wait()

    async def do_alone(self, task: Task[T, R], item: T) -> R:
        """Let an actor do one item that has no other in hand: if it dies, this is what it died of.

        The errors are those of `do`.
        """
        await self.open()
        async with self._one_at_a_time:
            self._alone = self._alone or _Worker(self._made(0.0))
            return await self._by(self._alone, task, item)

    async def _by(self, worker: _Worker, task: Task[T, R], item: T) -> R:
        number, answer = worker.awaited.expect()
        try:
            await self._tell(worker, task)
            if not worker.said:
                asyncio.get_running_loop().call_soon(self._send, worker)
            worker.said.append((number, id(task), item))
            found: R = await answer
        except asyncio.CancelledError:
            worker.actor.cancel.remote(number)
            raise
        finally:
            worker.awaited.forget(number)
        self.done += 1
        self._in_a_row = 0
        return found

    def _start(self) -> None:
        if self._in_a_row >= self.size + _MOST_DEATHS_IN_A_ROW:
            fix = "use --engine local, and look at the logs of the cluster"
            raise FatalModelError("actors of the cluster keep dying", fix=fix)
        worker = _Worker(self._made(min(1.0, self._cluster.cores / self.size)))
        self.workers.append(worker)
        self.most = max(self.most, len(self.workers))
        self._keep(self._greet(worker))

    async def _greet(self, worker: _Worker) -> None:
        try:
            worker.is_up = await worker.actor.is_up.remote()
        except RayError:
            self._bury(worker)
        finally:
            self._news.set()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._hearing.add(task)
        task.add_done_callback(self._hearing.discard)

    def _made(self, cores: float) -> Any:
        return ray.remote(_Actor).options(num_cpus=cores, max_restarts=0, scheduling_strategy="SPREAD").remote()

    async def _tell(self, worker: _Worker, task: Task[Any, Any]) -> None:
        """Let an actor know a task before its first item; its code is the driver's, or nothing is done by it."""
        name = id(task)
        if name not in worker.told:
            self._tasks[name] = task  # as long as there are actors, no other task may get its id
            body = pickle.dumps(task)
            worker.told[name] = _awaited(worker.actor.learn.remote(name, body, _variables()))
        try:
            theirs = await asyncio.shield(worker.told[name])
        except RayTaskError as error:
            raise FatalModelError(f"an actor cannot take the task: {error.cause}", fix=_SAME_CODE) from error
        except RayError:
            self._bury(worker)
            return
        if theirs != __version__:
            raise FatalModelError(f"the cluster has safetyqc {theirs}, and this is {__version__}", fix=_SAME_CODE)

    def _send(self, worker: _Worker) -> None:
        """Give an actor what one turn of the loop has for it as one call."""
        said, worker.said = worker.said, []
        self._keep(self._hear(worker, said))

    async def _hear(self, worker: _Worker, said: list[tuple[int, int, Any]]) -> None:
        """Hand a call's answers out as they come; whoever still waits when the actor dies may try again."""
        try:
            body = pickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL)
            async for part in worker.actor.do.options(num_returns="streaming").remote(body):
                for number, result in pickle.loads(await part):
                    worker.awaited.answer(number, result)
        except RayTaskError as error:
            for number, _, _ in said:
                worker.awaited.answer(number, ModelError("defect", f"an actor failed: {error.cause}"))
        except RayError:
            self._bury(worker)
        except UNPICKLABLE as error:  # nobody must wait for ever
            for number, _, _ in said:
                worker.awaited.answer(number, outcome_of(error))

    def _bury(self, worker: _Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            self.died += 1
            self._in_a_row += 1
            ray.kill(worker.actor)  # where only the way to it broke
        elif worker is self._alone:
            self._alone = None
            self.died += 1
        worker.awaited.give_up()

    def rest(self) -> None:
        """End the actors; they are started again when there is something to do."""
        workers, self.workers = [*self.workers, *([self._alone] if self._alone else [])], []
        self._alone = None
        for worker in workers:
            ray.kill(worker.actor)


_SAME_CODE = "install the same safetyqc on all machines of the cluster, under the same Python"


def _variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _LOADED if os.environ.get(name)}


def _awaited(reference: Any) -> asyncio.Future[Any]:
    async def wait() -> Any:
        return await reference

    return asyncio.ensure_future(wait())


# ---- an actor -------------------------------------------------------------------------------------------------------


class _Actor:
    """A worker, as Ray calls one."""

    def __init__(self) -> None:
        self._worker = Worker()

    async def is_up(self) -> bool:
        """Answer, which says so."""
        return True

    async def learn(self, name: int, task: bytes, variables: dict[str, str]) -> str:
        """Take a task; returns the version of this code. Pickle is safe here: whoever calls actors can run anything."""
        for variable, value in variables.items():
            os.environ.setdefault(variable, value)
        self._worker.tasks[name] = pickle.loads(task)
        return __version__

    async def do(self, said: bytes) -> AsyncIterator[bytes]:
        """Do items of tasks; yields (number, result) of those that have ended, as they do."""
        ended: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        left = 0
        for number, name, item in pickle.loads(said):
            self._worker.start(number, name, item, ended.put_nowait)
            left += 1
        while left:
            results = [await ended.get()]
            while not ended.empty():
                results.append(ended.get_nowait())
            left -= len(results)
            yield packed(results)

    async def cancel(self, number: int) -> None:
        """Do not go on with an item."""
        self._worker.cancel(number)
