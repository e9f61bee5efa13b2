"""Measure what a planned draw of labels is worth: `python benchmarks/label_plans.py [DRAWS]`.

By simulation, 1,000 conversations a set: a third of the labels is drawn by what is assumed, the plan is made again with
what they taught, and the draw extended to its size, as people do it with `safetyqc label plan`. How often the 95%
interval holds the rate, and how many labels it takes for the width that as many drawn evenly give: by themselves
(Wilson), and with the same corrections.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import numpy.typing as npt

from safetyqc.judge.corrected import stratified_rates
from safetyqc.results.statistics import wilson_interval
from safetyqc.review.allocation import Goal, Problem, fractions, of_total
from safetyqc.review.cells import Words

N = 1000
WORDS = ("fail", "fail, unsure", "pass", "pass, unsure")
RATES, JUDGES = (0.5, 0.8, 0.95, 0.99), ((0.97, 0.97), (0.9, 0.7), (0.98, 0.5))
NA = ((0.0, 0.0), (0.3, 0.0), (0.5, 0.05), (0.0, 0.3))
"""Of what the judge fails, and of what it passes, the share that people call not applicable."""
UNSURE = {"tells nothing": (0.0, 0.0), "tells something": (0.15, 0.6)}
"""Of right and of wrong verdicts, how many the judge is unsure of."""
OUTCOMES = ("pass", "fail", "na")
Ints = npt.NDArray[np.int64]


def world(
    rng: np.random.Generator, rate: float, judge: tuple[float, float], na_of: tuple[float, float], unsure: str
) -> tuple[Ints, Ints, float]:
    """Each conversation's word and what people say of it, in an order that chance made; and the true rate."""
    (hit, rejection), (na_fails, na_passes) = judge, na_of
    truth = rng.random(N) < rate
    said = np.where(truth, rng.random(N) < hit, rng.random(N) >= rejection)
    na = rng.random(N) < np.where(said, na_passes, na_fails)
    of_right, of_wrong = UNSURE[unsure]
    doubted = rng.random(N) < np.where(said == truth, of_right, of_wrong)
    passing = rate * (hit * (1 - na_passes) + (1 - hit) * (1 - na_fails))
    failing = (1 - rate) * ((1 - rejection) * (1 - na_passes) + rejection * (1 - na_fails))
    return 2 * said + doubted, np.where(na, 2, np.where(truth, 0, 1)), passing / (passing + failing)


def planned(words: Ints, people: Ints, labels: int) -> Ints:
    """Labels by word and outcome: a third drawn by what is assumed, the rest by what these have shown."""
    sizes = np.bincount(words, minlength=len(WORDS))
    there = np.flatnonzero(sizes)
    told: dict[tuple[str, str], Counter[str]] = {}
    counts = np.zeros(len(there), np.int64)
    for total in (labels // 3, labels):
        known = Words(("x",), {}, told)
        chances = np.array([known.chance("x", WORDS[w]) for w in there])
        goal = Goal(np.ones(len(there), np.bool_), (there >= 2).astype(np.int64), chances)
        problem = Problem(sizes[there], np.arange(len(there)), [goal])
        counts = of_total(problem, fractions(problem.sizes, problem.goals), total, counts)
        given = {w: np.bincount(people[words == w][:n], minlength=3) for w, n in zip(there, counts, strict=True)}
        told = {("x", WORDS[w]): Counter(dict(zip(OUTCOMES, map(int, n), strict=True))) for w, n in given.items()}
    return np.array([given.get(w, np.zeros(3, np.int64)) for w in range(len(WORDS))])


def evenly(words: Ints, people: Ints, labels: int) -> Ints:
    """Labels by word and outcome of the first so many."""
    return np.bincount(3 * words[:labels] + people[:labels], minlength=3 * len(WORDS)).reshape(len(WORDS), 3)


def measure(sets: list[tuple[Ints, Ints, float]], labels: int, *, plan: bool) -> tuple[float, float]:
    """How often the interval holds the rate, and its mean width."""
    give = planned if plan else evenly
    labelled = np.array([give(words, people, labels) for words, people, _ in sets])
    sizes = np.array([np.bincount(words, minlength=len(WORDS)) for words, _, _ in sets])
    _, low, high = stratified_rates(labelled, sizes)
    truth = sets[0][2]
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def alone(sets: list[tuple[Ints, Ints, float]], labels: int) -> float:
    """Mean width of Wilson's interval of labels drawn evenly."""
    counts = [np.bincount(people[:labels], minlength=3) for _, people, _ in sets]
    intervals = [wilson_interval(int(c[0]), int(c[:2].sum())) for c in counts]
    return float(np.mean([high - low for low, high in intervals]))


def needed(sets: list[tuple[Ints, Ints, float]], width: float, most: int) -> int:
    """The fewest planned labels that give such a width, to a fiftieth of `most`."""
    low, high = most // 10, 2 * most
    while high - low > max(1, most // 50):
        middle = (low + high) // 2
        if measure(sets, middle, plan=True)[1] <= width:
            high = middle
        else:
            low = middle
    return high


def main(draws: int) -> None:
    coverage(draws)
    savings(max(draws // 5, 50))


def coverage(draws: int) -> None:
    print(f"coverage of 95% intervals from planned draws that were continued once, {draws} sets of each setting")
    found = []
    for number, (rate, judge, na_of, unsure) in enumerate(
        (r, j, na, u) for r in RATES for j in JUDGES for na in NA for u in UNSURE
    ):
        rng = np.random.default_rng(number)
        sets = [world(rng, rate, judge, na_of, unsure) for _ in range(draws)]
        for labels in (60, 150):
            held, _ = measure(sets, labels, plan=True)
            found.append((held, f"rate {rate:.2f} judge {judge} na {na_of} unsure {unsure} labels {labels}"))
    shares = np.array([held for held, _ in found])
    below = int((shares < 0.93).sum())
    print(f"  {len(found)} settings: lowest {shares.min():.1%}, median {np.median(shares):.1%}, {below} below 93%")
    for held, what in sorted(found)[:5]:
        print(f"    {held:.1%} {what}")


def savings(draws: int) -> None:
    print(f"labels needed beside those drawn evenly, for the same mean width, {draws} sets of each setting")
    ratios: dict[str, list[float]] = {"alone": [], **{f"corrected, unsure {u}": [] for u in UNSURE}}
    for number, (rate, judge, unsure) in enumerate((r, j, u) for r in RATES for j in JUDGES for u in UNSURE):
        rng = np.random.default_rng(1000 + number)
        sets = [world(rng, rate, judge, (0.0, 0.0), unsure) for _ in range(draws)]
        for labels in (100,):
            beside_alone = needed(sets, alone(sets, labels), labels) / labels
            beside_corrected = needed(sets, measure(sets, labels, plan=False)[1], labels) / labels
            ratios["alone"].append(beside_alone)
            ratios[f"corrected, unsure {unsure}"].append(beside_corrected)
            what = f"rate {rate:.2f} judge {judge} unsure {unsure} labels {labels}"
            print(f"    {what}: {beside_alone:.2f} of the labels alone, {beside_corrected:.2f} of the same corrections")
    for name, values in ratios.items():
        few = int((np.array(values) <= 0.75).sum())
        print(
            f"  {name}: median {np.median(values):.2f}, highest {max(values):.2f}, {few} of {len(values)} at most 0.75"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
