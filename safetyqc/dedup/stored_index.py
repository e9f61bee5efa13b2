"""An index of a run's texts in files: what is near a new text, without reading or weighing the old ones again.

Measure and bounds are those of `pairs.py`, with the idf of a frozen vocabulary. The texts stand in segments; a segment
is never changed, only merged with others into a new one when there are too many small ones. Unlike `index.py`, which
grows in memory, nothing is shared between segments, so that adding a thousand texts writes those alone: a segment
numbers the features that its own texts have, and what a new text has beyond those counts in its norm only. Every
feature is kept, also that of a single text, because a later text may have it too; those of one text stand in one
group and take one entry.

Opening it asks for the `token` that saving it gave, and what belongs to the last token but one is only removed once
the caller has written the new one down: after a crash at any moment one of the two is whole. What is missing, damaged
or of another kind is not opened, and the caller builds it again. The surprising thing: it needs the compiled backend;
for what the plain one is made for, weighing all texts again takes less than opening files. Loads numba: import it late.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from safetyqc.dedup.backend import Backend, choose_backend, in_order
from safetyqc.dedup.mapped import Written, map_arrays, write_arrays
from safetyqc.dedup.pairs import MARGIN, most_pairs, too_many_pairs
from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, bounds_of, cuts_of
from safetyqc.dedup.vectors import Weights, features_of, is_held, text_blocks
from safetyqc.dedup.vocabulary import FrozenVocabulary, smooth_idf, vocabulary_hash
from safetyqc.formats.writing import replacing
from safetyqc.text import normalise

_FORMAT = 3
_LARGEST = 8_000_000
"""Features of the texts of one segment; building it takes some 60 bytes for each, merging others into it 100."""
_BUILT_BYTES = 60
_MERGED_BYTES = 100
_SMALL = 12
"""Segments of less than half the largest size; one more, and the smallest of them are merged."""
_AT_ONCE = 2048


@dataclass(frozen=True)
class Segment:
    """Some texts: `places` names the text of each row, `prints` its words; `hashes` ascend, beside their `ranks`."""

    hashes: Array
    ranks: Array
    groups: Array
    rows: Rows
    tails: Tails
    lists: Lists
    places: Array
    prints: Array
    by_print: Array
    """Rows in the order of their prints."""

    def arrays(self) -> dict[str, Array]:
        """Everything that `restored` needs: of the tails only what others are asked with."""
        entries = np.empty(len(self.lists.rows), _ENTRY)
        entries["row"], entries["weight"] = self.lists.rows, self.lists.weights
        return {
            "hashes": self.hashes, "ranks": self.ranks, "groups": self.groups, "places": self.places,
            "bounds": self.rows.bounds, "row_ranks": self.rows.ranks, "row_weights": self.rows.weights,
            "squares": self.rows.squares, "levels": self.tails.levels.T, "sketches": self.tails.sketches,
            "cuts": self.tails.cuts, "list_ranks": self.lists.ranks, "list_bounds": self.lists.bounds,
            "entries": entries, "prints": self.prints, "by_print": self.by_print,
        }  # fmt: skip

    @classmethod
    def restored(cls, arrays: dict[str, Array]) -> Segment:
        """Put a segment together from its arrays."""
        a, none = arrays, np.empty(0, np.uint32)
        entries = a["entries"]
        return cls(
            a["hashes"], a["ranks"], a["groups"], Rows(a["bounds"], a["row_ranks"], a["row_weights"], a["squares"]),
            Tails(np.zeros(1, np.int64), none, none.astype(np.float32), a["levels"].T, a["sketches"], a["cuts"]),
            Lists(a["list_ranks"], a["list_bounds"], entries["row"], entries["weight"]),
            a["places"], a["prints"], a["by_print"],
        )  # fmt: skip

    def places_of(self, prints: Array) -> Array:
        """The text with the same words as each of these, -1 where there is none.

        Two of a segment's texts with the same first 64 bits and other words would hide the second: a copy of it would
        then be found as a pair of similarity 1.
        """
        at = np.searchsorted(self.prints[self.by_print, 0], prints[:, 0])
        rows = self.by_print[np.minimum(at, len(self.by_print) - 1)]
        return np.where((self.prints[rows] == prints).all(axis=1), self.places[rows], -1)


@dataclass(frozen=True)
class Added:
    """Where texts stand now: the first place with the same words, for each; and what is near the new ones among all."""

    same_as: Array
    near: Found


@dataclass
class StoredIndex:
    """The segments of one folder, for one measure; `limit_bytes` bounds what adding takes."""

    folder: Path
    min_similarity: float
    weights: Weights
    vocabulary: FrozenVocabulary
    limit_bytes: float = float("inf")
    _segments: list[tuple[Written, Segment]] = field(default_factory=list)
    _worker: Backend = field(init=False)

    def __post_init__(self) -> None:
        self._worker = choose_backend("compiled", 0, self.vocabulary.analyzer)

    @classmethod
    def open(
        cls,
        folder: Path,
        token: str,
        min_similarity: float,
        weights: Weights,
        vocabulary: FrozenVocabulary,
        limit_bytes: float = float("inf"),
    ) -> StoredIndex | None:
        """Open what was saved with this token; None where it is missing, damaged or made for another measure."""
        index = cls(folder, min_similarity, weights, vocabulary, limit_bytes)
        try:
            head = (folder / f"{token}.json").read_bytes()
        except OSError:
            return None
        if _token(head) != token:
            return None
        found = json.loads(head)
        segments = found.pop("segments")
        if found != index._made_for():
            return None
        files = [Written(**one) for one in segments]
        if not all(in_order(index._worker.workers, lambda file: file.is_still_at(folder), files)):
            return None
        index._segments = [(file, Segment.restored(map_arrays(folder / file.name))) for file in files]
        return index

    def __len__(self) -> int:
        return sum(len(segment.places) for _, segment in self._segments)

    def add(self, texts: Sequence[str], places: Array, *, search: bool = True) -> Added:
        """Add texts; `places` are their numbers, none of which was used before.

        Without `search` nothing is looked for: to index what was searched otherwise. A copy of an earlier text is not
        indexed again.

        Raises:
            UserError: more pairs than memory allows.
            OutputError: a segment cannot be written.
        """
        first_of = _first_equal(texts) if is_held(texts) else np.arange(len(texts))
        leaders = np.full(len(texts), -1, np.int64)
        found, total = [], 0
        for chunk, counted in self._counted(texts, np.flatnonzero(first_of == np.arange(len(texts)))):
            counted = _with_prints(counted, chunk, texts)
            leaders[chunk] = same = self._leaders(counted.fingerprints, places[chunk])
            fresh = same == places[chunk]
            near = self._take(counted.without(~fresh), places[chunk][fresh], search=search)
            total += len(near.left)
            if total > (most := most_pairs(self.limit_bytes)):
                raise too_many_pairs(most, self.min_similarity)
            found.append(near)
            self._merge()  # now and then, not at the end: each segment holds a file open
        return Added(leaders[first_of], Found.joined(found))

    def save(self) -> str:
        """Write down what belongs together; returns the token that opens it."""
        head = json.dumps(self._made_for() | {"segments": [asdict(file) for file, _ in self._segments]}).encode()
        with replacing(self.folder / f"{_token(head)}.json") as file:
            file.write(head)
        return _token(head)

    def _made_for(self) -> dict[str, Any]:
        words = vocabulary_hash(self.vocabulary)
        return {
            "format": _FORMAT, "min_similarity": self.min_similarity, "weights": self.weights, "vocabulary": words,
        }  # fmt: skip

    def remove_others(self, token: str) -> None:
        """Remove all files that do not belong to this token, once it is written down; without one, all files.

        What cannot be removed, as a folder that some other program has made there, stays.
        """
        own = {f"{token}.json", *(file.name for file, _ in self._segments)} if token else set()
        with suppress(OSError):  # there may be no folder yet
            for path in self.folder.iterdir():
                if path.name not in own:
                    with suppress(OSError):
                        path.unlink()

    # ---- adding -------------------------------------------------------------------------------------------------

    def _counted(self, texts: Sequence[str], chosen: Array) -> Iterator[tuple[Array, Counted]]:
        """Count the chosen texts, as many at a time as one segment takes; each time with which ones they are."""
        most = min(_LARGEST, self.limit_bytes / 4 / _BUILT_BYTES)
        waiting, first, last = list[Counted](), 0, 0
        for counted in in_order(self._worker.workers, self._worker.count, text_blocks(chosen, texts)):
            waiting.append(counted)
            last += len(counted.bounds) - 1
            if last == len(chosen) or sum(len(part.features) for part in waiting) >= most:
                yield chosen[first:last], _joined(waiting)
                waiting, first = [], last

    def _leaders(self, prints: Array, places: Array) -> Array:
        """For each text the first with the same words: an indexed one, or one of these."""
        order = np.lexsort((places, prints[:, 0], prints[:, 1]))
        fresh = np.ones(len(order), bool)
        fresh[1:] = (prints[order[1:]] != prints[order[:-1]]).any(axis=1)
        out = np.empty(len(order), np.int64)
        out[order] = places[order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]]
        for _, segment in self._segments:
            known = segment.places_of(prints)
            out = np.where(known >= 0, known, out)
        return out

    def _take(self, counted: Counted, places: Array, *, search: bool) -> Found:
        """Make a segment of texts; with `search`, return what is near them among all, by places."""
        if not len(places):
            return Found.joined([])
        numbered, hashes, ranks, groups = _numbered(self._worker, counted)
        idf = np.ones(len(hashes))
        if self.weights == "tfidf":
            idf = smooth_idf(self.vocabulary.frequencies_of(hashes), self.vocabulary.texts)
        rows = self._weighed(numbered, ranks, idf, len(ranks))
        segment = self._segment(rows, hashes, ranks, groups, places, counted.fingerprints)
        parts = []
        if search:
            order = np.argsort(hashes)
            parts = [self._ask(numbered, hashes, order, idf, places, other) for _, other in self._segments]
            parts.append(self._probe(segment.rows, segment.tails, places, segment, own=True))
        self._keep(segment)
        return Found.joined(parts)

    def _weighed(self, numbered: Counted, ranks: Array, idf: Array, indexed: int) -> Rows:
        """Unit rows of numbered texts without the features of rank `indexed`, which count in the norm alone."""
        bounds = bounds_of(ranks[numbered.features] < indexed)[numbered.bounds]
        rows = Rows(
            bounds, np.empty(bounds[-1], np.uint32), np.empty(bounds[-1], np.float32), np.zeros(len(bounds) - 1)
        )
        self._worker.weigh(numbered, features_of(ranks, idf), indexed, rows, 0)
        return rows

    def _segment(self, rows: Rows, hashes: Array, ranks: Array, groups: Array, places: Array, prints: Array) -> Segment:
        order, high = np.argsort(hashes), self._high
        tails = self._worker.tails(rows, groups, cuts_of(rows, groups, max(high - MARGIN, 0.0)), high)
        lists = self._worker.lists(tails, 0, len(rows), every_rank=False)
        by_print = np.lexsort((prints[:, 1], prints[:, 0])).astype(np.int32)
        return Segment(hashes[order], ranks[order], groups, rows, tails, lists, places, prints, by_print)

    def _keep(self, segment: Segment) -> None:
        """Write a segment and go on with the mapped file, so that building many takes the memory of one."""
        name = _new_name("segment")
        written = write_arrays(self.folder / name, segment.arrays())
        self._segments.append((written, Segment.restored(map_arrays(self.folder / name))))

    # ---- asking -------------------------------------------------------------------------------------------------

    @property
    def _least(self) -> float:
        return self.min_similarity - 5e-7  # so that what rounds to the threshold at six decimals is in

    @property
    def _high(self) -> float:
        return max(self._least - 1e-6, 0.0)  # of float32 weights; what passes is checked exactly

    def _ask(
        self, numbered: Counted, hashes: Array, order: Array, idf: Array, places: Array, segment: Segment
    ) -> Found:
        """What is near new texts among those of a segment, by the segment's numbers of their features."""
        if not len(segment.hashes):
            return Found.joined([])  # none of its texts has a word
        at = np.minimum(np.searchsorted(segment.hashes, hashes[order]), len(segment.hashes) - 1)
        ranks = np.empty(len(hashes), np.uint32)
        ranks[order] = np.where(segment.hashes[at] == hashes[order], segment.ranks[at], len(segment.hashes))
        rows = self._weighed(numbered, ranks, idf, len(segment.hashes))
        tails = self._worker.tails(rows, segment.groups, segment.tails.cuts, self._high)
        return self._probe(rows, tails, places, segment)

    def _probe(self, rows: Rows, tails: Tails, places: Array, segment: Segment, *, own: bool = False) -> Found:
        size, most = len(segment.rows), most_pairs(self.limit_bytes)

        def probe(first: int) -> Found:
            last = min(first + _AT_ONCE, len(rows))
            return self._worker.probe(
                rows, segment.groups, tails, first, last, segment.lists, segment.rows, segment.tails, 0, size, own,
                self._least, most,
            )  # fmt: skip

        found = Found.joined(list(in_order(self._worker.workers, probe, range(0, len(rows), _AT_ONCE))))
        return Found(segment.places[found.left], places[found.right], found.cosine)

    # ---- merging ------------------------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Merge the smallest segments once there are many: each text is moved a few times in all."""
        most = min(_LARGEST, self.limit_bytes / _MERGED_BYTES)
        by_size = sorted(self._segments, key=lambda item: len(item[1].rows.ranks))
        small = [item for item in by_size if len(item[1].rows.ranks) < most / 2]
        if len(small) <= _SMALL:
            return
        sizes = np.cumsum([len(segment.rows.ranks) for _, segment in small])
        merged = small[: max(2, int(np.searchsorted(sizes, most, "right")))]
        gone = {file.name for file, _ in merged}
        self._segments = [(file, segment) for file, segment in self._segments if file.name not in gone]
        self._keep(self._merged([segment for _, segment in merged]))

    def _merged(self, parts: list[Segment]) -> Segment:
        """One segment of all their texts: features are numbered and rows sorted anew, weights stay what they are."""
        counted = _joined([_as_counted(part) for part in parts])
        numbered, hashes, ranks, groups = _numbered(self._worker, counted)
        owners = np.repeat(np.arange(len(counted.bounds) - 1), np.diff(counted.bounds))
        row_ranks = ranks[numbered.features]
        order = np.lexsort((row_ranks, owners))
        rows = Rows.joined([part.rows for part in parts])
        rows = Rows(rows.bounds, row_ranks[order], rows.weights[order], rows.squares)
        places = np.concatenate([part.places for part in parts])
        return self._segment(rows, hashes, ranks, groups, places, counted.fingerprints)


def _numbered(worker: Backend, counted: Counted) -> tuple[Counted, Array, Array, Array]:
    """Number the features of texts: the texts with numbers, hash and rank by number, and the group of every rank.

    Those of a single text come last, text by text, and make up one group.
    """
    size, table = len(counted.bounds) - 1, worker.table()
    numbers = table.number(counted, np.ones(size, np.int32))
    (ranks, groups), shared = table.order(), int(np.count_nonzero(table.frequencies() > 1))
    owners = np.empty(len(ranks), np.uint32)
    owners[ranks[numbers]] = np.repeat(np.arange(size, dtype=np.uint32), np.diff(counted.bounds))
    above = groups[shared - 1] + np.uint32(1) if shared else np.uint32(0)
    groups = np.concatenate([groups[:shared], above + owners[shared:]]).astype(np.uint32)
    return Counted(counted.bounds, numbers, counted.counts, counted.fingerprints), table.hashes(), ranks, groups


def _as_counted(segment: Segment) -> Counted:
    by_rank = np.empty_like(segment.hashes)
    by_rank[segment.ranks] = segment.hashes
    once = np.ones(len(segment.rows.ranks), np.int32)
    return Counted(segment.rows.bounds, by_rank[segment.rows.ranks], once, segment.prints)


def _joined(parts: list[Counted]) -> Counted:
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    columns = zip(*((part.features, part.counts, part.fingerprints) for part in parts), strict=True)
    return Counted(bounds_of(lengths), *(np.concatenate(column) for column in columns))


def _first_equal(texts: Sequence[str]) -> Array:
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(text, place) for place, text in enumerate(texts)), np.int64, len(texts))


def _with_prints(counted: Counted, chosen: Array, texts: Sequence[str]) -> Counted:
    """Give texts without a word a print too: that of their normalised characters."""
    prints = counted.fingerprints
    for row in np.flatnonzero(~prints.any(axis=1)):
        digest = hashlib.blake2b(
            normalise(texts[chosen[row]]).encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        prints[row] = np.frombuffer(digest, np.uint64)
    return counted


def _new_name(what: str) -> str:
    return f"{secrets.token_hex(8)}.{what}"


def _token(head: bytes) -> str:
    return hashlib.blake2b(head, digest_size=16).hexdigest()


_ENTRY = np.dtype([("row", np.int32), ("weight", np.float32)])
"""Side by side, as the compiled backend makes them: reading a list costs one cache miss and not two."""
