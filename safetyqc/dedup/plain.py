"""The search without a compiler: numpy alone, for sets small enough that compiling would take longer than searching.

Gives the same pairs as `compiled.py`; both follow the bounds that `pairs.py` derives. Loads numpy: import it late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, bounds_of
from safetyqc.dedup.tokens import features, pair_hash, tokens, word_hash


class Table:
    """Numbers features in the order in which they come, and counts in how many texts each stands."""

    def __init__(self) -> None:
        self._keys, self._ids = np.empty(0, np.uint64), np.empty(0, np.uint32)
        self._frequencies = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def number(self, counted: Counted, copies: Array) -> Array:
        """Return the number of each feature of the texts; text r counts `copies[r]` times."""
        hashes, firsts, inverse = np.unique(counted.features, return_index=True, return_inverse=True)
        places = np.searchsorted(self._keys, hashes)
        known = places < len(self._keys)
        known[known] = self._keys[places[known]] == hashes[known]
        numbers = np.empty(len(hashes), np.uint32)
        numbers[known] = self._ids[places[known]]
        numbers[~known] = len(self) + np.argsort(np.argsort(firsts[~known]))
        self._keys = np.insert(self._keys, places[~known], hashes[~known])
        self._ids = np.insert(self._ids, places[~known], numbers[~known])
        out: Array = numbers[inverse]
        times = np.bincount(out, np.repeat(copies, np.diff(counted.bounds)), len(self)).astype(np.int64)
        times[: len(self._frequencies)] += self._frequencies
        self._frequencies = times
        return out

    def hashes(self) -> Array:
        """The features' hashes, by number."""
        out = np.empty(len(self), np.uint64)
        out[self._ids] = self._keys
        return out

    def frequencies(self) -> Array:
        """In how many texts each feature stands, by number."""
        return self._frequencies

    def state(self) -> dict[str, Array]:
        """The arrays that `restore` makes the table from again."""
        return {"keys": self._keys, "ids": self._ids, "frequencies": self._frequencies}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over stored arrays."""
        self._keys, self._ids, self._frequencies = state["keys"], state["ids"], state["frequencies"]


class Plain:
    """The numpy backend."""

    workers = 1

    def __init__(self) -> None:
        self._hashes: dict[str, int] = {}

    def table(self) -> Table:
        """A fresh table of features."""
        return Table()

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""
        hashes: list[int] = []
        counts: list[int] = []
        lengths = np.zeros(len(texts), np.int64)
        fingerprints = np.zeros((len(texts), 2), np.uint64)
        for place, text in enumerate(texts):
            counted = features(text)
            if counted:
                digest = hashlib.blake2b(" ".join(tokens(text)).encode("utf-8", "surrogatepass"), digest_size=16)
                fingerprints[place] = np.frombuffer(digest.digest(), np.uint64)
            hashes += [self._hash(feature) for feature in counted]
            counts += counted.values()
            lengths[place] = len(counted)
        return Counted(bounds_of(lengths), np.array(hashes, np.uint64), np.array(counts, np.int32), fingerprints)

    def ranks(self, frequencies: Array) -> Array:
        """Number features from the most common to the rarest."""
        ranks = np.empty(len(frequencies), np.uint32)
        ranks[np.argsort(-frequencies, kind="stable")] = np.arange(len(frequencies), dtype=np.uint32)
        return ranks

    def weigh(self, counted: Counted, ranks: Array, idf: Array, indexed: int, out: Rows, first: int) -> None:
        """Write the unit rows of numbered texts to `out`, from row `first` on, without ranks from `indexed` on."""
        size = len(counted.bounds) - 1
        rows = np.repeat(np.arange(size), np.diff(counted.bounds))
        ranked = ranks[counted.features]
        weights = (1.0 + np.log(counted.counts)) * idf[ranked]
        norms = np.sqrt(np.bincount(rows, weights * weights, size))
        kept = np.flatnonzero(ranked < indexed)
        kept = kept[np.lexsort((ranked[kept], rows[kept]))]
        place = slice(out.bounds[first], out.bounds[first + size])
        out.ranks[place] = ranked[kept]
        out.weights[place] = weights[kept] / norms[rows[kept]]
        stored = out.weights[place].astype(np.float64)
        out.squares[first : first + size] = np.bincount(rows[kept], stored * stored, size)

    def tails(self, rows: Rows, low: float) -> Tails:
        """Find the indexed part of each row: from the feature on that brings the norm so far to `low`."""
        before, after = _running_squares(rows)
        owners = np.repeat(np.arange(len(rows)), np.diff(rows.bounds))
        left_out = after < low * low
        starts = rows.bounds[:-1] + np.bincount(owners[left_out], minlength=len(rows))
        heads = rows.squares.copy()
        inside = starts < rows.bounds[1:]
        heads[inside] = before[starts[inside]]
        return Tails(starts, np.sqrt(heads))

    def lists(
        self,
        rows: Rows,
        tails: Tails,
        first: int,
        last: int,
        high: float,
        *,
        every_rank: bool = True,  # noqa: ARG002 - naming the ranks costs this backend nothing
    ) -> Lists:
        """Index the tails of the rows first..last."""
        return compact_lists(rows, tails, first, last, high)

    def probe(
        self, rows: Rows, tails: Tails, first: int, last: int, lists: Lists, others: Rows, other_tails: Tails,
        base: int, size: int, own: bool, least: float, high: float, most: int,  # noqa: ARG002 - bound 2 would save nothing here
    ) -> Found:  # fmt: skip
        """Find the indexed rows (base..base + size of `others`) near each of the rows first..last."""
        highest = max((int(part.max(initial=0)) for part in (rows.ranks, others.ranks)), default=0)
        dense, parts, found = np.zeros(highest + 1), [], 0
        heads = other_tails.heads[base : base + size]
        for row in range(first, last):
            limit = min(row - base, size) if own else size
            sums = self._sums(rows, tails, row, lists, limit)
            near = np.flatnonzero(sums + 1e-5 + np.maximum(heads[:limit], tails.heads[row]) >= least)
            near = near[sums[near] > 0.0]
            if not len(near):
                continue
            ranks, weights = rows.row(row)
            dense[ranks] = weights
            starts, stops = others.bounds[base + near], others.bounds[base + near + 1]
            entries = _spans(starts, stops)
            products = dense[others.ranks[entries]] * others.weights[entries]
            cosines = np.add.reduceat(products, bounds_of(stops - starts)[:-1])
            dense[ranks] = 0.0
            near, cosines = near[cosines >= least], cosines[cosines >= least]
            parts.append(Found(base + near, np.full(len(near), row), cosines))
            found += len(near)
            if found > most:
                break
        return Found.joined(parts)

    def _sums(self, rows: Rows, tails: Tails, row: int, lists: Lists, limit: int) -> Array:
        """Products of one row's tail with the indexed tails of the first `limit` rows."""
        place = slice(tails.starts[row], rows.bounds[row + 1])
        ranks, weights = rows.ranks[place], rows.weights[place]
        at = np.searchsorted(lists.ranks, ranks)
        at[at == len(lists.ranks)] = 0
        known = lists.ranks[at] == ranks if len(lists.ranks) else np.zeros(len(ranks), bool)
        at, weights = at[known], weights[known]
        starts, stops = lists.bounds[at], lists.bounds[at + 1]
        entries = _spans(starts, stops)
        owners = lists.rows[entries]
        products = np.abs(lists.weights[entries]) * np.repeat(weights, stops - starts)
        return np.bincount(owners[owners < limit], products[owners < limit], limit)

    def _hash(self, feature: str) -> int:
        if feature not in self._hashes:
            first, _, second = feature.partition(" ")
            self._hashes[feature] = pair_hash(self._hash(first), self._hash(second)) if second else word_hash(first)
        return self._hashes[feature]


def compact_lists(rows: Rows, tails: Tails, first: int, last: int, high: float) -> Lists:
    """Index the tails of the rows first..last; only ranks that have entries get a list."""
    entries = _spans(tails.starts[first:last], rows.bounds[first + 1 : last + 1])
    owners = np.repeat(np.arange(last - first), rows.bounds[first + 1 : last + 1] - tails.starts[first:last])
    order = np.argsort(rows.ranks[entries], kind="stable")
    entries, owners = entries[order], owners[order]
    ranks, lengths = np.unique(rows.ranks[entries], return_counts=True)
    may_start = _running_squares(rows)[1][entries] >= high * high
    weights = np.where(may_start, rows.weights[entries], -rows.weights[entries])
    return Lists(ranks, bounds_of(lengths), owners.astype(np.int32), weights)


def _running_squares(rows: Rows) -> tuple[Array, Array]:
    """Squared norm of each row before, and up to and with, each of its features."""
    squares = rows.weights.astype(np.float64) ** 2
    total = np.concatenate([[0.0], np.cumsum(squares)])
    base = np.repeat(total[rows.bounds[:-1]], np.diff(rows.bounds))
    return total[:-1] - base, total[1:] - base


def _spans(starts: Array, stops: Array) -> Array:
    """All places from each start to its stop, one after another."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    spans: Array = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return spans
