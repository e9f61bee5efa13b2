"""The compiled search cut into calls that can run anywhere: each pair of blocks of rows is searched by the same join.

Words are counted and rows weighed where the search is asked for, so vocabulary, idf and order of features are one for
all. The rows are cut into blocks of about as many features; each gets its index (`Block`), made by a call; and then
each pair of blocks (the earlier one indexed, the later one probing) is a call of its own, and so is each block by
itself. Every pair of rows is met in exactly one of them, and by the same bounds, so that the union of what they find is
what `join.search` finds, to the last bit. Nothing is sent by what it holds, as map-reduce joins send a text to each of
its rare words: a common word makes no call longer than its block. Where calls run is a `Spread`'s business. Loads
numba: import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from typing import Any, Protocol

import numpy as np

from safetyqc.dedup.choices import Analyzer
from safetyqc.dedup.compiled import Compiled
from safetyqc.dedup.join import MARGIN, SLACK, spans, vectors_of
from safetyqc.dedup.pairs import Measure, Pairs
from safetyqc.dedup.rows import Array, Found, Lists, Rows, Tails, cuts_of
from safetyqc.dedup.vectors import Vectors

_CALLS_EACH = 4
"""So many calls for each that can run at a time: one that takes longer than others delays the end by so much less."""
_MOST_FEATURES = 16_000_000
"""Of a block: some 400 MB with its index, and a call holds two of them, twice while it copies them."""


class Spread(Protocol):
    """Calls functions wherever it wants, and keeps what several calls read where they can reach it."""

    @property
    def size(self) -> int:
        """How many calls can run at a time."""
        ...

    def put(self, value: Any) -> Any:
        """Keep a value; returns what stands for it as an argument of calls."""
        ...

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a call of a picklable function; returns what stands for its result, as an argument too."""
        ...

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        """Results of calls, in the order in which they end; those that are not asked for any more are given up."""
        ...


@dataclass(frozen=True)
class Frame:
    """What all calls share: the group and the idf of each rank, where tails are cut, and what counts as near."""

    groups: Array
    idf: Array
    cuts: Array
    high: float
    most: int
    analyzer: Analyzer


@dataclass(frozen=True)
class Block:
    """Rows from `first` on, and their index."""

    first: int
    rows: Rows
    tails: Tails
    lists: Lists


def search(texts: Sequence[str], measure: Measure, spread: Spread) -> Pairs:
    """Find every near pair; see `search.find_pairs`.

    Raises:
        UserError: more pairs than there is room for.
    """
    worker = Compiled(measure.analyzer)
    vectors = vectors_of(texts, worker, measure)
    found = join(vectors, measure, spread)
    near = (vectors.texts[found.left], vectors.texts[found.right], found.cosine)
    return measure.pairs(vectors.same_as, near, vectors.vocabulary)


def join(vectors: Vectors, measure: Measure, spread: Spread) -> Found:
    """Find the near pairs among rows, block by block."""
    rows, groups = vectors.rows, vectors.groups
    high = max(measure.least - SLACK, 0.0)
    cuts = cuts_of(rows, groups, max(high - MARGIN, 0.0))
    frame = spread.put(Frame(groups, vectors.idf, cuts, high, measure.most, measure.analyzer))
    first = int(vectors.texts.searchsorted(measure.apart or measure.known))
    starts = _starts(rows.bounds, first, spread.size)
    blocks = [spread.call(index, frame, a, spread.put(_part(rows, a, b))) for a, b in pairwise(starts)]
    parts, total = [], 0
    calls = [spread.call(near, frame, blocks[i], blocks[j]) for i, j in _met(starts, first, apart=bool(measure.apart))]
    for part in spread.results(calls):
        parts.append(part)
        total += len(part.left)
        measure.refuse_more(total)
    return Found.joined(parts)


def _starts(bounds: Array, first: int, size: int) -> list[int]:
    """Where blocks start, and the end: of about as many features each, and one at the first row that probes.

    Work grows with the features of both sides, so that pairs of blocks of equal features take about as long.
    """
    features, rows = int(bounds[-1]), len(bounds) - 1
    least = ceil((sqrt(8 * _CALLS_EACH * size + 1) - 1) / 2)  # n (n + 1) / 2 calls
    count = max(least, ceil(features / _MOST_FEATURES))
    cut = np.searchsorted(bounds, features * np.arange(1, count) / count).tolist()
    return sorted({0, first, rows, *cut})


def _met(starts: list[int], first: int, *, apart: bool) -> Iterable[tuple[int, int]]:
    """Which blocks meet, the long calls before the short ones: a block by itself takes half as long."""
    known = starts.index(first)
    blocks = range(len(starts) - 1)
    pairs = [(i, j) for j in blocks if j >= known for i in blocks if i <= j and not (apart and i >= known)]
    return sorted(pairs, key=lambda pair: pair[0] == pair[1])


def _part(rows: Rows, first: int, last: int) -> Rows:
    start, stop = rows.bounds[first], rows.bounds[last]
    columns = (rows.ranks[start:stop], rows.weights[start:stop], rows.squares[first:last], rows.scales[first:last])
    return Rows(rows.bounds[first : last + 1] - start, *map(np.asarray, columns))


# ---- calls ----------------------------------------------------------------------------------------------------------


def index(frame: Frame, first: int, rows: Rows) -> Block:
    """Index a block's rows."""
    own = _joined_rows([rows])
    worker = _worker(frame)
    tails = worker.tails(own, frame.groups.copy(), frame.cuts.copy(), frame.high)
    return Block(first, own, tails, worker.lists(tails, 0, len(own)))


def near(frame: Frame, indexed: Block, probing: Block) -> Found:
    """Find what is near in two blocks: an indexed row and a probing one, or, in one block, an earlier and a later."""
    worker, size = _worker(frame), len(indexed.rows)
    blocks = [indexed] if indexed.first == probing.first else [indexed, probing]
    rows, tails = _joined_rows([b.rows for b in blocks]), _joined_tails([b.tails for b in blocks])
    lists = Lists(*(column.copy() for column in (indexed.lists.bounds, indexed.lists.rows, indexed.lists.weights)))
    groups, idf = frame.groups.copy(), frame.idf.copy()
    parts = []
    for span in spans(0 if len(blocks) == 1 else size, len(rows)):
        found = worker.probe(rows, groups, tails, span, lists, 0, size, frame.high, frame.most)
        parts.append(worker.exact(found, rows, idf))
    found = Found.joined(parts)
    right = found.right + (indexed.first if len(blocks) == 1 else probing.first - size)
    return Found(found.left + indexed.first, right, found.cosine)


def _worker(frame: Frame) -> Compiled:
    worker = Compiled(frame.analyzer)
    worker.workers = 1  # calls are what runs side by side
    return worker


def _joined_rows(parts: Sequence[Rows]) -> Rows:
    """Rows of blocks, one after another, copied: what lies in shared memory cannot be written, and loops compiled for
    that would be compiled anew."""
    return Rows(
        _joined_bounds([part.bounds for part in parts]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("ranks", "weights", "squares", "scales")
        ),
    )


def _joined_tails(parts: Sequence[Tails]) -> Tails:
    return Tails(
        _joined_bounds([part.bounds for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.asfortranarray(np.concatenate([part.levels for part in parts])),
        np.ascontiguousarray(np.concatenate([part.sketches for part in parts])),
        parts[0].cuts.copy(),
    )


def _joined_bounds(parts: Sequence[Array]) -> Array:
    ends = np.cumsum([0, *(part[-1] for part in parts)])
    return np.concatenate([[0], *(part[1:] + end for part, end in zip(parts, ends[:-1], strict=True))]).astype(np.int64)
