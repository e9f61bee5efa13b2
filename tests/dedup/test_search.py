import numpy as np
import pytest

from safetyqc.dedup import find_pairs
from safetyqc.dedup.search import BACKENDS, Search, search
from safetyqc.dedup.vocabulary import FrozenVocabulary
from safetyqc.errors import UserError
from safetyqc.formats.spooled import Texts
from tests.dedup.test_pairs import recombined

TEXTS = [*recombined(150, seed=11), "🙂", "🙂"]
TEXTS[20] = TEXTS[10]
TEXTS[140] = TEXTS[10].upper()
IDS = [f"c{n}\u2028\n" for n in range(len(TEXTS))]


def named(found: Search) -> dict[tuple[str, str], float]:
    """Every link by the ids that it links, copies included."""
    return {(found.ids[a], found.ids[b]): s for a, b, s in found.pairs.links()}


def stored(found: Search) -> Search:
    again = Search.from_bytes(found.to_bytes(), FrozenVocabulary.from_bytes(found.pairs.vocabulary.to_bytes()))
    assert again is not None
    return again


def assert_same(one, other):
    for column in ("same_as", "left", "right", "similarity"):
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


@pytest.mark.parametrize("weights", ["tfidf", "tf"])
def test_a_stored_search_is_the_same_to_the_last_bit(weights):
    found = search(IDS, TEXTS, 0.75, weights=weights)
    again = stored(found)
    assert again.ids == tuple(IDS)
    assert (again.pairs.weights, again.pairs.min_similarity) == (weights, 0.65)
    assert_same(again.pairs, found.pairs)


def test_pairs_are_found_from_below_the_threshold_so_that_others_can_be_tried():
    found = search(IDS, TEXTS, 0.9)
    assert_same(found.pairs.at_least(0.8), find_pairs(TEXTS, 0.8))
    assert search(IDS, TEXTS, 0.4).pairs.min_similarity == 0.4


def test_of_many_texts_only_the_pairs_asked_for_are_found(monkeypatch):
    monkeypatch.setattr("safetyqc.dedup.search.MOST_FROM_BELOW", len(TEXTS) - 1)
    assert search(IDS, TEXTS, 0.8).pairs.min_similarity == 0.8
    assert search(IDS[1:], TEXTS[1:], 0.8).pairs.min_similarity == 0.65


def test_too_many_pairs_from_below_leave_those_asked_for(monkeypatch):
    texts = [" ".join(f"same{i}" for i in range(20)) + f" other{n} more{n}" for n in range(200)]
    ids = list(map(str, range(200)))
    with pytest.raises(UserError, match="pairs reach a similarity"):
        search(ids, texts, 0.5, weights="tf", memory_mb=1)
    found = search(ids, texts, 0.99, weights="tf", memory_mb=1)
    assert (len(found.pairs), found.pairs.min_similarity) == (0, 0.99)
    before = search(ids[:20], texts[:20], 0.6, weights="tf")
    again = search(ids, texts, 0.99, before=before, weights="tf", memory_mb=1, vocabulary=before.pairs.vocabulary)
    assert again.pairs.min_similarity == 0.99


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", ["tfidf", "tf"])
@pytest.mark.parametrize("first", [1, 100, 151, 152])
def test_what_is_added_gives_what_a_search_of_everything_gives_to_the_last_bit(first, weights, backend):
    before = search(IDS[:first], TEXTS[:first], 0.6, weights=weights, backend=backend)
    frozen = before.pairs.vocabulary
    more = {"weights": weights, "vocabulary": frozen, "backend": backend}
    assert_same(search(IDS, TEXTS, 0.6, before=stored(before), **more).pairs, search(IDS, TEXTS, 0.6, **more).pairs)


def test_adding_in_several_steps_gives_the_pairs_of_one():
    frozen = find_pairs(TEXTS[:50], 0.6).vocabulary
    steps = search(IDS[:50], TEXTS[:50], 0.6, vocabulary=frozen)
    for size in (51, 90, 152):
        steps = stored(search(IDS[:size], TEXTS[:size], 0.6, before=steps, vocabulary=frozen))
    assert_same(steps.pairs, search(IDS, TEXTS, 0.6, vocabulary=frozen).pairs)


def test_only_pairs_with_what_is_new_are_looked_for():
    found = find_pairs(TEXTS, 0.6, known=100)
    assert len(found)
    assert found.right.min() >= 100


def test_what_went_out_and_came_back_in_any_order_is_as_if_it_had_never_been_away():
    found = search(IDS, TEXTS, 0.6)
    frozen = found.pairs.vocabulary
    some = [n for n in range(len(TEXTS)) if n not in (3, 10, 11)]  # 10 was the first of three copies
    less = search([IDS[n] for n in some], [TEXTS[n] for n in some], 0.6, before=found)
    whole = search([IDS[n] for n in some], [TEXTS[n] for n in some], 0.6, vocabulary=frozen)
    assert_same(less.pairs, whole.pairs)
    assert_same(search(IDS, TEXTS, 0.6, before=less, vocabulary=frozen).pairs, found.pairs)
    assert named(search(IDS, TEXTS, 0.6, before=less, vocabulary=frozen)) == named(found)


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_in_a_file_are_searched_as_those_in_memory(backend):
    with Texts(limit_bytes=1000) as spooled:
        for text in TEXTS:
            spooled.add(text)
        assert spooled.held is spooled
        assert list(spooled) == TEXTS
        assert [spooled[n] for n in (30, 2, 151, 2)] == [TEXTS[n] for n in (30, 2, 151, 2)]
        before = search(IDS[5:90], TEXTS[5:90], 0.6, backend=backend)
        more = {"before": before, "vocabulary": before.pairs.vocabulary, "backend": backend}
        assert_same(search(IDS, spooled, 0.6, **more).pairs, search(IDS, TEXTS, 0.6, **more).pairs)


def test_nothing_can_be_searched_and_stored():
    empty = stored(search([], [], 0.75))
    assert len(empty.pairs.among(np.empty(0, np.int64))) == 0
    assert named(empty) == {}


def test_pairs_of_another_vocabulary_or_version_and_damaged_ones_are_not_taken():
    found = search(IDS, TEXTS, 0.75)
    assert Search.from_bytes(found.to_bytes(), find_pairs(TEXTS[:50], 0.6).vocabulary) is None
    for damaged in (
        b"",
        b"PK something else",
        found.to_bytes()[:-90],
        found.to_bytes().replace(b'"format": 3', b'"format": 2'),
    ):
        assert Search.from_bytes(damaged, found.pairs.vocabulary) is None
