"""Aligned ratings and each conversation's group in; a comparison of every group out, and which are unlike the rest.

What a group is, such as a language, is the caller's business. A group's figures are those of `compare` on its rows, but
for corrected rates, which are of all together; which groups differ is adjusted for all rates that are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from safetyqc.judge.agreement import Counts, share_of_cells
from safetyqc.judge.compare import codes_of, compare_criteria, compared_together
from safetyqc.judge.ratings import PASS, Ratings
from safetyqc.results.compare import (
    POOLED,
    Comparison,
    CriterionComparison,
    Estimate,
    Group,
    GroupDifference,
    GroupedBy,
    Measure,
)
from safetyqc.results.statistics import difference_interval, difference_p, holm

Rows = npt.NDArray[np.intp]


def compare_groups(
    comparison: Comparison, ratings: Ratings, by: str, group_of: Mapping[str, str], guessed: Collection[str]
) -> GroupedBy:
    """Compare the raters within each group of conversations.

    Args:
        comparison: of all of them; its confidence, resamples and seed are the groups' too.
        group_of: id -> name of its group, for all conversations of the ratings.
        guessed: ids that are in their group by a guess.
    """
    names = np.array([group_of[i] for i in ratings.ids])
    rows = {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
    confidence, resamples, seed = comparison.confidence, comparison.resamples, comparison.seed

    def compared(own: Rows) -> tuple[CriterionComparison, ...]:
        found = compare_criteria(ratings.of(own), confidence=confidence, resamples=resamples, seed=seed)
        return tuple(c.model_copy(update={"corrected": ()}) for c in found)

    groups = tuple(
        Group(
            name=name,
            conversations=len(own),
            guessed=sum(ratings.ids[row] in guessed for row in own),
            criteria=compared(own),
        )
        for name, own in rows.items()
    )
    sides = [side for cells in _cells(ratings) for side in _sides(cells, rows)]
    sure = holm([difference_p(*side.group, *side.rest) for side in sides], 1 - confidence)
    unlike = tuple(side.difference(confidence) for side, differs in zip(sides, sure, strict=True) if differs)
    return GroupedBy(by=by, groups=groups, tests=len(sides), unlike=unlike)


class _Cells(NamedTuple):
    """Of each conversation how many cells are in a rate, and how many of them passed, or say what the labels say."""

    criterion: str
    rater: str
    measure: Measure
    part: Counts
    whole: Counts


class _Side(NamedTuple):
    """A group's rate and that of the rest, each as (passed, n) at the size that its conversations are worth."""

    name: str
    cells: _Cells
    group: tuple[float, float]
    rest: tuple[float, float]

    def difference(self, confidence: float) -> GroupDifference:
        (passed, n), (others, of_others) = self.group, self.rest
        low, high = difference_interval(passed, n, others, of_others, confidence)
        return GroupDifference(
            group=self.name,
            criterion=self.cells.criterion,
            rater=self.cells.rater,
            measure=self.cells.measure,
            difference=Estimate(value=passed / n - others / of_others, low=low, high=high),
        )


def _cells(ratings: Ratings) -> Iterator[_Cells]:
    truth = ratings.truth
    for together in compared_together(ratings):
        criterion = together[0] if len(together) == 1 else POOLED
        real = codes_of(ratings, truth, together) if truth else None
        for judge in ratings.judges:
            said = codes_of(ratings, judge, together)
            scored = said <= PASS
            yield _Cells(criterion, judge, "pass rate", (said == PASS).sum(axis=1), scored.sum(axis=1))
            if real is not None:
                both = scored & (real <= PASS)
                yield _Cells(
                    criterion, judge, "agreement with labels", (both & (said == real)).sum(axis=1), both.sum(axis=1)
                )


def _sides(cells: _Cells, rows: Mapping[str, Rows]) -> Iterator[_Side]:
    # of two groups each is the rest of the other: one test
    for name, own in list(rows.items())[: None if len(rows) > 2 else len(rows) - 1]:
        others = np.ones(len(cells.whole), bool)
        others[own] = False
        group = share_of_cells(cells.part[own], cells.whole[own])
        rest = share_of_cells(cells.part[others], cells.whole[others])
        if group and rest:
            yield _Side(name, cells, (group.share * group.worth, group.worth), (rest.share * rest.worth, rest.worth))
