"""Conversations of a run as a sequence that holds their places alone, and reads some at a time as they are looked at.

So that a stage over ten million conversations takes the memory of as many numbers. Which ones is decided when it is
made.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from safetyqc.records import Conversation
from safetyqc.store.run import Store

_AT_A_TIME = 900


class Unread(Sequence[Conversation]):
    """The conversations at these places of a run, which have to ascend. Each look at one reads it anew."""

    def __init__(self, store: Store, numbers: Iterable[int]) -> None:
        self._store, self._numbers = store, array("q", numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Unread(self._store, self._numbers[place])
        return next(self._store.conversations_at([self._numbers[place]]))

    def ids(self) -> list[str]:
        """Their ids, found without reading one."""
        return self._store.ids_at(self._numbers)

    def __iter__(self) -> Iterator[Conversation]:
        for start in range(0, len(self._numbers), _AT_A_TIME):
            yield from self._store.conversations_at(self._numbers[start : start + _AT_A_TIME])
