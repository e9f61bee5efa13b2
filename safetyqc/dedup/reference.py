"""The search by scikit-learn: `TfidfVectorizer` and a sparse product, for sets of up to some thousands of texts.

The measure of the project is what this module computes, and it needs no compiler; `join.py` finds the same pairs among
millions, and tests hold the two together. Words are those of `tokens.py`. How rare they are is taken from a frozen
vocabulary, which the texts themselves make where none is given. Loads scikit-learn: import it late.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from safetyqc.dedup.choices import Analyzer, Weights
from safetyqc.dedup.pairs import Measure, Pairs
from safetyqc.dedup.rows import Array
from safetyqc.dedup.tokens import token_pairs, tokens
from safetyqc.dedup.vocabulary import FrozenVocabulary, feature_hashes, smooth_idf
from safetyqc.text import normalise

_AT_ONCE = 5_000_000
"""Cells of a product at a time."""


def search(texts: Sequence[str], measure: Measure) -> Pairs:
    """Find every near pair; see `search.find_pairs`."""
    words = [tokens(text, measure.analyzer) for text in texts]
    same_as = _first_with_the_same(texts, words, measure.apart)
    firsts = np.flatnonzero(same_as == np.arange(len(texts)))
    counts, hashes = count([words[place] for place in firsts], measure.analyzer)
    copies = np.bincount(same_as, minlength=len(texts))[firsts]
    own = _frozen(counts, hashes, copies, measure.analyzer)
    vocabulary = measure.vocabulary or own
    units = unit_rows(counts, hashes, vocabulary, measure.weights)
    first = int(firsts.searchsorted(measure.apart or measure.known))
    others = units[: first if measure.apart else None].T.tocsr()
    step = max(1, _AT_ONCE // max(others.shape[1], 1))
    parts, found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))], 0
    for start in range(first, len(firsts), step):
        near = (units[start : start + step] @ others).tocoo()
        kept = (near.data >= measure.least) & (near.col < near.row + start)
        parts.append((firsts[near.col[kept]], firsts[near.row[kept] + start], near.data[kept]))
        found += int(np.count_nonzero(kept))
        measure.refuse_more(found)
    left, right, cosine = (np.concatenate(column) for column in zip(*parts, strict=True))
    return measure.pairs(same_as, (left, right, cosine), vocabulary)


def count(words: Sequence[list[str]], analyzer: Analyzer) -> tuple[csr_matrix, Array]:
    """Damped counts (1 + ln) of the tokens of each text and of the pairs of them, and the hash of each column."""
    if not any(words):
        return csr_matrix((len(words), 0)), np.empty(0, np.uint64)
    split = partial(_with_pairs, analyzer=analyzer)
    vectorizer = TfidfVectorizer(analyzer=split, use_idf=False, norm=None, sublinear_tf=True)
    counts = vectorizer.fit_transform(words)
    return counts, feature_hashes(vectorizer.get_feature_names_out(), analyzer)


def unit_rows(counts: csr_matrix, hashes: Array, vocabulary: FrozenVocabulary, weights: Weights) -> csr_matrix:
    """Weigh damped counts by how rare the vocabulary says each feature is, and scale every row to length 1."""
    weighed = counts
    if weights == "tfidf":
        idf = smooth_idf(vocabulary.frequencies_of(hashes), vocabulary.texts)
        weighed = csr_matrix((counts.data * idf[counts.indices], counts.indices, counts.indptr), counts.shape)
    return normalize(weighed) if weighed.shape[1] else weighed


def _with_pairs(words: list[str], analyzer: Analyzer) -> list[str]:
    return words + token_pairs(words, analyzer)


def _first_with_the_same(texts: Sequence[str], words: Sequence[list[str]], apart: int) -> Array:
    """For each text the first with the same words (or, without a word, the same characters) on its side."""
    seen: dict[tuple[Any, ...], int] = {}
    found = np.empty(len(texts), np.int64)
    for place, own in enumerate(words):
        said = tuple(own) if own else normalise(texts[place])
        found[place] = seen.setdefault((place < apart, said), place)
    return found


def _frozen(counts: csr_matrix, hashes: Array, copies: Array, analyzer: Analyzer) -> FrozenVocabulary:
    """Freeze in how many texts each feature stands; row r of the counts stands for `copies[r]` of them."""
    owners = np.repeat(copies, np.diff(counts.indptr))
    frequencies = np.bincount(counts.indices, owners, counts.shape[1]).astype(np.int32)
    often = np.flatnonzero(frequencies > 1)
    order = often[np.argsort(hashes[often])]
    return FrozenVocabulary(int(copies.sum()), hashes[order], frequencies[order], analyzer)
