"""Turns texts into every pair whose cosine reaches a threshold: none missed, and no n x n matrix.

How it stays exact and cheap. Let rows be unit vectors with features ordered from the most common to the rarest, the
same order for all.

1. Features that mostly stand in the same texts (those of one passage that is quoted whole) are put into groups, and a
   group weighs the norm of its features. By Cauchy-Schwarz the product of two rows of groups is never less than that
   of the rows themselves: what is no pair by groups is none. There are far fewer groups than rare features. Which
   features form a group changes the time only. What follows is about groups.
2. Cut all rows at one group c into a head x' (the more common ones) and a tail x''. All that the product of the tails
   misses is x'.y' <= |x'| |y'|, so x.y >= t needs x''.y'' >= t - |x'| |y'|: only pairs that share much of what is rare
   are candidates. c is chosen so that heads have norm s < t on average; the result does not depend on it. The same
   holds for every further cut, so a row may stop reading lists early and be bounded by the norms below that cut.
3. Let f be the rarest group that both have. Then x.y <= |x up to f| |y up to f|, so a pair can only be near where
   both rows have norm t up to f: only such entries may start a candidate, and they are indexed below c too.
4. A candidate's sketch says which groups it cannot hold; what of x is left there cannot add to the product.
5. Candidates are verified in full and by features, from the rarest on, and given up as soon as what was found plus
   the product of the norms still to come stays below t.

Bounds 2, 3 and 5 are those of Bayardo, Ma and Srikant, "Scaling up all pairs similarity search" (WWW 2007) with the l2
norms of Anastasiu and Karypis, "L2AP: fast cosine similarity search with prefix l-2 norm bounds" (ICDE 2014). It
departs from them in groups and sketches, in cutting both sides at one place (they cut each row by its norm, index the
tail of one and probe with the whole other), in s < t, and in processing rows in blocks so that memory is bounded.

The surprising thing: equal texts never enter the search. `Pairs.same_as` names the first text with the same words, and
pairs are between first ones only, so 200,000 copies of one text are 199,999 entries and not 2e10 pairs. Loads numpy
only when called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safetyqc.dedup.backend import BackendName, characters_of, choose_backend, in_order
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.dedup.backend import Backend
    from safetyqc.dedup.rows import Array, Found, Rows
    from safetyqc.dedup.tokens import Analyzer
    from safetyqc.dedup.vectors import Vectors, Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

MARGIN = 0.05
"""t - s: how far below the threshold the mean norm of heads stays. Between 0.03 and 0.15 the time hardly changes."""

_MOST_PAIRS = 100_000_000
_SLACK = 1e-6  # of float32 weights; what passes is checked exactly


@dataclass(frozen=True)
class Pairs:
    """All pairs of different texts with similarity >= `min_similarity`, and which texts are copies of which.

    `left` < `right` are indexes of texts, ordered by left, then right; `similarity` is rounded to six decimals.
    `same_as[i]` is the first text with the same words as text i (i itself when it is the first).
    """

    same_as: Array
    left: Array
    right: Array
    similarity: Array
    min_similarity: float
    vocabulary: FrozenVocabulary
    weights: Weights

    def __len__(self) -> int:
        return len(self.left)

    def at_least(self, min_similarity: float) -> Pairs:
        """Keep the pairs above a higher threshold: nothing is computed again.

        Raises:
            UserError: the threshold is lower than the one that the pairs were found with.
        """
        if min_similarity < self.min_similarity:
            raise UserError(
                f"these pairs were found from a similarity of {self.min_similarity:g} on, not {min_similarity:g}",
                fix=f"take {self.min_similarity:g} or more, or find pairs again",
            )
        kept = self.similarity >= min_similarity
        return replace(
            self, left=self.left[kept], right=self.right[kept], similarity=self.similarity[kept],
            min_similarity=min_similarity,
        )  # fmt: skip

    def links(self) -> Iterator[tuple[int, int, float]]:
        """Yield every pair once, copies as a star around the first of them (similarity 1)."""
        for place, first in enumerate(self.same_as.tolist()):
            if first != place:
                yield first, place, 1.0
        yield from zip(self.left.tolist(), self.right.tolist(), self.similarity.tolist(), strict=True)

    def nearest(self) -> Array:
        """Similarity of each text to the one most like it; 0 where none reaches `min_similarity`."""
        import numpy as np

        best = np.zeros(len(self.same_as))
        np.maximum.at(best, self.left, self.similarity)
        np.maximum.at(best, self.right, self.similarity)
        copies = np.bincount(self.same_as, minlength=len(best))
        return np.where(copies[self.same_as] > 1, 1.0, best[self.same_as])


def check_similarity(min_similarity: float) -> None:
    """Refuse a threshold that no cosine of such vectors can be compared with.

    Raises:
        UserError: it is not above 0 and at most 1.
    """
    if not 0.0 < min_similarity <= 1.0:
        raise UserError(f"min_similarity is {min_similarity:g}", fix="choose a number above 0 and at most 1, as 0.85")


def find_pairs(
    texts: Sequence[str],
    min_similarity: float,
    *,
    analyzer: Analyzer = "word",
    weights: Weights = "tfidf",
    vocabulary: FrozenVocabulary | None = None,
    memory_mb: int | None = None,
    backend: BackendName = "auto",
    margin: float = MARGIN,
) -> Pairs:
    """Find every pair of texts whose cosine is at least `min_similarity`.

    `analyzer` is what the texts are split into: words and pairs of them, or runs of three and four characters.
    `weights="tf"` makes similarities independent of the corpus; a `vocabulary` makes them those of the corpus that it
    was frozen with. `memory_mb` bounds the counting of features, vectors, index and result by using temporary files and
    working in parts; texts that are a list, and some 50 bytes for each feature of two texts or more, come on top.
    `margin` (t - s above) changes the time only.

    Raises:
        UserError: a threshold outside 0..1, an unknown backend, a vocabulary of the other analyzer, or more pairs than
            the memory holds.
    """
    check_similarity(min_similarity)
    if vocabulary and vocabulary.analyzer != analyzer:
        what = f"the vocabulary was counted with the analyzer {vocabulary.analyzer!r}, not {analyzer!r}"
        raise UserError(what, fix="count it anew")
    from safetyqc.dedup.vectors import vectorise

    worker = choose_backend(backend, characters_of(texts), analyzer)
    limit = memory_mb * 1e6 if memory_mb else float("inf")
    vectors = vectorise(texts, worker, weights=weights, vocabulary=vocabulary, limit_bytes=limit)
    found = join(vectors.rows, vectors.groups, worker, min_similarity, limit_bytes=limit, margin=margin)
    return _as_pairs(vectors, found, min_similarity, weights)


def join(
    rows: Rows,
    groups: Array,
    worker: Backend,
    min_similarity: float,
    *,
    apart: int = 0,
    limit_bytes: float,
    margin: float = MARGIN,
) -> Found:
    """Find the near pairs among rows; with `apart`, only those between the first `apart` rows and the others.

    Raises:
        UserError: more pairs than `limit_bytes` (or 100 million) allow.
    """
    from safetyqc.dedup.rows import Found, cuts_of

    least = min_similarity - 5e-7  # so that what rounds to the threshold at six decimals is in
    high = max(least - _SLACK, 0.0)
    tails = worker.tails(rows, groups, cuts_of(rows, groups, max(high - margin, 0.0)), high)
    most = most_pairs(limit_bytes)
    parts, total = [], 0
    for base, size in _index_blocks(tails.bounds, apart or len(rows), limit_bytes / 4):
        lists = worker.lists(tails, base, base + size)

        def probe(span: tuple[int, int], lists: Any = lists, base: int = base, size: int = size) -> Found:
            own = not apart
            return worker.probe(rows, groups, tails, *span, lists, rows, tails, base, size, own, least, most)

        for part in in_order(worker.workers, probe, _spans(apart or base, len(rows))):
            parts.append(part)
            total += len(part.left)
            if total > most:
                raise too_many_pairs(most, min_similarity)
    return Found.joined(parts)


def most_pairs(limit_bytes: float) -> int:
    """How many pairs a search may find."""
    return int(min(limit_bytes / 4 / 24, _MOST_PAIRS))


def too_many_pairs(most: int, min_similarity: float) -> UserError:
    """Say that there are more."""
    return UserError(
        f"more than {most:,} pairs reach a similarity of {min_similarity:g}",
        fix="raise min_similarity, allow more memory, or remove a template that most texts share",
    )


def _index_blocks(bounds: Array, size: int, limit_bytes: float) -> Iterator[tuple[int, int]]:
    """Cut the first `size` rows into runs whose lists take at most `limit_bytes` (8 bytes an entry)."""
    import numpy as np

    ends = bounds[1 : size + 1]
    first = 0
    while first < size:
        before = ends[first - 1] if first else 0
        fitting = size if limit_bytes == float("inf") else int(np.searchsorted(ends, before + limit_bytes / 8, "right"))
        last = min(max(fitting, first + 1), size)
        yield first, last - first
        first = last


def _spans(first: int, last: int, length: int = 2048) -> Iterator[tuple[int, int]]:
    for start in range(first, last, length):
        yield start, min(start + length, last)


def _as_pairs(vectors: Vectors, found: Found, min_similarity: float, weights: Weights) -> Pairs:
    import numpy as np

    similarity = np.minimum(np.round(found.cosine, 6), 1.0)
    left, right = vectors.texts[found.left], vectors.texts[found.right]
    order = np.lexsort((right, left))
    order = order[similarity[order] >= min_similarity - 1e-9]
    return Pairs(
        vectors.same_as, left[order], right[order], similarity[order], min_similarity, vectors.vocabulary, weights
    )
