"""Turns near pairs into duplicate groups and decides which conversation of a group stays.

This is the policy; how pairs are found is `search.py`'s business, so the same pairs can be grouped again with another
threshold, linkage or ranking at no cost. It never edits or deletes a conversation: it says which are to be dropped, for
which kept one, how near they are and which rare terms they share.

With single linkage (the default) a group is connected, not tight. A like B and B like C puts A
and C into one group though they may be less alike than the threshold; the similarity shown is that to the kept one,
so it can be lower than `min_similarity`, but not than `LEAST_LIKE`. Complete linkage forms only groups in which every
pair reaches the threshold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

from safetyqc.dedup.choices import Linkage, On
from safetyqc.dedup.evidence import Known, Nearness, describe
from safetyqc.errors import UserError, choose_from
from safetyqc.records import Conversation, DuplicateGroup
from safetyqc.text import normalise

if TYPE_CHECKING:
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.rows import Array

LEAST_LIKE = 0.3
"""Below it two texts are alike by chance: however long the chain between them, none is dropped for the other."""

_TEXTS: dict[str, Callable[[Conversation], list[str]]] = {
    "all": lambda conversation: [message.content for message in conversation.messages],
    "requests": lambda conversation: conversation.user_turns,
    "answers": lambda conversation: conversation.assistant_turns,
}


def compared_text(conversation: Conversation, on: On = "all") -> str:
    """Give the text that stands for a conversation in a comparison; its system message is compared as its setting."""
    if on not in _TEXTS:
        raise UserError(f"cannot compare on {on!r}", fix=choose_from(on, _TEXTS))
    return "\n".join(_TEXTS[on](conversation))


def setting_of(conversation: Conversation) -> str | None:
    """What the system message says, numbers and dates aside: in another setting the same words are another example.

    It is no part of the compared text, because a long one that all share would make everything alike.
    """
    return re.sub(r"\d+", "0", normalise(conversation.system)) if conversation.system else None


def group_texts(
    ids: Sequence[str],
    texts: Sequence[str],
    pairs: Pairs,
    *,
    min_similarity: float,
    linkage: Linkage = "single",
    order: Array | None = None,
    categories: Array | None = None,
    known: Known = MappingProxyType({}),
    terms: int = 5,
) -> Iterator[DuplicateGroup]:
    """Group texts by the pairs that were found on them, and keep the best of each group; by the places of those kept.

    `order` says how good each text is, 0 for the best and no two alike (None: the first is); `categories` are codes,
    given where no group may cross them. `known` is evidence by the same measure, which need not be worked out again.
    `terms` is how many shared rare terms each drop names.

    Raises:
        UserError: a threshold below that of the pairs, unknown linkage.
    """
    import numpy as np

    nearness = Nearness(pairs, ids, texts, known)
    stays, similarity = stays_of(
        pairs.at_least(min_similarity), nearness, linkage=linkage, order=order, categories=categories
    )
    dropped = np.flatnonzero(stays != np.arange(len(stays)))
    dropped = dropped[np.argsort(stays[dropped], kind="stable")]
    kept = stays[dropped]
    drops = describe(pairs.vocabulary, kept, dropped, similarity[dropped], ids, texts, known, terms)
    for one, group in groupby(zip(kept.tolist(), drops, strict=True), itemgetter(0)):
        yield DuplicateGroup(kept=ids[one], dropped=tuple(drop for _, drop in group))


def stays_of(
    pairs: Pairs,
    nearness: Callable[[Array, Array], Array],
    *,
    linkage: Linkage = "single",
    order: Array | None = None,
    categories: Array | None = None,
) -> tuple[Array, Array]:
    """For each text of the pairs the place of the one that stays for it, its own where it is not dropped; how near.

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
    stays = np.argsort(order)[best[clusters]]
    similarity = np.ones(size)
    dropped = np.flatnonzero(stays != np.arange(size))
    similarity[dropped] = nearness(stays[dropped], dropped)
    far = stays[similarity < min(LEAST_LIKE, pairs.min_similarity)]
    if len(far):
        members = np.flatnonzero(np.isin(stays, far))
        _split(members[np.argsort(order[members])], nodes, edges, nearness, stays, similarity)
    return stays, similarity


def _split(
    members: Array,
    nodes: Array,
    edges: Edges,
    nearness: Callable[[Array, Array], Array],
    stays: Array,
    similarity: Array,
) -> None:
    """Take clusters apart so that all that is dropped is like the one kept; `members` are their texts, best first.

    The best text takes what a chain of pairs connects with it, as far as the links of the chain are like it; the best
    of the rest goes on.
    """
    import numpy as np

    texts: dict[int, list[int]] = {}
    for member, node in zip(members.tolist(), nodes[members].tolist(), strict=True):
        texts.setdefault(node, []).append(member)
    beside: dict[int, list[int]] = {node: [] for node in texts}
    inside = np.isin(edges.left, np.fromiter(texts, np.int64, len(texts)))
    for a, b in zip(edges.left[inside].tolist(), edges.right[inside].tolist(), strict=True):
        beside[a].append(b)
        beside[b].append(a)
    while texts:
        frontier = {next(iter(texts)): 1.0}
        kept, tried = texts[next(iter(frontier))][0], set(frontier)
        while frontier:
            for node, like in frontier.items():
                own = texts.pop(node)
                stays[own], similarity[own] = kept, like
            further = list({n: None for node in frontier for n in beside[node] if n in texts and n not in tried})
            tried.update(further)
            near = nearness(np.full(len(further), kept), np.array([texts[n][0] for n in further], np.int64))
            frontier = {n: like for n, like in zip(further, near.tolist(), strict=True) if like >= LEAST_LIKE}


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
