"""What a run remembers of the batches that were handed to providers. Nothing here is asked or sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safetyqc.llm.client import Endpoint, Reply, Request

BatchStatus = Literal["prepared", "submitting", "submitted", "collected", "given_up"]


@dataclass(frozen=True)
class Batch:
    """Requests that were handed to a provider's batch API together, or are about to be.

    Args:
        tag: our own name, sent along as metadata, by which a batch is found again whose id was never received.
        status: `prepared` before anything is asked, `submitting` while nobody knows whether the provider has it.
        command: what to type for the answers to be used.
        requests: how many.
        most_usd: what they can cost at most; None where the price is unknown.
        note: the last word about it, for people.
        folder: where its requests lie as a file, for whoever runs them; None: a provider has them.
    """

    tag: str
    status: BatchStatus
    model: str
    api_base: str | None
    lane: str
    command: str
    at: float
    requests: int
    most_usd: float | None = None
    file_id: str | None = None
    batch_id: str | None = None
    note: str = ""
    endpoint: Endpoint = "chat"
    folder: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether answers may still come."""
        return self.status not in ("collected", "given_up")


@dataclass(frozen=True)
class BatchAnswer:
    """What came back for one request of a batch; `reply` goes into the ledger, `outcome` says how it ended."""

    request: Request
    outcome: Mapping[str, Any]
    reply: Reply | None = None
    good: bool = False
