"""Measure how often corrected pass rates hold: `python benchmarks/corrected_rates.py [XSTEST.jsonl]`.

Without a file: simulated judges, with the textbook interval (estimate +- 1.96 standard errors) beside ours. With one:
a recorded judge's verdicts on all its conversations and the people's labels of a random part, again and again; how
often the interval holds the rate that all labels give, and how wide it is beside the labels alone.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict

import numpy as np

from safetyqc.errors import UserError
from safetyqc.formats.labels import TRUTH, read_labels, read_recorded
from safetyqc.judge.corrected import Floats, corrected_rates, prediction_powered, rogan_gladen, stratified
from safetyqc.judge.ratings import align
from safetyqc.results.compare import Estimate
from safetyqc.results.statistics import wilson_interval

DRAWS = 300


def simulate() -> None:
    rng = np.random.default_rng(0)
    names = ("PPI++ textbook", "PPI++", "stratified", "Rogan-Gladen")
    print("rate  hit   rejection labels  " + "  ".join(f"{name:>14s}" for name in names))
    least = np.ones(len(names))
    for rate in (0.5, 0.8, 0.95):
        for hit, rejection in ((0.97, 0.97), (0.9, 0.7), (0.98, 0.5)):
            for n in (30, 60, 150):
                held = np.mean([draw(rng, rate, hit, rejection, n) for _ in range(1000)], axis=0)
                least = np.minimum(least, held)
                print(f"{rate:.2f}  {hit:.2f}  {rejection:.2f}      {n:4d}    " + "  ".join(f"{h:14.1%}" for h in held))
    print("least".ljust(32) + "  ".join(f"{h:14.1%}" for h in least))


def draw(rng: np.random.Generator, rate: float, hit: float, rejection: float, n: int) -> list[bool]:
    """Whether each interval holds the rate: n labels among 2,000 conversations, or n of each kind elsewhere."""
    truth = (rng.random(2000) < rate).astype(float)
    said = np.where(truth == 1, rng.random(2000) < hit, rng.random(2000) >= rejection).astype(int)
    predicted, labels = said.astype(float), np.where(np.arange(2000) < n, truth, np.nan)
    elsewhere = (int(rng.binomial(n, hit)), n), (int(rng.binomial(n, rejection)), n)
    intervals = [textbook(truth[:n], predicted[:n], predicted[n:])]
    found = [prediction_powered(truth[:n], predicted[:n], predicted[n:]), stratified(labels, predicted, said)]
    try:
        found.append(rogan_gladen(int(said.sum()), 2000, *elsewhere))
    except UserError:  # refused: nothing was claimed
        found.append(Estimate(value=rate, low=0, high=1))
    return [low <= rate <= high for low, high in intervals + [(e.low, e.high) for e in found]]


def textbook(labels: Floats, predicted: Floats, rest: Floats) -> tuple[float, float]:
    n, spread = len(labels), np.concatenate([predicted, rest]).var()
    weight = float(np.clip(np.cov(labels, predicted)[0, 1] / ((1 + n / len(rest)) * spread), 0, 1))
    value = labels.mean() + weight * (rest.mean() - predicted.mean())
    error = np.sqrt((labels - weight * predicted).var(ddof=1) / n + weight**2 * rest.var() / len(rest))
    return value - 1.96 * error, value + 1.96 * error


def measure(path: str) -> None:
    judgments = read_recorded(path)
    labels = [label for label in read_labels(path) if label.annotator == TRUTH]
    rate = sum(label.outcome == "pass" for label in labels) / len(labels)
    print(f"{len(labels):,} labelled conversations, {rate:.1%} pass; {DRAWS} random draws of each size")
    for n in (50, 100, 200):
        held: dict[str, list[bool]] = defaultdict(list)
        widths: dict[str, list[float]] = defaultdict(list)
        judged: dict[str, float] = {}
        for draw in range(DRAWS):
            some = random.Random(draw).sample(labels, n)
            low, high = wilson_interval(sum(label.outcome == "pass" for label in some), n)
            held["labels alone"].append(low <= rate <= high)
            widths["labels alone"].append(high - low)
            for found in corrected_rates(align(judgments, some), some[0].criterion):
                if found.rate is None or found.judge_rate is None:
                    continue
                judged[found.judge] = found.judge_rate
                held[found.judge].append(found.rate.low <= rate <= found.rate.high)
                widths[found.judge].append(found.rate.high - found.rate.low)
        for name, hits in held.items():
            says = f"{judged[name]:.1%}" if name in judged else "-"
            width = sum(widths[name]) / len(hits)
            print(f"{n:4d} labels  {name:13s} says {says:>6s}  holds {sum(hits) / len(hits):.1%}  width {width:.3f}")


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else simulate()
