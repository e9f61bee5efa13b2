"""How rare each feature is: the part of the measure that depends on the corpus, kept so that it need not change.

The inverse document frequency (idf) makes a similarity depend on all texts that were counted. A frozen vocabulary keeps
those counts with a run: pairs found today keep their similarity when conversations are added tomorrow. It holds only
features that stand in two texts or more; any other counts as standing in one, so that nothing is lost by leaving out
the long tail, which is most of it. It knows features by their 64-bit hash and cannot be read back into text.

Loads numpy: import it only from modules of this folder that are themselves loaded late.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safetyqc.dedup.choices import Analyzer
from safetyqc.dedup.tokens import ANALYZERS, MIX_1, MIX_2, PAIR, feature_hash, parts_of, word_hash
from safetyqc.errors import UserError

_FORMAT = 1
UNREADABLE = (
    ValueError, KeyError, TypeError, OSError, EOFError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What reading packed arrays may raise where bytes are damaged."""


@dataclass(frozen=True)
class FrozenVocabulary:
    """In how many of `texts` texts each feature stood; `hashes` ascending, `frequencies` beside them, all >= 2."""

    texts: int
    hashes: NDArray[np.uint64]
    frequencies: NDArray[np.int32]
    analyzer: Analyzer = "word"

    def frequencies_of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Look up many features; what the vocabulary does not hold counts as standing in one text."""
        found = np.ones(len(hashes), np.int64)
        if len(self.hashes):
            places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
            known = self.hashes[places] == hashes
            found[known] = self.frequencies[places[known]]
        return found

    def idf(self, feature: str) -> float:
        """Inverse document frequency of one feature as `tokens.features` names it."""
        wanted = np.uint64(feature_hash(feature, self.analyzer))
        place = int(self.hashes.searchsorted(wanted))
        known = place < len(self.hashes) and self.hashes[place] == wanted
        return math.log((1 + self.texts) / (1 + (int(self.frequencies[place]) if known else 1))) + 1

    def to_bytes(self) -> bytes:
        """Pack into compressed bytes, to be stored with a run."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"hashes": self.hashes, "frequencies": self.frequencies}
        head = np.array([_FORMAT, self.texts, ANALYZERS.index(self.analyzer)], np.int64)
        np.savez_compressed(buffer, head=head, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> FrozenVocabulary:
        """Unpack what `to_bytes` made.

        Raises:
            UserError: the bytes are something else, or of another version.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                version, texts, *kind = (int(value) for value in stored["head"])
                hashes, frequencies = stored["hashes"], stored["frequencies"]
        except UNREADABLE as error:
            raise UserError(f"not a stored vocabulary ({error})", fix="run dedup again without it") from error
        if version != _FORMAT:
            raise UserError(f"vocabulary of format {version}, this version reads {_FORMAT}", fix="run dedup again")
        return cls(texts, hashes, frequencies, ANALYZERS[kind[0] if kind else 0])


def feature_hashes(names: Iterable[str], analyzer: Analyzer) -> NDArray[np.uint64]:
    """`tokens.feature_hash` of many features: each word is hashed once, and pairs of words together."""
    parts = [parts_of(name, analyzer) for name in names]
    known = {word: word_hash(word) for word in {part for pair in parts for part in pair if part}}
    first = np.fromiter((known[one] for one, _ in parts), np.uint64, len(parts))
    second = np.fromiter((known[other] if other else 0 for _, other in parts), np.uint64, len(parts))
    value = first * np.uint64(PAIR) + second
    for factor in (MIX_1, MIX_2):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    mixed = np.maximum(value ^ (value >> np.uint64(33)), np.uint64(1))
    return np.where(second > 0, mixed, first)


def vocabulary_hash(vocabulary: FrozenVocabulary) -> str:
    """Name a vocabulary by what it holds."""
    digest = hashlib.blake2b(str(vocabulary.texts).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(vocabulary.hashes).tobytes())
    digest.update(np.ascontiguousarray(vocabulary.frequencies).tobytes())
    return digest.hexdigest()


def smooth_idf(frequencies: NDArray[Any], texts: int) -> NDArray[np.float64]:
    """ln((1 + texts) / (1 + frequency)) + 1, as scikit-learn's TfidfTransformer with `smooth_idf`."""
    return np.log((1.0 + texts) / (1.0 + frequencies)) + 1.0


def damped(count: int) -> float:
    """1 + ln(count): a word said a hundred times weighs 5.6 times one said once (scikit-learn's `sublinear_tf`)."""
    return 1.0 + math.log(count)
