"""What this room needs of a run: answers that were paid for, what was learnt about models, and open batches.

`safetyqc.store.Store` satisfies both protocols; nothing in `llm` imports it, so the store may speak of requests and
replies, and whoever keeps calls elsewhere writes one class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from safetyqc.llm.batch.records import Batch, BatchAnswer
    from safetyqc.llm.client import Reply, Request


class Ledger(Protocol):
    """Every answered request by the hash of its content, durable when `record_call` returns."""

    def find_reply(self, key: str) -> Reply | None:
        """The good answer to this very request, if one was ever paid for."""
        ...

    async def record_call(self, request: Request, reply: Reply, *, good: bool, history: Sequence[str] = ()) -> None:
        """Write an answer down; only good ones are ever given again."""
        ...

    def spent_usd(self) -> float:
        """All money spent so far, as far as prices are known."""
        ...

    def meta(self, key: str, default: Any = None) -> Any:
        """The JSON value that is remembered under a name, or the default."""
        ...

    def set_meta(self, key: str, value: Any) -> None:
        """Remember a JSON value under a name."""
        ...


class BatchLedger(Ledger, Protocol):
    """A ledger that also remembers which requests wait in which batch."""

    @property
    def folder(self) -> Path:
        """Where the run lives; named in what to type next."""
        ...

    def batches(self) -> list[Batch]:
        """Every batch, the oldest first."""
        ...

    def add_batch(self, batch: Batch, requests: Sequence[Request]) -> None:
        """Write a batch and its requests down before anybody is asked for it."""
        ...

    def put_batch(self, batch: Batch) -> None:
        """Write down how a batch is going."""
        ...

    def put_answers(self, tag: str, answers: Sequence[BatchAnswer]) -> None:
        """Write what came back with a batch, ledger and outcomes together."""
        ...

    def unanswered(self, tag: str) -> list[Request]:
        """The requests of a batch of which nothing has come back, in their order."""
        ...

    def batch_keys(self, tag: str) -> set[str]:
        """Keys of all requests of a batch."""
        ...

    def waiting_keys(self) -> set[str]:
        """Keys of the requests whose answers are still to come with a batch."""
        ...

    def batch_outcomes(self) -> Mapping[str, Mapping[str, Any]]:
        """How requests ended that got no good answer in the last batch they were in, by key."""
        ...
