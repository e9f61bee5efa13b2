"""An open run together with what its stages need: configuration, models, engine, progress, and a way to stop.

It opens and closes things; it decides nothing about conversations. The one surprising thing: the client is opened at
its first use, so that a stage that finds nothing left to do never loads a model or litellm.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from safetyqc.config import Config
from safetyqc.errors import Deferred, ModelError, UserError
from safetyqc.llm.client import Client
from safetyqc.llm.door import Door, DoorSettings, open_door
from safetyqc.llm.workers import auto_workers
from safetyqc.pipeline.choices import models_of, price_table
from safetyqc.pipeline.engine import Engine, LocalEngine, Stop
from safetyqc.pipeline.progress import Progress
from safetyqc.store import Store, Timing

if TYPE_CHECKING:
    from safetyqc.llm.batch.desk import BatchDesk
    from safetyqc.llm.batch.parking import ParkingClient

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Session:
    """One invocation's view of a run."""

    config: Config
    store: Store
    progress: Progress
    stop: Stop = field(default_factory=Stop)
    client_override: Client | None = None
    """A client to use instead of the configured one; for tests and for library users."""
    deferred: int = 0
    """How many items of the last map wait for a batch."""
    _client: Client | None = None
    _desk: BatchDesk | None = None

    @property
    def client(self) -> Client:
        """The door to all models of this run, opened at first use."""
        if self._client is None:
            if self.client_override is not None:
                self._client = self.client_override
            elif any(batch.is_open for batch in self.store.batches()):
                self._client = self.batching[0]
            else:
                self._client = self._open_door()
            self.progress.watch(self._client)
        return self._client

    @property
    def batching(self) -> tuple[ParkingClient, BatchDesk]:
        """The client that can put requests aside for a batch, and the desk that submits and collects batches.

        Raises:
            UserError: the session asks a client that a library user gave.
        """
        from safetyqc.llm.batch.desk import BatchDesk
        from safetyqc.llm.batch.parking import ParkingClient

        if self.client_override is not None:
            raise UserError("a client of your own has no batches", fix="open the session without one")
        if not isinstance(self._client, ParkingClient):
            door = self._client if isinstance(self._client, Door) else self._open_door()
            self._client = ParkingClient(door, self.store)
            self.progress.watch(self._client)
        if self._desk is None:
            self._desk = BatchDesk(self.store, self._client.door)
        return self._client, self._desk

    def _open_door(self) -> Door:
        door = open_client(self.config, self.store)
        self.stop.on_press(door.stop)
        door.warm_up(*models_of(self.config))
        return door

    @property
    def engine(self) -> Engine:
        """Runs map stages with the configured concurrency."""
        return LocalEngine(self.config.models.concurrency, self.stop)

    async def map(
        self, stage: str, items: Sequence[T], work: Callable[[T], Awaitable[R]], *, already: int = 0
    ) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Run one map stage under a progress line and a timing; `already` counts what earlier invocations did.

        Items that wait for a batch are left out; `deferred` counts them.
        """
        self.deferred = 0
        if not items:
            return

        async def work_or_wait(item: T) -> R | Deferred:
            try:
                return await work(item)
            except Deferred as error:
                return error

        with self.timed(stage, len(items)), self.progress.stage(stage, len(items) + already, done=already) as line:
            async for item, outcome in self.engine.map(items, work_or_wait):
                if isinstance(outcome, Deferred):
                    self.deferred += 1
                    line.advance(failed="for a batch")
                    continue
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

    async def close(self) -> None:
        """Release models and the run."""
        if self._desk is not None:
            await self._desk.close()
            self._desk = None
        if self._client is not None:
            await self._client.close()
            self._client = None
        self.progress.close()
        self.store.close()


def open_session(config: Config, *, create: bool = False, quiet: bool = False, client: Client | None = None) -> Session:
    """Open the configured run for writing.

    Args:
        create: make the run when it is not there.
        client: asked instead of the configured models; for tests and library users.

    Raises:
        RunError: the run cannot be opened.
    """
    store = Store.create(config.run) if create else Store.open(config.run)
    return Session(config, store, Progress(quiet=quiet), client_override=client)


def open_client(config: Config, store: Store | None) -> Door:
    """Open the door to all models with the configured limits, lane and prices; the ledger is the store's."""
    models = config.models
    settings = DoorSettings(
        workers=_workers(config),
        api_base=models.api_base,
        timeout_s=models.timeout_s,
        max_attempts=models.max_attempts,
        max_cost_usd=models.max_cost_usd,
        prices=price_table(config).table,
        lane=models.lane,
        fresh=models.fresh,
        fallback=models.fallback,
        rpm=models.requests_per_minute,
        tpm=models.tokens_per_minute,
    )
    return open_door(store, settings=settings)


def _workers(config: Config) -> int:
    models = config.models
    if models.workers != "auto":
        return models.workers
    scout = open_door(None, settings=DoorSettings(api_base=models.api_base, lane=models.lane))
    return max((auto_workers(scout.lane_name(model)) for model in models_of(config)), default=0)
