"""Turns texts into unit TF-IDF vectors, the same as scikit-learn's to 1e-6.

The measure is `TfidfVectorizer(tokenizer=tokens, ngram_range=(1, 2), sublinear_tf=True)` with its defaults (smooth idf,
l2 norm), or `TfidfVectorizer(analyzer="char", ngram_range=(3, 4), sublinear_tf=True)` of `tokens.characters`;
`weights="tf"` leaves the idf out, so that a similarity does not depend on the other texts. Not scikit-learn itself,
because vectorising is most of the time up to 100,000 texts, and its vocabulary of Python strings most of the memory.

The surprising thing: a feature that stands in one text only counts in that text's norm and is then left out. It cannot
be in any product, and such features are most of a vocabulary. Loads numpy: import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol, TypeVar

import numpy as np

from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Spool, Tails, bounds_of, room_for
from safetyqc.dedup.tokens import Analyzer
from safetyqc.dedup.vocabulary import FrozenVocabulary, smooth_idf
from safetyqc.text import normalise

Weights = Literal["tfidf", "tf"]
WEIGHTS: tuple[Weights, ...] = ("tfidf", "tf")
_BLOCK_CHARACTERS = 1_000_000
A = TypeVar("A")
B = TypeVar("B")


class Table(Protocol):
    """Numbers features and counts in how many texts each stands."""

    def __len__(self) -> int: ...
    def number(self, counted: Counted, copies: Array) -> Array:
        """Return the number of each feature of the texts; text r counts `copies[r]` times."""

    def hashes(self) -> Array:
        """The features' hashes, by number."""

    def frequencies(self) -> Array:
        """In how many texts each feature stands, by number."""

    def order(self) -> tuple[Array, Array]:
        """The rank of each feature, from the most common to the rarest, and the group of each rank (ascending).

        A group is a run of ranks whose features mostly stand in the same texts. Features of one text only come last;
        they need no group.
        """

    def state(self) -> dict[str, Array]:
        """The arrays that `restore` makes the table from again."""

    def restore(self, state: dict[str, Array]) -> None:
        """Take over stored arrays."""


class Backend(Protocol):
    """One way to do the work; all give the same result. `plain.py` and `compiled.py` hold the two there are."""

    workers: int
    analyzer: Analyzer

    def table(self) -> Table:
        """A fresh table of features."""

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""

    def weigh(self, counted: Counted, features: Array, indexed: int, out: Rows, first: int) -> None:
        """Write unit rows to `out`, from row `first` on, without ranks from `indexed` on.

        `features` holds `rank` and `idf` of each feature, by number (see `features_of`).
        """

    def tails(self, rows: Rows, groups: Array, cuts: Array, high: float) -> Tails:
        """Find the indexed part of each row; `groups` names the group of each rank, `high` the norm to start from."""

    def lists(self, tails: Tails, first: int, last: int, *, every_rank: bool = True) -> Lists:
        """Index the tails of the rows first..last; without `every_rank` only ranks that have entries get a list."""

    def probe(
        self, rows: Rows, groups: Array, tails: Tails, first: int, last: int, lists: Lists, others: Rows,
        other_tails: Tails, base: int, size: int, own: bool, least: float, most: int,
    ) -> Found:  # fmt: skip
        """Find the indexed rows near each of the rows first..last."""


@dataclass(frozen=True)
class Vectors:
    """Unit rows of the different texts. `texts[row]` is the text of a row, `same_as[text]` the first with its words."""

    rows: Rows
    texts: Array
    same_as: Array
    vocabulary: FrozenVocabulary
    ranked_hashes: Array
    """Hash of the feature of each rank that the rows use."""
    groups: Array
    """Group of each such rank."""


def vectorise(
    texts: Sequence[str],
    backend: Backend,
    *,
    weights: Weights = "tfidf",
    vocabulary: FrozenVocabulary | None = None,
    apart: int = 0,
    limit_bytes: float = float("inf"),
) -> Vectors:
    """Make one unit row for each different text.

    Texts with the same words in the same order share a row; texts without any word share one when they are equal after
    normalising. The first `apart` texts never share a row with the others. All copies count in the frequencies.
    With `vocabulary` its idf is used in place of the texts' own. More than `limit_bytes` of counts or of rows go to a
    temporary file; the table of features (36 to 72 bytes each) stays in memory. Texts that are not in memory (see
    `is_held`) are read once, in order, and again only where they have no word.
    """
    first_of = _equal_texts(texts, apart) if is_held(texts) else np.arange(len(texts))
    firsts = np.flatnonzero(first_of == np.arange(len(texts)))
    copies = np.bincount(first_of, minlength=len(texts))[firsts].astype(np.int32)
    table, spool, prints, done = backend.table(), Spool(limit_bytes / 4), [_NO_PRINTS], 0
    for counted in in_order(backend.workers, backend.count, text_blocks(firsts, texts)):
        size = len(counted.bounds) - 1
        numbers = table.number(counted, copies[done : done + size])
        prints.append(counted.fingerprints)
        spool.add(Counted(counted.bounds, numbers, counted.counts, counted.fingerprints))
        done += size
    leaders = _equal_words(texts, firsts, np.concatenate(prints), apart)
    kept = leaders == np.arange(len(firsts))
    own = _frozen(table, len(texts), backend.analyzer)
    rows, hashes, groups = _weigh(
        backend, spool, ~kept, table, weights, vocabulary, (vocabulary or own).texts, limit_bytes
    )
    same_as = firsts[leaders[np.searchsorted(firsts, first_of)]]
    return Vectors(rows, firsts[kept], same_as, vocabulary or own, hashes, groups)


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


def is_held(texts: Sequence[str]) -> bool:
    """Whether texts are in memory, so that looking at them more than once is cheap."""
    return isinstance(texts, list | tuple)


def text_blocks(places: Array, texts: Sequence[str]) -> Iterator[list[str]]:
    """Read the texts at these places, about a million characters at a time."""
    block, size = list[str](), 0
    for place in places.tolist():
        block.append(text := texts[place])
        size += len(text)
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _equal_texts(texts: Sequence[str], apart: int) -> Array:
    """For each text, the first equal one, by Python's hash of strings."""
    first_of, seen = np.empty(len(texts), np.int64), dict[str, int]()
    for place, text in enumerate(texts):
        if place == apart:
            seen.clear()
        first_of[place] = seen.setdefault(text, place)
    return first_of


def _equal_words(texts: Sequence[str], firsts: Array, prints: Array, apart: int) -> Array:
    """For each different text, the place of the first with the same words (or, without words, the same characters)."""
    seen: dict[str, int] = {}
    for place in np.flatnonzero(~prints.any(axis=1)):
        prints[place, 1] = 1 + seen.setdefault(normalise(texts[firsts[place]]), len(seen))
    order = np.lexsort((prints[:, 0], prints[:, 1], firsts >= apart))
    ordered, side = prints[order], firsts[order] >= apart
    fresh = np.ones(len(order), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1) | (side[1:] != side[:-1])
    leaders = np.empty(len(order), np.int64)
    leaders[order] = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
    return leaders


def _frozen(table: Table, texts: int, analyzer: Analyzer) -> FrozenVocabulary:
    frequencies = table.frequencies()
    often = np.flatnonzero(frequencies > 1)
    hashes = table.hashes()[often]
    order = np.argsort(hashes)
    return FrozenVocabulary(texts, hashes[order], frequencies[often][order].astype(np.int32), analyzer)


def _weigh(
    backend: Backend,
    spool: Spool,
    dropped: Array,
    table: Table,
    weights: Weights,
    vocabulary: FrozenVocabulary | None,
    texts: int,
    limit_bytes: float,
) -> tuple[Rows, Array, Array]:
    """Weigh all counted texts but the dropped ones; also return the hash and the group of each rank in use."""
    frequencies = table.frequencies()
    (ranks, groups), shared = table.order(), int(np.count_nonzero(frequencies > 1))
    hashes = np.empty(len(table), np.uint64)
    hashes[ranks] = table.hashes()
    idf = np.ones(len(table))
    if weights == "tfidf":
        idf = smooth_idf(frequencies if vocabulary is None else vocabulary.frequencies_of(table.hashes()), texts)
    features = features_of(ranks, idf)
    rows = _reserve(spool, dropped, frequencies, limit_bytes)

    def write(part: tuple[Counted, int]) -> None:
        backend.weigh(part[0], features, shared, rows, part[1])

    for _ in in_order(backend.workers, write, _kept(spool, dropped, release=True)):
        pass
    return rows, hashes[:shared].copy(), groups[:shared]


def features_of(ranks: Array, idf: Array) -> Array:
    """Put the rank and the idf of each feature side by side, so that to look them up costs one cache miss."""
    features = np.empty(len(ranks), [("rank", np.uint32), ("idf", np.float32)])
    features["rank"], features["idf"] = ranks, idf
    return features


def _kept(spool: Spool, dropped: Array, *, release: bool = False) -> Iterator[tuple[Counted, int]]:
    """The blocks without the dropped texts, each with the row that its first text becomes."""
    done, first = 0, 0
    for block in spool.blocks(release=release):
        gone = dropped[done : done + len(block.bounds) - 1]
        yield block.without(gone), first
        done, first = done + len(gone), first + int(np.count_nonzero(~gone))


def _reserve(spool: Spool, dropped: Array, frequencies: Array, limit_bytes: float) -> Rows:
    """Lay out rows that hold only features which more than one text has."""
    lengths = [np.empty(0, np.int64)]
    for block, _ in _kept(spool, dropped):
        lengths.append(np.diff(bounds_of(frequencies[block.features] > 1)[block.bounds]))
    bounds = bounds_of(np.concatenate(lengths))
    ranks, weights = (room_for(int(bounds[-1]), kind, limit_bytes / 8) for kind in (np.uint32, np.float32))
    return Rows(bounds, ranks, weights, np.zeros(len(bounds) - 1))


_NO_PRINTS = np.empty((0, 2), np.uint64)
