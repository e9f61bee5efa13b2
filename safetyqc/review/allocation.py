"""How many labels of which stratum an interval takes: from what judges said, and how often such words are wrong.

Pure arithmetic on cells: conversations of which the judges said the same. Neyman's allocation (1934), for several rates
at once: of each cell as many as make the least exact of the rates most exact. Imports numpy at module top: only what
plans labels imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from safetyqc.judge.corrected import stratified_rates
from safetyqc.results.statistics import wilson_interval

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_ROUNDS = 60
_POWER = 0.5
"""Of Neyman's shares: what is not known yet costs least half way between them and an even draw."""
_LEAST_SHARE = 0.25
"""Of what an even draw would take of a stratum, at least this is taken: how often judges are wrong is not known yet."""
_LEAST_LABELS = 3
"""Of each stratum: two that say the same by chance would make too much of it."""


@dataclass(frozen=True)
class Goal:
    """A rate that is to be known: of the cells `within`, which are alike where `alike` is the same.

    `chances` holds of each cell how often people say pass, fail and not applicable of its conversations.
    """

    within: npt.NDArray[np.bool_]
    alike: Integers
    chances: Floats


@dataclass(frozen=True)
class Problem:
    """What is to be labelled: cells with their sizes, the stratum that each is drawn in, and the rates to know."""

    sizes: Integers
    strata: Integers
    goals: list[Goal]

    @cached_property
    def strata_sizes(self) -> Integers:
        """Conversations in each stratum."""
        return np.bincount(self.strata, weights=self.sizes).astype(np.int64)

    @property
    def n(self) -> int:
        """Conversations in all."""
        return int(self.sizes.sum())

    @cached_property
    def _expected(self) -> tuple[Floats, Floats]:
        """Labels of each goal, group of alike cells and outcome by the labelled share of each stratum; group sizes."""
        groups = []
        for goal in self.goals:
            keys = np.stack([self.strata, goal.alike], axis=1)[goal.within]
            groups.append(np.unique(keys, axis=0, return_inverse=True)[1])
        most = max((int(g.max(initial=0)) for g in groups), default=0) + 1
        labels = np.zeros((len(self.goals), most, 3, len(self.strata_sizes)))
        sizes = np.zeros((len(self.goals), most))
        for place, (goal, group) in enumerate(zip(self.goals, groups, strict=True)):
            own, strata = self.sizes[goal.within], self.strata[goal.within]
            np.add.at(sizes[place], group, own)
            for outcome in range(3):
                np.add.at(labels[place, :, outcome], (group, strata), own * goal.chances[goal.within, outcome])
        return labels, sizes

    def half_widths(self, counts: Floats) -> Floats:
        """Half of each rate's interval if so many of each stratum were labelled; 0.5 where nothing could be said.

        Args:
            counts: of shape (..., strata).

        Returns:
            Shape (..., goals).
        """
        labels, sizes = self._expected
        labelled = np.einsum("gmks,...s->...gmk", labels, counts / self.strata_sizes)
        # a group of which less than half a label is expected will mostly have none
        labelled = np.where(labelled.sum(axis=-1, keepdims=True) < 0.5, 0.0, labelled)
        _, low, high = stratified_rates(labelled, np.broadcast_to(sizes, labelled.shape[:-1]))
        return np.asarray(np.nan_to_num((high - low) / 2, nan=0.5), np.float64)

    def even(self, total: float) -> Floats:
        """So many drawn evenly from all strata."""
        return np.asarray(self.strata_sizes * min(1.0, total / self.n), np.float64)


def fractions(sizes: Integers, goals: list[Goal]) -> Floats:
    """How often each cell is best drawn beside the others; the mean over all conversations is 1.

    Minimises the largest of the goals' variances: by each round a goal that is known worse counts for more.
    """
    doubt = np.stack([_doubt(sizes, goal) for goal in goals]) if goals else np.ones((1, len(sizes)))
    weights = np.ones(len(doubt))
    drawn = np.ones(len(sizes))
    for _ in range(_ROUNDS if len(doubt) > 1 else 1):
        drawn = np.sqrt(weights @ doubt)
        total = drawn.sum()
        if not total:
            return np.ones(len(sizes))
        drawn = drawn / total
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.where(doubt > 0, doubt / drawn, 0).sum(axis=1)
        weights = weights * np.sqrt(variance / variance.max())
    return np.asarray(np.maximum(drawn * sizes.sum() / sizes, _LEAST_SHARE), np.float64)


def _doubt(sizes: Integers, goal: Goal) -> Floats:
    """What one label of each cell takes off the variance of a goal's rate, before it is divided by their number."""
    counted = np.where(goal.within, sizes, 0)
    if not counted.any():
        return np.zeros(len(sizes))
    weights = counted / counted.sum()
    passing, failing, _ = weights @ goal.chances
    rate = passing / (passing + failing)
    worth = np.array([1 - rate, -rate, 0.0])
    spread = goal.chances @ worth**2 - (goal.chances @ worth) ** 2
    doubt: Floats = weights**2 * spread
    return doubt


def in_classes(drawn: Floats, most: int) -> Integers:
    """Put cells that are best drawn about equally often together: the class of each, the one drawn least first."""
    low, high = np.log(drawn.min()), np.log(drawn.max())
    if high - low < 0.2:
        return np.zeros(len(drawn), np.int64)
    found = np.minimum(((np.log(drawn) - low) / (high - low) * most).astype(np.int64), most - 1)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def best_allocation(
    problem: Problem, drawn: Floats, least: Integers, *, half_width: float | None, labels: int
) -> tuple[Floats, Integers]:
    """How often each cell is drawn beside the others, and how many of each stratum: evenly where that is better.

    Arguments are those of `allocate` and `of_total`.
    """
    ways = [drawn**_POWER, np.ones_like(drawn)]
    if half_width is not None:
        counts = [allocate(problem, way, half_width, least) for way in ways]
        best = min(range(len(ways)), key=lambda n: int(counts[n].sum()))
    else:
        counts = [of_total(problem, way, labels, least) for way in ways]
        best = int(problem.half_widths(np.array(counts, np.float64)).max(axis=-1).argmin())
    return ways[best], counts[best]


def allocate(problem: Problem, drawn: Floats, half_width: float, least: Integers) -> Integers:
    """How many of each stratum make every rate known to `half_width`; all of them where even that does not.

    Args:
        drawn: of each cell, how often beside the others (`fractions`).
        least: how many of each stratum are drawn already.
    """

    def counts(scale: float) -> Floats:
        return _counts(problem, drawn, scale, least)

    scale = _smallest(lambda scale: bool((problem.half_widths(counts(scale)) <= half_width).all()), problem, drawn)
    return np.ceil(counts(scale) - 1e-9).astype(np.int64)


def of_total(problem: Problem, drawn: Floats, total: float, least: Integers) -> Integers:
    """So many labels, shared out over the strata; never fewer of one than are drawn already."""
    scale = _smallest(lambda scale: bool(_counts(problem, drawn, scale, least).sum() >= total), problem, drawn)
    upto = np.round(np.cumsum(_counts(problem, drawn, scale, least)))  # so that whole numbers add up to the total
    return np.diff(upto, prepend=0).astype(np.int64)


def even_total(problem: Problem, half_width: float) -> int | None:
    """How many labels an even draw would take for the same; None where all are not enough."""
    scale = _smallest(
        lambda scale: bool((problem.half_widths(problem.even(scale)) <= half_width).all()), problem, np.ones(1)
    )
    return None if scale > problem.n else ceil(scale)


def alone_total(problem: Problem, half_width: float) -> int | None:
    """How many labels an even draw would take for the same if no judge's verdicts were used; None where all are few."""
    most = 0.0
    for goal in problem.goals:
        passing, failing, _ = np.where(goal.within, problem.sizes, 0) @ goal.chances
        share, applicable = float(passing / (passing + failing)), float(passing + failing)
        few, enough = 0.0, applicable
        while enough - few > 0.25:
            middle = (few + enough) / 2
            low, high = wilson_interval(share * middle, middle)
            few, enough = (few, middle) if high - low <= 2 * half_width else (middle, enough)
        low, high = wilson_interval(share * enough, enough)
        if high - low > 2 * half_width:
            return None
        most = max(most, enough / applicable * problem.n)
    return ceil(most)


def _smallest(enough: Callable[[float], bool], problem: Problem, drawn: Floats) -> float:
    """The smallest number of labels at an even draw's rate that is enough; more than all of them where none is."""
    low, high = 0.0, problem.n / float(drawn.min()) + 1
    while high - low > 0.25:
        middle = (low + high) / 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _counts(problem: Problem, drawn: Floats, scale: float, least: Integers) -> Floats:
    sizes = problem.strata_sizes
    wanted = np.bincount(problem.strata, problem.sizes * drawn, minlength=len(sizes)) * scale / problem.n
    floor = np.maximum(least, np.minimum(_LEAST_LABELS, sizes))
    counts: Floats = np.clip(wanted, floor, sizes)
    return counts
