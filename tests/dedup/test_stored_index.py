from pathlib import Path

import numpy as np
import pytest

import safetyqc.dedup.stored_index as stored_index_module
from safetyqc.dedup import find_pairs
from safetyqc.dedup.stored_index import StoredIndex
from safetyqc.errors import UserError
from tests.dedup.test_pairs import recombined

TEXTS = [*recombined(300, seed=11), "🙂", "🙂", "!!", "🙂🙂"]
TEXTS[20] = TEXTS[10]
TEXTS[140] = TEXTS[10].upper()


def fresh(folder: Path, weights: str, vocabulary, **settings) -> StoredIndex:
    return StoredIndex(folder / "index", 0.6, weights, vocabulary, **settings)


def added(index: StoredIndex, sizes: list[int], *, reopen: bool = False):
    """Add TEXTS in batches of these sizes; the links found, and the first with the same words of each."""
    found, same_as, first = {}, [], 0
    for size in sizes:
        places = np.arange(first, first + size)
        batch = index.add(TEXTS[first : first + size], places)
        for left, right, cosine in zip(*(column.tolist() for column in vars(batch.near).values()), strict=True):
            found[min(left, right), max(left, right)] = min(round(cosine, 6), 1.0)
        same_as += batch.same_as.tolist()
        first += size
        if reopen:
            token = index.save()
            index.remove_others(token)
            index = opened(index, token)
    return found, same_as, index


def opened(index: StoredIndex, token: str, **changed) -> StoredIndex | None:
    settings = {
        "min_similarity": index.min_similarity, "weights": index.weights, "vocabulary": index.vocabulary,
    }  # fmt: skip
    return StoredIndex.open(index.folder, token, **(settings | changed))


@pytest.mark.parametrize("weights", ["tfidf", "tf"])
@pytest.mark.parametrize("reopen", [False, True], ids=["in one go", "opened for each batch"])
@pytest.mark.parametrize("sizes", [[304], [200, 104], [1] * 20 + [130] + [30] * 5 + [4]])
def test_adding_in_any_batches_finds_the_pairs_of_a_full_search(tmp_path, monkeypatch, weights, reopen, sizes):
    monkeypatch.setattr(stored_index_module, "_SMALL", 3)  # so that segments are merged, and more than once
    whole = find_pairs(TEXTS, 0.6, weights=weights, backend="compiled")
    found, same_as, index = added(fresh(tmp_path, weights, whole.vocabulary), sizes, reopen=reopen)
    expected = dict(zip(zip(whole.left.tolist(), whole.right.tolist(), strict=True), whole.similarity, strict=True))
    assert found == pytest.approx(expected, abs=1.1e-6)
    assert same_as == whole.same_as.tolist()
    assert len(index) == len(set(same_as))
    assert len(list(index._segments)) <= 4


def test_segments_are_cut_where_they_would_take_too_much(tmp_path, monkeypatch):
    whole = find_pairs(TEXTS, 0.6, backend="compiled")
    monkeypatch.setattr("safetyqc.dedup.vectors._BLOCK_CHARACTERS", 2_000)
    index = fresh(tmp_path, "tfidf", whole.vocabulary, limit_bytes=500_000)
    found, _, index = added(index, [304])
    assert len(index._segments) > 3
    assert set(found) == set(zip(whole.left.tolist(), whole.right.tolist(), strict=True))


def test_merging_keeps_to_the_memory_and_goes_on_while_adding(tmp_path, monkeypatch):
    whole = find_pairs(TEXTS, 0.6, backend="compiled")
    monkeypatch.setattr("safetyqc.dedup.vectors._BLOCK_CHARACTERS", 500)
    monkeypatch.setattr(stored_index_module, "_BUILT_BYTES", 1_000)
    limit, most_open, keep = 800_000, 0, StoredIndex._keep

    def counted(index, segment):
        nonlocal most_open
        keep(index, segment)
        most_open = max(most_open, len(index._segments))

    monkeypatch.setattr(StoredIndex, "_keep", counted)
    found, _, index = added(fresh(tmp_path, "tfidf", whole.vocabulary, limit_bytes=limit), [304])
    assert set(found) == set(zip(whole.left.tolist(), whole.right.tolist(), strict=True))
    assert max(len(segment.rows.ranks) for _, segment in index._segments) * stored_index_module._MERGED_BYTES <= limit
    assert len(index._segments) < most_open < len(list(index.folder.iterdir())) / 2  # files of merged ones are there


def test_more_pairs_than_memory_allows_are_an_error(tmp_path):
    vocabulary = find_pairs(TEXTS, 0.6).vocabulary
    texts = [" ".join(f"same{i}" for i in range(20)) + f" other{n}" for n in range(200)]
    with pytest.raises(UserError, match="pairs reach a similarity"):
        fresh(tmp_path, "tf", vocabulary, limit_bytes=100_000).add(texts, np.arange(200))


def test_only_what_it_was_saved_for_opens_it(tmp_path):
    vocabulary = find_pairs(TEXTS, 0.6).vocabulary
    _, _, index = added(fresh(tmp_path, "tfidf", vocabulary), [100])
    token = index.save()
    assert opened(index, token) is not None
    other = find_pairs(TEXTS[:50], 0.6).vocabulary
    for changed in ({"min_similarity": 0.7}, {"weights": "tf"}, {"vocabulary": other}):
        assert opened(index, token, **changed) is None
    assert opened(index, "0" * 32) is None


def test_what_an_earlier_token_names_stays_until_it_is_removed(tmp_path):
    vocabulary = find_pairs(TEXTS, 0.6).vocabulary
    _, _, index = added(fresh(tmp_path, "tfidf", vocabulary), [100])
    before = index.save()
    index.add(TEXTS[100:200], np.arange(100, 200))
    after = index.save()
    assert len(opened(index, before)) < len(opened(index, after))
    index.remove_others(after)
    assert opened(index, before) is None
    assert len(opened(index, after)) == len(index)


def test_an_index_of_nothing_and_of_texts_without_words(tmp_path):
    vocabulary = find_pairs(TEXTS, 0.6).vocabulary
    index = fresh(tmp_path, "tfidf", vocabulary)
    assert index.add([], np.empty(0, np.int64)).same_as.tolist() == []
    assert index.add(["!?", "", "!?"], np.arange(3)).same_as.tolist() == [0, 1, 0]
    near = index.add(["words at last", "!?", "words at last!"], np.arange(3, 6))
    assert near.same_as.tolist() == [3, 0, 3]
    assert len(near.near.left) == 0
