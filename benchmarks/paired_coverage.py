"""How often the paired intervals hold the truth, by simulation: the claim of docs/probe.md.

    python benchmarks/paired_coverage.py [DRAWS]

Prompts are drawn with rates before and after and with how far the two go together; then the same with several samples
a prompt, whose own rates differ, and with several training runs. Seeded: equal calls print equal figures.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from itertools import product
from math import sqrt

from safetyqc.results.paired import Table, newcombe_interval
from safetyqc.results.statistics import normal_quantile

SIZES = (30, 60, 90, 150)
RATES = ((0.1, 0.1), (0.5, 0.5), (0.5, 0.7), (0.2, 0.5), (0.9, 0.8), (0.02, 0.1), (0.0, 0.2))
TOGETHER = (0.0, 0.5, 0.9)
FLOOR = 0.93
STEPS = 60


def tango_interval(table: Table, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two paired shares; (-1, 1) without items.

    Holds every difference that Tango's score test does not reject (Statistics in Medicine, 1998); narrower than
    Newcombe's, and with 30 items now and then too narrow.
    """
    if table.n <= 0:
        return -1.0, 1.0
    quantile, middle = normal_quantile(confidence), table.difference
    return (
        edge(lambda d: tango(table, d) <= quantile, middle, -1.0),
        edge(lambda d: tango(table, d) >= -quantile, middle, 1.0),
    )


def tango(table: Table, difference: float) -> float:
    """The score statistic of a supposed difference."""
    n, up, down = table.n, table.up, table.down
    linear = -up - down + (2 * n - up + down) * difference
    constant = -down * difference * (1 - difference)
    other = (sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
    spread = n * (2 * other + difference * (1 - difference))
    distance = up - down - n * difference
    if spread <= 1e-12:
        return 0.0 if abs(distance) < 1e-12 else float("inf") * distance
    return distance / sqrt(spread)


def edge(inside: Callable[[float], bool], start: float, end: float) -> float:
    """The last value on the way from `start` to `end` that is still inside, by bisection."""
    if inside(end):
        return end
    for _ in range(STEPS):
        middle = (start + end) / 2
        if inside(middle):
            start = middle
        else:
            end = middle
    return start


def pairs(rng: random.Random, n: int, rates: tuple[float, float], together: float) -> Iterator[tuple[float, float]]:
    for _ in range(n):
        shared = rng.random()
        other = shared if rng.random() < together else rng.random()
        yield float(shared < rates[0]), float(other < rates[1])


def once(rng: random.Random, draws: int) -> tuple[float, float]:
    """The lowest coverage of Newcombe's and of Tango's interval over all settings."""
    lowest = [1.0, 1.0]
    for n, rates, together in product(SIZES, RATES, TOGETHER):
        truth, held = rates[1] - rates[0], [0, 0]
        for _ in range(draws):
            table = Table.of(*zip(*pairs(rng, n, rates, together), strict=True))
            for place, (low, high) in enumerate((newcombe_interval(table), tango_interval(table))):
                held[place] += low - 1e-9 <= truth <= high + 1e-9
        shares = [count / draws for count in held]
        print(f"n {n:4d}  rates {rates}  together {together:.1f}   Newcombe {shares[0]:.3f}  Tango {shares[1]:.3f}")
        lowest = [min(a, b) for a, b in zip(lowest, shares, strict=True)]
    return lowest[0], lowest[1]


def clustered(rng: random.Random, draws: int) -> float:
    """The lowest coverage with several samples a prompt: each prompt has rates of its own."""
    lowest = 1.0
    for n, samples, (before, after), spread in product((60, 90), (3, 5), ((0.5, 0.5), (0.3, 0.6)), (0.5, 4.0)):
        held = 0
        for _ in range(draws):
            first, last = [], []
            for _ in range(n):
                rate = rng.betavariate(spread * before, spread * (1 - before))
                later = rng.betavariate(spread * after, spread * (1 - after))
                first.append(sum(rng.random() < rate for _ in range(samples)) / samples)
                last.append(sum(rng.random() < later for _ in range(samples)) / samples)
            low, high = newcombe_interval(Table.of(first, last))
            held += low <= after - before <= high
        share = held / draws
        print(f"n {n:4d}  {samples} samples  rates {before, after}  spread {spread}   Newcombe {share:.3f}")
        lowest = min(lowest, share)
    return lowest


def main(draws: int) -> None:
    rng = random.Random(20250101)
    newcombe, tango = once(rng, draws)
    several = clustered(rng, draws)
    print(f"lowest: Newcombe {newcombe:.3f}, Tango {tango:.3f}; Newcombe with samples as clusters {several:.3f}")
    if min(newcombe, several) < FLOOR:
        raise SystemExit(f"below {FLOOR}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
