"""A client that collects a stage's requests for a batch instead of sending them, and leaves waiting ones alone.

What the ledger has is answered at once; a request of the parked stage is put aside and raises Deferred; everything else
goes through the door. A request that waits in an open batch is never sent beside it, by no command of the run. A
batch's cut-off or refused answer is handed out again and again, though the ledger reuses none: otherwise the next step
(more room, the reason of a failure) would never be reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyqc.errors import Deferred, FatalModelError, ModelError
from safetyqc.llm.batch.wire import unpack_outcome
from safetyqc.llm.hosts import PROVIDERS, is_in_process, provider_of
from safetyqc.llm.lanes import has_batches
from safetyqc.llm.structured import Capabilities, Replayed
from safetyqc.text import run_flag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safetyqc.llm.client import Reply, Request
    from safetyqc.llm.door import Door
    from safetyqc.llm.ledger import BatchLedger


class ParkingClient:
    """See the module; wraps the door of a run.

    Args:
        offline: whether what is put aside goes into files: any model's requests can, and those of no stage can be sent.
    """

    def __init__(self, door: Door, store: BatchLedger, *, offline: bool = False) -> None:
        self._offline = offline
        self.door, self.counters = door, door.counters
        self._store = store
        self._stage: str | None = None
        self._callwise: set[str] = set()
        self._tell: Callable[[str], None] | None = None
        self.parked: dict[str, Request] = {}
        self.refresh()

    @property
    def capabilities(self) -> Capabilities:
        """What models are known to support; see Replayed for what a batch must not know."""
        return self.door.capabilities if self._stage is None else Replayed(self.door.capabilities)

    def refresh(self) -> None:
        """Look again at which requests wait in a batch, and how those ended that do no longer."""
        self._waiting = self._store.waiting_keys()
        self._outcomes: Mapping[str, Mapping[str, object]] = self._store.batch_outcomes()

    def park(self, stage: str | None, tell: Callable[[str], None] | None = None) -> None:
        """Collect the requests of this stage from now on, `tell` of models without batches; None sends all again."""
        self._stage, self._tell = stage, tell

    def take(self) -> list[Request]:
        """The parked requests, which are then no longer parked."""
        parked, self.parked = list(self.parked.values()), {}
        return parked

    def ask_callwise(self, model: str) -> None:
        """Send this model's requests one by one after all: it has no batch API."""
        self._callwise.add(model)

    def _tell_once(self, model: str) -> None:
        if self._tell is None or model in self._callwise:
            return
        self._callwise.add(model)
        if is_in_process(model):
            self._tell(f"{model} answers in this process, without a batch")
        else:
            self._tell(f"no batch API is known for {model}: asking call by call, at the full price")

    def has_batches(self, model: str, api_base: str | None = None) -> bool:
        """Whether the way to this model may lead to a batch API; a server of the user's own is asked to find out."""
        if self._offline:
            return not is_in_process(model)
        if model in self._callwise or not has_batches(self.door.lane_name(model, api_base)):
            return False
        provider = provider_of(model) or (None if "/" in model else PROVIDERS["openai"])
        return self.door.base(model, api_base) is not None or (provider is not None and provider.has_batches)

    async def complete(self, request: Request) -> Reply:
        """See Client.

        Raises:
            Deferred: the answer comes with a batch.
        """
        placed = self.door.place(request)
        if self._stage is not None and (self._offline or placed.stage == self._stage):
            if self.has_batches(placed.model, placed.api_base):
                return self._from_batch(placed)
            self._tell_once(placed.model)
        if placed.key in self._waiting:
            fix = f"collect it first: `safetyqc batch collect{run_flag(self._store.folder)} --wait`"
            raise Deferred(f"{placed.model}: this very request waits in a batch\n  fix: {fix}")
        return await self.door.complete(request)

    def _from_batch(self, request: Request) -> Reply:
        known = self._store.find_reply(request.key)
        if known is not None:
            self.counters.reused += 1
            return known
        if request.key not in self._waiting and request.key not in self.parked:
            kept = self._outcomes.get(request.key)
            outcome = unpack_outcome(kept, request.model) if kept else None
            if isinstance(outcome, ModelError):
                if not outcome.retryable and not isinstance(outcome, FatalModelError):
                    raise outcome
            elif outcome is not None:
                return outcome
            self.parked[request.key] = request
        raise Deferred(f"{request.model}: goes with a batch")

    async def close(self) -> None:
        """See Client."""
        await self.door.close()
