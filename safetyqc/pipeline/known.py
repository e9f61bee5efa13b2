"""Tells at once whether a new conversation says what the run already holds, while the run is being written.

Uses term frequencies alone, because there is no finished corpus yet to weigh words by; `dedup` has the last word. The
one surprising thing: only the first of a group of copies is remembered, so the group never grows in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from safetyqc.records import Conversation, Duplicate

if TYPE_CHECKING:
    from safetyqc.config import Config


_MIN_TF_SIMILARITY = 0.85
"""Without idf common words count fully: different Chinese conversations reach 0.70 (docs/dedup.md)."""


class Known:
    """The texts of a run, to be asked before each addition."""

    def __init__(self, config: Config, conversations: Iterable[Conversation]) -> None:
        from safetyqc.dedup.index import SimilarityIndex

        self._on = config.dedup.on
        self._index = SimilarityIndex(max(config.dedup.min_similarity, _MIN_TF_SIMILARITY))
        self._ids: list[str] = []
        held = [c for c in conversations if c.origin != "canary"]
        self._index.add([self._text(c) for c in held])
        self._ids += [c.id for c in held]

    def add(self, conversation: Conversation) -> Duplicate | None:
        """Name what the run already holds that says nearly the same; otherwise remember this one and return None."""
        text = self._text(conversation)
        near = self._index.near(text)
        if near:
            return Duplicate(conversation_id=self._ids[near[0].index], similarity=near[0].similarity)
        self._index.add([text])
        self._ids.append(conversation.id)
        return None

    def _text(self, conversation: Conversation) -> str:
        from safetyqc.dedup.groups import compared_text

        return compared_text(conversation, self._on)
