"""Measure what a planned draw of labels is worth: `python benchmarks/label_plans.py [DRAWS]`.

By simulation, 1,000 conversations a set: a third of the labels is drawn by what is assumed, the plan is made again with
what they taught, and the draw extended to its size, as people do it with `safetyqc label plan`. How often the 95%
interval holds the rate, of one criterion and of three in every category; and how many labels it takes for the width
that as many drawn evenly give by themselves (Wilson), beside an even draw with the same corrections, and the best
possible draw: Neyman's, by somebody who knows how often the judge is wrong, and labels so many that only the variance
counts.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from safetyqc.judge.corrected import Drawn, corrected_rates, stratified_rates
from safetyqc.judge.ratings import FAIL, PASS, Ratings
from safetyqc.results.statistics import wilson_interval
from safetyqc.review import allocation
from safetyqc.review.allocation import Goal, Problem, fractions
from safetyqc.review.cells import Words
from safetyqc.review.draws import Draw
from safetyqc.review.plan import Population

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
        drawn = fractions(problem.sizes, problem.goals)
        counts = allocation.best_allocation(problem, drawn, counts, half_width=None, labels=total)[1]
        given = {int(w): np.bincount(people[words == w][:n], minlength=3) for w, n in zip(there, counts, strict=True)}
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


def needed(sets: list[tuple[Ints, Ints, float]], width: float, labels: int, *, plan: bool) -> float:
    """Labels that give such a width: by the power law through the widths of two numbers of labels near it."""
    first = int(0.7 * labels)
    of_first = measure(sets, first, plan=plan)[1]
    second = min(max(round(first * (of_first / width) ** 2), labels // 10), N)
    if second == first:
        return float(first)
    of_second = measure(sets, second, plan=plan)[1]
    power = np.log(of_second / of_first) / np.log(second / first)
    return float(second * (width / of_second) ** (1 / power))


def best_possible(rate: float, judge: tuple[float, float], unsure: str, labels: int) -> float:
    """Labels of the best draw for the variance of so many drawn evenly, beside them."""
    (hit, rejection), (of_right, of_wrong) = judge, UNSURE[unsure]
    passing = rate * np.array([(1 - hit) * (1 - of_wrong), (1 - hit) * of_wrong, hit * (1 - of_right), hit * of_right])
    failing = np.array([rejection * (1 - of_right), rejection * of_right, (1 - rejection) * (1 - of_wrong)])
    failing = (1 - rate) * np.append(failing, (1 - rejection) * of_wrong)
    weights = passing + failing
    shares = passing / np.maximum(weights, 1e-12)
    aimed = rate * (1 - rate) / labels - float(weights @ (shares - rate) ** 2) / N
    return float(weights @ np.sqrt(shares * (1 - shares))) ** 2 / aimed / labels


def main(draws: int) -> None:
    coverage(draws)
    together(max(draws // 3, 50))
    savings(max(draws // 3, 50))


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
    tell(found)


def tell(found: list[tuple[float, str]]) -> None:
    shares = np.array([held for held, _ in found])
    below = int((shares < 0.93).sum())
    print(f"  {len(found)} settings: lowest {shares.min():.1%}, median {np.median(shares):.1%}, {below} below 93%")
    for held, what in sorted(found)[:5]:
        print(f"    {held:.1%} {what}")


def together(draws: int) -> None:
    """Three criteria labelled at once, with and without the rates of every category."""
    print(f"coverage where three criteria are labelled at once, {draws} sets of each setting")
    held: dict[str, list[bool]] = {}
    for number, (judge, by) in enumerate((j, by) for j in JUDGES for by in (None, "category")):
        rng = np.random.default_rng(5000 + number)
        for _ in range(draws):
            for name, is_in in of_three(rng, judge, by):
                held.setdefault(f"judge {judge} by {by} {name}", []).append(is_in)
    tell([(float(np.mean(hits)), what) for what, hits in held.items()])


TOGETHER = {"a": 0.8, "b": 0.95, "c": 0.98}
"""Pass rates of the criteria that are labelled together."""


def of_three(rng: np.random.Generator, judge: tuple[float, float], by: str | None) -> list[tuple[str, bool]]:
    """Draw, label, plan again, label, correct: of each rate whether its interval holds it."""
    drawn = {c: world(rng, rate, judge, (0.0, 0.0), "tells something") for c, rate in TOGETHER.items()}
    ids, criteria = [f"{n:04d}" for n in range(N)], tuple(TOGETHER)
    said = {i: tuple(WORDS[drawn[c][0][n]] for c in criteria) for n, i in enumerate(ids)}
    categories = {i: "xyz"[n % 3] for n, i in enumerate(ids)}
    groups: dict[str, str | None] = {**categories} if by else dict.fromkeys(ids)
    draw = Draw(id="plan-1", criteria=criteria, by=by, seed=int(rng.integers(2**31)))
    told: dict[tuple[str, str], Counter[str]] = {}
    for total in (80, 240):
        population = Population(Words(criteria, said, told), groups, categories, "j", {}, 0)
        draw, cells = population.drawn_in(draw)
        least = np.array([draw.strata[name].taken for name in cells.strata], np.int64)
        counts = allocation.best_allocation(cells.problem, cells.drawn, least, half_width=None, labels=total)[1]
        draw = draw.extended(dict(zip(cells.strata, map(int, counts), strict=True)))
        told = {}
        for item in draw.items:
            n = int(item.conversation_id)
            for c in criteria:
                told.setdefault((c, WORDS[drawn[c][0][n]]), Counter())[OUTCOMES[drawn[c][1][n]]] += 1
    return list(_holding(draw, drawn, categories, by))


def _holding(
    draw: Draw, drawn: dict[str, tuple[Ints, Ints, float]], categories: dict[str, str], by: str | None
) -> Iterator[tuple[str, bool]]:
    sample = Drawn(draw.id, draw.stratum_of, {item.conversation_id for item in draw.items})
    for group in sorted(set(categories.values())) if by else [""]:
        here = np.array([not group or category == group for category in categories.values()])
        ids = [name for name, there in zip(categories, here, strict=True) if there]
        codes = {
            "j": {c: np.where(words[here] >= 2, PASS, FAIL).astype(np.int8) for c, (words, _, _) in drawn.items()},
            "p": {c: np.where(people[here] == 0, PASS, FAIL).astype(np.int8) for c, (_, people, _) in drawn.items()},
        }
        ratings = Ratings("r", "h", ids, [*drawn], ["j"], ["p"], "p", codes, {}, {})
        for c, (_, _, truth) in drawn.items():
            (found,) = corrected_rates(ratings, c, drawn=sample)
            if found.rate:
                yield f"{c} {group}", found.rate.low <= truth <= found.rate.high


def savings(draws: int) -> None:
    print(f"labels needed for the mean width of so many drawn evenly and by themselves, {draws} sets of each setting")
    ratios: dict[int, list[tuple[float, float]]] = {}
    for number, (rate, judge, unsure) in enumerate((r, j, u) for r in RATES for j in JUDGES for u in UNSURE):
        rng = np.random.default_rng(1000 + number)
        sets = [world(rng, rate, judge, (0.0, 0.0), unsure) for _ in range(draws)]
        for labels in (100, 300):
            width = alone(sets, labels)
            even, plan = (needed(sets, width, labels, plan=plan) / labels for plan in (False, True))
            ratios.setdefault(labels, []).append((even, plan))
            what = f"rate {rate:.2f} judge {judge} unsure {unsure} labels {labels}"
            best = best_possible(rate, judge, unsure, labels)
            print(
                f"    {what}: planned {plan:.2f}, even and corrected {even:.2f}, best possible {best:.2f}", flush=True
            )
    for labels, found in ratios.items():
        for name, values in zip(("even and corrected", "planned"), np.array(found).T, strict=True):
            few = int((values <= 0.75).sum())
            print(
                f"  {labels} labels, {name}: median {np.median(values):.2f}, highest {max(values):.2f}, "
                f"{few} of {len(values)} at most 0.75"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
