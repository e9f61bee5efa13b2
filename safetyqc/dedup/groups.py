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

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.dedup.evidence import cosines, shared_terms
from safetyqc.dedup.pairs import BackendName, Pairs, find_pairs
from safetyqc.errors import UserError, choose_from
from safetyqc.records import Conversation, Duplicate, DuplicateGroup
from safetyqc.text import normalise

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
    known: Iterable[DuplicateGroup] = (),
) -> DedupResult:
    """Group pairs that were found on the same conversations in the same order, and keep the best of each group.

    The best is the one with the highest `rank`, among equals the earliest in the input. `terms` is how many shared rare
    terms each drop names; 0 saves reading the texts again. `known` are groups of an earlier call by the same measure,
    whose evidence is taken for drops that are still the same.

    Raises:
        UserError: a threshold below that of the pairs, other conversations than the pairs were found on, unknown
        linkage.
    """
    if len(conversations) != len(pairs.same_as):
        raise UserError(
            f"{len(pairs.same_as)} texts were compared, {len(conversations)} conversations given",
            fix="find pairs again",
        )
    ids = tuple(c.id for c in conversations)
    members = Members(
        ids,
        lambda places: [compared_text(conversations[place], on) for place in places],
        (lambda place: rank(conversations[place])) if rank else None,
        [c.category for c in conversations] if within_category else None,
    )
    groups = group_members(members, pairs, min_similarity=min_similarity, linkage=linkage, terms=terms, known=known)
    return DedupResult(groups, pairs, min_similarity, ids)


@dataclass(frozen=True)
class Members:
    """What grouping asks about the texts of some pairs, by their places there.

    `texts` is only asked for those whose evidence is to be written; `rank` gives what is highest for the best, None
    where the first is; `categories` are given where no group may cross them.
    """

    ids: Sequence[str]
    texts: Callable[[Sequence[int]], Sequence[str]]
    rank: Callable[[int], Any] | None = None
    categories: Sequence[str | None] | None = None


def group_members(
    members: Members,
    pairs: Pairs,
    *,
    min_similarity: float,
    linkage: Linkage = "single",
    terms: int = 5,
    known: Iterable[DuplicateGroup] = (),
) -> tuple[DuplicateGroup, ...]:
    """Do what `group_pairs` does, with no more of the conversations than it needs.

    Raises:
        UserError: a threshold below that of the pairs, unknown linkage.
    """
    if linkage not in _LINKAGES:
        raise UserError(f"no linkage {linkage!r}", fix=choose_from(linkage, _LINKAGES))
    near = pairs.at_least(min_similarity)
    nodes = _nodes(near, members.categories)
    clusters = _LINKAGES[linkage](list(_edges(near, nodes)))
    linked = {node for cluster in clusters for node in cluster}
    clusters += [[node] for node, copies in nodes.items() if len(copies) > 1 and node not in linked]
    places = [sorted(i for node in cluster for i in nodes[node]) for cluster in clusters]
    kept = [max(group, key=members.rank) if members.rank else group[0] for group in places]  # max takes the earliest
    drops = {best: [place for place in group if place != best] for best, group in zip(kept, places, strict=True)}
    describe = _Describer(members, pairs, terms, known)
    describe.prepare([(best, place) for best, dropped in drops.items() for place in dropped])
    return tuple(
        DuplicateGroup(kept=members.ids[best], dropped=tuple(describe(best, place) for place in drops[best]))
        for best in sorted(drops)
    )


def connected_with(pairs: Pairs, places: Array) -> Array:
    """All places that pairs and copies connect with some of these, and these themselves, ascending.

    Whatever is grouped again with all of them is grouped as among everything.
    """
    import numpy as np

    from safetyqc.dedup.rows import bounds_of, places_of

    copies = np.flatnonzero(pairs.same_as != np.arange(len(pairs.same_as)))
    one = np.concatenate([pairs.left, copies])
    other = np.concatenate([pairs.right, pairs.same_as[copies]])
    ends, others = np.concatenate([one, other]), np.concatenate([other, one])
    others = others[np.argsort(ends, kind="stable")]
    bounds = bounds_of(np.bincount(ends, minlength=len(pairs.same_as)))
    met, edge = np.zeros(len(pairs.same_as), np.bool_), np.unique(places)
    while len(edge):
        met[edge] = True
        further = others[places_of(bounds[edge], bounds[edge + 1])]
        edge = np.unique(further[~met[further]])
    found: Array = np.flatnonzero(met)
    return found


Node = tuple[int, str | None]
"""Texts with the same words (the first of them), in one category where groups must not cross categories."""
Edge = tuple[Node, Node, float]


def _nodes(pairs: Pairs, categories: Sequence[str | None] | None) -> dict[Node, list[int]]:
    """The places of each node that has a near one or copies; all others are in no group."""
    import numpy as np

    met = np.bincount(pairs.same_as, minlength=len(pairs.same_as)) > 1
    met[pairs.left] = met[pairs.right] = True
    nodes: dict[Node, list[int]] = defaultdict(list)
    for place in np.flatnonzero(met[pairs.same_as]).tolist():
        nodes[int(pairs.same_as[place]), categories[place] if categories else None].append(place)
    return dict(nodes)


def _edges(pairs: Pairs, members: dict[Node, list[int]]) -> Iterable[Edge]:
    """Link nodes of near texts; a pair of texts links each category that both occur in."""
    categories: dict[int, list[str | None]] = defaultdict(list)
    for first, category in members:
        categories[first].append(category)
    for left, right, similarity in zip(
        pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True
    ):
        for category in categories[left]:
            if (right, category) in members:
                yield (left, category), (right, category), similarity


def _connected(edges: list[Edge]) -> list[list[Node]]:
    """Single linkage: whatever is connected by a chain of pairs."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for left, right, _ in edges:
        parent[root(right)] = root(left)
    clusters: dict[Node, list[Node]] = defaultdict(list)
    for node in parent:
        clusters[root(node)].append(node)
    return list(clusters.values())


def _tight(edges: list[Edge]) -> list[list[Node]]:
    """Complete linkage: join the nearest first, and only where every pair across reaches the threshold."""
    cluster_of: dict[Node, int] = {}
    clusters: dict[int, list[Node]] = {}
    links: dict[int, dict[int, int]] = {}
    for node in dict.fromkeys(end for edge in edges for end in edge[:2]):
        cluster_of[node], clusters[len(clusters)] = len(clusters), [node]
        links[cluster_of[node]] = {}
    for left, right, _ in edges:
        a, b = cluster_of[left], cluster_of[right]
        links[a][b] = links[b][a] = 1
    for left, right, _ in sorted(edges, key=lambda edge: -edge[2]):
        a, b = cluster_of[left], cluster_of[right]
        if a == b or links[a].get(b, 0) < len(clusters[a]) * len(clusters[b]):
            continue
        if len(links[a]) < len(links[b]):
            a, b = b, a
        for node in clusters[b]:
            cluster_of[node] = a
        clusters[a] += clusters.pop(b)
        for other, count in links.pop(b).items():
            del links[other][b]
            if other != a:
                links[a][other] = links[other][a] = links[a].get(other, 0) + count
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


_LINKAGES: dict[str, Callable[[list[Edge]], list[list[Node]]]] = {"single": _connected, "complete": _tight}
LINKAGES: tuple[str, ...] = tuple(_LINKAGES)


class _Describer:
    """Writes the evidence of one drop."""

    def __init__(self, members: Members, pairs: Pairs, terms: int, known: Iterable[DuplicateGroup]) -> None:
        self._members, self._pairs, self._same_as = members, pairs, pairs.same_as
        self._known = {(group.kept, drop.conversation_id): drop for group in known for drop in group.dropped}
        self._terms = shared_terms(pairs.vocabulary, terms) if terms else None
        self._keys = pairs.left * len(pairs.same_as) + pairs.right
        self._texts: dict[int, str] = {}
        self._measured: dict[tuple[int, int], float] = {}
        self._shared = lru_cache(maxsize=16)(self._compare)  # the copies of one text come one after another

    def prepare(self, drops: Sequence[tuple[int, int]]) -> None:
        """Read the texts of those (kept, dropped) that are not known, all at once; and compute the similarities of
        those that are in one group but no pair."""
        fresh = [drop for drop in drops if self._ids(*drop) not in self._known]
        missing = [drop for drop in fresh if self._similarity(*drop) is None]
        wanted = sorted({place for drop in (fresh if self._terms else missing) for place in drop})
        self._texts = dict(zip(wanted, self._members.texts(wanted), strict=True))
        texts = ((self._texts[kept], self._texts[dropped]) for kept, dropped in missing)
        measured = cosines(texts, self._pairs.vocabulary, self._pairs.weights)
        self._measured = dict(zip(missing, measured, strict=True))

    def __call__(self, kept: int, dropped: int) -> Duplicate:
        """Describe why `dropped` is a duplicate of `kept`."""
        if found := self._known.get(self._ids(kept, dropped)):
            return found
        similarity = self._similarity(kept, dropped)
        if similarity is None:
            similarity = self._measured[kept, dropped]
        name = self._members.ids[dropped]
        if not self._terms:
            return Duplicate(conversation_id=name, similarity=similarity)
        exact, terms = self._shared(self._texts[kept], self._texts[dropped], similarity)
        return Duplicate(conversation_id=name, similarity=similarity, exact=exact, terms=terms)

    def _ids(self, kept: int, dropped: int) -> tuple[str, str]:
        return self._members.ids[kept], self._members.ids[dropped]

    def _compare(self, a: str, b: str, similarity: float) -> tuple[bool, tuple[str, ...]]:
        """Whether two texts are the same but for typography, and the rare terms that both have."""
        exact = similarity == 1.0 and normalise(a) == normalise(b)
        return exact, self._terms(a, b) if self._terms else ()

    def _similarity(self, kept: int, dropped: int) -> float | None:
        """The stored similarity; None where two of a group are no pair."""
        left, right = sorted((int(self._same_as[kept]), int(self._same_as[dropped])))
        if left == right:
            return 1.0
        key = left * len(self._same_as) + right
        place = int(self._keys.searchsorted(key))
        found = place < len(self._keys) and self._keys[place] == key
        return float(self._pairs.similarity[place]) if found else None
