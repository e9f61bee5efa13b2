"""The search in compiled loops on all cores, for sets of thousands to millions.

The first call on a machine compiles for some ten seconds (then from numba's cache on disk, half a second). Loads numba:
import it late.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import numpy as np

from safetyqc.dedup import kernels
from safetyqc.dedup.plain import compact_lists
from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, bounds_of
from safetyqc.dedup.tokens import LONE, character_class, foldable


class Table:
    """Numbers features in the order in which they come, and counts in how many texts each stands.

    Open addressing over 64-bit hashes, at most two thirds full: 12 to 24 bytes a feature, and 4 for its frequency.
    """

    def __init__(self) -> None:
        self._slots, self._ids = np.zeros(1 << 12, np.uint64), np.zeros(1 << 12, np.uint32)
        self._frequencies = np.zeros(1 << 12, np.int32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def number(self, counted: Counted, copies: Array) -> Array:
        """Return the number of each feature of the texts; text r counts `copies[r]` times."""
        self._grow(self._used + len(counted.features))
        out = np.empty(len(counted.features), np.uint32)
        self._used = int(
            kernels.number_features(
                self._slots, self._ids, self._used, counted.features, counted.bounds, copies, self._frequencies, out
            )
        )
        return out

    def _grow(self, needed: int) -> None:
        size = len(self._slots)
        while 3 * needed > 2 * size:
            size *= 2
        if size > len(self._slots):
            slots, ids = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
            kernels.refill(slots, ids, self._slots, self._ids)
            self._slots, self._ids = slots, ids
        if needed > len(self._frequencies):
            longer = np.zeros(max(needed, len(self._frequencies) * 3 // 2), np.int32)
            longer[: self._used] = self._frequencies[: self._used]
            self._frequencies = longer

    def hashes(self) -> Array:
        """The features' hashes, by number."""
        out = np.empty(self._used, np.uint64)
        filled = self._slots != 0
        out[self._ids[filled]] = self._slots[filled]
        return out

    def frequencies(self) -> Array:
        """In how many texts each feature stands, by number."""
        return self._frequencies[: self._used]

    def state(self) -> dict[str, Array]:
        """The arrays that `restore` makes the table from again, without filling it anew."""
        return {"slots": self._slots, "ids": self._ids, "frequencies": self.frequencies()}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over stored arrays, which may be mapped from files (copy on write)."""
        self._slots, self._ids, self._frequencies = state["slots"], state["ids"], state["frequencies"]
        self._used = len(self._frequencies)


class Compiled:
    """The numba backend."""

    def __init__(self) -> None:
        affinity = getattr(os, "sched_getaffinity", None)
        self.workers = len(affinity(0)) if affinity else os.cpu_count() or 1
        self._classes = _character_classes()

    def table(self) -> Table:
        """A fresh table of features."""
        return Table()

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""
        folded = [foldable(text) for text in texts]
        bounds = bounds_of(np.fromiter(map(len, folded), np.int64, len(folded)))
        codes = np.frombuffer("".join(folded).encode("utf-32-le", "surrogatepass"), np.uint32)
        words, word_bounds = np.empty(len(codes), np.uint64), np.zeros_like(bounds)
        used = kernels.word_hashes(codes, bounds, self._classes, words, word_bounds)
        hashes, counts = np.empty(2 * used, np.uint64), np.empty(2 * used, np.int32)
        feature_bounds, fingerprints = np.zeros_like(bounds), np.zeros((len(folded), 2), np.uint64)
        used = kernels.count_features(words[:used], word_bounds, hashes, counts, feature_bounds, fingerprints)
        return Counted(feature_bounds, hashes[:used].copy(), counts[:used].copy(), fingerprints)

    def ranks(self, frequencies: Array) -> Array:
        """Number features from the most common to the rarest."""
        ranks: Array = kernels.rank_by_frequency(frequencies) if len(frequencies) else np.empty(0, np.uint32)
        return ranks

    def weigh(self, counted: Counted, ranks: Array, idf: Array, indexed: int, out: Rows, first: int) -> None:
        """Write the unit rows of numbered texts to `out`, from row `first` on, without ranks from `indexed` on."""
        target = (out.bounds, out.ranks, out.weights, out.squares)
        kernels.weigh_rows(
            counted.bounds, counted.features, counted.counts, ranks, idf, _DAMPED, indexed, target, first
        )

    def tails(self, rows: Rows, low: float) -> Tails:
        """Find the indexed part of each row: from the feature on that brings the norm so far to `low`."""
        tails = Tails(np.zeros(len(rows), np.int64), np.zeros(len(rows)))
        kernels.split_rows(rows.bounds, rows.weights, low, tails.starts, tails.heads)
        return tails

    def lists(self, rows: Rows, tails: Tails, first: int, last: int, high: float, *, every_rank: bool = True) -> Lists:
        """Index the tails of the rows first..last; every rank gets a list, or only those that have entries."""
        highest = int(rows.ranks.max(initial=0))
        if not every_rank and 8 * len(rows.ranks) < highest:  # too few entries to walk over all ranks for
            few = compact_lists(rows, tails, first, last, high)
            entries = np.empty(len(few.rows), _ENTRY)
            entries["row"], entries["weight"] = few.rows, few.weights
            return Lists(few.ranks, few.bounds, entries["row"], entries["weight"])
        lengths = np.zeros(highest + 1, np.int64)
        kernels.count_lists(first, last, rows.bounds, rows.ranks, tails.starts, lengths)
        bounds = bounds_of(lengths)
        entries = np.empty(bounds[-1], _ENTRY)
        kernels.fill_lists(
            first, last, rows.bounds, rows.ranks, rows.weights, tails.starts, tails.heads, high,
            bounds[:-1].copy(), entries["row"], entries["weight"],
        )  # fmt: skip
        ranks = np.empty(0, np.uint32)
        if not every_rank:
            ranks = np.flatnonzero(lengths).astype(np.uint32)
            bounds = bounds_of(lengths[ranks])
        return Lists(ranks, bounds, entries["row"], entries["weight"])

    def probe(
        self, rows: Rows, tails: Tails, first: int, last: int, lists: Lists, others: Rows, other_tails: Tails,
        base: int, size: int, own: bool, least: float, high: float, most: int,
    ) -> Found:  # fmt: skip
        """Find the indexed rows (base..base + size of `others`) near each of the rows first..last."""
        return Found(
            *kernels.probe(
                first, last, (rows.bounds, rows.ranks, rows.weights, rows.squares), tails.starts,
                (lists.ranks, lists.bounds, lists.rows, lists.weights),
                (others.bounds, others.ranks, others.weights, others.squares), other_tails.heads[base : base + size],
                base, own, least, high, most,
            )
        )  # fmt: skip


@cache
def _character_classes() -> Array:
    """`character_class` of every code point, for the kernel; takes about 40 ms once."""
    classes = np.zeros(0x110000, np.uint8)
    classes[:0x20000] = [character_class(code) for code in range(0x20000)]
    classes[0x20000:0x40000] = LONE
    return classes


# side by side, so that reaching a list costs one cache miss and not two
_ENTRY = np.dtype([("row", np.int32), ("weight", np.float32)])
_DAMPED = np.concatenate([[0.0], 1.0 + np.log(np.arange(1, 1024))])
