"""Near pairs of texts, as a search gives them: which texts are copies of which, and how near the different ones are.

Equal texts never stand in a pair. `same_as` names the first text with the same words, and pairs are between first ones
only, so 200,000 copies of one text are 199,999 entries and not 2e10 pairs. It searches nothing itself. Loads numpy only
when called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from safetyqc.dedup.choices import Weights
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.dedup.choices import Analyzer
    from safetyqc.dedup.rows import Array
    from safetyqc.dedup.vocabulary import FrozenVocabulary

WEIGHTS: tuple[Weights, ...] = get_args(Weights)
_MOST_PAIRS = 100_000_000


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

    def among(self, places: Array) -> Pairs:
        """Pairs of some of the texts, numbered anew in the order of `places`."""
        import numpy as np

        classes, first, inverse = np.unique(self.same_as[places], return_index=True, return_inverse=True)
        position = np.full(len(self.same_as), -1)
        position[classes] = first
        kept = np.flatnonzero((position[self.left] >= 0) & (position[self.right] >= 0))
        low, high = np.sort(np.stack([position[self.left[kept]], position[self.right[kept]]]), axis=0)
        order = np.lexsort((high, low))
        return replace(
            self, same_as=first[inverse], left=low[order], right=high[order], similarity=self.similarity[kept[order]]
        )

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


@dataclass(frozen=True)
class Measure:
    """What is compared with what, and by which measure.

    With `apart`, the first so many texts are held against the others only, and share no row with them; with `known`,
    pairs among the first so many are left out, because they are known.
    """

    min_similarity: float
    analyzer: Analyzer = "word"
    weights: Weights = "tfidf"
    vocabulary: FrozenVocabulary | None = None
    apart: int = 0
    known: int = 0
    limit_bytes: float = float("inf")

    def __post_init__(self) -> None:
        check_similarity(self.min_similarity)
        if self.vocabulary and self.vocabulary.analyzer != self.analyzer:
            what = f"the vocabulary was counted with the analyzer {self.vocabulary.analyzer!r}, not {self.analyzer!r}"
            raise UserError(what, fix="count it anew")

    @property
    def least(self) -> float:
        """What a cosine must reach, so that what rounds to the threshold at six decimals is in."""
        return self.min_similarity - 5e-7

    @property
    def most(self) -> int:
        """How many pairs a search may find."""
        return int(min(self.limit_bytes / 4 / 24, _MOST_PAIRS))

    def refuse_more(self, found: int) -> None:
        """End a search that found more pairs than its memory (or anybody) holds.

        Raises:
            UserError: it did.
        """
        if found > self.most:
            raise UserError(
                f"more than {self.most:,} pairs reach a similarity of {self.min_similarity:g}",
                fix="raise min_similarity, allow more memory, or remove a template that most texts share",
            )

    def pairs(self, same_as: Array, found: tuple[Array, Array, Array], vocabulary: FrozenVocabulary) -> Pairs:
        """Put found pairs (two places of texts, their cosine) in order; those below the threshold are left out."""
        import numpy as np

        left, right, cosine = found
        similarity = np.minimum(np.round(cosine, 6), 1.0)
        order = np.lexsort((right, left))
        order = order[similarity[order] >= self.min_similarity - 1e-9]
        return Pairs(
            same_as, left[order], right[order], similarity[order], self.min_similarity, vocabulary, self.weights
        )


def check_similarity(min_similarity: float) -> None:
    """Refuse a threshold that no cosine of such vectors can be compared with.

    Raises:
        UserError: it is not above 0 and at most 1.
    """
    if not 0.0 < min_similarity <= 1.0:
        raise UserError(f"min_similarity is {min_similarity:g}", fix="choose a number above 0 and at most 1, as 0.85")
