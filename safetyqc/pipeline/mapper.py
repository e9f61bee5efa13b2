"""Runs a map stage as a person sees it: an engine's map under a progress line and a timing.

It hands outcomes to whoever called, who writes them down; it decides nothing about them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from safetyqc.errors import Deferred, ModelError, SafetyqcError
from safetyqc.store import Store, Timing

if TYPE_CHECKING:
    from safetyqc.pipeline.engine import Context, Engine, Task
    from safetyqc.pipeline.progress import Progress

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Mapper:
    """What a map stage needs beside the store: an engine, what tasks find there, and a line to be seen by."""

    engine: Engine
    context: Context
    store: Store
    progress: Progress
    deferred: int = 0
    """How many items of the last map wait for a batch."""
    part: str = ""
    """Stands behind the stage's name where people see it, for a stage that goes over a part of the data."""

    async def map(
        self,
        stage: str,
        items: Sequence[T],
        task: Task[T, R],
        *,
        already: int = 0,
        first: int = 0,
        total: int | None = None,
    ) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Do a task for every item; yields (item, result or failure) as they finish.

        Items that wait for a batch are left out; `deferred` counts them.

        Args:
            already: how many items of the stage earlier calls did.
            first: how many are done before the rest is begun, so that nothing is on its way when they end it.
            total: how many items the stage has, where these are a part of them.
        """
        async for item, outcome in self._all(stage, items, task, already, first, total):
            if not isinstance(outcome, Deferred):
                yield item, outcome

    async def in_order(
        self, stage: str, items: Sequence[T], task: Task[T, R], *, already: int = 0, total: int | None = None
    ) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Do what `map` does, and yield in the order of the items, which have to be distinct objects.

        So what is decided by what came before, such as which of two copies stays, does not depend on which was faster.
        What waits for its turn when the map is stopped is yielded too: it was paid for.

        Args:
            total: how many items the stage has, where these are a part of them.
        """
        places = {id(item): place for place, item in enumerate(items)}
        held: dict[int, tuple[T, R | ModelError | Deferred]] = {}
        due = 0
        try:
            async for item, outcome in self._all(stage, items, task, already, total=total):
                held[places[id(item)]] = item, outcome
                while due in held:
                    found, said = held.pop(due)
                    due += 1
                    if not isinstance(said, Deferred):
                        yield found, said
        except SafetyqcError:
            for _, (found, said) in sorted(held.items(), key=lambda entry: entry[0]):
                if not isinstance(said, Deferred):
                    yield found, said
            raise

    async def _all(
        self,
        stage: str,
        items: Sequence[T],
        task: Task[T, R],
        already: int,
        first: int = 0,
        total: int | None = None,
    ) -> AsyncIterator[tuple[T, R | ModelError | Deferred]]:
        self.deferred = 0
        if not items:
            return
        total = len(items) + already if total is None else max(total, already + len(items))
        with self.timed(stage, len(items)), self.progress.stage(f"{stage}{self.part}", total, done=already) as line:
            for part in (items[:first], items[first:]):
                async for item, outcome in self.engine.map(part, task, self.context):
                    if isinstance(outcome, Deferred):
                        self.deferred += 1
                        line.advance(failed="for a batch")
                    else:
                        line.advance(failed=outcome.kind if isinstance(outcome, ModelError) else None)
                    yield item, outcome

    @contextmanager
    def timed(self, stage: str, items: int) -> Iterator[None]:
        """Remember how long a stage took, also when it is interrupted."""
        started = time.monotonic()
        try:
            yield
        finally:
            if items:
                self.store.add_timing(Timing(stage, time.monotonic() - started, items))
