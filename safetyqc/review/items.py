"""One thing to label, and the order that chance gives to many.

Orders come from hashes: the same on every machine, for every annotator and after every restart, and by chance as far
as the texts go. So any beginning of an order is a sample of the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A conversation to label, and why it is shown; `criteria` None means all that apply.

    `stratum` and `probability` are those of the draw, and stay None where a conversation was not drawn by chance.
    """

    conversation_id: str
    queue: str
    criteria: tuple[str, ...] | None = None
    stratum: str | None = None
    probability: float | None = None


def by_chance(conversation_id: str, salt: str = "order") -> int:
    """A 64-bit number that nothing about a conversation's text tells, for ordering and choosing by it."""
    digest = hashlib.blake2b(f"{salt}\n{conversation_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def is_shared(conversation_id: str, share: float) -> bool:
    """Whether every annotator gets this one: by them people are measured against each other."""
    return by_chance(conversation_id, "shared") < share * 2**64
