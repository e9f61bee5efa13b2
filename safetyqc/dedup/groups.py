"""Turns near pairs into duplicate groups and decides which conversation of a group stays.

This is the policy; how pairs are found is `pairs.py`'s business, so the same pairs can be grouped again with another
threshold, linkage or ranking at no cost. It never edits or deletes a conversation: it says which are to be dropped, for
which kept one, how near they are and which rare terms they share.

The surprising thing: with single linkage (the default) a group is connected, not tight. A like B and B like C puts A
and C into one group though they may be less alike than the threshold; the similarity shown is that to the kept one,
so it can be lower than `min_similarity`. Complete linkage forms only groups in which every pair reaches the
threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.dedup.backend import BackendName
from safetyqc.dedup.evidence import describe
from safetyqc.dedup.pairs import Pairs, find_pairs
from safetyqc.errors import UserError, choose_from
from safetyqc.records import Conversation, Duplicate, DuplicateGroup

if TYPE_CHECKING:
    from safetyqc.dedup.rows import Array
    from safetyqc.dedup.tokens import Analyzer
    from safetyqc.dedup.vectors import Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

On = Literal["all", "requests", "answers"]
Linkage = Literal["single", "complete"]
Rank = Callable[[Conversation], Any]
DEFAULT_MIN_SIMILARITY = 0.75
"""Chosen from the table of planted edits in docs/dedup.md."""

_TEXTS: dict[str, Callable[[Conversation], list[str]]] = {
    "all": lambda conversation: [message.content for message in conversation.messages],
    "requests": lambda conversation: conversation.user_turns,
    "answers": lambda conversation: conversation.assistant_turns,
}
COMPARED: tuple[str, ...] = tuple(_TEXTS)
"""What can be compared: all turns, the user's, or the assistant's."""


@dataclass(frozen=True)
class DedupResult:
    """The groups, and the pairs that they were made from (`conversations[i]` is text i of the pairs)."""

    groups: tuple[DuplicateGroup, ...]
    pairs: Pairs
    min_similarity: float
    conversations: tuple[str, ...]
    """Ids, in the order of the input."""

    @property
    def dropped(self) -> dict[str, tuple[str, Duplicate]]:
        """For each dropped id, the id kept in its place and the evidence."""
        return {drop.conversation_id: (group.kept, drop) for group in self.groups for drop in group.dropped}

    @property
    def kept(self) -> list[str]:
        """Ids that stay, in the order of the input."""
        dropped = self.dropped
        return [name for name in self.conversations if name not in dropped]


def compared_text(conversation: Conversation, on: On = "all") -> str:
    """Give the text that stands for a conversation in a comparison."""
    if on not in _TEXTS:
        raise UserError(f"cannot compare on {on!r}", fix=choose_from(on, COMPARED))
    return "\n".join(_TEXTS[on](conversation))


def group_duplicates(
    conversations: Sequence[Conversation],
    *,
    min_similarity: float = DEFAULT_MIN_SIMILARITY,
    pairs_from: float | None = None,
    on: On = "all",
    rank: Rank | None = None,
    within_category: bool = False,
    linkage: Linkage = "single",
    analyzer: Analyzer = "word",
    weights: Weights = "tfidf",
    vocabulary: FrozenVocabulary | None = None,
    memory_mb: int | None = None,
    backend: BackendName = "auto",
) -> DedupResult:
    """Find near-duplicates and group them.

    `pairs_from` keeps pairs from a lower similarity on than the groups need: for a histogram, or to group again with
    another threshold (`group_pairs`). See `group_pairs` for the policy and `find_pairs` for the rest.
    """
    texts = [compared_text(conversation, on) for conversation in conversations]
    floor = min(min_similarity, pairs_from) if pairs_from else min_similarity
    pairs = find_pairs(
        texts, floor, analyzer=analyzer, weights=weights, vocabulary=vocabulary, memory_mb=memory_mb, backend=backend
    )
    return group_pairs(
        conversations,
        pairs,
        min_similarity=min_similarity,
        on=on,
        rank=rank,
        within_category=within_category,
        linkage=linkage,
    )


def group_pairs(
    conversations: Sequence[Conversation],
    pairs: Pairs,
    *,
    min_similarity: float,
    on: On = "all",
    rank: Rank | None = None,
    within_category: bool = False,
    linkage: Linkage = "single",
    terms: int = 5,
) -> DedupResult:
    """Group pairs that were found on the same conversations in the same order, and keep the best of each group.

    The best is the one with the highest `rank`, among equals the earliest in the input. `terms` is how many shared rare
    terms each drop names; 0 saves reading the texts again.

    Raises:
        UserError: a threshold below that of the pairs, other conversations than the pairs were found on, unknown
        linkage.
    """
    import numpy as np

    if len(conversations) != len(pairs.same_as):
        raise UserError(
            f"{len(pairs.same_as)} texts were compared, {len(conversations)} conversations given",
            fix="find pairs again",
        )
    order = codes = None
    if rank:  # a reversed sort leaves equals in their order too
        best_first = sorted(range(len(conversations)), key=lambda place: rank(conversations[place]), reverse=True)
        order = np.argsort(np.array(best_first, np.int64))
    if within_category:
        known: dict[str | None, int] = {}
        codes = np.array([known.setdefault(c.category, len(known)) for c in conversations], np.int64)
    kept_by = stay_of(pairs.at_least(min_similarity), linkage=linkage, order=order, categories=codes)
    dropped = dropped_of(kept_by)
    ids = tuple(c.id for c in conversations)
    found = describe(
        pairs,
        kept_by[dropped],
        dropped,
        [ids[place] for place in dropped.tolist()],
        lambda places: [compared_text(conversations[place], on) for place in places.tolist()],
        terms=terms,
    )
    members: dict[int, list[Duplicate]] = {}
    for kept, drop in zip(kept_by[dropped].tolist(), found, strict=True):
        members.setdefault(kept, []).append(drop)
    groups = tuple(DuplicateGroup(kept=ids[kept], dropped=tuple(drops)) for kept, drops in members.items())
    return DedupResult(groups, pairs, min_similarity, ids)


def stay_of(
    pairs: Pairs, *, linkage: Linkage = "single", order: Array | None = None, categories: Array | None = None
) -> Array:
    """For each text of the pairs the place of the one that stays for it: its own where it is not dropped.

    `order` says how good each text is, 0 for the best and no two alike (None: the first is); `categories` are codes,
    given where no group may cross them.

    Raises:
        UserError: unknown linkage.
    """
    import numpy as np

    if linkage not in _LINKAGES:
        raise UserError(f"no linkage {linkage!r}", fix=choose_from(linkage, _LINKAGES))
    size = len(pairs.same_as)
    nodes, edges = _nodes_and_edges(pairs, categories)
    clusters = _LINKAGES[linkage](int(nodes.max(initial=-1)) + 1, edges)[nodes]
    order = np.arange(size) if order is None else order
    best = np.full(int(clusters.max(initial=-1)) + 1, size)
    np.minimum.at(best, clusters, order)
    stays: Array = np.argsort(order)[best[clusters]]
    return stays


def dropped_of(stays: Array) -> Array:
    """Which places are dropped for others (see `stay_of`), in the order of those that they are dropped for."""
    import numpy as np

    dropped = np.flatnonzero(stays != np.arange(len(stays)))
    ordered: Array = dropped[np.argsort(stays[dropped], kind="stable")]
    return ordered


def connected_with(pairs: Pairs, places: Array) -> Array:
    """All places that pairs and copies connect with some of these, and these themselves, ascending.

    Whatever is grouped again with all of them is grouped as among everything.
    """
    import numpy as np

    clusters = _connected(len(pairs.same_as), Edges(pairs.left, pairs.right, pairs.similarity))[pairs.same_as]
    touched = np.zeros(len(clusters), np.bool_)
    touched[clusters[places]] = True
    found: Array = np.flatnonzero(touched[clusters])
    return found


# ---- linkage ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edges:
    """Near nodes. A node stands for all texts with the same words, in one category where groups must not cross them."""

    left: Array
    right: Array
    similarity: Array


def _nodes_and_edges(pairs: Pairs, categories: Array | None) -> tuple[Array, Edges]:
    """The node of each text, and the near nodes; a pair of texts links each category that both occur in."""
    if categories is None:
        return pairs.same_as, Edges(pairs.left, pairs.right, pairs.similarity)
    import numpy as np

    from safetyqc.dedup.rows import places_of

    span = int(categories.max(initial=0)) + 2  # a code may be -1
    keys, nodes = np.unique(pairs.same_as * span + categories + 1, return_inverse=True)
    firsts, ends = np.searchsorted(keys, pairs.left * span), np.searchsorted(keys, (pairs.left + 1) * span)
    left = places_of(firsts, ends)
    pair = np.repeat(np.arange(len(pairs)), ends - firsts)
    wanted = pairs.right[pair] * span + keys[left] % span
    right = np.searchsorted(keys, wanted)
    both = np.flatnonzero(keys[np.minimum(right, len(keys) - 1)] == wanted)
    return nodes, Edges(left[both], right[both], pairs.similarity[pair[both]])


def _connected(size: int, edges: Edges) -> Array:
    """Single linkage: whatever is connected by a chain of pairs. Each node gets the first one of its cluster.

    Every root is hooked to the lowest root beside it and all chains are cut short, until no edge joins two of them
    (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982): a few passes over the edges.
    """
    import numpy as np

    root = np.arange(size)
    left, right = edges.left, edges.right
    while True:
        a, b = root[left], root[right]
        apart = np.flatnonzero(a != b)
        if not len(apart):
            return root
        left, right = left[apart], right[apart]
        low, high = np.minimum(a[apart], b[apart]), np.maximum(a[apart], b[apart])
        np.minimum.at(root, high, low)
        while not np.array_equal(further := root[root], root):
            root = further


def _tight(size: int, edges: Edges) -> Array:
    """Complete linkage: join the nearest first, and only where every pair across reaches the threshold."""
    import numpy as np

    cluster_of = np.arange(size)
    ends = np.unique(np.concatenate([edges.left, edges.right])).tolist()
    owner, members = {node: node for node in ends}, {node: [node] for node in ends}
    links: dict[int, dict[int, int]] = {node: {} for node in ends}
    for a, b in zip(edges.left.tolist(), edges.right.tolist(), strict=True):
        links[a][b] = links[b][a] = 1
    nearest = np.argsort(-edges.similarity, kind="stable")
    for left, right in zip(edges.left[nearest].tolist(), edges.right[nearest].tolist(), strict=True):
        a, b = owner[left], owner[right]
        if a == b or links[a].get(b, 0) < len(members[a]) * len(members[b]):
            continue
        if len(links[a]) < len(links[b]):
            a, b = b, a
        for node in members[b]:
            owner[node] = a
        members[a] += members.pop(b)
        for other, count in links.pop(b).items():
            del links[other][b]
            if other != a:
                links[a][other] = links[other][a] = links[a].get(other, 0) + count
    cluster_of[ends] = [owner[node] for node in ends]
    return cluster_of


_LINKAGES: dict[str, Callable[[int, Edges], Array]] = {"single": _connected, "complete": _tight}
LINKAGES: tuple[str, ...] = tuple(_LINKAGES)
