"""Counted texts -> the same texts with numbers for their features, and in how many texts each feature stands.

Most features stand in one text only and are told apart for no other reason than to count them. Where memory is bounded,
texts wait with the hashes of their features in a file, and features are counted one part of the hashes after the other:
the table of a part, which is as large as all its features, makes room for the next one, and only features of two texts
or more are kept. How many parts it takes is known beforehand, because one feature in 64 is
counted while the texts come in. Loads numpy: import it late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from safetyqc.dedup.compiled import Compiled, Table
from safetyqc.dedup.rows import Array, Counted, Spool, bounds_of, in_order

if TYPE_CHECKING:
    from safetyqc.dedup.vocabulary import FrozenVocabulary

_SAMPLED = 64
"""One feature in so many is counted at once; also the most parts there are."""
_TABLE_BYTES = 72
"""What a feature takes in a table at most, while that grows."""


@dataclass(frozen=True)
class Numbered:
    """The waiting texts, and a table of their features; a number from its length on stands for no single feature.

    Number `len(table) + i` is that of all features of one text only whose frequency counts as `rare_frequencies[i]`.
    """

    spool: Spool
    table: Table
    rare_frequencies: Array


@dataclass
class Numbering:
    """Takes counted texts block by block, up to `limit_bytes` in memory; how many parts it took is `parts`."""

    worker: Compiled
    limit_bytes: float
    parts: int = 0
    _table: Table = field(init=False)
    _spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self._table = Table()
        self._spool = Spool(self.limit_bytes / 8)

    def add(self, counted: Counted) -> None:
        """Take one block of texts."""
        if self.limit_bytes == inf:
            self._spool.add(_with_features(counted, self._table.number(counted)))
            return
        self._spool.add(counted)
        self._table.number(_part_of(counted, 0, _SAMPLED))

    def finish(self, vocabulary: FrozenVocabulary | None) -> Numbered:
        """Number all features; how often one of a single text stands in others is what the vocabulary says."""
        if self.limit_bytes == inf:
            return Numbered(self._spool, self._table, np.empty(0, np.int64))
        table = self._shared_features()
        rare = np.array([1]) if vocabulary is None else np.union1d(vocabulary.frequencies, [1])
        spool = Spool(self.limit_bytes / 8)

        def number(counted: Counted) -> Counted:
            numbers = table.find(counted.features)
            single = np.flatnonzero(numbers == len(table))
            if vocabulary is not None:
                often = vocabulary.frequencies_of(counted.features[single])
                numbers[single] += np.searchsorted(rare, often).astype(np.uint32)
            return _with_features(counted, numbers)

        for numbered in in_order(self.worker.workers, number, self._spool.blocks(release=True)):
            spool.add(numbered)
        return Numbered(spool, table, rare)

    def _shared_features(self) -> Table:
        """A table of the features that stand in two texts or more."""
        expected = len(self._table) * _SAMPLED * _TABLE_BYTES / (self.limit_bytes / 4)
        self.parts = min(1 << max(int(np.ceil(np.log2(max(expected, 1)))), 0), _SAMPLED)
        self._table = shared = Table()
        for part in range(self.parts):
            table = Table()
            for counted in self._spool.blocks():
                table.number(_part_of(counted, part, self.parts))
            shared.take_shared(table)
        return shared


def _part_of(counted: Counted, part: int, parts: int) -> Counted:
    """The same texts with only those features whose hash is in this part of all (a power of two)."""
    if parts == 1:
        return counted
    chosen = counted.features >> np.uint64(64 - (parts.bit_length() - 1)) == np.uint64(part)
    bounds = bounds_of(chosen)[counted.bounds]
    return Counted(bounds, counted.features[chosen], counted.counts[chosen], counted.fingerprints)


def _with_features(counted: Counted, features: Array) -> Counted:
    return Counted(counted.bounds, features, counted.counts, counted.fingerprints)
