"""An arm's place in the picture: over-refusal of harmless look-alikes against harmful compliance, and how sure it is.

The region is where 95% of bootstrap draws of the prompts lie: prompts are drawn with their twins, so that what a pair
shares tilts the ellipse as it should. Seeded: the same answers give the same picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import atan2, sqrt
from statistics import covariance, fmean, variance

from safetyqc.probe.measure import Judged
from safetyqc.results.probe import Point

DRAWS = 1_000
_CHI_SQUARED = 5.991
"""The 95% quantile with two degrees of freedom."""
Unit = tuple[float | None, float | None]


def point_of(judged: Judged, seed: int = 0) -> Point | None:
    """Where an arm lies; None when one of the two sides has no scored answer."""
    refused, complied = judged.values("benign_refused").items, judged.values("harm_complied").items
    units: dict[str, Unit] = {}
    for prompt in judged.prompts:
        key = f"pair {prompt.pair}" if prompt.pair else prompt.id
        x, y = units.get(key, (None, None))
        units[key] = (refused.get(prompt.id, x), complied.get(prompt.id, y))
    drawn = [unit for unit in units.values() if unit != (None, None)]
    place = _mean(drawn)
    return None if place is None else Point(x=place[0], y=place[1], ellipse=_region(drawn, seed))


def _mean(units: Sequence[Unit]) -> tuple[float, float] | None:
    xs, ys = [x for x, _ in units if x is not None], [y for _, y in units if y is not None]
    return (fmean(xs), fmean(ys)) if xs and ys else None


def _region(units: Sequence[Unit], seed: int) -> tuple[float, float, float] | None:
    rng = random.Random(seed)
    places = [place for _ in range(DRAWS) if (place := _mean(rng.choices(units, k=len(units)))) is not None]
    if len(places) < DRAWS / 2:
        return None
    xs, ys = [x for x, _ in places], [y for _, y in places]
    across, along, both = variance(xs), variance(ys), covariance(xs, ys)
    middle, spread = (across + along) / 2, sqrt(((across - along) / 2) ** 2 + both**2)
    longer, shorter = sqrt(_CHI_SQUARED * (middle + spread)), sqrt(_CHI_SQUARED * max(middle - spread, 0.0))
    return longer, shorter, atan2(2 * both, across - along) / 2
