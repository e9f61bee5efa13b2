"""Block by block the same pairs are found as in one join, wherever calls run and in whatever order they end."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from safetyqc.dedup import blocks, find_pairs
from safetyqc.dedup.blocks import Frame
from safetyqc.dedup.pairs import Measure, Pairs
from safetyqc.dedup.rows import Found
from safetyqc.errors import UserError
from tests.dedup.test_pairs import recombined

pytestmark = pytest.mark.compiled

TEXTS = [*recombined(230, seed=3), "🙂", "🙂", "", "the same answer again", "The same answer, again!"]


class Elsewhere:
    """Runs calls at once, on copies that cannot be written, as in memory that processes share; the last ends first."""

    def __init__(self, size: int) -> None:
        self.size, self.calls = size, list[str]()

    def put(self, value: Any) -> Any:
        held = pickle.loads(pickle.dumps(value))
        freeze(held)
        return held

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.calls.append(function.__name__)
        return self.put(pickle.loads(pickle.dumps(function))(*arguments))

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        yield from reversed(calls)


def freeze(value: Any) -> None:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    for part in vars(value).values() if hasattr(value, "__dict__") else ():
        freeze(part)


def assert_same(one: Pairs, other: Pairs) -> None:
    for column in ("same_as", "left", "right", "similarity"):
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"analyzer": "char", "weights": "tf"},
        {"apart": 60},
        {"known": 190},
        {"known": 200},
        {"apart": 11},
        {"memory_mb": 64},
    ],
    ids=str,
)
def test_the_union_of_blocks_is_what_one_join_finds_to_the_last_bit(options: dict[str, Any], size: int) -> None:
    spread = Elsewhere(size)
    whole = find_pairs(TEXTS, 0.3, backend="compiled", **options)
    assert len(whole)
    assert_same(find_pairs(TEXTS, 0.3, spread=spread, **options), whole)
    assert options or spread.calls.count("near") >= 4 * size


@pytest.mark.parametrize("texts", [[], [""], ["one"], ["one", "one"]])
def test_nothing_to_compare_is_no_pair(texts: list[str]) -> None:
    assert len(find_pairs(texts, 0.5, spread=Elsewhere(2))) == 0


def test_more_pairs_than_memory_holds_are_refused_as_in_one_join() -> None:
    alike = [f"the same words all over again and again but for number {n}" for n in range(300)]
    with pytest.raises(UserError, match="pairs reach a similarity"):
        find_pairs(alike, 0.5, weights="tf", spread=Elsewhere(2), memory_mb=1)


def test_every_pair_of_blocks_meets_once_and_long_calls_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[int, int]] = []

    def near(_: Frame, indexed: Any, probing: Any) -> Found:
        met.append((indexed.first, probing.first))
        return Found.joined([])

    class Here(Elsewhere):
        def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

    monkeypatch.setattr(blocks, "near", near)
    blocks.search(TEXTS, Measure(0.5), Here(2))
    starts = sorted({first for pair in met for first in pair})
    assert sorted(met) == [(a, b) for a in starts for b in starts if a <= b]
    assert [a == b for a, b in met] == sorted(a == b for a, b in met)
