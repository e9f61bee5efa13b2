import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyqc.dedup import find_pairs
from safetyqc.dedup.compiled import Compiled, Table
from safetyqc.dedup.pairs import WEIGHTS
from safetyqc.dedup.rows import cuts_of, in_order
from safetyqc.dedup.tokens import ANALYZERS, characters, feature_hash, features, tokens
from safetyqc.dedup.vectors import vectorise

pytestmark = pytest.mark.compiled

WORDS = ["i", "can", "not", "help", "with", "that", "pipe", "bomb", "安", "全", "fire", "drill", "école", "2024"]


def some_texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for _ in range(count)]


def weights_of(vectors):
    """The weights of each row, ascending: which rank a feature has is nobody's business."""
    return [np.sort(row) for row in np.split(vectors.rows.weights, vectors.rows.bounds[1:-1])]


def assert_alike(found, expected, within):
    assert [len(row) for row in found] == [len(row) for row in expected]
    assert np.concatenate(found) == pytest.approx(np.concatenate(expected), abs=within)


SCIKIT_LEARN = {
    "word": {"tokenizer": tokens, "lowercase": False, "token_pattern": None, "ngram_range": (1, 2)},
    "char": {"preprocessor": characters, "analyzer": "char", "ngram_range": (3, 4)},
}


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_vectors_equal_those_of_scikit_learn(analyzer):
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [
        *some_texts(200),
        "bomb " * 2000,
        "",
        "Only here Once 唯一",
        some_texts(1)[0],
        "no",
        "Naïve\u200b ﬁre—安 全!",
    ]
    vectorizer = TfidfVectorizer(sublinear_tf=True, **SCIKIT_LEARN[analyzer])
    expected = vectorizer.fit_transform(texts).tocsr()
    frequencies = np.bincount(expected.indices, minlength=expected.shape[1])
    vectors = vectorise(texts, Compiled(analyzer))
    shared = expected.multiply(frequencies > 1).tocsr()  # one text's own features are left out
    shared.eliminate_zeros()
    assert_alike(weights_of(vectors), [np.sort(shared[text].data) for text in vectors.texts], 1e-6)


def test_tf_weights_do_not_depend_on_the_other_texts():
    two = ["can not help", "can not help that"]
    few, many = (find_pairs([*two, *more], 0.1, weights="tf", backend="compiled") for more in ([], some_texts(50)))
    assert few.similarity.tolist() == many.similarity[(many.left == 0) & (many.right == 1)].tolist()
    assert 0 < few.similarity[0] < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=25), min_size=1, max_size=8))
def test_compiled_tokeniser_counts_what_python_counts(texts):
    assert_counted_alike(texts)


_ODD = (
    *range(0x3400),
    *range(0x4DF0, 0x4E10),
    *range(0xA400, 0xAC20),
    *range(0xF900, 0x10000),
    *range(0x1D400, 0x1D420),
)


@pytest.mark.parametrize("text", ["A{0}b {0}", "a{0}\u0301 {0}\u3099{0}", "\u1100{0}", "ﬁ{0}A"])
def test_compiled_tokeniser_folds_every_character_as_python_does(text):
    assert_counted_alike([text.format(chr(code)) for code in (*_ODD, 0x1F642, 0x2F800, 0x2FA1D, 0xE0100, 0xD800)])


def assert_counted_alike(texts):
    for analyzer in ANALYZERS:
        found = Compiled(analyzer).count(texts)
        for place, text in enumerate(texts):
            span = slice(found.bounds[place], found.bounds[place + 1])
            counted = dict(zip(found.features[span].tolist(), found.counts[span].tolist(), strict=True))
            assert counted == {feature_hash(name, analyzer): n for name, n in features(text, analyzer).items()}
            assert found.fingerprints[place].any() == bool(counted)


def test_texts_with_the_same_words_share_a_row():
    texts = ["Hello, World", "other", "hello world!", "!!!", "!!! ", "???", "Hello, World"]
    assert vectorise(texts, Compiled()).same_as.tolist() == [0, 1, 0, 3, 3, 5, 0]


def test_texts_kept_apart_never_share_a_row():
    vectors = vectorise(["same", "same", "same", "same"], Compiled(), apart=2)
    assert vectors.same_as.tolist() == [0, 0, 2, 2]


def test_memory_limit_moves_arrays_to_files_and_changes_nothing():
    texts = some_texts(300)
    free = vectorise(texts, Compiled())
    tight = vectorise(texts, Compiled(), limit_bytes=1000)
    assert isinstance(tight.rows.ranks, np.memmap)
    assert not isinstance(free.rows.ranks, np.memmap)
    assert_alike(weights_of(tight), weights_of(free), 1e-7)
    assert tight.rows.squares == pytest.approx(free.rows.squares, abs=1e-6)
    assert np.array_equal(tight.vocabulary.hashes, free.vocabulary.hashes)
    assert np.array_equal(tight.vocabulary.frequencies, free.vocabulary.frequencies)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_features_counted_in_parts_are_weighed_by_a_frozen_vocabulary_too(weights):
    frozen = vectorise(some_texts(200), Compiled()).vocabulary
    texts = ["only once here", *some_texts(40), "a wholly unknown sentence", some_texts(200)[150]]
    free, tight = (
        vectorise(texts, Compiled(), weights=weights, vocabulary=frozen, limit_bytes=limit)
        for limit in (float("inf"), 2000)
    )
    assert_alike(weights_of(tight), weights_of(free), 1e-7)
    assert tight.vocabulary is frozen


class Unheld(Sequence[str]):
    """Texts that are not in memory; notes which are looked at."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.read = texts, list[int]()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: int) -> str:
        self.read.append(place)
        return self.texts[place]


def test_texts_that_are_not_in_memory_are_read_once():
    texts = [*some_texts(50), "!!!", some_texts(50)[3], "!!!"]
    unheld = Unheld(texts)
    vectors, held = (vectorise(given, Compiled()) for given in (unheld, texts))
    assert [place for place in unheld.read if place < len(texts)] == [*range(53), 50, 52]  # again: those without a word
    assert vectors.same_as.tolist() == held.same_as.tolist()
    assert_alike(weights_of(vectors), weights_of(held), 1e-7)


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_yield_results_in_the_order_of_the_items(workers):
    assert list(in_order(workers, lambda item: item * item, range(20))) == [item * item for item in range(20)]


def test_an_error_in_a_thread_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_order(2, lambda item: 1 // item, [1, 0]))


def test_features_of_one_quoted_passage_form_one_group():
    passage = "one quoted passage in many of the conversations"
    texts = [f"{passage} {text}" if place % 3 == 0 else text for place, text in enumerate(some_texts(90))]
    table = Table()
    counted = Compiled().count(texts)
    table.number(counted)
    ranks, groups = table.order()
    group = {
        name: groups[ranks[table.find(np.array([feature_hash(name)], np.uint64))[0]]] for name in features(passage)
    }
    assert len(set(group.values())) == 1
    assert groups[ranks[table.find(np.array([feature_hash("fire")], np.uint64))[0]]] not in group.values()
    assert (np.diff(groups.astype(int)) >= 0).all()


def test_a_tail_and_its_levels_hold_the_norm_of_the_whole_row():
    worker = Compiled()
    vectors = vectorise(some_texts(60), worker)
    rows, groups = vectors.rows, vectors.groups
    tails = worker.tails(rows, groups, cuts_of(rows, groups, 0.6), 0.8)
    assert (tails.levels[:, :-1] <= tails.levels[:, 1:]).all()
    for row in range(len(rows)):
        place = slice(tails.bounds[row], tails.bounds[row + 1])
        ranks, weights = tails.ranks[place], tails.weights[place]
        assert (np.diff(ranks.astype(int)) < 0).all()
        above = (weights[ranks >= tails.cuts[0]].astype(float) ** 2).sum()
        assert np.sqrt(rows.squares[row] - above) == pytest.approx(tails.levels[row, 0] / 255, abs=1 / 200)
        assert np.sqrt(rows.squares[row]) <= tails.levels[row, -1] / 255 + 1e-6
