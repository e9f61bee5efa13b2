"""A judge's pass rate, corrected for the judge's own errors by labels, with an interval that carries the labels' doubt.

Labels are a sample of the set that the rate is about. They are weighed by strata of what the judge said, so they may be
drawn unevenly over those strata (more of what failed), but by chance within each; where a draw with known probabilities
says how (`Drawn`), by its strata too: Horvitz and Thompson's estimate, with what the judge says as its difference. A
cell that people call not applicable is an outcome of its own: the rate is P(pass) / P(applicable), a ratio of two
estimates. Imports numpy at module top: only what compares judges imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safetyqc.errors import UserError
from safetyqc.judge.ratings import ABSENT, FAIL, NA, PASS, Codes, Ratings
from safetyqc.results.compare import CorrectedRate, Estimate
from safetyqc.results.statistics import normal_quantile, share, wilson_interval

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
METHOD = "stratified ratio"
MIN_LABELS = 30
"""Labels in the set below which no rate is corrected."""
PSEUDO = 0.75
"""Weight of one imagined label of each kind in a stratum's variance, so that a sample without errors of the judge is
not taken for a judge without errors. Chosen by coverage in `benchmarks/corrected_rates.py`."""
MIN_OF_CELL = 3
"""Labels of a judge's word within a stratum of a draw below which it is no cell of its own."""
_CODES = 8
"""More than there are codes of ratings."""
_UNEVEN_P = 0.01
"""Below this p-value the labels are said to be drawn unevenly over what a judge said."""


def stratified_rate(labelled: Counts, sizes: Counts, *, confidence: float = 0.95) -> Estimate:
    """Estimate a pass rate among the applicable from labels within strata that cover a whole set.

    Arguments and method are those of `stratified_rates`, for one set.

    Raises:
        UserError: no labels of applicable conversations at all.
    """
    if not labelled[:, :2].sum():
        raise UserError("no labels: nothing can be corrected", fix="label some of these conversations")
    value, low, high = stratified_rates(labelled, sizes, confidence=confidence)
    return Estimate(value=float(value), low=float(low), high=float(high))


def stratified_rates(
    labelled: Counts | Floats, sizes: Counts | Floats, *, confidence: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """Estimate the pass rates of many sets at once, each from labels within strata that cover the set.

    The estimate is the post-stratified ratio (Cochran, Sampling Techniques, 1977, 6.10). Its interval holds every rate
    R at which a score test does not reject `E[pass] = R E[applicable]`, as Fieller's does for a ratio; as in Wilson's
    the variance is that under R, with the difference spread over the strata by their share of it (Yan and
    Su, 2010, for one outcome). Departs from them by `PSEUDO`. A stratum without labels is guessed from the others and
    adds its full doubt.

    Args:
        labelled: of shape (..., strata, 3): labels pass, fail, not applicable; need not be whole.
        sizes: of shape (..., strata): conversations in each stratum, labelled or not, of the whole set.

    Returns:
        Value, low and high, each of shape (...); value is nan where no applicable conversation is labelled.
    """
    test = _ScoreTest(np.asarray(labelled, np.float64), np.asarray(sizes, np.float64), normal_quantile(confidence))
    passing, failing, _ = np.moveaxis((test.weights[..., None] * test.shares).sum(axis=-2), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = passing / (passing + failing)
    return value, _furthest(test, value, 0.0), _furthest(test, value, 1.0)


class _ScoreTest:
    """Whether rates are too far from what the labels say; strata without labels weigh nothing but by `unseen`."""

    def __init__(self, labelled: Floats, sizes: Floats, quantile: float) -> None:
        total = labelled.sum(axis=-1)
        known = total > 0
        self.labels, self.quantile = np.where(known, total, 1.0), quantile
        self.n = sizes.sum(axis=-1)
        weights = sizes / self.n[..., None]
        self.weights = np.where(known, weights, 0.0)
        self.unseen = np.where(known, 0.0, weights).sum(axis=-1)
        self.shares = labelled / self.labels[..., None]
        # "not applicable" is imagined only where somebody said it at all
        na = np.where(labelled[..., 2].sum(axis=-1) > 0, PSEUDO, 0.0)
        imagined = np.stack([np.full_like(na, PSEUDO), np.full_like(na, PSEUDO), na], axis=-1)[..., None, :]
        self.smooth = (labelled + imagined) / (self.labels + imagined.sum(axis=-1))[..., None]

    def rejects(self, rate: Floats, unseen: Floats) -> npt.NDArray[np.bool_]:
        """Test one rate of each set; `unseen` is how much of the difference strata without labels could make up for."""
        worth = np.stack([1 - rate, -rate, np.zeros_like(rate)], axis=-1)[..., None, :]
        means = (self.shares * worth).sum(axis=-1)
        difference = (self.weights * means).sum(axis=-1)
        spread = self.weights**2 * _variance(self._under(worth, difference), worth) / self.labels
        # the strata's sizes are themselves a sample's
        mix = (self.weights * (means - difference[..., None]) ** 2).sum(axis=-1) / self.n
        far: npt.NDArray[np.bool_] = abs(difference) - unseen > self.quantile * np.sqrt(spread.sum(axis=-1) + mix)
        return far

    def _under(self, worth: Floats, difference: Floats) -> Floats:
        """The strata's shares as they would be if the rate were right: moved between pass and fail."""
        doubt = self.weights * _variance(self.smooth, worth) / self.labels
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.nan_to_num(doubt / (self.weights * doubt).sum(axis=-1, keepdims=True))
        moved = np.clip(-difference[..., None] * share, -self.smooth[..., 0], self.smooth[..., 1])
        under: Floats = self.smooth + moved[..., None] * np.array([1.0, -1.0, 0.0])
        return under


def _variance(shares: Floats, worth: Floats) -> Floats:
    variance: Floats = (shares * worth**2).sum(axis=-1) - (shares * worth).sum(axis=-1) ** 2
    return variance


def _furthest(test: _ScoreTest, value: Floats, end: float) -> Floats:
    """The rate between each estimate and `end` at which its test begins to reject, by bisection."""

    def rejected(rate: Floats) -> npt.NDArray[np.bool_]:
        return test.rejects(rate, test.unseen * (1 - rate if end else rate))

    inside, outside = value, np.full_like(value, end)
    at_end = ~rejected(outside)
    for _ in range(24):
        middle = (inside + outside) / 2
        too_far = rejected(middle)
        inside, outside = np.where(too_far, inside, middle), np.where(too_far, middle, outside)
    return np.where(at_end, end, inside)


@dataclass(frozen=True)
class Drawn:
    """A draw of conversations to label: of everybody who could have been drawn the stratum, and who was reached.

    Within a stratum chance alone decided, so the labelled share of it is the probability of each of its members.
    """

    name: str | None
    """None where it is only known which labels were not given out of suspicion: they are taken for a sample by chance
    within what the judge says."""
    strata: Mapping[str, str]
    reached: Set[str]
    passed_over: int = 0
    """Conversations that were reached and have no label."""
    newcomers: int = 0
    """Conversations of the set that could not be drawn, since they came later."""


def corrected_rates(
    ratings: Ratings, criterion: str, confidence: float = 0.95, *, drawn: Drawn | None = None
) -> tuple[CorrectedRate, ...]:
    """Correct every judge's pass rate on one criterion by the labels in the same set.

    The population is what the judge called applicable, its unscored cells included. The rate is that of the process
    that the conversations came from; for exactly these conversations the interval is somewhat wide.

    Args:
        drawn: the draw that the labels come from; labels of others do not count then. None where it is not known how
            the labelled ones were drawn: by chance within what the judge said of them, it is taken.
    """
    return tuple(
        _corrected(ratings, judge, criterion, confidence, drawn)
        for judge in ratings.judges
        if ratings.asked(judge, criterion)
    )


def _corrected(ratings: Ratings, judge: str, criterion: str, confidence: float, drawn: Drawn | None) -> CorrectedRate:
    codes, truth = ratings.codes[judge][criterion], ratings.codes[ratings.truth or ""][criterion]
    applicable = (codes != NA) & (codes != ABSENT)
    said, real = codes[applicable], truth[applicable]
    cells: Codes | Counts = said
    ids = [name for name, there in zip(ratings.ids, applicable, strict=True) if there]
    if drawn:
        real = np.where([name in drawn.reached for name in ids], real, ABSENT)
    if drawn and drawn.name:
        strata = np.unique([drawn.strata.get(name, "") for name in ids], return_inverse=True)[1]
        cells = _cells(strata, said, real)
    kinds = np.unique(cells)
    labelled = np.array([[((cells == s) & (real == o)).sum() for o in (PASS, FAIL, NA)] for s in kinds], np.int64)
    sizes = np.array([(cells == s).sum() for s in kinds], np.int64)
    passed, failed, not_applicable = (int(n) for n in labelled.sum(axis=0)) if len(kinds) else (0, 0, 0)
    known = passed + failed
    facts = CorrectedRate(
        judge=judge,
        criterion=criterion,
        method=METHOD,
        n=len(said),
        labels=known,
        labelled_not_applicable=not_applicable,
        judge_rate=share(int((said == PASS).sum()), int((said <= PASS).sum())),
        draw=drawn.name if drawn else None,
    )
    if known < MIN_LABELS:
        return facts.model_copy(update={"refused": f"{known} labels, at least {MIN_LABELS} are needed"})
    found = {"rate": stratified_rate(labelled, sizes, confidence=confidence)}
    if evenly_labelled(labelled.sum(axis=1), sizes):
        low, high = wilson_interval(passed, known, confidence)
        found["labels_alone"] = Estimate(value=passed / known, low=low, high=high)
    return facts.model_copy(update=found)


def _cells(strata: Counts, said: Codes, real: Codes) -> Counts:
    """Each conversation's cell: its stratum of the draw with what the judge says of it.

    What the judge says of few that are labelled goes with what it says of most: within a stratum all were drawn alike,
    and a cell of one or two labels adds more doubt than it takes away.
    """
    cells: Counts = strata * _CODES + said
    for stratum in np.unique(strata):
        here = strata == stratum
        counts = {int(word): int((here & (said == word) & (real <= NA)).sum()) for word in np.unique(said[here])}
        most = max(counts, key=lambda word: counts[word])
        for word, count in counts.items():
            if count < MIN_OF_CELL:
                cells[here & (said == word)] = stratum * _CODES + most
    return cells


def evenly_labelled(labelled: Counts, sizes: Counts) -> bool:
    """Whether as large a share of every stratum is labelled as chance may explain (chi-squared test).

    Args:
        labelled, sizes: labelled conversations, and all, of each stratum.
    """
    from scipy.special import chdtrc

    there = sizes > 0
    labelled, sizes = labelled[there], sizes[there]
    overall = labelled.sum() / sizes.sum()
    if overall in (0, 1) or len(sizes) < 2:
        return True
    squares = (labelled - sizes * overall) ** 2 / (sizes * overall * (1 - overall))
    return bool(chdtrc(len(sizes) - 1, squares.sum()) >= _UNEVEN_P)
