"""Finds the near pairs of texts, with a backend that fits their number, and what was found before in mind.

`find_pairs` searches everything. `search` takes the pairs of an earlier search, asks only what is near the texts that
came since, and gives the same: vectors are made anew, by the count of words that was frozen with those pairs. A search
becomes bytes and back, to be kept with a run. It decides nothing about groups and knows no files.

Pairs are looked for from a similarity below the one asked for (`FOUND_FROM`), so that other
thresholds can be tried at no cost; of very many texts, and where memory does not allow it, only those asked for are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate, chain
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from safetyqc.dedup.pairs import Measure, Pairs
from safetyqc.dedup.rows import Array
from safetyqc.dedup.vocabulary import UNREADABLE, FrozenVocabulary, vocabulary_hash
from safetyqc.errors import UserError, choose_from

if TYPE_CHECKING:
    from safetyqc.dedup.blocks import Spread

BACKENDS: dict[str, str] = {"reference": "safetyqc.dedup.reference", "compiled": "safetyqc.dedup.join"}
"""Name of each backend, and the module whose `search` it is; all find the same pairs."""
_REFERENCE_CHARACTERS, _REFERENCE_TEXTS = 2_000_000, 10_000
"""Up to these the reference ends before the compiled loops have started."""
FOUND_FROM = 0.65
MOST_FROM_BELOW = 50_000
"""Of more texts only the pairs asked for are found: of 100,000 those from 0.65 on take 1.7 times the time of 0.75."""
_FORMAT = 3
_MICRO = 1_000_000  # similarities have six decimals


def choose_backend(name: str, texts: Sequence[str]) -> str:
    """Take the compiled backend where texts are long or many enough to repay loading it, and it is there.

    Raises:
        UserError: no such backend.
    """
    if name not in ("auto", *BACKENDS):
        raise UserError(f"no backend {name!r}", fix=choose_from(name, ["auto", *BACKENDS]))
    if name != "auto":
        return name
    many = inf if len(texts) > _REFERENCE_TEXTS else 0
    characters = accumulate(map(len, texts))
    return "compiled" if any(map(would_compile, chain([many], characters))) else "reference"


def would_compile(characters: float) -> bool:
    """Whether so much text repays loading the compiled backend, and it is there."""
    return characters > _REFERENCE_CHARACTERS and find_spec("numba") is not None


def find_pairs(
    texts: Sequence[str], min_similarity: float, *, memory_mb: int | None = None, backend: str = "auto",
    spread: Spread | None = None, **measure: Any
) -> Pairs:  # fmt: skip
    """Find every pair of texts whose cosine is at least `min_similarity`.

    `measure` is the rest of `pairs.Measure`: `analyzer` is what the texts are split into: words and pairs of them, or
    runs of three and four characters. `weights="tf"` makes similarities independent of the corpus; a `vocabulary`
    makes them those of the corpus that it was frozen with. `memory_mb` bounds the counting of features, vectors, index
    and result by using temporary files and working in parts; texts that are a list, and some 50 bytes for each feature
    of two texts or more, come on top. With a `spread` the compiled backend's rows are compared block by block where
    that runs calls, however few they are.

    Raises:
        UserError: a threshold outside 0..1, an unknown backend, a vocabulary of the other analyzer, or more pairs than
            the memory holds.
    """
    limit = memory_mb * 1e6 if memory_mb else float("inf")
    asked = Measure(min_similarity, limit_bytes=limit, **measure)
    if spread is not None and would_compile(inf):
        from safetyqc.dedup.blocks import search as search_blocks

        return search_blocks(texts, asked, spread)
    found: Pairs = import_module(BACKENDS[choose_backend(backend, texts)]).search(texts, asked)
    return found


@dataclass(frozen=True)
class Search:
    """Pairs and what they are pairs of: `ids[i]` is the id of text i."""

    ids: tuple[str, ...]
    pairs: Pairs

    def to_bytes(self) -> bytes:
        """Pack everything but the vocabulary, which is named by its hash, to be stored with a run."""
        pairs = self.pairs
        head = {
            "format": _FORMAT,
            "min_similarity": pairs.min_similarity,
            "weights": pairs.weights,
            "vocabulary": vocabulary_hash(pairs.vocabulary),
            "ids": self.ids,
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
        """Unpack what `to_bytes` made; None when it is damaged, of another version or found with another vocabulary."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                head = json.loads(stored["head"].tobytes())
                if head["format"] != _FORMAT or head["vocabulary"] != vocabulary_hash(vocabulary):
                    return None
                same_as, left, right = (stored[name].astype(np.int64) for name in ("same_as", "left", "right"))
                similarity = stored["millionths"] / _MICRO
        except UNREADABLE:
            return None
        pairs = Pairs(same_as, left, right, similarity, head["min_similarity"], vocabulary, head["weights"])
        return cls(tuple(head["ids"]), pairs)

    def places(self, ids: Sequence[str]) -> Array:
        """Where these ids stand; -1 for those that were not searched."""
        known = {name: place for place, name in enumerate(self.ids)}
        return np.fromiter((known.get(name, -1) for name in ids), np.int64, len(ids))


def search(
    ids: Sequence[str], texts: Sequence[str], min_similarity: float, *, before: Search | None = None, **options: Any
) -> Search:
    """Find the pairs of all texts from `FOUND_FROM` on, or from the threshold where that is lower or texts are many.

    With `before` only what it lacks is looked for, from the similarity on that it was found from, and by its
    vocabulary. What it holds beyond these ids is left out. `options` are those of `find_pairs`.

    Raises:
        UserError: see `find_pairs`.
    """
    if before:
        try:
            return _extended(before, ids, texts, **options)
        except UserError:
            if before.pairs.min_similarity >= min_similarity:
                raise
            options["vocabulary"] = before.pairs.vocabulary  # so many pairs from there on: only those asked for
    elif min_similarity > FOUND_FROM and len(texts) <= MOST_FROM_BELOW:
        try:
            return Search(tuple(ids), find_pairs(texts, FOUND_FROM, **options))
        except UserError:
            pass  # so many pairs from there on; any other mistake comes again below
    return Search(tuple(ids), find_pairs(texts, min_similarity, **options))


def _extended(before: Search, ids: Sequence[str], texts: Sequence[str], **options: Any) -> Search:
    """Ask what is near the texts that `before` lacks; its pairs are taken as they are."""
    places = before.places(ids)
    known = int((np.append(places, -1) < 0).argmax())  # what stands behind the first new one is asked again
    old = before.pairs.among(places[:known])
    if known == len(ids):
        return Search(tuple(ids), old)
    options |= {"weights": old.weights, "vocabulary": old.vocabulary, "analyzer": old.vocabulary.analyzer}
    found = find_pairs(texts, old.min_similarity, known=known, **options)
    together = replace(
        found,
        left=np.concatenate([old.left, found.left]),
        right=np.concatenate([old.right, found.right]),
        similarity=np.concatenate([old.similarity, found.similarity]),
    )
    return Search(tuple(ids), together.among(np.arange(len(ids))))
