"""Says for two texts how near they are and which rare terms they share, so that every drop can be checked by eye.

Pure Python on two texts at a time: for showing and for the few pairs that a search did not store, not for searching.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from safetyqc.dedup.tokens import LONE, character_class, features, tokens

if TYPE_CHECKING:
    from safetyqc.dedup.vectors import Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary


def cosine(a: str, b: str, vocabulary: FrozenVocabulary, weights: Weights = "tfidf") -> float:
    """Similarity of two texts, the same as a search with this vocabulary gives, rounded to six decimals."""
    counts_a, counts_b = features(a), features(b)
    idf = _idf_by_feature(vocabulary, sorted(counts_a.keys() | counts_b.keys()), weights)
    norm = math.sqrt(_squares(counts_a, idf) * _squares(counts_b, idf))
    shared = (
        _damped(counts_a[name]) * _damped(counts_b[name]) * idf[name] ** 2 for name in counts_a if name in counts_b
    )
    return round(math.fsum(shared) / norm, 6) if norm else 0.0


def shared_terms(vocabulary: FrozenVocabulary, count: int = 5) -> Callable[[str, str], tuple[str, ...]]:
    """Make a function that names the rarest terms that two texts share, the rarest first.

    A term is a word, or two neighbouring characters where characters stand for words.
    """

    @lru_cache(maxsize=200_000)
    def idf(term: str) -> float:
        return vocabulary.idf(term)

    @lru_cache(maxsize=64)
    def terms(text: str) -> frozenset[str]:
        words = tokens(text)
        names = {word for word in words if not _is_lone(word)}
        return frozenset(names | {f"{a} {b}" for a, b in pairwise(words) if _is_lone(a) and _is_lone(b)})

    def name(a: str, b: str) -> tuple[str, ...]:
        rarest = sorted(terms(a) & terms(b), key=lambda term: (-idf(term), term))[:count]
        return tuple(term.replace(" ", "") for term in rarest)

    return name


def _is_lone(word: str) -> bool:
    return len(word) == 1 and not word.isascii() and character_class(ord(word)) == LONE


def _damped(count: int) -> float:
    return 1.0 + math.log(count)


def _squares(counts: Counter[str], idf: dict[str, float]) -> float:
    return math.fsum((_damped(count) * idf[name]) ** 2 for name, count in counts.items())


def _idf_by_feature(vocabulary: FrozenVocabulary, names: list[str], weights: Weights) -> dict[str, float]:
    return {name: vocabulary.idf(name) if weights == "tfidf" else 1.0 for name in names}
