"""Turns a set of texts into figures of what it covers, not just of what was removed from it.

All figures are counts and shares of the texts given; none asks a model. Compare them between sets of about the same
size and language: distinct-n falls with size, and where every character is a word it is lower than in a language with
spaces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from safetyqc.dedup.tokens import tokens
from safetyqc.records import Conversation
from safetyqc.text import first_words

if TYPE_CHECKING:
    from safetyqc.dedup.pairs import Pairs

OPENING_WORDS = 6
INTENT_SIMILARITY = 0.3
"""From here on requests have something in common; below it similarity is chance."""


@dataclass(frozen=True)
class Bin:
    """How many texts have their nearest neighbour at a similarity in [low, high) (the last bin includes 1)."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Diversity:
    """What a set of conversations covers.

    `distinct_1` and `distinct_2` are the shares of different words and word pairs among all of them (Li et al., NAACL
    2016). `opening` is the most common beginning of a first answer and `opening_share` its share. `effective_intents`
    is the `effective_number` of the requests.
    """

    conversations: int
    distinct_1: float
    distinct_2: float
    opening: str
    opening_share: float
    requests_measured: int
    """Requests that `effective_intents` was measured on: all, or an even sample of a large set."""
    effective_intents: float
    mean_nearest: float | None


def measure_diversity(
    conversations: Sequence[Conversation],
    *,
    pairs: Pairs | None = None,
    intent_similarity: float = INTENT_SIMILARITY,
    most_requests: int = 5_000,
) -> Diversity:
    """Measure one set; with `pairs` found on these conversations also the mean similarity to the nearest neighbour.

    A request is all user turns of a conversation. Of more than `most_requests` every k-th is taken: at so low a
    threshold the pairs of one intent grow with its square.
    """
    answers = [first_words(turns[0], OPENING_WORDS) for c in conversations if (turns := c.assistant_turns)]
    opening, times = max(Counter(answers).items(), key=lambda item: (item[1], item[0]), default=("", 0))
    words = [tokens("\n".join(message.content for message in c.messages)) for c in conversations]
    sample = conversations[:: max(1, math.ceil(len(conversations) / most_requests))]
    requests = ["\n".join(c.user_turns) for c in sample]
    return Diversity(
        conversations=len(conversations),
        distinct_1=distinct_share(words, 1),
        distinct_2=distinct_share(words, 2),
        opening=opening,
        opening_share=times / len(answers) if answers else 0.0,
        requests_measured=len(sample),
        effective_intents=effective_number(requests, intent_similarity),
        mean_nearest=float(pairs.nearest().mean()) if pairs is not None and conversations else None,
    )


def distinct_share(texts: Sequence[Sequence[str]], n: int) -> float:
    """Share of different n-grams among all n-grams of tokenised texts; 0 when there are none (n is 1 or 2)."""
    different: set[str | tuple[str, str]] = set()
    total = 0
    for words in texts:
        grams = list(words) if n == 1 else list(pairwise(words))
        different.update(grams)
        total += len(grams)
    return len(different) / total if total else 0.0


def effective_number(texts: Sequence[str], min_similarity: float = INTENT_SIMILARITY) -> float:
    """Number of equally frequent, wholly different texts that would be as varied: n different ones give n, copies 1.

    The similarity-sensitive diversity of order 1 of Leinster and Cobbold (Ecology, 2012): exp of the mean of -ln of
    each text's mean similarity to all texts, itself included. Similarities below `min_similarity` count as 0.
    """
    if not texts:
        return 0.0
    import numpy as np

    from safetyqc.dedup.pairs import find_pairs

    pairs = find_pairs(texts, min_similarity)
    copies = np.bincount(pairs.same_as, minlength=len(texts))
    total = copies.astype(np.float64)
    np.add.at(total, pairs.left, pairs.similarity * copies[pairs.right])
    np.add.at(total, pairs.right, pairs.similarity * copies[pairs.left])
    return float(np.exp(-np.log(total[pairs.same_as] / len(texts)).mean()))


def nearest_histogram(nearest: Sequence[float], *, low: float, bins: int = 10) -> list[Bin]:
    """Count nearest-neighbour similarities in equal bins from `low` to 1; the first bin, [0, low), holds all below.

    `low` is the similarity from which pairs were found: below it the nearest neighbour is not known.
    """
    edges = [low + (1.0 - low) * place / bins for place in range(bins + 1)]
    counts = [0] * (bins + 1)
    for value in nearest:
        place = 0 if value < low else 1 + min(int((value - low) / (1.0 - low) * bins + 1e-9), bins - 1)
        counts[place] += 1
    lows, highs = [0.0, *edges[:-1]], [low, *edges[1:]]
    return [Bin(a, b, count) for a, b, count in zip(lows, highs, counts, strict=True)]
