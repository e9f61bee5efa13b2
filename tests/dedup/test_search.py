import numpy as np
import pytest

from safetyqc.dedup import find_pairs
from safetyqc.dedup.search import Search, extend, restrict, search
from safetyqc.dedup.vocabulary import FrozenVocabulary
from safetyqc.errors import UserError
from tests.dedup.test_pairs import recombined

TEXTS = [*recombined(150, seed=11), "🙂", "🙂"]
TEXTS[20] = TEXTS[10]
TEXTS[140] = TEXTS[10].upper()
NUMBERS = np.arange(1000, 1000 + len(TEXTS))


def named(found: Search) -> dict[tuple[int, ...], float]:
    """Every link by the numbers that it links, copies included."""
    return {tuple(sorted((int(found.numbers[a]), int(found.numbers[b])))): s for a, b, s in found.pairs.links()}


def stored(found: Search) -> Search:
    again = Search.from_bytes(found.to_bytes(), FrozenVocabulary.from_bytes(found.pairs.vocabulary.to_bytes()))
    assert again is not None
    return again


@pytest.mark.parametrize("weights", ["tfidf", "tf"])
def test_a_stored_search_is_the_same_to_the_last_bit(weights):
    found = search(NUMBERS, TEXTS, 0.75, weights=weights)
    again = stored(found)
    assert np.array_equal(again.numbers, found.numbers)
    assert (again.pairs.weights, again.pairs.min_similarity) == (weights, 0.6)
    for column in ("same_as", "left", "right", "similarity"):
        assert np.array_equal(getattr(again.pairs, column), getattr(found.pairs, column)), column


def test_pairs_are_found_from_below_the_threshold_so_that_others_can_be_tried():
    found = search(NUMBERS, TEXTS, 0.9)
    assert np.array_equal(found.pairs.at_least(0.8).similarity, find_pairs(TEXTS, 0.8).similarity)
    assert search(NUMBERS, TEXTS, 0.4).pairs.min_similarity == 0.4


def test_of_many_texts_only_the_pairs_asked_for_are_found(monkeypatch):
    monkeypatch.setattr("safetyqc.dedup.search.MOST_FROM_BELOW", len(TEXTS) - 1)
    assert search(NUMBERS, TEXTS, 0.8).pairs.min_similarity == 0.8
    assert search(NUMBERS[1:], TEXTS[1:], 0.8).pairs.min_similarity == 0.6


def test_too_many_pairs_from_below_leave_those_asked_for():
    texts = [" ".join(f"same{i}" for i in range(20)) + f" other{n} more{n}" for n in range(200)]
    names = np.arange(200)
    with pytest.raises(UserError, match="pairs reach a similarity"):
        search(names, texts, 0.5, weights="tf", memory_mb=1)
    found = search(names, texts, 0.99, found_from=0.5, weights="tf", memory_mb=1)
    assert (len(found.pairs), found.pairs.min_similarity) == (0, 0.99)


@pytest.mark.parametrize("backend", ["plain", "compiled"])
@pytest.mark.parametrize("weights", ["tfidf", "tf"])
@pytest.mark.parametrize("first", [0, 1, 100, 151])
def test_old_pairs_keep_their_similarity_to_the_last_bit_and_none_of_the_new_is_missed(first, weights, backend):
    before = search(NUMBERS[:first], TEXTS[:first], 0.6, weights=weights, backend=backend)
    after = extend(stored(before), NUMBERS, TEXTS, backend=backend)
    old, new = named(before), named(after)
    assert {pair: new.get(pair) for pair in old} == old  # equal, not nearly equal
    frozen = before.pairs.vocabulary
    whole = search(NUMBERS, TEXTS, 0.6, weights=weights, vocabulary=frozen, backend=backend)
    assert new == pytest.approx(named(whole), abs=1.1e-6)
    assert np.array_equal(after.numbers, NUMBERS)


def test_adding_in_several_steps_gives_the_pairs_of_one():
    frozen = find_pairs(TEXTS[:50], 0.6).vocabulary
    steps = search(NUMBERS[:50], TEXTS[:50], 0.6, vocabulary=frozen)
    for size in (51, 90, 152):
        steps = stored(extend(steps, NUMBERS[:size], TEXTS[:size]))
    whole = search(NUMBERS, TEXTS, 0.6, vocabulary=frozen)
    assert named(steps) == pytest.approx(named(whole), abs=1.1e-6)


def test_what_went_out_is_left_out_and_a_copy_speaks_for_its_text():
    found = search(NUMBERS, TEXTS, 0.6)
    numbers = np.array([n for n in NUMBERS[::-1] if n not in (1010, 1003)])  # 1010 was the first of three copies
    pairs = found.among(numbers)
    whole = find_pairs([TEXTS[number - 1000] for number in numbers], 0.6, vocabulary=found.pairs.vocabulary)
    assert np.array_equal(pairs.same_as, whole.same_as)
    assert np.array_equal(pairs.left, whole.left)
    assert np.array_equal(pairs.right, whole.right)
    assert pairs.similarity == pytest.approx(whole.similarity, abs=1.1e-6)
    more = extend(found, np.append(numbers, 5), [*(TEXTS[number - 1000] for number in numbers), TEXTS[3]])
    assert 1003 not in more.numbers
    assert more.lacks(np.array([5, 1003])).tolist() == [1003]


def test_pairs_among_what_was_not_searched_are_refused():
    with pytest.raises(ValueError, match="1 texts were not searched, such as 5"):
        search(NUMBERS, TEXTS, 0.75).among(np.array([1001, 5]))


def test_nothing_can_be_restricted_and_stored():
    empty = stored(search(np.empty(0, np.int64), [], 0.75))
    assert len(restrict(empty.pairs, np.empty(0, np.int64))) == 0
    assert named(empty) == {}


def test_pairs_of_another_vocabulary_are_not_taken_and_other_bytes_are_an_error():
    found = search(NUMBERS, TEXTS, 0.75)
    assert Search.from_bytes(found.to_bytes(), find_pairs(TEXTS[:50], 0.6).vocabulary) is None
    with pytest.raises(UserError, match="--refit"):
        Search.from_bytes(b"PK something else", found.pairs.vocabulary)
