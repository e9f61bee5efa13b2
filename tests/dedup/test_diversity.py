import math

import pytest

from safetyqc.dedup import find_pairs
from safetyqc.dedup.diversity import (
    distinct_share,
    effective_number,
    measure_diversity,
    nearest_histogram,
)
from tests.dedup.test_groups import CHINESE, ENGLISH, conversation


@pytest.mark.parametrize(
    ("texts", "n", "share"),
    [([["a", "b", "a"], ["b"]], 1, 0.5), ([["a", "b", "a"], ["a", "b"]], 2, 2 / 3), ([], 1, 0.0), ([["a"]], 2, 0.0)],
)
def test_distinct_share(texts, n, share):
    assert distinct_share(texts, n) == pytest.approx(share)


def test_effective_number_of_different_texts_is_their_number_and_of_copies_one():
    assert effective_number(ENGLISH + CHINESE) == pytest.approx(6.0)
    assert effective_number(ENGLISH[:1] * 50) == pytest.approx(1.0)
    assert effective_number([]) == 0.0


def test_effective_number_of_uneven_copies_is_the_exponential_of_entropy():
    texts = [ENGLISH[0]] * 3 + [CHINESE[0]]
    assert effective_number(texts) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_variants_count_as_less_than_different_texts_and_more_than_copies():
    requests = ["How do I pick the lock of my own front door?", "how do I pick the lock of my front door"]
    assert 1.01 < effective_number(requests) < 1.6


def test_collapsed_openings_and_repeated_requests_show():
    stock = "I'm sorry, but I can't help with that. "
    collapsed = [conversation(str(n), stock + text, "the same request every time") for n, text in enumerate(ENGLISH)]
    varied = [conversation(str(n), text, f"{text[5:60]}") for n, text in enumerate(ENGLISH)]
    bad, good = measure_diversity(collapsed), measure_diversity(varied)
    assert bad.opening.startswith("i'm sorry")
    assert (bad.opening_share, bad.effective_intents) == (1.0, pytest.approx(1.0))
    assert good.opening_share == pytest.approx(1 / 3)
    assert good.effective_intents == pytest.approx(3.0)
    assert good.distinct_2 > bad.distinct_2


def test_mean_nearest_comes_from_the_pairs():
    items = [conversation(str(n), text) for n, text in enumerate([CHINESE[0], CHINESE[0], ENGLISH[0]])]
    pairs = find_pairs([CHINESE[0], CHINESE[0], ENGLISH[0]], 0.5)
    assert measure_diversity(items, pairs=pairs).mean_nearest == pytest.approx(2 / 3)
    assert measure_diversity(items).mean_nearest is None


def test_an_empty_set_has_figures():
    figures = measure_diversity([])
    assert (figures.conversations, figures.effective_intents, figures.opening_share) == (0, 0.0, 0.0)


def test_histogram_counts_everything_once_and_marks_what_is_below():
    bins = nearest_histogram([0.0, 0.5, 0.54, 0.7, 0.999, 1.0], low=0.5, bins=5)
    assert [(round(b.low, 2), round(b.high, 2), b.count) for b in bins] == [
        (0.0, 0.5, 1), (0.5, 0.6, 2), (0.6, 0.7, 0), (0.7, 0.8, 1), (0.8, 0.9, 0), (0.9, 1.0, 2),
    ]  # fmt: skip
