"""Pairs that were found once, with the names of what was compared, so that they need not be found again.

A raised threshold, another linkage and conversations that went out reuse them; conversations that came in are searched
against the old ones and each other, while the old pairs keep their similarity to the last bit: they are not computed
again, and new ones use the vocabulary that was frozen with them. It decides nothing about groups and knows no files:
a search becomes bytes and back.

The surprising thing: pairs are looked for from a similarity below the one asked for (`FOUND_FROM`), so that other
thresholds can be tried at no cost; of very many texts, and where memory does not allow it, only those asked for are.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from safetyqc.dedup.pairs import BackendName, Pairs, choose_backend, find_pairs, join
from safetyqc.dedup.rows import Array, Found, Rows
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.dedup.tokens import Analyzer
    from safetyqc.dedup.vectors import Vectors, Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

FOUND_FROM = 0.6
MOST_FROM_BELOW = 50_000
"""Of more texts only the pairs asked for are found: of 100,000 those from 0.6 on take twice the time of 0.75."""
_FORMAT = 1
_MICRO = 1_000_000  # similarities have six decimals
T = TypeVar("T")


@dataclass(frozen=True)
class Search:
    """Pairs and what they are pairs of: `names[i]` is the conversation of text i."""

    names: tuple[str, ...]
    pairs: Pairs

    def among(self, names: Sequence[str]) -> Pairs:
        """Pairs of these conversations alone, numbered in this order; each must have been searched."""
        places = {name: place for place, name in enumerate(self.names)}
        return restrict(self.pairs, np.array([places[name] for name in names], np.int64))

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Which of these were not searched, in their order."""
        known = set(self.names)
        return [name for name in names if name not in known]

    def to_bytes(self) -> bytes:
        """Pack everything but the vocabulary, which is named by its hash, to be stored with a run."""
        pairs = self.pairs
        head = {
            "format": _FORMAT,
            "names": self.names,
            "min_similarity": pairs.min_similarity,
            "weights": pairs.weights,
            "vocabulary": vocabulary_hash(pairs.vocabulary),
        }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            same_as=pairs.same_as.astype(np.int32),
            left=pairs.left.astype(np.int32),
            right=pairs.right.astype(np.int32),
            millionths=np.rint(pairs.similarity * _MICRO).astype(np.int32),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, vocabulary: FrozenVocabulary) -> Search | None:
        """Unpack what `to_bytes` made; None when it was found with another vocabulary or by another version.

        Raises:
            UserError: the bytes are something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                head = json.loads(stored["head"].tobytes())
                same_as, left, right, millionths = (stored[k] for k in ("same_as", "left", "right", "millionths"))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"no stored pairs ({error})", fix="`safetyqc dedup --refit` finds them anew") from error
        if head["format"] != _FORMAT or head["vocabulary"] != vocabulary_hash(vocabulary):
            return None
        pairs = Pairs(
            same_as.astype(np.int64), left.astype(np.int64), right.astype(np.int64), millionths / _MICRO,
            head["min_similarity"], vocabulary, head["weights"],
        )  # fmt: skip
        return cls(tuple(head["names"]), pairs)


def vocabulary_hash(vocabulary: FrozenVocabulary) -> str:
    """Name a vocabulary by what it holds."""
    digest = hashlib.blake2b(str(vocabulary.texts).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(vocabulary.hashes).tobytes())
    digest.update(np.ascontiguousarray(vocabulary.frequencies).tobytes())
    return digest.hexdigest()


def search(
    names: Sequence[str],
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
    return Search(tuple(names), _from_low(find, low, min_similarity))


def extend(
    before: Search,
    names: Sequence[str],
    texts: Sequence[str],
    *,
    memory_mb: int | None = None,
    backend: BackendName = "auto",
) -> Search:
    """Search those of `names` that `before` lacks against each other and against the rest, which is not searched again.

    All texts are given, because those compared with are weighed again; that is linear in their number. What `before`
    holds and `names` does not is left out.

    Raises:
        UserError: more pairs than memory allows.
    """
    from safetyqc.dedup.vectors import vectorise

    place = {name: i for i, name in enumerate(names)}
    old = [name for name in before.names if name in place]
    order = old + before.lacks(names)
    ordered = [texts[place[name]] for name in order]
    known, limit = before.among(old), memory_mb * 1e6 if memory_mb else float("inf")
    worker = choose_backend(backend, sum(map(len, texts)), known.vocabulary.analyzer)
    vectors = vectorise(ordered, worker, weights=known.weights, vocabulary=known.vocabulary, limit_bytes=limit)
    rows, apart = vectors.rows, int(vectors.texts.searchsorted(len(old)))
    parts = []
    if 0 < apart < len(rows):
        parts.append(join(rows, vectors.groups, worker, known.min_similarity, apart=apart, limit_bytes=limit))
    found = join(_rows_from(rows, apart), vectors.groups, worker, known.min_similarity, limit_bytes=limit)
    parts.append(replace(found, left=found.left + apart, right=found.right + apart))
    return Search(tuple(order), _with(known, vectors, Found.joined(parts)))


def restrict(pairs: Pairs, places: Array) -> Pairs:
    """Pairs of some of the texts, numbered anew in the order of `places`."""
    classes, first, inverse = np.unique(pairs.same_as[places], return_index=True, return_inverse=True)
    position = np.full(len(pairs.same_as), -1)
    position[classes] = first
    ends = np.sort(np.stack([position[pairs.left], position[pairs.right]]), axis=0)
    kept = np.flatnonzero(ends[0] >= 0) if len(pairs) else np.empty(0, np.int64)
    kept = kept[np.lexsort((ends[1][kept], ends[0][kept]))]
    return replace(
        pairs, same_as=first[inverse], left=ends[0][kept], right=ends[1][kept], similarity=pairs.similarity[kept]
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


def _with(known: Pairs, vectors: Vectors, found: Found) -> Pairs:
    """Put pairs of rows beside the known ones."""
    similarity = np.minimum(np.round(found.cosine, 6), 1.0)
    near = similarity >= known.min_similarity - 1e-9
    left, right = vectors.texts[found.left[near]], vectors.texts[found.right[near]]
    columns = [
        np.concatenate([known.left, np.minimum(left, right)]),
        np.concatenate([known.right, np.maximum(left, right)]),
        np.concatenate([known.similarity, similarity[near]]),
    ]
    order = np.lexsort((columns[1], columns[0]))
    left, right, similarity = (column[order] for column in columns)
    return replace(known, same_as=vectors.same_as, left=left, right=right, similarity=similarity)
