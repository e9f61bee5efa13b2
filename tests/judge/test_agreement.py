from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from safetyqc.judge import agreement
from safetyqc.judge.ratings import ABSENT, FAIL, NA, PASS, UNSCORED, Codes
from safetyqc.results.statistics import cohen_kappa


def column(values: list[int]) -> Codes:
    return np.array(values, np.int8)[:, None]


def two_raters(n: int, seed: int = 0, flips: float = 0.15) -> tuple[Codes, Codes]:
    rng = np.random.default_rng(seed)
    first = (rng.random((n, 1)) < 0.7).astype(np.int8)
    second = np.where(rng.random((n, 1)) < flips, 1 - first, first).astype(np.int8)
    return first, second


def estimate(counts: agreement.Counts, **fields: int):  # type: ignore[no-untyped-def]
    return agreement.kappa_estimate(counts, **{"resamples": 2000, "seed": 0, "confidence": 0.95, **fields})


@pytest.mark.parametrize("seed", range(5))
def test_kappa_equals_scikit_learn_and_the_plain_one(seed: int) -> None:
    first, second = two_raters(200, seed)
    value = estimate(agreement.pair_counts(first, second)).value
    assert value == pytest.approx(cohen_kappa_score(first.ravel(), second.ravel()), abs=1e-12)
    assert value == pytest.approx(cohen_kappa([str(x) for x in first.ravel()], [str(x) for x in second.ravel()]))


def test_only_cells_that_both_scored_are_counted() -> None:
    first = column([PASS, PASS, FAIL, FAIL, UNSCORED, NA, ABSENT, PASS])
    second = column([PASS, FAIL, PASS, FAIL, PASS, PASS, FAIL, UNSCORED])
    assert agreement.pair_counts(first, second).sum(axis=0).tolist() == [1, 1, 1, 1]


def test_the_interval_is_that_of_resampling_rows() -> None:
    first, second = two_raters(150)
    found = estimate(agreement.pair_counts(first, second), resamples=4000)
    rows = np.random.default_rng(1).integers(0, 150, (4000, 150))
    a, b = first.ravel()[rows], second.ravel()[rows]
    observed, passes_a, passes_b = (a == b).mean(axis=1), a.mean(axis=1), b.mean(axis=1)
    expected = passes_a * passes_b + (1 - passes_a) * (1 - passes_b)
    values = (observed - expected) / (1 - expected)
    assert np.quantile(values, [0.025, 0.975]) == pytest.approx([found.low, found.high], abs=0.02)


def test_the_interval_resamples_conversations_not_cells() -> None:
    first, second = two_raters(100)
    once = estimate(agreement.pair_counts(first, second))
    five_times = estimate(agreement.pair_counts(np.tile(first, 5), np.tile(second, 5)))
    assert five_times.value == pytest.approx(once.value)
    assert five_times.high - five_times.low == pytest.approx(once.high - once.low, rel=0.05)


def test_the_interval_covers_the_truth() -> None:
    assert covered(np.array([0.5, 0.1, 0.05, 0.35]), 60, draws=300) >= 0.92


def test_equal_seeds_give_equal_intervals() -> None:
    counts = agreement.pair_counts(*two_raters(80))
    assert estimate(counts, seed=3) == estimate(counts, seed=3)
    assert estimate(counts, seed=3) != estimate(counts, seed=4)


@pytest.mark.parametrize(("n", "low"), [(10, 0.4), (100, 0.9), (1000, 0.99)])
def test_full_agreement_on_few_cells_is_not_certainty(n: int, low: float) -> None:
    same = column([PASS, FAIL] * (n // 2))
    found = estimate(agreement.pair_counts(same, same))
    assert (found.value, found.high) == (1.0, 1.0)
    assert low < found.low < 1


@pytest.mark.parametrize("values", [[], [PASS] * 9, [UNSCORED] * 4])
def test_kappa_of_one_class_or_nothing_is_undefined(values: list[int]) -> None:
    codes = np.array(values, np.int8).reshape(-1, 1)
    assert estimate(agreement.pair_counts(codes, codes)) is None


def test_one_rater_without_variation_has_kappa_nought_and_that_is_not_certain() -> None:
    found = estimate(agreement.pair_counts(column([PASS] * 40), column([PASS] * 38 + [FAIL] * 2)))
    assert found.value == 0.0
    assert found.low < -0.01
    assert found.high > 0.1


@pytest.mark.parametrize(("hit", "rejection"), [(0.98, 0.5), (0.97, 0.97), (0.99, 0.9)])
@pytest.mark.parametrize("n", [30, 50])
def test_the_interval_covers_the_truth_with_few_labels_and_a_high_pass_rate(
    n: int, hit: float, rejection: float
) -> None:
    chances = np.array([0.95 * hit, 0.95 * (1 - hit), 0.05 * (1 - rejection), 0.05 * rejection])
    assert covered(chances, n) >= 0.94


def covered(chances: np.ndarray, n: int, draws: int = 2000) -> float:
    """How often the interval holds the kappa of these chances: every table of n cells once, as often as it is drawn."""
    truth = float(agreement.kappa(chances))
    tables, counts = np.unique(np.random.default_rng(n).multinomial(n, chances, draws), axis=0, return_counts=True)
    held = total = 0
    for table, count in zip(tables, counts, strict=True):
        found = agreement.kappa_estimate(
            np.repeat(np.eye(4, dtype=np.int64), table, axis=0), resamples=300, seed=0, confidence=0.95
        )
        if found:
            held, total = held + count * (found.low <= truth <= found.high), total + count
    return held / total


@pytest.mark.parametrize("tied", [0.0, 0.5, 1.0])
def test_the_interval_of_a_pooled_rate_covers_the_truth_however_tied_its_cells_are(tied: float) -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        one = rng.random((60, 1)) < 0.8
        passed = np.where(rng.random((60, 5)) < tied, one, rng.random((60, 5)) < 0.8).sum(axis=1)
        found = agreement.pass_rate(passed, np.full(60, 5), 0.95)
        assert found is not None
        held += found.low <= 0.8 <= found.high
    assert held / 400 >= 0.92


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, None), (1, 1, 1.0), (5, 5, 1.0), (10, 0, 2 / 2**10), (1, 8, 20 / 2**9)]
)
def test_with_single_cells_the_paired_test_is_mcnemars(first: int, second: int, p: float | None) -> None:
    differences = np.array([1] * first + [-1] * second + [0] * 7, np.int64)
    assert agreement.paired_p(differences) == (None if p is None else pytest.approx(p))


def test_the_paired_test_flips_whole_conversations() -> None:
    differences = np.array([3, 2, -1, 4], np.int64)
    sums = [abs(np.dot(differences, signs)) for signs in product((1, -1), repeat=4)]
    assert agreement.paired_p(differences) == pytest.approx(np.mean([s >= 8 for s in sums]))
    five_times = np.full(9, 5, np.int64)
    assert agreement.paired_p(five_times) == pytest.approx(agreement.paired_p(np.full(9, 1, np.int64)))


def test_alpha_leaves_out_what_only_one_rater_scored() -> None:
    a, b, c = column([PASS, FAIL, PASS, FAIL]), column([PASS, FAIL, FAIL, NA]), column([PASS, UNSCORED, PASS, UNSCORED])
    # by hand: ratings of items 1..3 are PPP, FF, PFP; 8 pairable values, 5 P and 3 F
    observed, expected = (2 * 1 * 2 / 2) / 8, 2 * 5 * 3 / (8 * 7)
    assert agreement.alpha([a, b, c]) == pytest.approx(1 - observed / expected)


@pytest.mark.parametrize("codes", [[column([PASS, FAIL])], [column([PASS]), column([PASS])], [column([NA])] * 2])
def test_alpha_of_one_rater_or_one_class_is_undefined(codes: list[Codes]) -> None:
    assert agreement.alpha(codes) is None


def test_calibration_of_known_probabilities() -> None:
    said = np.array([0.9, 0.9, 0.1, 0.1, np.nan, 0.5])
    truth = np.array([PASS, FAIL, FAIL, FAIL, PASS, NA], np.int8)
    found = agreement.calibration(said, truth)
    assert found is not None
    assert found.n == 4
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert found.ece == pytest.approx((abs(1.8 - 1) + 0.2) / 4)


def test_there_is_no_calibration_without_probabilities() -> None:
    assert agreement.calibration(np.array([np.nan]), np.array([PASS], np.int8)) is None
