"""What a look at a batch brought: outcomes of requests as they are written down, and what was odd, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError
from safetyqc.llm.batch.records import Batch, BatchAnswer
from safetyqc.llm.batch.wire import BatchState, Lines, pack_outcome
from safetyqc.llm.door import is_good, paid_reply

if TYPE_CHECKING:
    from safetyqc.llm.client import Reply, Request
    from safetyqc.llm.prices import Price


@dataclass(frozen=True)
class Collected:
    """What one look at a batch brought.

    Args:
        state: what the provider said; None when there was nothing to ask it.
        answered: answers that are in the ledger now; unusable: cut off, filtered or refused ones.
        failed: requests without an answer, by reason.
        waiting: requests of which nothing has come back.
        remarks: what was odd about the answer files.
    """

    batch: Batch
    state: BatchState | None = None
    answered: int = 0
    unusable: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    cost_usd: float | None = None
    remarks: tuple[str, ...] = ()


def answer_of(request: Request, outcome: Reply | ModelError, price: Price | None) -> BatchAnswer:
    """How a request ended, as the run keeps it."""
    paid = paid_reply(outcome, request)
    if paid is None:
        return BatchAnswer(request, pack_outcome(outcome))
    reply = replace(paid, cost_usd=price.of(paid.usage) if price else None)
    if isinstance(outcome, ModelError):
        return BatchAnswer(request, pack_outcome(outcome), reply)
    return BatchAnswer(request, pack_outcome(reply, good=is_good(reply)), reply, is_good(reply))


def missing_answer(batch: Batch, state: BatchState) -> ModelError:
    """Why a request without a line has no answer; the next batch may have one."""
    why = "; ".join(state.errors[:3]) or "no answer for this request came with it"
    return ModelError("provider_error", f"{batch.model}: batch {state.status}: {why}", retryable=True)


def remarks_on(state: BatchState, lines: Lines, missing: int) -> Iterator[str]:
    """What was odd about the answer files of a provider."""
    if missing:
        came = f"{lines.lines:,} of {state.done + state.failed:,} lines came"
        yield f"the answer files were cut off ({came}): collect again for the other {missing:,}"
    if lines.broken and not missing:
        yield f"{lines.broken:,} lines could not be read"
    if lines.unknown:
        yield f"{lines.unknown:,} lines are not about requests of this batch and were left out"
    if lines.repeated:
        yield f"{lines.repeated:,} requests were answered in more than one line; the first good answer counts"
    yield from (f"the provider says: {error}" for error in state.errors[:5])
