"""Measure how often the numbers of a comparison hold: `python benchmarks/corrected_rates.py [XSTEST.jsonl]`.

Without a file, by simulation: corrected pass rates (with labels that say "not applicable" too), kappa at high pass
rates and few labels, pooled rates of tied cells, and how often one of two equally good judges is named the winner.
With one: a recorded judge's verdicts on all its conversations and the people's labels of a random part, again and
again; how often the interval holds the rate that all labels give, and how wide it is beside the labels alone.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from functools import cache

import numpy as np

from safetyqc.formats.labels import TRUTH, read_labels, read_recorded
from safetyqc.judge import agreement
from safetyqc.judge.corrected import Counts, corrected_rates, stratified_rates
from safetyqc.judge.ratings import align
from safetyqc.judge.recommendation import recommend
from safetyqc.results.compare import Accuracy, CriterionComparison, Estimate, Price, RaterCounts
from safetyqc.results.statistics import wilson_interval

DRAWS = 300
NA = ((0.0, 0.0), (0.3, 0.0), (0.5, 0.05), (0.0, 0.3))
"""Of what the judge fails, and of what it passes, the share that people call not applicable."""
KAPPAS = (
    (0.6, 0.95, 0.95), (0.8, 0.95, 0.8), (0.9, 0.95, 0.5), (0.95, 0.98, 0.5), (0.95, 0.97, 0.97), (0.95, 0.99, 0.9),
    (0.95, 0.9, 0.7), (0.97, 0.98, 0.8),
)  # fmt: skip
EQUALS = ((0.6, 0.9, 0.6), (0.9, 0.95, 0.5), (0.9, 0.95, 0.9), (0.95, 0.97, 0.5), (0.95, 0.97, 0.97), (0.6, 0.95, 0.95))
"""Pass rates, and of a judge how much it passes of what passes, and fails of what fails."""


def simulate(draws: int = 4000) -> None:
    corrected(draws)
    kappas(draws)
    pooled(draws // 4)
    winners(draws)


def corrected(draws: int) -> None:
    print("corrected rate, 1,000 conversations: coverage of 95% intervals, and width beside that of the labels alone")
    rng, rows = np.random.default_rng(0), []
    for rate in (0.5, 0.8, 0.95, 0.99):
        for hit, rejection in ((0.97, 0.97), (0.9, 0.7), (0.98, 0.5)):
            for na_of_fails, na_of_passes in NA:
                for labels in (40, 100, 300):
                    labelled, sizes, truth = draw(
                        rng, draws, rate, (hit, rejection), (na_of_fails, na_of_passes), labels
                    )
                    _, low, high = stratified_rates(labelled, sizes)
                    held, width = np.mean((low <= truth) & (truth <= high)), np.mean(high - low)
                    alone = np.mean([np.subtract(*_wilson(one)) for one in labelled])
                    rows.append((held, width / alone))
                    what = f"{rate:.2f} hit {hit:.2f} rejection {rejection:.2f} na {na_of_fails:.2f}/{na_of_passes:.2f}"
                    print(
                        f"  {what} labels {labels:3d}: holds {held:.1%}, width {width / alone:.2f} of the labels alone"
                    )
    held, width = np.array(rows).T
    print(f"  {len(rows)} settings, {draws} draws each: coverage lowest {held.min():.1%}, median {np.median(held):.1%}")
    print(f"  width beside the labels alone: widest {width.max():.2f}, median {np.median(width):.2f}")


def draw(
    rng: np.random.Generator,
    draws: int,
    rate: float,
    judge: tuple[float, float],
    na_of: tuple[float, float],
    labels: int,
) -> tuple[Counts, Counts, float]:
    """Labels by set, stratum (the judge fails, passes) and outcome, the strata's sizes, and the true rate."""
    (hit, rejection), (na_fails, na_passes), n = judge, na_of, 1000
    truth = rng.random((draws, n)) < rate
    said = np.where(truth, rng.random((draws, n)) < hit, rng.random((draws, n)) >= rejection)
    na = rng.random((draws, n)) < np.where(said, na_passes, na_fails)
    cells = [cell[:, :labels] for cell in (truth & ~na, ~truth & ~na, na)]
    strata = (~said, said)
    labelled = np.stack([np.stack([(c & s[:, :labels]).sum(axis=1) for c in cells], axis=-1) for s in strata], axis=1)
    sizes = np.stack([s.sum(axis=1) for s in strata], axis=1)
    passing = rate * (hit * (1 - na_passes) + (1 - hit) * (1 - na_fails))
    failing = (1 - rate) * ((1 - rejection) * (1 - na_passes) + rejection * (1 - na_fails))
    return labelled, sizes, passing / (passing + failing)


def _wilson(labelled: Counts) -> tuple[float, float]:
    low, high = wilson_interval(int(labelled[:, 0].sum()), int(labelled[:, :2].sum()))
    return high, low


def kappas(draws: int) -> None:
    print("kappa against labels: coverage of 95% intervals")
    lowest = 1.0
    for rate, hit, rejection in KAPPAS:
        chances = np.array([rate * hit, (1 - rate) * (1 - rejection), rate * (1 - hit), (1 - rate) * rejection])
        truth, held = float(agreement.kappa(chances)), []
        for n in (30, 50, 100, 300):
            tables = np.random.default_rng(1).multinomial(n, chances, draws)
            found = [f for f in map(kappa_of, map(tuple, tables)) if f]
            held.append(np.mean([f.low <= truth <= f.high for f in found]))
        lowest = min(lowest, *held)
        told = "  ".join(f"{n}: {share:.1%}" for n, share in zip((30, 50, 100, 300), held, strict=True))
        print(f"  pass rate {rate:.2f} hit {hit:.2f} rejection {rejection:.2f} (kappa {truth:.2f})  {told}")
    print(f"  lowest {lowest:.1%}")


@cache
def kappa_of(table: tuple[int, ...]) -> Estimate | None:
    counts = np.repeat(np.eye(4, dtype=np.int64), table, axis=0)
    return agreement.kappa_estimate(counts, resamples=1000, seed=0, confidence=0.95)


def pooled(draws: int) -> None:
    print(
        "pooled pass rate of 60 conversations x 5 criteria: coverage of the 95% interval; equal judges called different"
    )
    rng = np.random.default_rng(2)
    for tied in (0.0, 0.5, 1.0):
        held = different = 0
        for _ in range(draws):
            one, other = (cells(rng, tied) for _ in range(2))
            found = agreement.pass_rate(one.sum(axis=1), np.full(60, 5), 0.95)
            held += found is not None and found.low <= 0.8 <= found.high
            p = agreement.paired_p(one.sum(axis=1) - other.sum(axis=1))
            different += p is not None and p < 0.05
        print(f"  cells tied {tied:.0%}: holds {held / draws:.1%}; p < 0.05 in {different / draws:.1%}")


def cells(rng: np.random.Generator, tied: float) -> agreement.Counts:
    shared = rng.random((60, 1)) < 0.8
    return np.where(rng.random((60, 5)) < tied, shared, rng.random((60, 5)) < 0.8).astype(np.int64)


def winners(draws: int) -> None:
    print("two equally good judges at one price, measured on the same labels: a winner is named in")
    rng, most = np.random.default_rng(3), 0.0
    for rate, hit, rejection in EQUALS:
        shares = []
        for n in (30, 50, 100):
            named = sum(winner(rng, rate, hit, rejection, n) for _ in range(draws)) / draws
            shares.append(f"{n}: {named:.1%}")
            most = max(most, named)
        print(f"  pass rate {rate:.2f} hit {hit:.2f} rejection {rejection:.2f}  " + "  ".join(shares))
    print(f"  at most {most:.1%}")


def winner(rng: np.random.Generator, rate: float, hit: float, rejection: float, n: int) -> bool:
    truth = rng.random(n) < rate
    said = {name: np.where(truth, rng.random(n) < hit, rng.random(n) >= rejection) for name in ("a", "b")}
    tables = {
        name: tuple(int((s == one)[truth == other].sum()) for one in (True, False) for other in (True, False))
        for name, s in said.items()
    }
    counts = {"applicable": n, "passed": n, "failed": 0, "unscored": 0, "na": 0, "coverage": 1.0}
    basis = CriterionComparison(
        criterion="any",
        counts=tuple(RaterCounts(rater=name, **counts) for name in said),
        accuracies=tuple(
            Accuracy(
                rater=name,
                n=n,
                conversations=n,
                confusion={"pass": {"pass": t[0], "fail": t[2]}, "fail": {"pass": t[1], "fail": t[3]}},
                kappa=kappa_of(t),
            )
            for name, t in tables.items()
        ),
    )
    return recommend(basis, [Price(judge=name, judged=n, cost_usd_per_1000=1.0) for name in said]).judge is not None


def measure(path: str) -> None:
    judgments = read_recorded(path)
    labels = [label for label in read_labels(path) if label.annotator == TRUTH]
    rate = sum(label.outcome == "pass" for label in labels) / len(labels)
    print(f"{len(labels):,} labelled conversations, {rate:.1%} pass; {DRAWS} random draws of each size")
    for n in (50, 100, 200):
        held: dict[str, list[bool]] = defaultdict(list)
        widths: dict[str, list[float]] = defaultdict(list)
        judged: dict[str, float] = {}
        for number in range(DRAWS):
            some = random.Random(number).sample(labels, n)
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
