"""Turns texts into unit TF-IDF vectors, the same as scikit-learn's to 1e-6.

The measure is `TfidfVectorizer(tokenizer=tokens, ngram_range=(1, 2), sublinear_tf=True)` with its defaults (smooth idf,
l2 norm), or `TfidfVectorizer(analyzer="char", ngram_range=(3, 4), sublinear_tf=True)` of `tokens.characters`;
`weights="tf"` leaves the idf out, so that a similarity does not depend on the other texts. Not scikit-learn itself,
because vectorising is most of the time up to 100,000 texts, and its vocabulary of Python strings most of the memory.

A feature that stands in one text only counts in that text's norm and is then left out. It cannot
be in any product, and such features are most of a vocabulary. Loads numpy: import it late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    more go to a temporary file, and features are counted in parts. Texts are read once, in order, and again only where
    they have no word.
    """
    numbering, prints = Numbering(worker, limit_bytes), [np.empty((0, 2), np.uint64)]
    for counted in in_order(worker.workers, worker.count, text_blocks(texts)):
        numbering.add(counted)
        prints.append(counted.fingerprints)
    numbered = numbering.finish(vocabulary)
    same_as = _equal_words(texts, np.concatenate(prints), apart)
    kept = same_as == np.arange(len(texts))
    own = _frozen(numbered.table, len(texts), worker.analyzer)
    rows, idf, groups = _weigh(worker, numbered, ~kept, weights, vocabulary, (vocabulary or own).texts, limit_bytes)
    return Vectors(rows, np.flatnonzero(kept), same_as, vocabulary or own, idf, groups)


def text_blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Read the texts about a million characters at a time."""
    block, size = list[str](), 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _equal_words(texts: Sequence[str], prints: Array, apart: int) -> Array:
    """For each text the first with the same words (or, without words, the same characters) on its side."""
    seen: dict[str, int] = {}
    for place in np.flatnonzero(~prints.any(axis=1)).tolist():
        prints[place, 1] = 1 + seen.setdefault(normalise(texts[place]), len(seen))
    sides = np.arange(len(prints)) >= apart
    order = np.lexsort((prints[:, 0], prints[:, 1], sides))
    ordered, side = prints[order], sides[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1) | (side[1:] != side[:-1])
    same_as = np.empty(len(order), np.int64)
    same_as[order] = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
    return same_as


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


_FEATURE = np.dtype([("rank", np.uint32), ("frequency", np.int32)])
"""Side by side, so that to look up a feature costs one cache miss."""
