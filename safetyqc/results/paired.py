"""The same items before and after -> what changed, with an interval, a p-value, and what could have been seen at all.

Every function takes one value in 0..1 an item and side: 0 or 1 where an item was asked once, its mean where it was
asked several times. The items are the clusters: several answers to one prompt count as what that prompt says, so that
asking a prompt ten times does not make it ten prompts. Plain Python, as `statistics` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, sqrt
from statistics import NormalDist, fmean, variance

from safetyqc.results.statistics import normal_quantile, wilson_interval

POWER = 0.8
"""With which the smallest visible difference would have been found."""
_LEAST_DISCORDANT = 6
"""Fewer items that changed, all the same way, are no significant difference by the exact test."""
_STEPS = 60


@dataclass(frozen=True)
class Table:
    """Items by what they were before and are after: yes both times, only after, only before, never.

    The counts need not be whole: with several answers an item they are scaled so that the difference has the variance
    that the items show, which is how clusters enter a method that was made for counts (an effective sample size).
    """

    both: float
    up: float
    down: float
    neither: float

    @property
    def n(self) -> float:
        """How many items it is worth."""
        return self.both + self.up + self.down + self.neither

    @property
    def difference(self) -> float:
        """After minus before; 0 of nothing."""
        return (self.up - self.down) / self.n if self.n else 0.0

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], between_runs: float = 0.0) -> Table:
        """Count items.

        Args:
            between_runs: variance of the mean difference that comes from other training runs of the same recipe.
        """
        sides = list(zip(before, after, strict=True))
        n, changes = len(sides), [b - a for a, b in sides]
        up, down = sum(d for d in changes if d > 0), -sum(d for d in changes if d < 0)
        both = sum(min(a, b) for a, b in sides)
        scale = 1.0
        if n > 1 and (between_runs or any(d not in (-1, 0, 1) for d in changes)):
            found = variance(changes) / n + between_runs
            as_counts = (up + down - (up - down) ** 2 / n) / n**2
            scale = as_counts / found if found and as_counts else 1.0
        return cls(both * scale, up * scale, down * scale, max(n - both - up - down, 0.0) * scale)


def newcombe_interval(table: Table, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two paired shares; (-1, 1) without items.

    Newcombe's method 10: Wilson's intervals of both shares, joined with their correlation (Statistics in Medicine,
    1998), which held the truth more often than Tango's in `benchmarks/paired_coverage.py`.
    """
    n = table.n
    if n <= 0:
        return -1.0, 1.0
    now, then = table.both + table.up, table.both + table.down
    (low, high), (low_before, high_before) = wilson_interval(now, n, confidence), wilson_interval(then, n, confidence)
    after, before = now / n, then / n
    cells = now * (table.down + table.neither) * then * (table.up + table.neither)
    agreement = table.both * table.neither - table.up * table.down
    if agreement > 0:
        agreement = max(agreement - n / 2, 0.0)
    phi = agreement / sqrt(cells) if cells > 0 else 0.0
    below = _joined(after - low, high_before - before, phi)
    above = _joined(high - after, before - low_before, phi)
    return max(after - before - below, -1.0), min(after - before + above, 1.0)


def _joined(one: float, other: float, phi: float) -> float:
    return sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))


def mcnemar_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Two-sided exact p-value of as many rises as falls; an item counts by the sign of its change."""
    up = sum(b > a for a, b in zip(before, after, strict=True))
    down = sum(b < a for a, b in zip(before, after, strict=True))
    n = up + down
    tail = sum(comb(n, k) for k in range(min(up, down) + 1)) / (1 << n)
    return min(1.0, 2 * tail)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values that stay honest when all of them are looked at (Holm, 1979)."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


def smallest_visible(table: Table, confidence: float = 0.95) -> float:
    """The smallest true difference that would be found with 80% power at this many items.

    Supposes that as many items change as did here, and no fewer than the difference asks for (Connor, Biometrics 1987);
    never below what the exact test needs.
    """
    n = table.n
    if n < _LEAST_DISCORDANT:
        return 1.0
    error, power = normal_quantile(confidence), NormalDist().inv_cdf(POWER)
    changing = (table.up + table.down) / n

    def is_seen(difference: float) -> bool:
        moving = max(changing, difference)
        needed = (error * sqrt(moving) + power * sqrt(max(moving - difference**2, 0.0))) ** 2
        return needed <= n * difference**2

    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return max(high, _LEAST_DISCORDANT / ceil(n))


def share_interval(values: Sequence[float], between_runs: float = 0.0) -> tuple[float, float]:
    """Wilson's interval of a mean of shares, at the sample size that their spread is worth; (0, 1) of nothing."""
    n = len(values)
    if n == 0:
        return 0.0, 1.0
    mean = fmean(values)
    if n < 2 or (all(v in (0, 1) for v in values) and not between_runs):
        return wilson_interval(sum(values), n)
    found = variance(values) / n + between_runs
    effective = mean * (1 - mean) / found if found > 0 and 0 < mean < 1 else n
    return wilson_interval(mean * effective, effective)
