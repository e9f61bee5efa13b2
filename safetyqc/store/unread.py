"""Conversations of a run as a sequence that holds their ids alone, and reads some at a time as they are looked at.

So that a stage over ten million conversations takes the memory of their ids. Which ones is decided when it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from safetyqc.records import Conversation
from safetyqc.store.run import Store

_AT_A_TIME = 900


class Unread(Sequence[Conversation]):
    """The conversations of these ids, in the run's order. Each look at one reads it anew."""

    def __init__(self, store: Store, only: Collection[str]) -> None:
        self._store = store
        self._ids = [place.id for place in store.placed() if place.id in only] if only else []

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            return next(self._store.conversations({self._ids[place]}))
        part = Unread(self._store, ())
        part._ids = self._ids[place]
        return part

    def __iter__(self) -> Iterator[Conversation]:
        for start in range(0, len(self._ids), _AT_A_TIME):
            yield from self._store.conversations(set(self._ids[start : start + _AT_A_TIME]))
