"""Says for two texts how near they are and which rare terms they share, so that every drop can be checked by eye.

For showing, and for pairs that a search did not store, not for searching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import nsmallest
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from safetyqc.dedup.tokens import GRAM, LONE, character_class, features, tokens
from safetyqc.records import Duplicate
from safetyqc.text import normalise

if TYPE_CHECKING:
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.rows import Array, Counted
    from safetyqc.dedup.vectors import Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

_AT_ONCE = 1_000
_MOST_REMEMBERED = 500_000


def describe(
    pairs: Pairs,
    kept: Array,
    dropped: Array,
    names: Sequence[str],
    texts: Callable[[Array], Sequence[str]],
    *,
    terms: int = 5,
) -> Iterator[Duplicate]:
    """Say of each of these why it is dropped for the one kept: `kept` and `dropped` are places in the pairs.

    `names` are the ids of those dropped; drops for the same one should stand together. `texts` is asked for what a
    thousand drops need at a time: with `terms`, how many shared rare terms a drop names, for all their texts, and
    without only for those that are in one group but no pair.
    """
    import numpy as np

    similarity, characters = _stored_similarity(pairs, kept, dropped), 0
    compare = _comparison(pairs.vocabulary, terms)
    for start in range(0, len(kept), _AT_ONCE):
        one, other, near = (column[start : start + _AT_ONCE] for column in (kept, dropped, similarity))
        missing = np.flatnonzero(np.isnan(near))
        chosen = slice(None) if terms else missing
        places = np.unique(np.concatenate([one[chosen], other[chosen]]))
        text = dict(zip(places.tolist(), texts(places), strict=True))
        couples = ((text[a], text[b]) for a, b in zip(one[missing].tolist(), other[missing].tolist(), strict=True))
        near[missing] = cosines(couples, pairs.vocabulary, pairs.weights, before=characters)
        characters += sum(map(len, text.values()))
        for a, b, name, like in zip(
            one.tolist(), other.tolist(), names[start : start + _AT_ONCE], near.tolist(), strict=True
        ):
            exact, shared = compare(text[a], text[b], like) if terms else (False, ())
            yield Duplicate(conversation_id=name, similarity=like, exact=exact, terms=shared)


def _comparison(vocabulary: FrozenVocabulary, terms: int) -> Callable[[str, str, float], tuple[bool, tuple[str, ...]]]:
    """Make a function that says whether two texts are the same but for typography, and which rare terms both have."""
    share = shared_terms(vocabulary, terms)

    @lru_cache(maxsize=16)  # the copies of one text come one after another
    def compare(a: str, b: str, similarity: float) -> tuple[bool, tuple[str, ...]]:
        return similarity == 1.0 and normalise(a) == normalise(b), share(a, b)

    return compare


def _stored_similarity(pairs: Pairs, kept: Array, dropped: Array) -> Array:
    """What the pairs say: 1 of the same words, NaN where two of a group are no pair."""
    import numpy as np

    size = len(pairs.same_as)
    left, right = np.sort(np.stack([pairs.same_as[kept], pairs.same_as[dropped]]), axis=0)
    keys, wanted = pairs.left * size + pairs.right, left * size + right
    similarity = np.full(len(kept), np.nan)
    if len(keys):
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = keys[at] == wanted
        similarity[known] = pairs.similarity[at[known]]
    similarity[left == right] = 1.0
    return similarity


def cosine(a: str, b: str, vocabulary: FrozenVocabulary, weights: Weights = "tfidf") -> float:
    """Similarity of two texts, the same as a search with this vocabulary gives, rounded to six decimals."""
    return cosines([(a, b)], vocabulary, weights)[0]


def cosines(
    pairs: Iterable[tuple[str, str]], vocabulary: FrozenVocabulary, weights: Weights = "tfidf", *, before: int = 0
) -> list[float]:
    """Similarities of pairs of texts; each depends on its two texts and the vocabulary alone, to the last bit.

    How many characters were compared `before` counts in the choice of a backend.
    """
    import numpy as np

    from safetyqc.dedup.backend import choose_backend

    found: list[float] = []
    waiting, characters = iter(pairs), before
    while part := list(islice(waiting, _AT_ONCE)):
        texts = list(dict.fromkeys(text for pair in part for text in pair))
        characters += sum(map(len, texts))
        counted = choose_backend("auto", characters, vocabulary.analyzer).count(texts)
        units = dict(zip(texts, _units(counted, vocabulary, weights), strict=True))
        for a, b in part:
            (one, x), (other, y) = units[a], units[b]
            _, left, right = np.intersect1d(one, other, assume_unique=True, return_indices=True)
            found.append(round(float((x[left] * y[right]).sum()), 6))
    return found


def _units(counted: Counted, vocabulary: FrozenVocabulary, weights: Weights) -> Iterator[tuple[Array, Array]]:
    """The ascending feature hashes of each text with their weights in its unit vector."""
    import numpy as np

    from safetyqc.dedup.vocabulary import smooth_idf

    weighed = 1.0 + np.log(counted.counts)
    if weights == "tfidf":
        weighed = weighed * smooth_idf(vocabulary.frequencies_of(counted.features), vocabulary.texts)
    for start, stop in pairwise(counted.bounds.tolist()):
        order = np.argsort(counted.features[start:stop])
        unit = weighed[start:stop][order]
        yield counted.features[start:stop][order], unit / (np.sqrt((unit * unit).sum()) or 1.0)


def shared_terms(vocabulary: FrozenVocabulary, count: int = 5) -> Callable[[str, str], tuple[str, ...]]:
    """Make a function that names the rarest terms that two texts share, the rarest first.

    A term is a word, or two neighbouring characters where characters stand for words. In a vocabulary of the analyzer
    `char` it is a run of characters, and no two of them overlap.
    """

    rarity: dict[str, float] = {}
    terms_of = lru_cache(maxsize=64)(_words if vocabulary.analyzer == "word" else _runs)

    def name(a: str, b: str) -> tuple[str, ...]:
        shared = terms_of(a) & terms_of(b)
        if len(rarity) > _MOST_REMEMBERED:
            rarity.clear()
        rarity.update([(term, -vocabulary.idf(term)) for term in shared if term not in rarity])
        ranked = [(rarity[term], term) for term in shared]
        if vocabulary.analyzer == "char":
            return tuple(islice(_apart(term for _, term in sorted(ranked)), count))
        return tuple(term.replace(" ", "") for _, term in nsmallest(count, ranked))

    return name


def _words(text: str) -> frozenset[str]:
    words = tokens(text)
    names = frozenset(words)
    lone = frozenset() if text.isascii() else frozenset([name for name in names if len(name) == 1 and _is_lone(name)])
    return (names - lone).union([f"{a} {b}" for a, b in pairwise(words) if a in lone and b in lone]) if lone else names


def _runs(text: str) -> frozenset[str]:
    return frozenset(run for run in features(text, "char") if len(run) > GRAM)


def _apart(runs: Iterable[str]) -> Iterator[str]:
    """Leave out what shares two neighbouring characters with an earlier one: mostly the same passage."""
    seen: set[str] = set()
    for run in runs:
        neighbours = {run[place : place + 2] for place in range(len(run) - 1)}
        if not neighbours & seen:
            yield run.strip()
        seen |= neighbours


@lru_cache(maxsize=100_000)
def _is_lone(word: str) -> bool:
    return not word.isascii() and character_class(ord(word)) == LONE
