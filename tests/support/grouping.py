"""Conversations -> duplicate groups in one call, as tests ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safetyqc.dedup import Pairs, compared_text, find_pairs, group_texts
from safetyqc.records import Conversation, Duplicate, DuplicateGroup


@dataclass(frozen=True)
class Grouped:
    """The groups, the pairs that they were made from, and the ids of everything."""

    groups: tuple[DuplicateGroup, ...]
    pairs: Pairs
    ids: tuple[str, ...]

    @property
    def dropped(self) -> dict[str, tuple[str, Duplicate]]:
        return {drop.conversation_id: (group.kept, drop) for group in self.groups for drop in group.dropped}

    @property
    def kept(self) -> list[str]:
        return [name for name in self.ids if name not in self.dropped]


def group_duplicates(
    conversations: Sequence[Conversation], *, min_similarity: float = 0.75, on: Any = "all", **options: Any
) -> Grouped:
    policy = {name: options.pop(name) for name in ("rank", "linkage", "within_category") if name in options}
    pairs = find_pairs([compared_text(c, on) for c in conversations], min_similarity, **options)
    return group_pairs(conversations, pairs, min_similarity=min_similarity, on=on, **policy)


def group_pairs(
    conversations: Sequence[Conversation],
    pairs: Pairs,
    *,
    min_similarity: float,
    on: Any = "all",
    rank: Callable[[Conversation], Any] = lambda _: 0,
    within_category: bool = False,
    **policy: Any,
) -> Grouped:
    ids = tuple(c.id for c in conversations)
    best_first = sorted(range(len(ids)), key=lambda place: rank(conversations[place]), reverse=True)
    names = [c.category or "" for c in conversations]
    groups = group_texts(
        ids,
        [compared_text(c, on) for c in conversations],
        pairs,
        min_similarity=min_similarity,
        order=np.argsort(np.array(best_first, np.int64)),
        categories=np.unique(names, return_inverse=True)[1] if within_category else None,
        **policy,
    )
    return Grouped(tuple(groups), pairs, ids)
