from __future__ import annotations

import random

import pytest

from safetyqc.results.paired import (
    Table,
    holm_adjusted,
    mcnemar_p,
    newcombe_interval,
    share_interval,
    smallest_visible,
)


def test_the_published_example_of_newcombe() -> None:
    """Newcombe 1998, table II: 36, 12, 2, 0 of 50."""
    assert newcombe_interval(Table(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_no_items_say_nothing() -> None:
    assert newcombe_interval(Table(0, 0, 0, 0)) == (-1.0, 1.0)
    assert smallest_visible(Table.of([], [])) == 1.0
    assert share_interval([]) == (0.0, 1.0)


def test_turning_time_round_turns_the_interval_round() -> None:
    low, high = newcombe_interval(Table(20, 12, 2, 16))
    assert newcombe_interval(Table(20, 2, 12, 16)) == pytest.approx((-high, -low), abs=1e-9)


def test_exact_p_by_hand() -> None:
    before, after = [0.0] * 9 + [1.0], [1.0] * 9 + [0.0]
    assert mcnemar_p(before, after) == pytest.approx(22 / 1024)
    assert mcnemar_p([1.0] * 5, [1.0] * 5) == 1.0


def test_holm_keeps_the_order_and_never_falls() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_asking_every_prompt_ten_times_is_not_ten_times_as_many_prompts() -> None:
    before, after = [0.0] * 30 + [1.0] * 10, [0.0] * 22 + [1.0] * 18
    once = newcombe_interval(Table.of(before, after))
    blown_up = newcombe_interval(Table.of(before * 10, after * 10))
    rng = random.Random(1)
    noisy = [min(max(b + rng.choice((-0.1, 0.0, 0.1)), 0.0), 1.0) for b in after]
    repeated = newcombe_interval(Table.of(before, noisy))
    assert once[1] - once[0] > 2.5 * (blown_up[1] - blown_up[0])
    assert repeated[1] - repeated[0] == pytest.approx(once[1] - once[0], rel=0.25)


def test_other_training_runs_widen_the_interval() -> None:
    before, after = [0.0] * 40, [1.0] * 10 + [0.0] * 30
    alone = newcombe_interval(Table.of(before, after))
    several = newcombe_interval(Table.of(before, after, between_runs=0.01))
    assert several[0] < alone[0]
    assert several[1] > alone[1]


@pytest.mark.parametrize(("up", "down", "n"), [(6, 4, 60), (0, 0, 60), (20, 5, 90), (1, 0, 8)])
def test_the_smallest_visible_difference_shrinks_with_more_prompts(up: int, down: int, n: int) -> None:
    assert (
        0
        < smallest_visible(Table(0, 4 * up, 4 * down, 4 * (n - up - down)))
        < smallest_visible(Table(0, up, down, n - up - down))
        <= 1
    )


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.5, 0.7), (0.9, 0.5), (0.02, 0.0)])
def test_intervals_hold_the_truth(rates: tuple[float, float]) -> None:
    """A small, seeded share of benchmarks/paired_coverage.py."""
    rng, n, draws = random.Random(7), 60, 300
    held = 0
    for _ in range(draws):
        pairs = [(rng.random(), rng.random()) for _ in range(n)]
        before = [float(a < rates[0]) for a, _ in pairs]
        after = [float((a if b < 0.5 else rng.random()) < rates[1]) for a, b in pairs]
        low, high = newcombe_interval(Table.of(before, after))
        held += low <= rates[1] - rates[0] <= high
    assert held >= 0.92 * draws
