"""The arrays that vectorising hands to the join, and where they live: in memory, or in a file when there are too many.

Loads numpy: import it only from modules of this folder that are themselves loaded late.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from safetyqc.formats.spooled import explained

Array = NDArray[Any]
A = TypeVar("A")
B = TypeVar("B")
_CUTS = 7  # levels of a row are one more: eight bytes


@dataclass(frozen=True)
class Counted:
    """Features of some texts with their counts, in order of appearance; text r owns bounds[r]:bounds[r + 1].

    `fingerprints` is (texts, 2): 128 bits of the word sequence, zero where a text has no word.
    """

    bounds: Array
    features: Array
    """64-bit hashes until they are numbered, then the numbers."""
    counts: Array
    fingerprints: Array

    def without(self, dropped: Array) -> Counted:
        """Leave out the texts that the boolean array marks."""
        if not dropped.any():
            return self
        lengths = np.diff(self.bounds)
        keep = np.repeat(~dropped, lengths)
        return Counted(
            bounds_of(lengths[~dropped]), self.features[keep], self.counts[keep], self.fingerprints[~dropped]
        )

    def as_matrix(self) -> tuple[Any, Array]:
        """Damped counts (1 + ln) as a sparse matrix, and the hash of each of its columns."""
        from scipy.sparse import csr_matrix

        hashes, columns = np.unique(self.features, return_inverse=True)
        shape = (len(self.bounds) - 1, len(hashes))
        return csr_matrix((1.0 + np.log(self.counts), columns, self.bounds), shape), hashes


@dataclass(frozen=True)
class Rows:
    """Unit vectors, each from its most common feature (rank 0) to its rarest.

    `squares` is the squared norm of what is stored of each row: less than 1 where features that no other text has were
    left out, 0 for a text without words. A weight is (1 + ln count) times the idf of its feature times `scales[row]`.
    """

    bounds: Array
    ranks: Array
    weights: Array
    squares: Array
    scales: Array

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True)
class Tails:
    """The indexed part of each row, from its rarest group of features to its most common one.

    A group weighs the norm of its features. A negative weight may add to a sum but not start one. `cuts` are ranks of
    groups, ascending; a tail holds everything from `cuts[0]` on. `levels[row, k]` is the norm of what the row has below
    `cuts[k]`, the last column that of the whole row, in steps of 1/255 and rounded up. `sketches` has a bit set for
    every group of a row, 256 of them shared by all groups.
    """

    bounds: Array
    ranks: Array
    weights: Array
    levels: Array
    sketches: Array
    cuts: Array


@dataclass(frozen=True)
class Lists:
    """For each group of features, the rows whose tail holds it (ascending), with its weight, signed as in `Tails`."""

    bounds: Array
    rows: Array
    weights: Array


@dataclass(frozen=True)
class Found:
    """Near rows: `left` among the indexed, `right` among the probing ones, and their cosine (not rounded)."""

    left: Array
    right: Array
    cosine: Array

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        """Put results one after another."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        columns = zip(*((part.left, part.right, part.cosine) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


def cuts_of(rows: Rows, groups: Array, low: float) -> Array:
    """Choose where tails start: at the group below which rows have a norm of `low` on average; and six more cuts above.

    `groups` names the group of each rank. Looks at some two thousand rows. Any ascending cuts give the same pairs.
    """
    chosen = np.arange(0, len(rows), max(1, len(rows) // 2000))
    places = places_of(rows.bounds[chosen], rows.bounds[chosen + 1])
    squares = rows.weights[places].astype(np.float64) ** 2
    mass = np.cumsum(np.bincount(groups[rows.ranks[places]], squares)) / max(len(chosen), 1)
    steps = low * low + max(float(mass[-1]) - low * low if len(mass) else 0.0, 0.0) * np.arange(_CUTS) / _CUTS
    cuts: Array = np.searchsorted(mass, steps).astype(np.int64)
    return cuts


def places_of(starts: Array, stops: Array) -> Array:
    """All places from each start to its stop, one after another."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    places: Array = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return places


def bounds_of(lengths: Array) -> Array:
    """Turn lengths into n + 1 bounds."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def in_order(workers: int, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Map over items in threads, yielding results in the items' order, with only a few of them waiting at a time."""
    if workers < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        remaining = iter(items)
        waiting: list[Future[B]] = [pool.submit(function, item) for item in islice(remaining, 2 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(function, item) for item in islice(remaining, 1)]


@dataclass
class Spool:
    """Counted texts waiting for their weights: in memory up to `limit_bytes`, then in a nameless temporary file.

    Most counts fit a byte. What waits in memory is mapped apart from everything else, so that the system gets it back
    as soon as it is released: that is when the rows, which are as large, fill.
    """

    limit_bytes: float
    _waiting: list[_Packed] = field(default_factory=list)
    _on_disk: list[tuple[_Packed, int]] = field(default_factory=list)
    _file: IO[bytes] | None = None
    _used_bytes: int = 0

    def add(self, counted: Counted) -> None:
        """Keep one block of texts.

        Raises:
            OutputError: no room for a temporary file.
        """
        features = counted.features
        counts = counted.counts.astype(np.min_scalar_type(counted.counts.max(initial=0)), copy=False)
        packed = _Packed(counted.bounds, features.dtype, counts.dtype, b"")
        self._used_bytes += packed.size
        if self._used_bytes <= self.limit_bytes:
            room = mmap.mmap(-1, max(packed.size, 1))
            room.write(features.data)
            room.write(counts.data)
            self._waiting.append(replace(packed, data=room))
            return
        with explained():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="safetyqc-")  # noqa: SIM115 - closed when all was read
            self._on_disk.append((packed, self._file.tell()))
            self._file.write(features.data)
            self._file.write(counts.data)
            self._file.flush()

    def blocks(self, *, release: bool = False) -> Iterator[Counted]:
        """Yield the blocks in order, without fingerprints; with `release`, forget each as soon as it was used."""
        for place, packed in enumerate(self._waiting):
            if release:
                self._waiting[place] = _NOTHING
            yield packed.counted()
        for packed, offset in self._on_disk:
            if self._file is None:
                raise ValueError("nothing was written")
            self._file.seek(offset)
            yield replace(packed, data=bytearray(self._file.read(packed.size))).counted()
        if release and self._file:
            self._file.close()


@dataclass(frozen=True)
class _Packed:
    """Bytes of a block: the hashes or numbers of its features, and after them their counts."""

    bounds: Array
    features: np.dtype[Any]
    counts: np.dtype[Any]
    data: bytes | bytearray | mmap.mmap

    @property
    def size(self) -> int:
        return int(self.bounds[-1]) * (self.features.itemsize + self.counts.itemsize)

    def counted(self) -> Counted:
        length = int(self.bounds[-1])
        features = np.frombuffer(self.data, self.features, length)
        counts = np.frombuffer(self.data, self.counts, length, self.features.itemsize * length).astype(np.int32)
        return Counted(self.bounds, features, counts, np.zeros((len(self.bounds) - 1, 2), np.uint64))


_NOTHING = _Packed(np.zeros(1, np.int64), np.dtype(np.uint32), np.dtype(np.uint8), b"")


def room_for(size: int, dtype: type, limit_bytes: float) -> Array:
    """Reserve an array: in memory, or in a nameless temporary file when it is larger than `limit_bytes`.

    Raises:
        OutputError: no room for the file.
    """
    size_bytes = size * np.dtype(dtype).itemsize
    if size_bytes <= limit_bytes or size == 0:
        return np.empty(size, dtype)
    with explained(), tempfile.TemporaryFile(prefix="safetyqc-") as file:
        if hasattr(os, "posix_fallocate"):  # where a disk fills up under a mapped file, the system ends the process
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        return np.memmap(file, dtype=dtype, mode="w+", shape=(size,))
