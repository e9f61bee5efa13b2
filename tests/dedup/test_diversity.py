import math
from types import SimpleNamespace

import numpy as np
import pytest

from safetyqc.dedup import find_pairs
from safetyqc.dedup.diversity import (
    distinct_share,
    measure_diversity,
    measure_nearness,
)
from safetyqc.dedup.diversity import effective_number as effective_number_of
from tests.dedup.test_groups import CHINESE, ENGLISH, conversation


def nearest_bins(nearest, *, found_from, min_similarity):
    pairs = SimpleNamespace(nearest=lambda: np.array(nearest), min_similarity=found_from)
    return measure_nearness(pairs, min_similarity, ["a"], [0] * len(nearest)).bins


def effective_number(texts):
    return effective_number_of(find_pairs(texts, 0.3), range(len(texts)))


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


def test_how_near_each_is_to_its_nearest_is_told_for_all_and_by_category():
    items = [
        conversation("a", CHINESE[0], category="calm"),
        conversation("b", CHINESE[0], category="calm"),
        conversation("c", ENGLISH[0], "is there any cheese", category="food"),
        conversation("d", ENGLISH[1], "how do I get home"),
    ]
    figures = measure_diversity(items)
    assert figures.nearest == (0.0, 0.0, 1.0, 1.0, 1.0)
    assert {name: (c.conversations, c.nearest) for name, c in figures.categories.items()} == {
        "calm": (2, (1.0,) * 5),
        "food": (1, (0.0,) * 5),
    }
    assert figures.categories["calm"].effective_intents == pytest.approx(1.0)
    assert figures.effective_intents > 2.5
    assert figures.categories["calm"].distinct_2 < figures.categories["food"].distinct_2


def test_a_large_set_is_measured_on_a_sample():
    items = [conversation(str(n), f"{ENGLISH[n % 3]} {n}") for n in range(100)]
    assert (measure_diversity(items, most=30).measured, measure_diversity(items).measured) == (30, 100)


def test_an_empty_set_has_figures():
    figures = measure_diversity([])
    assert (figures.conversations, figures.effective_intents, figures.opening_share) == (0, 0.0, 0.0)
    assert figures.nearest == ()


def test_bins_count_everything_once_and_are_cut_at_the_threshold():
    bins = nearest_bins([0.0, 0.7, 0.72, 0.81, 0.82, 0.949999, 0.95, 1.0, 1.0], found_from=0.7, min_similarity=0.82)
    assert [(b.low, b.high, b.count) for b in bins] == [
        (0.0, 0.7, 1), (0.7, 0.75, 2), (0.75, 0.8, 0), (0.8, 0.82, 1), (0.82, 0.85, 1), (0.85, 0.9, 0),
        (0.9, 0.95, 1), (0.95, 1.0, 1), (1.0, 1.0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("found_from", "min_similarity"), [(0.6, 0.75), (0.3, 0.3), (1.0, 1.0), (0.001, 0.5)])
def test_bins_follow_each_other_from_nothing_to_copies(found_from, min_similarity):
    bins = nearest_bins([1.0, 0.0], found_from=found_from, min_similarity=min_similarity)
    assert (bins[0].low, bins[-1].low, bins[-1].high) == (0.0, 1.0, 1.0)
    assert [b.high for b in bins[:-1]] == [b.low for b in bins[1:]]
    assert min_similarity in [b.low for b in bins]
    assert sum(b.count for b in bins) == 2


@pytest.mark.parametrize("count", [4_000, 4_500, 17_000])
def test_of_many_conversations_each_category_gives_its_share_at_random(count, monkeypatch):
    monkeypatch.setattr("safetyqc.dedup.search.find_pairs", lambda texts, least: find_pairs([""] * len(texts), least))
    items = [conversation(str(n), f"w{n}", category=f"category {n % 9}") for n in range(count)]
    figures = measure_diversity(items, most=500)
    sizes = [category.conversations for category in figures.categories.values()]
    assert len(sizes) == 9
    assert max(sizes) - min(sizes) <= 1
    assert 500 <= figures.measured <= 509
    assert measure_diversity(items, most=500) == figures
