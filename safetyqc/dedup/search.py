"""Pairs that were found once, with the numbers of what was compared, so that they need not be found again.

A raised threshold, another linkage and conversations that went out reuse them; conversations that came in are searched
against the old ones and each other, while the old pairs keep their similarity to the last bit: they are not computed
again, and new ones use the vocabulary that was frozen with them. It decides nothing about groups and knows no files:
a search becomes bytes and back.

The surprising thing: pairs are looked for from a similarity below the one asked for (`FOUND_FROM`), so that other
thresholds can be tried at no cost; of very many texts, and where memory does not allow it, only those asked for are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from safetyqc.dedup.backend import BackendName, characters_of, choose_backend
from safetyqc.dedup.packing import pack
from safetyqc.dedup.pairs import Pairs, find_pairs, join
from safetyqc.dedup.rows import Array, Found, Rows
from safetyqc.dedup.vocabulary import UNREADABLE, vocabulary_hash
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.dedup.tokens import Analyzer
    from safetyqc.dedup.vectors import Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

FOUND_FROM = 0.6
MOST_FROM_BELOW = 50_000
"""Of more texts only the pairs asked for are found: of 100,000 those from 0.6 on take twice the time of 0.75."""
_FORMAT = 2
_MICRO = 1_000_000  # similarities have six decimals
T = TypeVar("T")


@dataclass(frozen=True)
class Search:
    """Pairs and what they are pairs of: `numbers[i]` is that of text i, whatever the caller numbers.

    `index` is the token of the index that holds the same texts by their places, where one is kept
    (`stored_index.py`).
    """

    numbers: Array
    pairs: Pairs
    index: str | None = None

    def among(self, numbers: Array) -> Pairs:
        """Pairs of these texts alone, numbered in this order.

        Raises:
            ValueError: one of them was not searched.
        """
        if np.array_equal(numbers, self.numbers):
            return self.pairs
        return restrict(self.pairs, self.places(numbers))

    def places(self, numbers: Array) -> Array:
        """Where these texts stand.

        Raises:
            ValueError: one of them was not searched.
        """
        if len(lacking := self.lacks(numbers)):
            raise ValueError(f"{len(lacking)} texts were not searched, such as {lacking[0]}")
        order = np.argsort(self.numbers, kind="stable")  # most are in order already
        found: Array = order[np.searchsorted(self.numbers, numbers, sorter=order)]
        return found

    def lacks(self, numbers: Array) -> Array:
        """Which of these were not searched, in their order."""
        lacking: Array = numbers[~np.isin(numbers, self.numbers)]
        return lacking

    def to_bytes(self) -> bytes:
        """Pack everything but the vocabulary, which is named by its hash, to be stored with a run."""
        pairs = self.pairs
        head = {
            "format": _FORMAT,
            "min_similarity": pairs.min_similarity,
            "weights": pairs.weights,
            "vocabulary": vocabulary_hash(pairs.vocabulary),
            "index": self.index,
        }
        columns = {
            "numbers": np.asarray(self.numbers, np.int64),
            "same_as": pairs.same_as.astype(np.int32),
            "left": pairs.left.astype(np.int32),
            "right": pairs.right.astype(np.int32),
            "millionths": np.rint(pairs.similarity * _MICRO).astype(np.int32),
        }
        return pack(head, columns)

    @classmethod
    def from_bytes(cls, data: bytes, vocabulary: FrozenVocabulary) -> Search | None:
        """Unpack what `to_bytes` made; None when it was found with another vocabulary or by another version.

        Raises:
            UserError: the bytes are something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                head = json.loads(stored["head"].tobytes())
                if head["format"] != _FORMAT or head["vocabulary"] != vocabulary_hash(vocabulary):
                    return None
                numbers, same_as, left, right, millionths = (stored[name] for name in _COLUMNS)
        except UNREADABLE as error:
            raise UserError(f"no stored pairs ({error})", fix="`safetyqc dedup --refit` finds them anew") from error
        pairs = Pairs(
            same_as.astype(np.int64), left.astype(np.int64), right.astype(np.int64), millionths / _MICRO,
            head["min_similarity"], vocabulary, head["weights"],
        )  # fmt: skip
        return cls(numbers, pairs, head["index"])

    def with_more(self, numbers: Array, same_as: Array, near: Found, index: str | None) -> Search:
        """Put further texts and what is near them behind these; `same_as` and `near` name places."""
        pairs = _beside(self.pairs, np.concatenate([self.pairs.same_as, same_as]), near)
        return Search(np.concatenate([self.numbers, numbers]), pairs, index)


def search(
    numbers: Array,
    texts: Sequence[str],
    min_similarity: float,
    *,
    found_from: float = FOUND_FROM,
    analyzer: Analyzer = "word",
    weights: Weights = "tfidf",
    vocabulary: FrozenVocabulary | None = None,
    memory_mb: int | None = None,
    backend: BackendName = "auto",
) -> Search:
    """Find the pairs of all texts from `found_from` on, or from the threshold where that is lower or texts are many.

    Raises:
        UserError: see `find_pairs`.
    """

    def find(similarity: float) -> Pairs:
        return find_pairs(
            texts, similarity, analyzer=analyzer, weights=weights, vocabulary=vocabulary, memory_mb=memory_mb,
            backend=backend,
        )  # fmt: skip

    low = found_from if len(texts) <= MOST_FROM_BELOW else min_similarity
    return Search(np.asarray(numbers, np.int64), _from_low(find, low, min_similarity))


def extend(
    before: Search,
    numbers: Array,
    texts: Sequence[str],
    *,
    memory_mb: int | None = None,
    backend: BackendName = "auto",
) -> Search:
    """Search those of `numbers` that `before` lacks against each other and against the rest, which is not searched
    again.

    All texts are given, because those compared with are weighed again; that is linear in their number. What `before`
    holds and `numbers` does not is left out.

    Raises:
        UserError: more pairs than memory allows.
    """
    from safetyqc.dedup.vectors import vectorise

    place = {number: i for i, number in enumerate(np.asarray(numbers).tolist())}
    old = before.numbers[np.isin(before.numbers, numbers)]
    order = np.concatenate([old, before.lacks(np.asarray(numbers, np.int64))])
    ordered = [texts[place[number]] for number in order.tolist()]
    known, limit = before.among(old), memory_mb * 1e6 if memory_mb else float("inf")
    worker = choose_backend(backend, characters_of(texts), known.vocabulary.analyzer)
    vectors = vectorise(ordered, worker, weights=known.weights, vocabulary=known.vocabulary, limit_bytes=limit)
    rows, apart = vectors.rows, int(vectors.texts.searchsorted(len(old)))
    parts = []
    if 0 < apart < len(rows):
        parts.append(join(rows, vectors.groups, worker, known.min_similarity, apart=apart, limit_bytes=limit))
    found = join(_rows_from(rows, apart), vectors.groups, worker, known.min_similarity, limit_bytes=limit)
    parts.append(replace(found, left=found.left + apart, right=found.right + apart))
    near = Found.joined(parts)
    near = replace(near, left=vectors.texts[near.left], right=vectors.texts[near.right])
    return Search(order, _beside(known, vectors.same_as, near))


def restrict(pairs: Pairs, places: Array) -> Pairs:
    """Pairs of some of the texts, numbered anew in the order of `places`."""
    classes, first, inverse = np.unique(pairs.same_as[places], return_index=True, return_inverse=True)
    position = np.full(len(pairs.same_as), -1)
    position[classes] = first
    kept = np.flatnonzero((position[pairs.left] >= 0) & (position[pairs.right] >= 0))
    low, high = np.sort(np.stack([position[pairs.left[kept]], position[pairs.right[kept]]]), axis=0)
    order = np.lexsort((high, low))
    return replace(
        pairs, same_as=first[inverse], left=low[order], right=high[order], similarity=pairs.similarity[kept[order]]
    )


def _from_low(find: Callable[[float], T], low: float, asked: float) -> T:
    if low < asked:
        try:
            return find(low)
        except UserError:
            pass  # so many pairs from there on; any other mistake comes again below
    return find(asked)


def _rows_from(rows: Rows, first: int) -> Rows:
    start = rows.bounds[first]
    return Rows(rows.bounds[first:] - start, rows.ranks[start:], rows.weights[start:], rows.squares[first:])


def _beside(known: Pairs, same_as: Array, found: Found) -> Pairs:
    """Put pairs of texts between the known ones, which are in order already."""
    similarity = np.minimum(np.round(found.cosine, 6), 1.0)
    near = np.flatnonzero(similarity >= known.min_similarity - 1e-9)
    low, high = np.sort(np.stack([found.left[near], found.right[near]]), axis=0)
    order = np.lexsort((high, low))
    low, high, similarity, size = low[order], high[order], similarity[near[order]], len(same_as)
    at = np.searchsorted(known.left * size + known.right, low * size + high)
    columns = ((known.left, low), (known.right, high), (known.similarity, similarity))
    left, right, together = (np.insert(old, at, new) for old, new in columns)
    return replace(known, same_as=same_as, left=left, right=right, similarity=together)


_COLUMNS = ("numbers", "same_as", "left", "right", "millionths")
