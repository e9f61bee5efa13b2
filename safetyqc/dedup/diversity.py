"""Turns a set of texts into figures of what it covers, not just of what was removed from it.

All figures are counts and shares of the texts given; none asks a model. Compare them between sets of about the same
size and language: distinct-n falls with size, and where every character is a word it is lower than in a language with
spaces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from safetyqc.dedup.groups import compared_text
from safetyqc.dedup.tokens import tokens
from safetyqc.records import Conversation
from safetyqc.results.findings import Bin, CategoryDiversity, Diversity, Nearness
from safetyqc.text import OPENING_WORDS, first_words

if TYPE_CHECKING:
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.rows import Array

T = TypeVar("T")
INTENT_SIMILARITY = 0.3
"""From here on requests have something in common; below it similarity is chance."""
_BIN = 0.05
_MOST = 2_000


def measure_diversity(
    conversations: Sequence[Conversation],
    *,
    category_of: Callable[[Conversation], str | None] = lambda conversation: conversation.category,
    intent_similarity: float = INTENT_SIMILARITY,
    most: int = _MOST,
) -> Diversity:
    """Measure one set, as a whole and by category (those without one are in the whole alone).

    A request is all user turns of a conversation; the nearest neighbour is found on all turns. Of more than `most`
    conversations so many are drawn at random, of each category its share: at so low a threshold the pairs of one intent
    grow with its square. Half a second for 600 conversations, two seconds for the most.
    """
    sample = draw_evenly(conversations, category_of, most)
    return measure_sample(sample, len(conversations), category_of=category_of, intent_similarity=intent_similarity)


def measure_sample(
    sample: Sequence[Conversation],
    of: int,
    *,
    category_of: Callable[[Conversation], str | None],
    intent_similarity: float = INTENT_SIMILARITY,
) -> Diversity:
    """Measure a sample of so many conversations (see `measure_diversity`)."""
    from safetyqc.dedup.search import find_pairs

    texts = [compared_text(c) for c in sample]
    words = [tokens(text) for text in texts]
    openings = [first_words(c.assistant_turns[0], OPENING_WORDS) if c.assistant_turns else "" for c in sample]
    requests = find_pairs([compared_text(c, "requests") for c in sample], intent_similarity)
    nearest = find_pairs(texts, intent_similarity).nearest()
    places: dict[str, list[int]] = {}
    for place, conversation in enumerate(sample):
        if category := category_of(conversation):
            places.setdefault(category, []).append(place)

    def figures(where: Sequence[int]) -> dict[str, Any]:
        opening, share = _commonest([openings[place] for place in where])
        return {
            "distinct_2": distinct_share([words[place] for place in where], 2),
            "opening": opening,
            "opening_share": share,
            "effective_intents": effective_number(requests, where),
            "nearest": _quartiles([float(nearest[place]) for place in where]),
        }

    return Diversity(
        conversations=of,
        measured=len(sample),
        distinct_1=distinct_share(words, 1),
        nearest_from=intent_similarity,
        categories={
            name: CategoryDiversity(conversations=len(where), **figures(where))
            for name, where in sorted(places.items())
        },
        **figures(range(len(sample))),
    )


def draw_evenly(conversations: Sequence[T], category_of: Callable[[T], str | None], most: int = _MOST) -> list[T]:
    """At most about `most` of them, the same each time: a plan deals its categories in turn, so no step is even."""
    if len(conversations) <= most:
        return list(conversations)
    places: dict[str | None, list[int]] = {}
    for place, conversation in enumerate(conversations):
        places.setdefault(category_of(conversation), []).append(place)
    chance, share = Random(0), most / len(conversations)
    drawn = [place for where in places.values() for place in chance.sample(where, math.ceil(len(where) * share))]
    return [conversations[place] for place in sorted(drawn)]


def _commonest(openings: Sequence[str]) -> tuple[str, float]:
    counts = Counter(opening for opening in openings if opening)
    opening, times = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return opening, times / counts.total() if times else 0.0


def _quartiles(values: Sequence[float]) -> tuple[float, ...]:
    ordered = sorted(values)
    return tuple(ordered[round(share * (len(ordered) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)) if ordered else ()


def distinct_share(texts: Sequence[Sequence[str]], n: int) -> float:
    """Share of different n-grams among all n-grams of tokenised texts; 0 when there are none (n is 1 or 2)."""
    different: set[str | tuple[str, str]] = set()
    total = 0
    for words in texts:
        grams = list(words) if n == 1 else list(pairwise(words))
        different.update(grams)
        total += len(grams)
    return len(different) / total if total else 0.0


def effective_number(pairs: Pairs, where: Sequence[int]) -> float:
    """Number of equally frequent, wholly different texts that would be as varied: n different ones give n, copies 1.

    The similarity-sensitive diversity of order 1 of Leinster and Cobbold (Ecology, 2012): exp of the mean of -ln of
    each text's mean similarity to all texts, itself included. Similarities below those of the pairs count as 0.
    """
    if not where:
        return 0.0
    import numpy as np

    pairs = pairs.among(np.array(where, np.int64))
    copies = np.bincount(pairs.same_as, minlength=len(where))
    total = copies.astype(np.float64)
    np.add.at(total, pairs.left, pairs.similarity * copies[pairs.right])
    np.add.at(total, pairs.right, pairs.similarity * copies[pairs.left])
    return float(np.exp(-np.log(total[pairs.same_as] / len(where)).mean()))


def measure_nearness(
    pairs: Pairs, min_similarity: float, names: Sequence[str], categories: Sequence[int] | Array
) -> Nearness:
    """Count how near each text of the pairs is to its nearest; `categories` gives the place in `names` of each.

    Steps are of 0.05, cut at the threshold too, and copies stand in the last bin. The first bin holds all below the
    similarity that pairs were found from: there the nearest neighbour is not known.
    """
    edges = _edges(pairs.min_similarity, min_similarity)
    rows = _bin_counts(pairs.nearest(), categories, len(names), edges)
    totals = [sum(column) for column in zip(*rows, strict=True)] or [0] * len(edges)
    return Nearness(
        found_from=pairs.min_similarity,
        min_similarity=min_similarity,
        bins=tuple(Bin(low=a, high=b, count=n) for a, b, n in zip(edges, [*edges[1:], 1.0], totals, strict=True)),
        categories={name: tuple(counts) for name, counts in sorted(zip(names, rows, strict=True)) if any(counts)},
    )


def _bin_counts(
    nearest: Sequence[float] | Array, owners: Sequence[int] | Array, size: int, edges: Sequence[float]
) -> list[list[int]]:
    """How many values of each owner lie in each bin."""
    import numpy as np

    bins = np.searchsorted(edges, np.asarray(nearest, np.float64), side="right") - 1
    cells = np.asarray(owners, np.int64) * len(edges) + bins
    counts: list[list[int]] = np.bincount(cells, minlength=size * len(edges)).reshape(size, len(edges)).tolist()
    return counts


def _edges(found_from: float, min_similarity: float) -> list[float]:
    steps = [round(step * _BIN, 2) for step in range(1, round(1 / _BIN) + 1)]
    return sorted({0.0, found_from, min_similarity, *(step for step in steps if step > found_from), 1.0})
