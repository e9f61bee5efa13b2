"""Conversations and which of them are labelled -> why the labels may not stand for the rest, if they do not look it.

What labels say of the unlabelled holds where they were drawn by chance. How they were drawn is rarely told, but a
sample that is the beginning of a file, or all of one source, can be seen. Silence is no proof that chance drew them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from math import exp
from typing import Protocol

from safetyqc.records import Label

_MIN_LABELLED = 10
"""Fewer labelled conversations than this fall together by chance too often to say anything."""
_CHANCE = 0.001
"""What chance would do less often than this is told."""


class Sampled(Protocol):
    """What is asked of a conversation: its id, and what may set some apart from others."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def file(self) -> str | None:
        """Name of the file that it came from."""

    @property
    def category(self) -> str | None:
        """What it is about."""

    @property
    def author(self) -> str | None:
        """Which model wrote it."""


_PROPERTIES: dict[str, Callable[[Sampled], str | None]] = {
    "source": lambda c: c.file,
    "category": lambda c: c.category,
    "author": lambda c: c.author,
}


def doubts(conversations: Sequence[Sampled], labels: Collection[Label]) -> tuple[str, ...]:
    """Say what speaks against the labelled ones having been drawn by chance from all of them.

    Args:
        conversations: all that a rate is about, in their order.
        labels: of these or others; those that were drawn with a known probability vouch for themselves.
    """
    told = {label.conversation_id for label in labels if label.is_verdict}
    if all(label.probability is not None for label in labels):
        return ()
    places = [place for place, c in enumerate(conversations) if c.id in told]
    if not _MIN_LABELLED <= len(places) < len(conversations):
        return ()
    labelled = [conversations[place] for place in places]
    said = [_of_one(name, of, conversations, labelled) for name, of in _PROPERTIES.items()]
    return tuple(doubt for doubt in (_crowded(places, len(conversations)), *said) if doubt)


def _crowded(places: Sequence[int], n: int) -> str | None:
    """Whether the labelled ones crowd in one part of the order: Kolmogorov and Smirnov's test of even spread."""
    count = len(places)
    furthest = max(
        max(abs((rank + 1) / count - (place + 1) / n), abs(rank / count - place / n))
        for rank, place in enumerate(places)
    )
    effective = count * n / (n - count)  # drawn without replacement
    if 2 * exp(-2 * effective * furthest**2) >= _CHANCE:
        return None
    span = places[-1] - places[0] + 1
    if span == count:
        where = "the first" if places[0] == 0 else "the last" if places[-1] == n - 1 else "one block"
        return f"the {count:,} labelled conversations are {where} of {n:,} in their order"
    half = sum(place < n / 2 for place in places)
    return f"the {count:,} labelled conversations crowd together: {half:,} are in the first half of {n:,}"


def _of_one(
    name: str,
    of: Callable[[Sampled], str | None],
    conversations: Sequence[Sampled],
    labelled: Sequence[Sampled],
) -> str | None:
    values = {of(c) for c in labelled}
    value = next(iter(values))
    share = Counter(map(of, conversations))[value] / len(conversations)
    if len(values) > 1 or value is None or share ** len(labelled) >= _CHANCE:
        return None
    return f"all {len(labelled):,} labelled conversations are of {name} {value}, as {share:.0%} of all are"
