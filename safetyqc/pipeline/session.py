"""An open run together with what its stages need: configuration, models, engine, progress, and a way to stop.

It opens and closes things; it decides nothing about conversations. The one surprising thing: the client is opened at
its first use, so that a stage that finds nothing left to do never loads a model or litellm.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from safetyqc.config import Config
from safetyqc.engine import Engine, LocalEngine, Stop
from safetyqc.errors import ModelError
from safetyqc.llm.client import Client
from safetyqc.llm.door import Door, DoorSettings, open_door
from safetyqc.llm.prices import Price
from safetyqc.llm.workers import auto_workers
from safetyqc.pipeline.choices import models_of
from safetyqc.progress import Progress
from safetyqc.store import Store, Timing

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
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The door to all models of this run, opened at first use."""
        if self._client is None:
            self._client = self.client_override or open_client(self.config, self.store)
            if isinstance(self._client, Door):
                self._client.warm_up(*models_of(self.config))
            self.progress.watch(self._client)
        return self._client

    @property
    def engine(self) -> Engine:
        """Runs map stages with the configured concurrency."""
        return LocalEngine(self.config.models.concurrency, self.stop)

    async def map(
        self, stage: str, items: Sequence[T], work: Callable[[T], Awaitable[R]], *, already: int = 0
    ) -> AsyncIterator[tuple[T, R | ModelError]]:
        """Run one map stage under a progress line and a timing; `already` counts what earlier invocations did."""
        if not items:
            return
        with self.timed(stage, len(items)), self.progress.stage(stage, len(items) + already, done=already) as line:
            async for item, outcome in self.engine.map(items, work):
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
        prices={name: Price(*pair) for name, pair in models.prices.items()},
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
