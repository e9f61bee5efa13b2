"""One thing to label, and the order that chance gives to many.

Orders come from hashes: the same on every machine, for every annotator and after every restart, and by chance as far
as the texts go. So any beginning of an order is a sample of the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from safetyqc.review.draws import PLAN

ALL = "all"
"""The queue of everything that counts, in an order that chance made."""
BY_CHANCE = frozenset({None, PLAN, ALL})
"""Queues whose labels say something of rates: what came out of any other was picked for what was said of it."""
OVERLAP_EVERY = 5
"""Every so manieth conversation is asked of every annotator: how far people agree is measured on them."""


@dataclass(frozen=True)
class Item:
    """A conversation to label; `criteria` None means all that apply.

    `queue`, `stratum` and `probability` are what is stored with its labels: how it came to be labelled at all. So what
    is labelled once more, by whomever, stays in the sample that it was in.
    """

    conversation_id: str
    queue: str | None
    criteria: tuple[str, ...] | None = None
    stratum: str | None = None
    probability: float | None = None
    shared: bool = False
    """Whether every annotator is asked, whoever labelled it already."""


def by_chance(conversation_id: str, salt: str = "") -> int:
    """A 64-bit number that nothing about a conversation's text tells, for ordering and choosing by it."""
    digest = hashlib.blake2b(f"{salt}\n{conversation_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def is_shared(number: int) -> bool:
    """Whether every annotator gets the conversation of this number, where no draw says so."""
    return number % OVERLAP_EVERY == 0
