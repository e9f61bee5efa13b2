from __future__ import annotations

import pytest
from sklearn.metrics import cohen_kappa_score

from safetyqc.results.statistics import cohen_kappa, difference_interval, normal_quantile, share, wilson_interval


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_newcombe_1998(passed: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(passed, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_knows_nothing_without_data_and_keeps_the_ends() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


def test_more_confidence_is_a_wider_interval() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959964)
    narrow, wide = wilson_interval(8, 10, 0.5), wilson_interval(8, 10, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("first", "second"), [("ppffp", "pfffp"), ("abcabc", "abcbca"), ("pppf", "fppp")])
def test_kappa_is_scikit_learns(first: str, second: str) -> None:
    assert cohen_kappa(list(first), list(second)) == pytest.approx(cohen_kappa_score(list(first), list(second)))


def test_kappa_of_nothing_or_one_class_is_undefined() -> None:
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["p", "p"], ["p", "p"]) is None


def test_raters_of_different_items_have_no_kappa() -> None:
    with pytest.raises(ValueError, match="shorter"):
        cohen_kappa(["p", "f"], ["p"])


def test_difference_intervals_are_those_of_newcombe_1998() -> None:
    assert difference_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval(1, 1, 0, 0) == (-1.0, 1.0)


def test_a_share_of_nothing_is_none() -> None:
    assert (share(1, 4), share(0, 0)) == (0.25, None)
