"""The search in compiled loops on all cores: every pair whose cosine reaches a threshold, and no n x n matrix.

How it stays exact and cheap. Let rows be unit vectors with features ordered from the most common to the rarest, the
same order for all.

1. Features that mostly stand in the same texts (those of one passage that is quoted whole) are put into groups, and a
   group weighs the norm of its features. By Cauchy-Schwarz the product of two rows of groups is never less than that
   of the rows themselves: what is no pair by groups is none. There are far fewer groups than rare features. Which
   features form a group changes the time only. What follows is about groups.
2. Cut all rows at one group c into a head x' (the more common ones) and a tail x''. All that the product of the tails
   misses is x'.y' <= |x'| |y'|, so x.y >= t needs x''.y'' >= t - |x'| |y'|: only pairs that share much of what is rare
   are candidates. c is chosen so that heads have norm s < t on average; the result does not depend on it. The same
   holds for every further cut, so a row may stop reading lists early and be bounded by the norms below that cut.
3. Let f be the rarest group that both have. Then x.y <= |x up to f| |y up to f|, so a pair can only be near where
   both rows have norm t up to f: only such entries may start a candidate, and they are indexed below c too.
4. A candidate's sketch says which groups it cannot hold; what of x is left there cannot add to the product.
5. Candidates are verified in full and by features, from the rarest on, and given up as soon as what was found plus
   the product of the norms still to come stays below t.

Bounds 2, 3 and 5 are those of Bayardo, Ma and Srikant, "Scaling up all pairs similarity search" (WWW 2007) with the l2
norms of Anastasiu and Karypis, "L2AP: fast cosine similarity search with prefix l-2 norm bounds" (ICDE 2014). It
departs from them in groups and sketches, in cutting both sides at one place (they cut each row by its norm, index the
tail of one and probe with the whole other), in s < t, and in processing rows in blocks so that memory is bounded.

Rows hold weights of four bytes, and yet a similarity is exact to fifteen digits. How often a word
was said can be told from its rounded weight, so the few pairs that are found are weighed again in full. Loads numba:
import it late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from safetyqc.dedup.compiled import Compiled
from safetyqc.dedup.pairs import Measure, Pairs
from safetyqc.dedup.rows import Array, Found, cuts_of, in_order
from safetyqc.dedup.vectors import Vectors, vectorise

MARGIN = 0.05
"""t - s: how far below the threshold the mean norm of heads stays. Between 0.03 and 0.15 the time hardly changes."""
SLACK = 1e-6  # of float32 weights; what passes is checked exactly


def search(texts: Sequence[str], measure: Measure, margin: float = MARGIN) -> Pairs:
    """Find every near pair; see `search.find_pairs`. `margin` (t - s above) changes the time only."""
    worker = Compiled(measure.analyzer)
    vectors = vectors_of(texts, worker, measure)
    found = join(vectors, worker, measure, margin)
    near = (vectors.texts[found.left], vectors.texts[found.right], found.cosine)
    return measure.pairs(vectors.same_as, near, vectors.vocabulary)


def vectors_of(texts: Sequence[str], worker: Compiled, measure: Measure) -> Vectors:
    """Make the rows that a measure compares."""
    return vectorise(
        texts,
        worker,
        weights=measure.weights,
        vocabulary=measure.vocabulary,
        apart=measure.apart,
        limit_bytes=measure.limit_bytes,
    )


def join(vectors: Vectors, worker: Compiled, measure: Measure, margin: float) -> Found:
    """Find the near pairs among rows.

    Raises:
        UserError: more pairs than `limit_bytes` (or 100 million) allow.
    """
    rows, groups, limit = vectors.rows, vectors.groups, measure.limit_bytes
    high = max(measure.least - SLACK, 0.0)
    tails = worker.tails(rows, groups, cuts_of(rows, groups, max(high - margin, 0.0)), high)
    first = int(vectors.texts.searchsorted(measure.apart or measure.known))
    parts, total = [], 0
    for base, size in _index_blocks(tails.bounds, first if measure.apart else len(rows), limit / 4):
        lists = worker.lists(tails, base, base + size)

        def probe(span: tuple[int, int], lists: Any = lists, base: int = base, size: int = size) -> Found:
            near = worker.probe(rows, groups, tails, span, lists, base, size, high, measure.most)
            return worker.exact(near, rows, vectors.idf)

        for part in in_order(worker.workers, probe, spans(max(base, first), len(rows))):
            parts.append(part)
            total += len(part.left)
            measure.refuse_more(total)
    return Found.joined(parts)


def _index_blocks(bounds: Array, size: int, limit_bytes: float) -> Iterator[tuple[int, int]]:
    """Cut the first `size` rows into runs whose lists take at most `limit_bytes` (8 bytes an entry)."""
    ends = bounds[1 : size + 1]
    first = 0
    while first < size:
        before = ends[first - 1] if first else 0
        fitting = size if limit_bytes == float("inf") else int(np.searchsorted(ends, before + limit_bytes / 8, "right"))
        last = min(max(fitting, first + 1), size)
        yield first, last - first
        first = last


def spans(first: int, last: int, length: int = 2048) -> Iterator[tuple[int, int]]:
    """Cut a run of rows into parts that a thread probes at a time."""
    for start in range(first, last, length):
        yield start, min(start + length, last)
