"""An open run together with what its stages need: configuration, models, engine, progress, and a way to stop.

It opens and closes things; it decides nothing about conversations. The client is opened at its first use, so that a
stage that finds nothing left to do never loads a model or litellm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.config import Config
from safetyqc.errors import ConfigError, UserError, choose_from
from safetyqc.llm.client import Client
from safetyqc.llm.door import Door, DoorSettings, open_door
from safetyqc.llm.lanes import OpenLane, auto_workers, open_lane
from safetyqc.pipeline.choices import models_of, places_of, price_table
from safetyqc.pipeline.engine import Context, Engine, EngineSettings, Stop
from safetyqc.pipeline.engines import ENGINES, refuse_missing
from safetyqc.pipeline.mapper import Mapper
from safetyqc.pipeline.progress import Progress
from safetyqc.store import Store

if TYPE_CHECKING:
    from safetyqc.llm.batch.desk import BatchDesk
    from safetyqc.llm.batch.parking import ParkingClient


@dataclass
class Session:
    """One invocation's view of a run."""

    config: Config
    store: Store
    progress: Progress
    stop: Stop = field(default_factory=Stop)
    client_override: Client | None = None
    """A client to use instead of the configured one; for tests and for library users."""
    batch_folder: Path | None = None
    """Where batches are written as files, for whoever runs them; None: they go to providers."""
    _client: Client | None = None
    _desk: BatchDesk | None = None
    _engine: Engine | None = None
    _mapper: Mapper | None = None

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
            self._client = ParkingClient(door, self.store, offline=self.batch_folder is not None)
            self.progress.watch(self._client)
        if self._desk is None:
            self._desk = BatchDesk(self.store, self._client.door, self.batch_folder)
        return self._client, self._desk

    def _open_door(self) -> Door:
        door = open_client(self.config, self.store, self.engine.open_lane, self.progress.note)
        self.stop.on_press(door.stop)
        return door

    @property
    def engine(self) -> Engine:
        """Runs map stages; made at its first use."""
        if self._engine is None:
            self._engine = open_engine(self.config, self.stop)
        return self._engine

    @property
    def mapper(self) -> Mapper:
        """What map stages need beside the store."""
        if self._mapper is None:
            self._mapper = Mapper(self.engine, Context(lambda: self.client), self.store, self.progress)
        return self._mapper

    def timed(self, stage: str, items: int) -> AbstractContextManager[None]:
        """Remember how long a stage took, also when it is interrupted."""
        return self.mapper.timed(stage, items)

    async def close(self) -> None:
        """Release models and the run."""
        if self._desk is not None:
            await self._desk.close()
            self._desk = None
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._engine is not None:
            if did := self._engine.did():
                self.progress.note(did)
            await self._engine.close()
            self._engine = None
        self.progress.close()
        self.store.close()


def open_session(config: Config, *, create: bool = False, quiet: bool = False, client: Client | None = None) -> Session:
    """Open the configured run for writing.

    Args:
        create: make the run when it is not there.
        client: asked instead of the configured models; for tests and library users.

    Raises:
        RunError: the run cannot be opened.
        ConfigError: there is no such engine.
    """
    choose_engine(config)  # what is wrong with it is said before a run is made
    store = Store.create(config.run) if create else Store.open(config.run)
    return Session(config, store, Progress(quiet=quiet), client_override=client)


def open_client(
    config: Config,
    store: Store | None,
    lanes: OpenLane = open_lane,
    announce: Callable[[str], None] | None = None,
) -> Door:
    """Open the door to all models with the configured limits, lane and prices; the ledger is the store's.

    Args:
        announce: told where each model is asked, before its first call.
    """
    models, places = config.models, places_of(config)
    settings = DoorSettings(
        api_base=places.api_base,
        fills_in=not config.places,
        unvouched=frozenset(base for base in config.places.values() if base),
        by_name=places.by_name,
        elsewhere=places.elsewhere,
        announce=announce,
        shows_key=not config.base_is_from_file,
        timeout_s=models.timeout_s,
        max_attempts=models.max_attempts,
        max_cost_usd=models.max_cost_usd,
        prices=price_table(config).table,
        lane=models.lane,
        fresh=models.fresh or config.judge.retry_unscored,
        fallback=models.fallback,
        rpm=models.requests_per_minute,
        tpm=models.tokens_per_minute,
    )
    return open_door(store, settings=settings, open_lane=lanes)


def open_engine(config: Config, stop: Stop) -> Engine:
    """Make the engine that is configured; the errors are those of `choose_engine`."""
    name, settings = choose_engine(config)
    return ENGINES[name](settings, stop)


@contextmanager
def engine_without_run(config: Config, note: Callable[[str], None]) -> Iterator[Engine]:
    """An engine for what waits for nothing and needs no run; told in the end what it did."""
    engine = open_engine(config, Stop())
    try:
        yield engine
        if did := engine.did():
            note(did)
    finally:
        with suppress(StopIteration):
            engine.close().send(None)  # without a loop there is nothing to wait for


def choose_engine(config: Config) -> tuple[str, EngineSettings]:
    """The engine that is configured, by its name in `ENGINES`, and how it is made.

    `--workers` alone means processes, `--ray-address` alone Ray.

    Raises:
        ConfigError: no such engine, or workers or a cluster for one that has none.
        UserError: what it needs is not installed.
    """
    models = config.models
    size = models.workers if isinstance(models.workers, int) else _auto_workers(config)
    name = models.engine or ("ray" if models.ray_address else "processes" if size else "local")
    if name not in ENGINES:
        raise ConfigError(f"unknown value {name!r}", where="--engine", fix=choose_from(name, ENGINES))
    if name != "ray" and models.ray_address:
        fix = "leave one of them out: --ray-address is where --engine ray finds its cluster"
        raise ConfigError(f"--engine {name} has no cluster", where="--ray-address", fix=fix)
    if name == "local" and models.workers not in (0, "auto"):
        fix = "leave one of them out: --workers is the size of --engine processes"
        raise ConfigError(f"--engine local has no {size} workers", where="--workers", fix=fix)
    refuse_missing(name)
    return name, EngineSettings(models.concurrency, size, models.ray_address)


def _auto_workers(config: Config) -> int:
    scout = open_client(config, None)
    return max((auto_workers(scout.lane_name(model)) for model in models_of(config)), default=0)
