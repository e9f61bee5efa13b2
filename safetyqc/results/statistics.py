"""Intervals and agreement from plain counts: what reports and judges both need, without numpy.

Bootstrap, calibration and corrected rates are the judge stage's own business. A share of
nothing is None, never 0, and so is a kappa where both sides used one and the same class only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist


def share(part: float, whole: float) -> float | None:
    """Part of a whole; None of nothing."""
    return part / whole if whole else None


def normal_quantile(confidence: float) -> float:
    """Two-sided quantile of the standard normal: 1.96 for confidence 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(passed: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share by Wilson's score method; (0, 1) when n is 0: nothing is known.

    Neither `passed` nor `n` need be whole, so effective sample sizes work too (Wilson, JASA 1927).
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = normal_quantile(confidence) ** 2
    share = passed / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if passed <= 0 else max(0.0, middle - half)
    return low, 1.0 if passed >= n else min(1.0, middle + half)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Agreement of two raters on the same items, beyond chance: 1 perfect, 0 chance; None when it is undefined.

    Leave unscored items out of both before the call: they are not a class (Cohen, 1960).
    """
    n = len(first)
    if n == 0:
        return None
    one, other = Counter(first), Counter(second)
    expected = sum(one[name] * other[name] for name in one) / (n * n)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    return None if expected == 1 else (observed - expected) / (1 - expected)


def difference_interval(
    passed: float, n: float, passed_before: float, n_before: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of (passed / n) - (passed_before / n_before), two separate samples; (-1, 1) when either is empty.

    Newcombe's hybrid of two Wilson intervals (Statistics in Medicine, 1998, method 10). For the same conversations
    judged twice it is wider than need be.
    """
    if n <= 0 or n_before <= 0:
        return -1.0, 1.0
    share, share_before = passed / n, passed_before / n_before
    low, high = wilson_interval(passed, n, confidence)
    low_before, high_before = wilson_interval(passed_before, n_before, confidence)
    difference = share - share_before
    below = sqrt((share - low) ** 2 + (high_before - share_before) ** 2)
    above = sqrt((high - share) ** 2 + (share_before - low_before) ** 2)
    return difference - below, difference + above


def difference_p(passed: float, n: float, passed_before: float, n_before: float) -> float:
    """Two-sided p-value that two samples have one rate, by inverting `difference_interval`; 1 when one is empty."""
    if n <= 0 or n_before <= 0 or passed * n_before == passed_before * n:
        return 1.0
    excludes, holds = 0.0, 1.0  # confidences at which the interval leaves 0 out, and at which it holds it
    for _ in range(40):
        middle = (excludes + holds) / 2
        low, high = difference_interval(passed, n, passed_before, n_before, middle)
        if low > 0 or high < 0:
            excludes = middle
        else:
            holds = middle
    return 1.0 - excludes


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which p-values are significant when a false one among all of them is to be as rare as `alpha` (Holm, 1979)."""
    significant = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        significant[place] = True
    return significant
