"""Says for two texts how near they are and which rare terms they share, so that every drop can be checked by eye.

For showing, and for pairs that a search did not store, not for searching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import nsmallest
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from safetyqc.dedup.search import would_compile
from safetyqc.dedup.tokens import GRAM, LONE, character_class, features, tokens
from safetyqc.records import Duplicate
from safetyqc.text import normalise

if TYPE_CHECKING:
    from safetyqc.dedup.choices import Weights
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.rows import Array
    from safetyqc.dedup.vocabulary import FrozenVocabulary

Known = Mapping[tuple[str, str], Duplicate]
"""Evidence that an earlier dedup wrote down, by the ids of the one kept and of the one dropped."""
_AT_ONCE = 1_000
_MOST_REMEMBERED = 500_000


class Nearness:
    """Similarities of the texts that pairs were found on: what the pairs say, and for all others what the texts say."""

    def __init__(self, pairs: Pairs, ids: Sequence[str], texts: Sequence[str], known: Known) -> None:
        self._pairs, self._ids, self._texts, self._known, self._characters = pairs, ids, texts, known, 0

    def __call__(self, ones: Array, others: Array) -> Array:
        """How near each of these places is to the other one beside it: 1 of the same words."""
        similarity = _stored_similarity(self._pairs, ones, others)
        for place in (similarity != similarity).nonzero()[0].tolist():  # NaN: in one group, but no pair
            drop = self._known.get((self._ids[ones[place]], self._ids[others[place]]))
            similarity[place] = drop.similarity if drop else similarity[place]
        missing = similarity != similarity
        for start in range(0, len(ones), _AT_ONCE):
            place = slice(start, start + _AT_ONCE)
            wanted = missing[place]
            if wanted.any():
                couples = zip(ones[place][wanted].tolist(), others[place][wanted].tolist(), strict=True)
                similarity[place][wanted] = self._measured([(self._texts[a], self._texts[b]) for a, b in couples])
        return similarity

    def _measured(self, couples: Sequence[tuple[str, str]]) -> Array:
        self._characters += sum(len(text) for text in {text for couple in couples for text in couple})
        backend = "compiled" if would_compile(self._characters) else "reference"
        return cosines(couples, self._pairs.vocabulary, self._pairs.weights, backend=backend)


def describe(
    vocabulary: FrozenVocabulary,
    kept: Array,
    dropped: Array,
    similarity: Array,
    ids: Sequence[str],
    texts: Sequence[str],
    known: Known,
    terms: int,
) -> Iterator[Duplicate]:
    """Say of each of these why it is dropped for the one kept: `kept` and `dropped` are places of ids and texts.

    Drops for the same one should stand together. `terms` is how many shared rare terms a drop names; 0 saves reading
    the texts.
    """
    compare = _comparison(vocabulary, terms)
    text = lru_cache(maxsize=16)(texts.__getitem__)
    for one, other, like in zip(kept.tolist(), dropped.tolist(), similarity.tolist(), strict=True):
        if drop := known.get((ids[one], ids[other])):
            yield drop
            continue
        exact, shared = compare(text(one), text(other), like) if terms else (False, ())
        yield Duplicate(conversation_id=ids[other], similarity=like, exact=exact, terms=shared)


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


def cosines(
    couples: Sequence[tuple[str, str]],
    vocabulary: FrozenVocabulary,
    weights: Weights = "tfidf",
    *,
    backend: str = "reference",
) -> Array:
    """Similarities of pairs of texts, the same as a search with this vocabulary gives, rounded to six decimals."""
    import numpy as np

    from safetyqc.dedup.reference import count, unit_rows

    texts = list(dict.fromkeys(text for couple in couples for text in couple))
    if backend == "compiled":
        from safetyqc.dedup.compiled import Compiled

        counts, hashes = Compiled(vocabulary.analyzer).count(texts).as_matrix()
    else:
        counts, hashes = count([tokens(text, vocabulary.analyzer) for text in texts], vocabulary.analyzer)
    units, place = unit_rows(counts, hashes, vocabulary, weights), {text: n for n, text in enumerate(texts)}
    ones, others = (units[[place[text] for text in column]] for column in zip(*couples, strict=True))
    found: Array = np.minimum(np.round(np.asarray(ones.multiply(others).sum(axis=1)).ravel(), 6), 1.0)
    return found


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
