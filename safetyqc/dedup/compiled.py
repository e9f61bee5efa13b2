"""The search in compiled loops on all cores, for sets of thousands to millions.

The first call on a machine compiles for some ten seconds (then from numba's cache on disk, half a second). Loads numba:
import it late.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np

from safetyqc.dedup import kernels
from safetyqc.dedup.choices import Analyzer
from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, bounds_of, in_order
from safetyqc.dedup.tokens import LONE, SEPARATOR, character_class, foldable


class Table:
    """Numbers features in the order in which they come, and notes in how many texts each stands.

    Open addressing over 64-bit hashes, at most two thirds full; all that is known of a feature stands in one place of
    24 bytes, because to reach it costs a cache miss.
    """

    def __init__(self) -> None:
        self._slots, self._used, self._texts = np.zeros(1 << 12, _SLOT), 0, 0

    def __len__(self) -> int:
        return self._used

    def number(self, counted: Counted) -> Array:
        """Return the number of each feature of the texts."""
        self._grow(self._used + len(counted.features))
        out = np.empty(len(counted.features), np.uint32)
        self._used = int(
            kernels.number_features(self._slots, self._used, counted.features, counted.bounds, self._texts, out)
        )
        self._texts += len(counted.bounds) - 1
        return out

    def find(self, hashes: Array) -> Array:
        """Return the number of each of these features; of those that it does not hold, its length."""
        out = np.empty(len(hashes), np.uint32)
        kernels.find_features(self._slots, hashes, self._used, out)
        return out

    def take_shared(self, other: Table) -> None:
        """Take over the features that stand in more than one text of another table, which holds none of its own."""
        often = other._slots[other._slots["texts"] > 1]
        often = often[np.argsort(often["number"])]
        often["number"] = np.arange(self._used, self._used + len(often))
        self._grow(self._used + len(often))
        kernels.refill(self._slots, often)
        self._used += len(often)
        self._texts = other._texts

    def _grow(self, needed: int) -> None:
        size = len(self._slots)
        while 3 * needed > 2 * size:
            size *= 2
        if size > len(self._slots):
            slots = np.zeros(size, _SLOT)
            kernels.refill(slots, self._slots)
            self._slots = slots

    def hashes(self) -> Array:
        """The features' hashes, by number."""
        return self._by_number("hash")

    def frequencies(self) -> Array:
        """In how many texts each feature stands, by number."""
        return self._by_number("texts")

    def order(self) -> tuple[Array, Array]:
        """The rank of each feature, from the most common to the rarest, and the group of each rank but the last ones.

        Features that stand in about as many texts, and first and last in the same ones, are mostly those of one
        passage: they get neighbouring ranks and one group.
        """
        frequencies = self.frequencies()
        steps = (np.log(np.maximum(frequencies, 1)) * _STEPS).astype(np.uint64)
        keys = (np.uint64(0xFF) - steps) << np.uint64(56)
        keys |= (self._by_number("first").astype(np.uint64) & _28_BITS) << np.uint64(28)
        keys |= self._by_number("last").astype(np.uint64) & _28_BITS
        shared = np.flatnonzero(frequencies > 1)
        order = shared[np.argsort(keys[shared], kind="stable")]
        ranks = np.empty(len(self), np.uint32)
        ranks[order] = np.arange(len(order))
        ranks[frequencies <= 1] = np.arange(len(order), len(self))
        groups = np.zeros(len(order), np.uint32)
        np.cumsum(keys[order][1:] != keys[order][:-1], out=groups[1:])
        return ranks, groups

    def _by_number(self, field: str) -> Array:
        filled = self._slots[self._slots["hash"] != 0]
        out = np.empty(self._used, _SLOT[field])
        out[filled["number"]] = filled[field]
        return out


class Compiled:
    """What the compiled loops do, by one analyzer."""

    def __init__(self, analyzer: Analyzer = "word") -> None:
        self.analyzer = analyzer
        self._split = kernels.word_hashes if analyzer == "word" else kernels.gram_hashes
        affinity = getattr(os, "sched_getaffinity", None)
        self.workers = len(affinity(0)) if affinity else os.cpu_count() or 1
        self._classes, self._folds = _character_classes(), _folds()

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""
        codes, bounds = _code_points(texts)
        folded = np.zeros(len(texts), np.bool_)
        if kernels.left_to_python(codes, bounds, self._folds, folded):
            codes, bounds = _code_points(
                [foldable(text) if done else text for text, done in zip(texts, folded, strict=True)]
            )
        words, word_bounds = np.empty(len(codes), np.uint64), np.zeros_like(bounds)
        used = self._split(codes, bounds, folded, self._classes, self._folds, words, word_bounds)
        hashes, counts = np.empty(2 * used, np.uint64), np.empty(2 * used, np.int32)
        feature_bounds, fingerprints = np.zeros_like(bounds), np.zeros((len(texts), 2), np.uint64)
        used = kernels.count_features(words[:used], word_bounds, hashes, counts, feature_bounds, fingerprints)
        return Counted(feature_bounds, hashes[:used].copy(), counts[:used].copy(), fingerprints)

    def weigh(self, counted: Counted, features: Array, idf: Array, indexed: int, out: Rows, first: int) -> None:
        """Write unit rows to `out`, from row `first` on, without ranks from `indexed` on.

        `features` holds `rank` and `frequency` of each feature by number, `idf` that of each frequency.
        """
        target = (out.bounds, out.ranks, out.weights, out.squares, out.scales)
        counts = (counted.bounds, counted.features, counted.counts)
        kernels.weigh_rows(*counts, features, idf, _DAMPED, indexed, target, first)

    def tails(self, rows: Rows, groups: Array, cuts: Array, high: float) -> Tails:
        """Find the indexed part of each row."""
        columns = (rows.bounds, rows.ranks, rows.weights, rows.squares)
        bounds, none = np.zeros(len(rows) + 1, np.int64), np.empty(0, np.uint32)
        levels = np.empty((len(rows), len(cuts) + 1), np.uint8, order="F")  # one row asks all others for one column
        sketches = np.zeros((len(rows), 32), np.uint8)

        def cut(tails: Tails, *, write: bool) -> None:
            target = (tails.bounds, tails.ranks, tails.weights, tails.levels, tails.sketches)
            spans = ((start, min(start + 16384, len(rows))) for start in range(0, len(rows), 16384))

            def cut_span(span: tuple[int, int]) -> None:
                kernels.cut_rows(*span, columns, groups, cuts, high, target, write)

            for _ in in_order(self.workers, cut_span, spans):
                pass

        cut(Tails(bounds, none, none.astype(np.float32), levels, sketches, cuts), write=False)
        np.cumsum(bounds, out=bounds)
        tails = Tails(bounds, np.empty(bounds[-1], np.uint32), np.empty(bounds[-1], np.float32), levels, sketches, cuts)
        cut(tails, write=True)
        return tails

    def lists(self, tails: Tails, first: int, last: int) -> Lists:
        """Index the tails of the rows first..last."""
        start, stop = int(tails.bounds[first]), int(tails.bounds[last])
        lengths = np.zeros(int(tails.ranks[start:stop].max(initial=0)) + 1, np.int64)
        kernels.count_lists(start, stop, tails.ranks, lengths)
        bounds = bounds_of(lengths)
        entries = np.empty(bounds[-1], _ENTRY)
        kernels.fill_lists(
            first, last, tails.bounds, tails.ranks, tails.weights, bounds[:-1].copy(), entries["row"],
            entries["weight"],
        )  # fmt: skip
        return Lists(bounds, entries["row"], entries["weight"])

    def probe(
        self, rows: Rows, groups: Array, tails: Tails, span: tuple[int, int], lists: Lists, base: int, size: int,
        least: float, most: int,
    ) -> Found:  # fmt: skip
        """Find the indexed rows (base..base + size) near each of the rows of the span, among those before it."""
        return Found(
            *kernels.probe(
                *span, (rows.bounds, rows.ranks, rows.weights, rows.squares), groups,
                (tails.bounds, tails.ranks, tails.weights, tails.levels, tails.sketches, tails.cuts),
                (lists.bounds, lists.rows, lists.weights), base, size, least, most,
            )
        )  # fmt: skip

    def exact(self, found: Found, rows: Rows, idf: Array) -> Found:
        """The same pairs with their cosines in full; `idf` is that of each rank."""
        cosine = np.empty(len(found.left))
        columns = (rows.bounds, rows.ranks, rows.weights, rows.scales)
        kernels.exact_cosines(found.left, found.right, columns, idf, _DAMPED, cosine)
        return Found(found.left, found.right, cosine)


def _code_points(texts: Sequence[str]) -> tuple[Array, Array]:
    """All characters of the texts one after another, and where each text starts."""
    bounds = bounds_of(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32), bounds


@cache
def _character_classes() -> Array:
    """`character_class` of every code point, for the kernel; takes about 40 ms once."""
    classes = np.zeros(0x110000, np.uint8)
    for part in (range(0x20000), range(0xE0000, 0xE1000)):
        classes[part.start : part.stop] = [character_class(code) for code in part]
    classes[0x20000:0x40000] = LONE
    return classes


@cache
def _folds() -> Array:
    """What `foldable` makes of each character by itself, where that does not depend on its neighbours.

    It does where a character may combine with the one before it, or is decomposed into one that may; those, and what
    becomes several characters (unless all only end a word), are marked. Takes about 0.2 s once.
    """
    joined = "\n".join(map(chr, _FOLDED)).replace("\n\n\n", "\n \n")
    characters = unicodedata.normalize("NFKC", joined).split("\n")
    folds = np.arange(_FOLDED.stop, dtype=np.uint32)
    followers = _combining()
    for code, normal in zip(_FOLDED, characters, strict=True):
        text = normal.casefold()
        if normal[0] in followers:
            folds[code] = kernels.BY_PYTHON
        elif len(text) == 1:
            folds[code] = ord(text)
        else:
            ends = all(character_class(ord(part)) == SEPARATOR for part in text)
            folds[code] = ord(" ") if ends else kernels.BY_PYTHON
    return folds


def _combining() -> set[str]:
    """Characters that may combine with the one before them, or change places with it."""
    out = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # parts of Korean syllables
    for character in map(chr, _FOLDED):
        if unicodedata.combining(character):
            out.add(character)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            out.add(chr(int(parts[1], 16)))
    return out


_FOLDED = range(0x30000)  # beyond it nothing is folded
_SLOT = np.dtype(
    [("hash", np.uint64), ("number", np.uint32), ("texts", np.int32), ("first", np.uint32), ("last", np.uint32)]
)
_STEPS = 4.5  # steps of frequency for a factor of e: a group's features differ by a quarter at most
_28_BITS = np.uint64((1 << 28) - 1)
# side by side, so that reaching a list costs one cache miss and not two
_ENTRY = np.dtype([("row", np.int32), ("weight", np.float32)])
_DAMPED = np.concatenate([[0.0], 1.0 + np.log(np.arange(1, 1024))])
