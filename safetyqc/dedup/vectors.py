"""Turns texts into unit TF-IDF vectors, the same as scikit-learn's to 1e-6.

The measure is `TfidfVectorizer(tokenizer=tokens, ngram_range=(1, 2), sublinear_tf=True)` with its defaults (smooth idf,
l2 norm), or `TfidfVectorizer(analyzer="char", ngram_range=(3, 4), sublinear_tf=True)` of `tokens.characters`;
`weights="tf"` leaves the idf out, so that a similarity does not depend on the other texts. Not scikit-learn itself,
because vectorising is most of the time up to 100,000 texts, and its vocabulary of Python strings most of the memory.

The surprising thing: a feature that stands in one text only counts in that text's norm and is then left out. It cannot
be in any product, and such features are most of a vocabulary. Loads numpy: import it late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from safetyqc.dedup.choices import Analyzer, Weights
from safetyqc.dedup.compiled import Compiled, Table
from safetyqc.dedup.numbering import Numbered, Numbering
from safetyqc.dedup.rows import Array, Counted, Rows, Spool, bounds_of, in_order, room_for
from safetyqc.dedup.vocabulary import FrozenVocabulary, smooth_idf
from safetyqc.text import normalise

_BLOCK_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Vectors:
    """Unit rows of the different texts. `texts[row]` is the text of a row, `same_as[text]` the first with its words."""

    rows: Rows
    texts: Array
    same_as: Array
    vocabulary: FrozenVocabulary
    idf: Array
    """Inverse document frequency of the feature of each rank that the rows use."""
    groups: Array
    """Group of each such rank."""


def vectorise(
    texts: Sequence[str],
    worker: Compiled,
    *,
    weights: Weights = "tfidf",
    vocabulary: FrozenVocabulary | None = None,
    apart: int = 0,
    limit_bytes: float = float("inf"),
) -> Vectors:
    """Make one unit row for each different text.

    Texts with the same words in the same order share a row; texts without any word share one when they are equal after
    normalising. The first `apart` texts never share a row with the others. All copies count in the frequencies.
    With `vocabulary` its idf is used in place of the texts' own. With `limit_bytes`, counts and rows that would take
    more go to a temporary file, and features are counted in parts. Texts that are not in memory (see `is_held`) are
    read once, in order, and again only where they have no word.
    """
    first_of = _equal_texts(texts, apart) if is_held(texts) else np.arange(len(texts))
    firsts = np.flatnonzero(first_of == np.arange(len(texts)))
    copies = np.bincount(first_of, minlength=len(texts))[firsts].astype(np.int32)
    numbering, prints, done = Numbering(worker, limit_bytes), [_NO_PRINTS], 0
    for counted in in_order(worker.workers, worker.count, text_blocks(firsts, texts)):
        size = len(counted.bounds) - 1
        numbering.add(counted, copies[done : done + size])
        prints.append(counted.fingerprints)
        done += size
    numbered = numbering.finish(vocabulary)
    leaders = _equal_words(texts, firsts, np.concatenate(prints), apart)
    kept = leaders == np.arange(len(firsts))
    own = _frozen(numbered.table, len(texts), worker.analyzer)
    rows, idf, groups = _weigh(worker, numbered, ~kept, weights, vocabulary, (vocabulary or own).texts, limit_bytes)
    same_as = firsts[leaders[np.searchsorted(firsts, first_of)]]
    return Vectors(rows, firsts[kept], same_as, vocabulary or own, idf, groups)


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
    worker: Compiled,
    numbered: Numbered,
    dropped: Array,
    weights: Weights,
    vocabulary: FrozenVocabulary | None,
    texts: int,
    limit_bytes: float,
) -> tuple[Rows, Array, Array]:
    """Weigh all counted texts but the dropped ones; also return the idf and the group of each rank in use."""
    spool, table = numbered.spool, numbered.table
    known = frequencies = table.frequencies()
    if vocabulary is not None:
        known = vocabulary.frequencies_of(table.hashes())
    (ranks, groups), shared = table.order(), int(np.count_nonzero(frequencies > 1))
    features = np.empty(len(table) + len(numbered.rare_frequencies), _FEATURE)
    features["rank"][: len(table)], features["rank"][len(table) :] = ranks, len(table)
    features["frequency"][: len(table)], features["frequency"][len(table) :] = known, numbered.rare_frequencies
    steps = np.arange(int(features["frequency"].max(initial=0)) + 1)
    idf = smooth_idf(steps, texts) if weights == "tfidf" else np.ones(len(steps))
    used = ranks < shared
    by_rank = np.empty(shared)
    by_rank[ranks[used]] = idf[features["frequency"][: len(table)][used]]
    rows = _reserve(spool, dropped, features["rank"] < shared, limit_bytes)

    def write(part: tuple[Counted, int]) -> None:
        worker.weigh(part[0], features, idf, shared, rows, part[1])

    for _ in in_order(worker.workers, write, _kept(spool, dropped, release=True)):
        pass
    return rows, by_rank, groups[:shared]


def _kept(spool: Spool, dropped: Array, *, release: bool = False) -> Iterator[tuple[Counted, int]]:
    """The blocks without the dropped texts, each with the row that its first text becomes."""
    done, first = 0, 0
    for block in spool.blocks(release=release):
        gone = dropped[done : done + len(block.bounds) - 1]
        yield block.without(gone), first
        done, first = done + len(gone), first + int(np.count_nonzero(~gone))


def _reserve(spool: Spool, dropped: Array, shared: Array, limit_bytes: float) -> Rows:
    """Lay out rows that hold only features which more than one text has."""
    lengths = [np.empty(0, np.int64)]
    for block, _ in _kept(spool, dropped):
        lengths.append(np.diff(bounds_of(shared[block.features])[block.bounds]))
    bounds = bounds_of(np.concatenate(lengths))
    ranks, weights = (room_for(int(bounds[-1]), kind, limit_bytes / 8) for kind in (np.uint32, np.float32))
    return Rows(bounds, ranks, weights, np.zeros(len(bounds) - 1), np.zeros(len(bounds) - 1))


_NO_PRINTS = np.empty((0, 2), np.uint64)
_FEATURE = np.dtype([("rank", np.uint32), ("frequency", np.int32)])
"""Side by side, so that to look up a feature costs one cache miss."""
