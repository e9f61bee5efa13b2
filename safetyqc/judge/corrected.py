"""A judge's pass rate, corrected for the judge's own errors by labels, with an interval that carries the labels' doubt.

Labels are a sample of the set that the rate is about. They are weighed by strata of what the judge said, so they may be
drawn unevenly over those strata (more of what failed), but by chance within each. A cell that people call not
applicable is an outcome of its own: the rate is P(pass) / P(applicable), a ratio of two estimates. Imports numpy at
module top: only what compares judges imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import numpy.typing as npt

from safetyqc.errors import UserError
from safetyqc.judge.ratings import ABSENT, FAIL, NA, PASS, Ratings
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
_UNEVEN_P = 0.01
"""Below this p-value the labels are said to be drawn unevenly over what a judge said."""


def stratified_rate(labelled: Counts | Floats, sizes: Counts | Floats, *, confidence: float = 0.95) -> Estimate:
    """Estimate a pass rate among the applicable from labels within strata that cover a whole set.

    The estimate is the post-stratified ratio (Cochran, Sampling Techniques, 1977, 6.10). Its interval holds every rate
    R at which a score test does not reject `E[pass] = R E[applicable]`, as Fieller's does for a ratio; as in Wilson's
    the variance is that under R, with the difference spread over the strata by their share of it (Yan and
    Su, 2010, for one outcome). Departs from them by `PSEUDO`. A stratum without labels is guessed from the others and
    adds its full doubt.

    Args:
        labelled: of shape (strata, 3): labels pass, fail, not applicable.
        sizes: conversations in each stratum, labelled or not, of the whole set.

    Raises:
        UserError: no labels of applicable conversations at all.
    """
    if not labelled[:, :2].sum():
        raise UserError("no labels: nothing can be corrected", fix="label some of these conversations")
    known = labelled.sum(axis=1) > 0
    weights = sizes / sizes.sum()
    seen, unseen = weights[known], float(weights[~known].sum())
    shares = labelled[known] / labelled[known].sum(axis=1, keepdims=True)
    value = float(seen @ shares[:, 0] / (seen @ (shares[:, 0] + shares[:, 1])))
    test = _ScoreTest(labelled[known], seen, int(sizes.sum()), normal_quantile(confidence))
    low = _furthest(lambda rate: test.rejects(rate, unseen * rate), value, 0.0)
    high = _furthest(lambda rate: test.rejects(rate, unseen * (1 - rate)), value, 1.0)
    return Estimate(value=value, low=low, high=high)


class _ScoreTest:
    """Whether a rate is too far from what the labels say."""

    def __init__(self, labelled: Counts | Floats, weights: Floats, n: int, quantile: float) -> None:
        self.weights, self.n, self.quantile = weights, n, quantile
        self.labels = labelled.sum(axis=1)
        self.shares = labelled / self.labels[:, None]
        # "not applicable" is imagined only where somebody said it at all
        imagined = np.array([PSEUDO, PSEUDO, PSEUDO if labelled[:, 2].any() else 0.0])
        self.smooth = (labelled + imagined) / (self.labels + imagined.sum())[:, None]

    def rejects(self, rate: float, unseen: float) -> bool:
        """Test one rate; `unseen` is how much of the difference strata without labels could make up for."""
        worth = np.array([1 - rate, -rate, 0.0])
        means = self.shares @ worth
        difference = float(self.weights @ means)
        spread = self.weights**2 * self._variance(self._under(worth, difference), worth) / self.labels
        mix = self.weights @ (means - difference) ** 2 / self.n  # the strata's sizes are themselves a sample's
        return abs(difference) - unseen > self.quantile * sqrt(spread.sum() + mix)

    def _under(self, worth: Floats, difference: float) -> Floats:
        """The strata's shares as they would be if the rate were right: moved between pass and fail."""
        doubt = self.weights * self._variance(self.smooth, worth) / self.labels
        moved = np.clip(-difference * doubt / (self.weights @ doubt), -self.smooth[:, 0], self.smooth[:, 1])
        under: Floats = self.smooth + np.outer(moved, [1, -1, 0])
        return under

    @staticmethod
    def _variance(shares: Floats, worth: Floats) -> Floats:
        variance: Floats = shares @ worth**2 - (shares @ worth) ** 2
        return variance


def _furthest(rejects: Callable[[float], bool], inside: float, end: float) -> float:
    """The rate between the estimate and `end` at which the test begins to reject, by bisection."""
    if not rejects(end):
        return end
    outside = end
    for _ in range(24):
        middle = (inside + outside) / 2
        if rejects(middle):
            outside = middle
        else:
            inside = middle
    return inside


def corrected_rates(ratings: Ratings, criterion: str, confidence: float = 0.95) -> tuple[CorrectedRate, ...]:
    """Correct every judge's pass rate on one criterion by the labels in the same set.

    The population is what the judge called applicable, its unscored cells included. The rate is that of the process
    that the conversations came from; for exactly these conversations the interval is somewhat wide.
    """
    return tuple(
        _corrected(ratings, judge, criterion, confidence) for judge in ratings.judges if ratings.asked(judge, criterion)
    )


def _corrected(ratings: Ratings, judge: str, criterion: str, confidence: float) -> CorrectedRate:
    codes, truth = ratings.codes[judge][criterion], ratings.codes[ratings.truth or ""][criterion]
    applicable = (codes != NA) & (codes != ABSENT)
    said, real = codes[applicable], truth[applicable]
    strata = np.unique(said)
    labelled = np.array([[((said == s) & (real == o)).sum() for o in (PASS, FAIL, NA)] for s in strata], np.int64)
    sizes = np.array([(said == s).sum() for s in strata], np.int64)
    passed, failed, not_applicable = (int(n) for n in labelled.sum(axis=0)) if len(strata) else (0, 0, 0)
    known = passed + failed
    facts = CorrectedRate(
        judge=judge,
        criterion=criterion,
        method=METHOD,
        n=len(said),
        labels=known,
        labelled_not_applicable=not_applicable,
        judge_rate=share(int((said == PASS).sum()), int((said <= PASS).sum())),
    )
    if known < MIN_LABELS:
        return facts.model_copy(update={"refused": f"{known} labels, at least {MIN_LABELS} are needed"})
    found = {"rate": stratified_rate(labelled, sizes, confidence=confidence)}
    if evenly_labelled(labelled.sum(axis=1), sizes):
        low, high = wilson_interval(passed, known, confidence)
        found["labels_alone"] = Estimate(value=passed / known, low=low, high=high)
    return facts.model_copy(update=found)


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
