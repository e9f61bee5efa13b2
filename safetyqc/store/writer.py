"""All writing to a run: one thread that commits whatever has queued up in one transaction.

So a write is durable when its future resolves, and yet thousands a second are possible. It knows no table. When a
transaction fails, each of its jobs is tried alone, so that one bad row fails only itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetyqc.store.file import connect, explain


@dataclass(slots=True)
class _Job:
    """Something to write, and who is told how it went: a thread that waits, or a coroutine."""

    sql: str
    rows: list[tuple[Any, ...]]
    done: Future[int] | asyncio.Future[int]
    further: Sequence[tuple[str, list[tuple[Any, ...]]]] = ()
    """More statements, which are run with this one or not at all."""


class Writer:
    """One thread, one connection: takes everything that has queued up, commits it together, resolves the futures."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)  # here, not in the thread: nobody would see it fail there
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="safetyqc-store", daemon=True)
        self._thread.start()

    def put(self, sql: str, rows: list[tuple[Any, ...]]) -> Future[int]:
        """Queue one statement; the future holds the number of changed rows once they are durable."""
        future: Future[int] = Future()
        self._queue.put(_Job(sql, rows, future))
        return future

    def put_all(self, statements: Sequence[tuple[str, list[tuple[Any, ...]]]]) -> Future[int]:
        """Queue statements that are written together or not at all."""
        future: Future[int] = Future()
        (sql, rows), *further = statements
        self._queue.put(_Job(sql, rows, future, further))
        return future

    async def write(self, sql: str, row: tuple[Any, ...]) -> int:
        """Write one row; returns when it is durable."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(sql, [row], future))
        return await future

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._connection) as connection:
            open_for_more = True
            while open_for_more:
                batch = [self._queue.get()]
                while not self._queue.empty():
                    batch.append(self._queue.get())
                open_for_more = None not in batch
                _tell(self._commit(connection, [job for job in batch if job is not None]))

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[tuple[_Job, int | Exception]]:
        """Commit all jobs together; when that fails, each alone, so that one bad row fails only itself."""
        try:
            with connection:
                counts = [connection.executemany(job.sql, job.rows).rowcount for job in jobs]
                for sql, rows in (statement for job in jobs for statement in job.further):
                    connection.executemany(sql, rows)
        except (sqlite3.Error, ValueError, OverflowError) as error:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit(connection, [job])]
            return [(job, explain(error, self._path)) for job in jobs]
        return [(job, max(count, 0)) for job, count in zip(jobs, counts, strict=True)]


def _tell(outcomes: list[tuple[_Job, int | Exception]]) -> None:
    """Resolve the futures; those of one event loop in one go, because waking a loop costs more than a write."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, int | Exception]]] = {}
    for job, outcome in outcomes:
        if isinstance(job.done, asyncio.Future):
            by_loop.setdefault(job.done.get_loop(), []).append((job, outcome))
        else:
            _resolve([(job, outcome)])
    for loop, own in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, own)


def _resolve(outcomes: list[tuple[_Job, int | Exception]]) -> None:
    for job, outcome in outcomes:
        if job.done.done():
            continue  # cancelled meanwhile; the row is written all the same
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
