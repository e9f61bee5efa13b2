import random
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import safetyqc.dedup.join as join_module
from safetyqc.dedup import find_pairs
from safetyqc.dedup.choices import Analyzer
from safetyqc.dedup.join import search as join
from safetyqc.dedup.pairs import Measure
from safetyqc.dedup.search import BACKENDS
from safetyqc.dedup.tokens import ANALYZERS, characters, tokens
from safetyqc.errors import UserError

pytestmark = pytest.mark.compiled


def brute_force(texts: list[str], analyzer: Analyzer = "word") -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = {"tokenizer": tokens, "lowercase": False, "token_pattern": None, "ngram_range": (1, 2)}
    runs = {"preprocessor": characters, "analyzer": "char", "ngram_range": (3, 4)}
    vectors = TfidfVectorizer(sublinear_tf=True, **(words if analyzer == "word" else runs)).fit_transform(texts)
    return (vectors @ vectors.T).toarray()


def assert_exact(texts: list[str], min_similarity: float, analyzer: Analyzer = "word", **options) -> None:
    found = find_pairs(texts, min_similarity, analyzer=analyzer, **options)
    cosines = brute_force(texts, analyzer)
    firsts = {place for place, first in enumerate(found.same_as.tolist()) if place == first}
    stored = dict(zip(zip(found.left.tolist(), found.right.tolist(), strict=True), found.similarity, strict=True))
    assert list(stored) == sorted(stored)
    for left in firsts:
        for right in firsts:
            if left < right and abs(cosines[left, right] - min_similarity) > 2e-6:
                assert ((left, right) in stored) == (cosines[left, right] > min_similarity)
    for (left, right), similarity in stored.items():
        assert similarity == pytest.approx(cosines[left, right], abs=2e-6)
    for place, first in enumerate(found.same_as.tolist()):
        assert place == first or tokens(texts[place], analyzer) == tokens(texts[first], analyzer)


def recombined(count: int, seed: int) -> list[str]:
    """Texts that share sentences, so that similarities of all sizes occur."""
    rng = random.Random(seed)
    sentences = [
        " ".join(f"w{int(rng.paretovariate(0.6)) % 500}" for _ in range(rng.randint(3, 15))) for _ in range(80)
    ]
    return [" ".join(rng.choices(sentences, k=rng.randint(1, 5))) for _ in range(count)]


words = st.sampled_from(["a", "b", "c", "d", "e", "安", "全", "!"])
texts = st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=12).filter(
    lambda items: any(tokens(item) for item in items)
)
thresholds = st.floats(0.05, 1.0)


@settings(max_examples=60, deadline=None)
@given(texts, thresholds)
def test_reference_backend_finds_exactly_the_pairs_of_brute_force(items, min_similarity):
    assert_exact(items, min_similarity, backend="reference")


@settings(max_examples=60, deadline=None)
@given(texts, thresholds)
def test_compiled_backend_finds_exactly_the_pairs_of_brute_force(items, min_similarity):
    assert_exact(items, min_similarity, backend="compiled")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("analyzer", ANALYZERS)
@pytest.mark.parametrize("min_similarity", [0.3, 0.7, 0.85, 0.95])
def test_pairs_of_recombined_texts_are_exact(backend, analyzer, min_similarity):
    assert_exact(recombined(250, seed=3), min_similarity, analyzer, backend=backend)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab 安!", max_size=12), min_size=1, max_size=12), thresholds, st.sampled_from(list(BACKENDS)))
def test_by_characters_both_backends_find_exactly_the_pairs_of_brute_force(items, min_similarity, backend):
    assume(any(tokens(item, "char") for item in items))
    assert_exact(items, min_similarity, "char", backend=backend)


def test_a_vocabulary_of_the_other_analyzer_is_refused():
    vocabulary = find_pairs(["a b c", "a b"], 0.5).vocabulary
    with pytest.raises(UserError, match="counted with the analyzer 'word', not 'char'"):
        find_pairs(["a b c"], 0.5, analyzer="char", vocabulary=vocabulary)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.3, 0.7])
@pytest.mark.parametrize("weights", ["tfidf", "tf"])
def test_result_does_not_depend_on_where_rows_are_cut(margin, weights):
    items = recombined(200, seed=5)
    reference = find_pairs(items, 0.7, backend="reference", weights=weights)
    found = join(items, Measure(0.7, weights=weights), margin)
    assert len(found) > 20
    assert found.left.tolist() == reference.left.tolist()
    assert found.right.tolist() == reference.right.tolist()
    assert found.similarity.tolist() == reference.similarity.tolist()


def test_both_backends_give_the_same_similarities_to_the_last_bit_and_freeze_the_same_count():
    items = [
        *recombined(200, seed=12),
        *["ha " * 5000 + "this is how to bake bread", "ha " * 4000 + "this is how to bake"],
    ]
    reference, found = (find_pairs([*items, items[3]], 0.3, backend=name) for name in BACKENDS)
    for column in ("same_as", "left", "right", "similarity"):
        assert getattr(found, column).tolist() == getattr(reference, column).tolist(), column
    assert found.vocabulary.hashes.tolist() == reference.vocabulary.hashes.tolist()
    assert found.vocabulary.frequencies.tolist() == reference.vocabulary.frequencies.tolist()
    later = recombined(50, seed=13)
    known = {"vocabulary": found.vocabulary, "known": 20}
    one, other = (find_pairs([*items[:20], *later], 0.3, backend=name, **known) for name in BACKENDS)
    assert one.similarity.tolist() == other.similarity.tolist()
    assert len(one)


def test_small_memory_gives_the_same_pairs_in_blocks(monkeypatch):
    items = recombined(300, seed=7)
    reference = find_pairs(items, 0.6, backend="reference")
    blocks = []

    def cut_small(bounds, size, _, cut=join_module._index_blocks):
        blocks.extend(cut(bounds, size, 4000))
        return blocks

    monkeypatch.setattr(join_module, "_index_blocks", cut_small)
    found = find_pairs(items, 0.6, backend="compiled", memory_mb=1)
    assert len(blocks) > 3
    assert found.left.tolist() == reference.left.tolist()
    assert found.right.tolist() == reference.right.tolist()


def test_frozen_vocabulary_keeps_old_similarities_when_texts_are_added():
    old = recombined(80, seed=1)
    first = find_pairs(old, 0.5)
    new = [*old, *recombined(80, seed=2)]
    again = find_pairs(new, 0.5, vocabulary=first.vocabulary)
    before = {pair[:2]: pair[2] for pair in first.links()}
    after = {pair[:2]: pair[2] for pair in again.links() if pair[1] < len(old)}
    assert before == pytest.approx(after, abs=1e-6)
    refitted = {pair[:2]: pair[2] for pair in find_pairs(new, 0.5).links() if pair[1] < len(old)}
    assert refitted != pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_text_has_no_pair(backend):
    assert len(find_pairs(["alone"], 0.5, backend=backend)) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_without_a_word_are_equal_only_to_themselves(backend):
    found = find_pairs(["🙂", "!?", "🙂", "...", "!?"], 0.5, backend=backend)
    assert found.same_as.tolist() == [0, 1, 0, 3, 1]
    assert len(found) == 0


def test_two_hundred_thousand_copies_are_a_star_and_not_pairs():
    started = time.process_time()
    found = find_pairs(["the same answer again"] * 200_000 + ["another one"], 0.85)
    assert len(found) == 0
    assert np.count_nonzero(found.same_as == 0) == 200_000
    assert found.nearest()[:200_000].min() == 1.0
    assert time.process_time() - started < 20


def test_copies_that_differ_in_typography_are_a_star_too():
    found = find_pairs([("I can't HELP you  " + "!" * (n % 7)).strip() for n in range(3000)], 0.85)
    assert set(found.same_as.tolist()) == {0}


def test_five_megabytes_in_one_text_and_its_edited_copy():
    rng = random.Random(0)
    long = " ".join(f"w{rng.randrange(50_000)}" for _ in range(750_000))
    assert len(long) > 4_900_000
    found = find_pairs([long, "short one", long[:-7000] + " the end"], 0.9)
    assert [pair[:2] for pair in found.links()] == [(0, 2)]


def test_a_word_said_over_and_over_does_not_make_different_texts_near():
    texts_ = ["ha " * 20 + "this tells how to bake bread at home", "ha " * 20 + "my car needs another set of tyres"]
    found = find_pairs([*texts_, *recombined(50, seed=4)], 0.7)
    assert 0 not in found.left


def test_higher_threshold_reuses_the_pairs():
    found = find_pairs(recombined(120, seed=8), 0.5)
    above = found.at_least(0.8)
    assert 0 < len(above) < len(found)
    assert above.similarity.min() >= 0.8
    assert above.left.tolist() == find_pairs(recombined(120, seed=8), 0.8).left.tolist()


def test_lower_threshold_than_searched_is_refused():
    with pytest.raises(UserError, match=r"from a similarity of 0\.8 on, not 0\.5"):
        find_pairs(["a b", "a c"], 0.8).at_least(0.5)


@pytest.mark.parametrize("value", [0.0, -1.0, 1.01, float("nan")])
def test_impossible_thresholds_are_refused(value):
    with pytest.raises(UserError, match="min_similarity"):
        find_pairs(["a"], value)


def test_unknown_backend_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'reference'"):
        find_pairs(["a"], 0.5, backend="referense")


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_pairs_than_memory_is_an_error_and_not_a_crash(backend, monkeypatch):
    monkeypatch.setattr("safetyqc.dedup.pairs._MOST_PAIRS", 50)
    template = [f"one template for everything with a number like {number} in it" for number in range(60)]
    with pytest.raises(UserError, match="more than 50 pairs"):
        find_pairs(template, 0.5, weights="tf", backend=backend)


def test_nearest_is_the_best_pair_of_each_text_and_zero_without_one():
    found = find_pairs(["a b c d e f", "a b c d e g", "x y z", "X y Z"], 0.3)
    nearest = found.nearest()
    assert nearest[0] == nearest[1] == found.similarity[0] < 1
    assert nearest[2] == nearest[3] == 1.0


@pytest.mark.slow
def test_pairs_of_ten_thousand_real_conversations_are_exact(shared_data):
    from benchmarks.dedup import by_sklearn, corpus, every_copy

    items = corpus(10_000, shared_data)
    for min_similarity in (0.7, 0.85, 0.95):
        assert every_copy(find_pairs(items, min_similarity)) == by_sklearn(items, min_similarity)
