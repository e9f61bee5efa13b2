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
IMAGINED = 0.3
"""Labels against each end of an interval that are imagined, in the whole set, so that a sample without errors of the
judge is not taken for a judge without errors. Chosen by coverage in `benchmarks/corrected_rates.py`."""
_HARDLY = 1e-9
"""Stands for no label at all, where logarithms are taken."""
_TILTS = (-5.0, 25.0)
"""Logarithms of tilts between which any interval's ends lie."""
_HALVINGS = 20
_SHRUNK = 0.2
"""Labels of a stratum that are taken from all the others, to say how often the criterion applies there."""
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
    that a likelihood ratio test of the strata's pass shares does not reject (Wilks, 1938): it asks how likely all of
    them together are, so that strata in which no error was seen do not each add a doubt of their own. The variance
    that the strata's sizes and "not applicable" leave is added to the one that the likelihood shows. Departs from the
    textbook by `IMAGINED`. A stratum without labels may have any rate.

    Args:
        labelled: of shape (..., strata, 3): labels pass, fail, not applicable; need not be whole.
        sizes: of shape (..., strata): conversations in each stratum, labelled or not, of the whole set.

    Returns:
        Value, low and high, each of shape (...); all nan where no applicable conversation is labelled.
    """
    labelled, sizes = np.asarray(labelled, np.float64), np.asarray(sizes, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.nan_to_num(labelled / labelled.sum(axis=-1, keepdims=True))
        passing, failing, _ = np.moveaxis((sizes[..., None] * shares).sum(axis=-2), -1, 0)
        value: Floats = passing / (passing + failing)
        low, high = _Profile(labelled, sizes).ends(normal_quantile(confidence) ** 2)
        return value, np.minimum(low, value), np.maximum(high, value)


class _Profile:
    """The likeliest pass shares of all strata for every rate there might be, from the estimate to both ends at once.

    Where the rate is held, the likeliest share p of a stratum solves `passed / p - failed / (1 - p) = tilt * weight`:
    one number, the tilt, goes with each rate. Below the estimate failures are imagined, above it passes.
    """

    def __init__(self, labelled: Floats, sizes: Floats) -> None:
        n = sizes.sum(axis=-1, keepdims=True)
        share = sizes / n
        asked, applicable = labelled.sum(axis=-1), labelled[..., :2].sum(axis=-1)
        overall = (applicable.sum(axis=-1) / asked.sum(axis=-1))[..., None]
        applies = (applicable + _SHRUNK * overall) / (asked + _SHRUNK)
        together = (share * applies).sum(axis=-1, keepdims=True)
        self.weights = share * applies / together
        of_applies = share**2 * applies * (1 - applies) / np.maximum(asked, _SHRUNK)
        self.of_weights = (self.weights * applies / n + of_applies / together) / together
        self.side = np.array([1.0, -1.0]).reshape(2, *(1,) * n[..., 0].ndim)
        failures, passes = (
            np.maximum(IMAGINED * share * (side[..., None] > 0), _HARDLY) for side in (self.side, -self.side)
        )
        self.passed, self.failed = labelled[..., 0] + passes, labelled[..., 1] + failures
        self.labels = self.passed + self.failed
        self.middle = (self.weights * self.passed / self.labels).sum(axis=-1)

    def ends(self, far: float) -> Floats:
        """The rates below and above at which twice the loss of log-likelihood comes to `far`, by bisection."""
        near, beyond = (np.full_like(self.middle, tilt) for tilt in _TILTS)
        for _ in range(_HALVINGS):
            middle = (near + beyond) / 2
            rejected = self._at(self.side * np.exp(middle))[1] > far
            near, beyond = np.where(rejected, near, middle), np.where(rejected, middle, beyond)
        return self._at(self.side * np.exp(near))[0]

    def _at(self, tilt: Floats) -> tuple[Floats, Floats]:
        """The rate that goes with a tilt, and twice the loss of log-likelihood, less what else is uncertain."""
        shares = self._shares(tilt[..., None] * self.weights)
        rate = (self.weights * shares).sum(axis=-1)
        loss = self.passed * np.log(self.passed / self.labels / shares)
        loss += self.failed * np.log(self.failed / self.labels / (1 - shares))
        further = (self.of_weights * (shares - rate[..., None]) ** 2).sum(axis=-1)
        # a loss stands for a variance, moved**2 / loss, to which the further one is added
        return rate, 1 / (0.5 / np.maximum(loss.sum(axis=-1), 0) + further / (rate - self.middle) ** 2)

    def _shares(self, pull: Floats) -> Floats:
        lost = np.where(pull > 0, self.failed, self.passed)
        root = np.sqrt((self.labels - abs(pull)) ** 2 + 4 * abs(pull) * lost)
        # each form of the root is exact on its own side only
        kept = 2 * np.where(pull > 0, self.passed, self.failed) / (self.labels + abs(pull) + root)
        return np.asarray(np.where(pull > 0, kept, 1 - kept), np.float64)


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
