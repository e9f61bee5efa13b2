import pytest

import safetyqc.dedup.index as index_module
from safetyqc.dedup import find_pairs
from safetyqc.dedup.index import Near, SimilarityIndex
from safetyqc.errors import UserError
from tests.dedup.test_pairs import recombined

TEXTS = [*recombined(150, seed=11), "🙂", "🙂"]
TEXTS[20] = TEXTS[10]


def reference(min_similarity: float, weights: str = "tfidf"):
    found = find_pairs(TEXTS, min_similarity, weights=weights, backend="plain")
    return {pair[:2]: pair[2] for pair in found.links()}, found.vocabulary


def added(index: SimilarityIndex, batches: list[int]) -> dict[tuple[int, int], float]:
    """Add TEXTS in batches of these sizes and collect what is near."""
    found = {}
    for size in batches:
        start = len(index)
        for place, near in enumerate(index.add(TEXTS[start : start + size])):
            found.update({(item.index, start + place): item.similarity for item in near})
    return found


@pytest.mark.parametrize("backend", ["plain", "compiled"])
@pytest.mark.parametrize("weights", ["tf", "tfidf"])
@pytest.mark.parametrize("batches", [[152], [100, 52], [1] * 60 + [92]], ids=["at once", "two", "one by one"])
def test_adding_in_any_batches_finds_the_pairs_of_a_full_search(backend, weights, batches):
    expected, vocabulary = reference(0.6, weights)
    index = SimilarityIndex(0.6, weights=weights, vocabulary=vocabulary, backend=backend)
    assert added(index, batches) == pytest.approx(expected, abs=1.1e-6)
    assert len(index) == len(TEXTS)


def test_near_answers_without_adding():
    index = SimilarityIndex(0.6)
    index.add(TEXTS)
    before = index.near(TEXTS[3])
    assert before[0] == Near(3, 1.0)
    assert index.near(TEXTS[3]) == before
    assert index.near("nothing like it at all") == []
    assert len(index) == len(TEXTS)


def test_an_empty_index_has_nothing_near():
    assert SimilarityIndex(0.5).near("anything") == []


def test_change_to_the_compiled_backend_while_growing_loses_nothing(monkeypatch):
    expected, vocabulary = reference(0.6)
    monkeypatch.setattr(index_module, "_COMPILE_FROM", sum(map(len, TEXTS[:70])))
    index = SimilarityIndex(0.6, weights="tfidf", vocabulary=vocabulary)
    assert added(index, [30, 1, 1, 118, 2]) == pytest.approx(expected, abs=1.1e-6)
    assert index._compiled


@pytest.mark.parametrize("backend", ["plain", "compiled"])
def test_a_saved_index_goes_on_where_it_stopped(tmp_path, backend):
    expected, vocabulary = reference(0.6)
    index = SimilarityIndex(0.6, weights="tfidf", vocabulary=vocabulary, backend=backend)
    found = added(index, [80, 10])
    index.save(tmp_path / "index")
    stored = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    again = SimilarityIndex.load(tmp_path / "index")
    found |= added(again, [62])
    assert found == pytest.approx(expected, abs=1.1e-6)
    assert stored == {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}


def test_an_empty_index_can_be_saved(tmp_path):
    SimilarityIndex(0.6).save(tmp_path)
    assert added(SimilarityIndex.load(tmp_path), [152]) == pytest.approx(reference(0.6, "tf")[0], abs=1.1e-6)


def test_copies_name_only_the_first_and_are_not_indexed_again():
    index = SimilarityIndex(0.6)
    near = index.add(["just the same answer"] * 5000)
    assert near[0] == []
    assert all(item == [Near(0, 1.0)] for item in near[1:])
    assert len(index._numbers) == 1


def test_segments_stay_few_when_texts_come_one_by_one():
    index = SimilarityIndex(0.6)
    for text in TEXTS:
        index.add([text])
    assert len(index._segments) <= 8


def test_tfidf_without_a_vocabulary_is_refused():
    with pytest.raises(UserError, match="needs a frozen vocabulary"):
        SimilarityIndex(0.5, weights="tfidf")


def test_a_folder_without_an_index_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        SimilarityIndex.load(tmp_path)
