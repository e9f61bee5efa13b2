"""What `benchmarks/label_plans.py` measures over many settings, for one: coverage, and labels saved."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "label_plans.py"))
SETS = 100


@pytest.mark.parametrize(("rate", "judge", "share"), [(0.8, (0.9, 0.7), 0.75), (0.95, (0.98, 0.5), 0.75)])
def test_planned_draws_that_are_continued_cover_the_rate_with_fewer_labels(
    rate: float, judge: tuple[float, float], share: float
) -> None:
    rng = np.random.default_rng(4)
    sets = [BENCHMARK["world"](rng, rate, judge, (0.0, 0.0), "tells something") for _ in range(SETS)]
    held, width = BENCHMARK["measure"](sets, int(100 * share), plan=True)
    assert held >= 0.93
    assert width <= BENCHMARK["alone"](sets, 100)
