"""The search without a compiler: numpy alone, for sets small enough that compiling would take longer than searching.

Gives the same pairs as `compiled.py`; both follow the bounds that `pairs.py` derives. Loads numpy: import it late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np

from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, bounds_of, places_of
from safetyqc.dedup.tokens import MIX_1, MIX_2, PAIR, Analyzer, tokens, word_hash


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

    def find(self, hashes: Array) -> Array:
        """Return the number of each of these features; of those that it does not hold, its length."""
        out = np.full(len(hashes), len(self), np.uint32)
        if len(self):
            places = np.minimum(np.searchsorted(self._keys, hashes), len(self) - 1)
            known = self._keys[places] == hashes
            out[known] = self._ids[places[known]]
        return out

    def take_shared(self, other: Table) -> None:
        """Take over the features that stand in more than one text of another table, which holds none of its own."""
        often = np.flatnonzero(other._frequencies > 1)
        keys = np.concatenate([self._keys, other.hashes()[often]])
        ids = np.concatenate([self._ids, np.arange(len(self), len(self) + len(often), dtype=np.uint32)])
        order = np.argsort(keys)
        self._keys, self._ids = keys[order], ids[order]
        self._frequencies = np.concatenate([self._frequencies, other._frequencies[often]])

    def order(self) -> tuple[Array, Array]:
        """The rank of each feature, from the most common to the rarest, and the group of each rank: itself."""
        ranks = np.empty(len(self), np.uint32)
        ranks[np.argsort(-self._frequencies, kind="stable")] = np.arange(len(self), dtype=np.uint32)
        return ranks, np.arange(len(self), dtype=np.uint32)

    def state(self) -> dict[str, Array]:
        """The arrays that `restore` makes the table from again."""
        return {"keys": self._keys, "ids": self._ids, "frequencies": self._frequencies}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over stored arrays."""
        self._keys, self._ids, self._frequencies = state["keys"], state["ids"], state["frequencies"]


class Plain:
    """The numpy backend."""

    workers = 1

    def __init__(self, analyzer: Analyzer = "word") -> None:
        self.analyzer = analyzer
        self._hashes = _Hashes()

    def table(self) -> Table:
        """A fresh table of features."""
        return Table()

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""
        found = [tokens(text, self.analyzer) for text in texts]
        bounds = bounds_of(np.fromiter(map(len, found), np.int64, len(found)))
        hashes = np.fromiter(map(self._hashes.__getitem__, chain.from_iterable(found)), np.uint64, bounds[-1])
        owners = np.repeat(np.arange(len(found)), np.diff(bounds))
        within = np.flatnonzero(owners[1:] == owners[:-1])
        pairs = _mixed(hashes[within] * np.uint64(PAIR) + hashes[within + 1])
        all_owners, all_hashes = np.concatenate([owners, owners[within]]), np.concatenate([hashes, pairs])
        order = np.lexsort((all_hashes, all_owners))
        all_owners, all_hashes = all_owners[order], all_hashes[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (all_hashes[1:] != all_hashes[:-1]) | (all_owners[1:] != all_owners[:-1])
        starts = np.flatnonzero(fresh)
        counts = np.diff(starts, append=len(order)).astype(np.int32)
        different = bounds_of(np.bincount(all_owners[starts], minlength=len(found)))
        return Counted(different, all_hashes[starts], counts, _fingerprints(hashes, bounds))

    def weigh(self, counted: Counted, features: Array, indexed: int, out: Rows, first: int) -> None:
        """Write the unit rows of numbered texts to `out`, from row `first` on, without ranks from `indexed` on."""
        size = len(counted.bounds) - 1
        rows = np.repeat(np.arange(size), np.diff(counted.bounds))
        ranked = features["rank"][counted.features]
        weights = (1.0 + np.log(counted.counts)) * features["idf"][counted.features]
        norms = np.sqrt(np.bincount(rows, weights * weights, size))
        kept = np.flatnonzero(ranked < indexed)
        kept = kept[np.lexsort((ranked[kept], rows[kept]))]
        place = slice(out.bounds[first], out.bounds[first + size])
        out.ranks[place] = ranked[kept]
        out.weights[place] = weights[kept] / norms[rows[kept]]
        stored = out.weights[place].astype(np.float64)
        out.squares[first : first + size] = np.bincount(rows[kept], stored * stored, size)

    def tails(self, rows: Rows, groups: Array, cuts: Array, high: float) -> Tails:  # noqa: ARG002 - every group is one feature here
        """Find the indexed part of each row."""
        rest = _running_squares(rows)
        kept = np.flatnonzero((rows.ranks >= cuts[0]) | (rest >= high * high))[::-1]
        owners = np.repeat(np.arange(len(rows)), np.diff(rows.bounds))
        kept = kept[np.argsort(owners[kept], kind="stable")]
        weights = np.where(rest[kept] >= high * high, rows.weights[kept], -rows.weights[kept])
        below = rows.ranks[:, None] < np.append(cuts, np.iinfo(np.int64).max)
        squares = rows.weights.astype(np.float64) ** 2
        norms = np.stack([np.bincount(owners, squares * column, len(rows)) for column in below.T], axis=1)
        levels = np.minimum(np.ceil(255.0 * np.sqrt(norms) + 1e-3), 255.0).astype(np.uint8)
        bounds = bounds_of(np.bincount(owners[kept], minlength=len(rows)))
        no_sketches = np.empty((0, 32), np.uint8)
        return Tails(bounds, rows.ranks[kept], weights.astype(np.float32), levels, no_sketches, cuts)

    def lists(
        self,
        tails: Tails,
        first: int,
        last: int,
        *,
        every_rank: bool = True,  # noqa: ARG002 - naming the ranks costs this backend nothing
    ) -> Lists:
        """Index the tails of the rows first..last."""
        return compact_lists(tails, first, last)

    def probe(
        self, rows: Rows, groups: Array, tails: Tails, first: int, last: int, lists: Lists, others: Rows,  # noqa: ARG002 - every group is one feature here
        other_tails: Tails, base: int, size: int, own: bool, least: float, most: int,
    ) -> Found:  # fmt: skip
        """Find the indexed rows (base..base + size of `others`) near each of the rows first..last."""
        highest = max((int(part.max(initial=0)) for part in (rows.ranks, others.ranks)), default=0)
        dense, parts, found = np.zeros(highest + 1), [], 0
        heads = other_tails.levels[base : base + size, 0] / 255.0
        for row in range(first, last):
            limit = min(row - base, size) if own else size
            sums = self._sums(tails, row, lists, limit)
            near = np.flatnonzero(sums + 1e-5 + heads[:limit] * (tails.levels[row, 0] / 255.0) >= least)
            near = near[sums[near] > 0.0]
            if not len(near):
                continue
            ranks, weights = rows.row(row)
            dense[ranks] = weights
            starts, stops = others.bounds[base + near], others.bounds[base + near + 1]
            entries = places_of(starts, stops)
            products = dense[others.ranks[entries]] * others.weights[entries]
            cosines = np.add.reduceat(products, bounds_of(stops - starts)[:-1])
            dense[ranks] = 0.0
            near, cosines = near[cosines >= least], cosines[cosines >= least]
            parts.append(Found(base + near, np.full(len(near), row), cosines))
            found += len(near)
            if found > most:
                break
        return Found.joined(parts)

    def _sums(self, tails: Tails, row: int, lists: Lists, limit: int) -> Array:
        """Products of one row's tail with the indexed tails of the first `limit` rows."""
        place = slice(tails.bounds[row], tails.bounds[row + 1])
        ranks, weights = tails.ranks[place], np.abs(tails.weights[place])
        at = np.searchsorted(lists.ranks, ranks)
        at[at == len(lists.ranks)] = 0
        known = lists.ranks[at] == ranks if len(lists.ranks) else np.zeros(len(ranks), bool)
        at, weights = at[known], weights[known]
        starts, stops = lists.bounds[at], lists.bounds[at + 1]
        entries = places_of(starts, stops)
        owners = lists.rows[entries]
        products = np.abs(lists.weights[entries]) * np.repeat(weights, stops - starts)
        return np.bincount(owners[owners < limit], products[owners < limit], limit)


class _Hashes(dict[str, int]):
    """Remembers the hash of each word."""

    def __missing__(self, word: str) -> int:
        value = self[word] = word_hash(word)
        return value


def _mixed(values: Array) -> Array:
    """Do to many values what `tokens._mixed` does to one."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(MIX_1)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(MIX_2)
    out: Array = np.maximum(values ^ (values >> np.uint64(33)), np.uint64(1))
    return out


def _fingerprints(hashes: Array, bounds: Array) -> Array:
    """128 bits of the words of each text in their order, all zero where it has none."""
    out = np.zeros((len(bounds) - 1, 2), np.uint64)
    for place, (start, stop) in enumerate(pairwise(bounds.tolist())):
        if stop > start:
            digest = hashlib.blake2b(hashes[start:stop].tobytes(), digest_size=16).digest()
            out[place] = np.frombuffer(digest, np.uint64)
    return out


def compact_lists(tails: Tails, first: int, last: int) -> Lists:
    """Index the tails of the rows first..last; only ranks that have entries get a list."""
    place = slice(tails.bounds[first], tails.bounds[last])
    owners = np.repeat(np.arange(last - first), np.diff(tails.bounds[first : last + 1]))
    order = np.argsort(tails.ranks[place], kind="stable")
    ranks, lengths = np.unique(tails.ranks[place], return_counts=True)
    return Lists(ranks, bounds_of(lengths), owners[order].astype(np.int32), tails.weights[place][order])


def _running_squares(rows: Rows) -> Array:
    """Squared norm of each row up to and with each of its features."""
    total = np.concatenate([[0.0], np.cumsum(rows.weights.astype(np.float64) ** 2)])
    base: Array = total[1:] - np.repeat(total[rows.bounds[:-1]], np.diff(rows.bounds))
    return base
