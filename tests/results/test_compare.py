from __future__ import annotations

import pytest

from safetyqc.results.compare import Estimate


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((0.1, 0.3), (0.2, 0.4), True),
        ((0.1, 0.3), (0.3, 0.4), True),
        ((0.1, 0.3), (0.31, 0.4), False),
        ((0.1, 0.9), (0.3, 0.4), True),
    ],
)
def test_intervals_overlap_when_they_share_a_point(
    first: tuple[float, float], second: tuple[float, float], overlap: bool
) -> None:
    one, other = (Estimate(value=low, low=low, high=high) for low, high in (first, second))
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap
