"""A judge's pass rate, corrected for the judge's own errors by labels, with an interval that carries the labels' doubt.

Two cases. Labels on a part of the same set: prediction-powered inference, stratified by what the judge said. Labels on
another set: Rogan-Gladen with the judge's hit rates there. Imports numpy at module top: only what compares judges
imports it. The one surprising thing: no interval is estimate +- 1.96 standard errors. With a good judge and few labels
the labelled sample often holds no error of the judge at all, that formula then claims near certainty, and in simulation
covers the truth as seldom as 60 % of the time; an adjusted interval at the effective sample size does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import numpy as np
import numpy.typing as npt

from safetyqc.errors import NotComparableError, UserError
from safetyqc.judge.ratings import ABSENT, FAIL, NA, PASS, UNSCORED, Ratings, align
from safetyqc.records import Judgment, Label
from safetyqc.results.compare import CorrectedRate, Estimate
from safetyqc.results.statistics import normal_quantile, share, wilson_interval

Floats = npt.NDArray[np.float64]
MIN_LABELS = 30
"""Labels in the same set below which no rate is corrected."""
MIN_LABELS_EACH = 10
"""Labelled passes, and labelled failures, in another set below which nothing is carried over from it."""
PSEUDO = 0.5
"""Weight of one imagined label of each kind (label x judgment) in variances, so that a sample without errors of the
judge is not taken for a judge without errors (as in Bonett and Price, 2012, for paired proportions)."""


def prediction_powered(
    labels: Floats, predicted: Floats, rest: Floats, *, confidence: float = 0.95, tune: bool = True
) -> Estimate:
    """Estimate a pass rate from a few labels and the judge's predictions on everything.

    Prediction-powered inference for a mean (Angelopoulos et al., arXiv 2301.09633), and with `tune` PPI++ (the same,
    arXiv 2311.01453), which weighs the predictions by how well they go with the labels: useless ones cost nothing.
    Departs from both in the interval, see the module. Any number may stand for an unscored cell, as long as it does so
    on both sides; the estimate stays unbiased.

    Args:
        labels: 0 or 1 of the n labelled conversations, a random sample of all.
        predicted: the judge's prediction for the same n, 0..1.
        rest: its predictions for the N others.

    Raises:
        UserError: no labels at all.
    """
    n = len(labels)
    if n == 0:
        raise UserError("no labels: nothing can be corrected", fix="label some of these conversations")
    weight = _power(labels, predicted, rest) if tune else float(len(rest) > 0)
    value = float(labels.mean() + weight * (rest.mean() - predicted.mean() if weight else 0.0))
    value = min(1.0, max(0.0, value))
    imagined = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
    residuals = np.concatenate([labels - weight * predicted, imagined @ [1, -weight]])
    mass = np.concatenate([np.ones(n), np.full(4, PSEUDO)])
    centre = np.average(residuals, weights=mass)
    variance = np.average((residuals - centre) ** 2, weights=mass) / n
    if weight:
        variance += weight**2 * rest.var() / len(rest)
    shrunk = (value * n + 2 * PSEUDO) / (n + 4 * PSEUDO)
    effective_n = shrunk * (1 - shrunk) / variance
    low, high = _interval(value, effective_n, confidence)
    return Estimate(value=value, low=low, high=high)


def _power(labels: Floats, predicted: Floats, rest: Floats) -> float:
    """Weight of the predictions that makes the variance least (PPI++, section 6), kept within 0..1."""
    n = len(labels)
    if n < 2 or not len(rest):
        return 0.0
    spread = np.concatenate([predicted, rest]).var()
    if spread < 1e-12:
        return 0.0
    together = ((labels - labels.mean()) * (predicted - predicted.mean())).sum() / (n - 1)
    return float(np.clip(together / ((1 + n / len(rest)) * spread), 0, 1))


def stratified(
    labels: Floats, predicted: Floats, strata: npt.NDArray[np.int_], *, confidence: float = 0.95
) -> Estimate:
    """Estimate a pass rate stratum by stratum and add up by the strata's shares.

    Stratified prediction-powered inference (Fisch et al., arXiv 2406.04291). Labels need be a random sample only within
    each stratum, so failures may be labelled more often than passes. A stratum without labels is guessed from the
    others and adds its full 0..1 doubt. The strata's intervals are combined by their distances from the estimates
    (MOVER; Zou and Donner, 2008).

    Args:
        labels: 0, 1 or nan (not labelled) for every conversation.
        predicted: the judge's prediction for every conversation, 0..1.
        strata: an integer for every conversation, made without looking at the labels.

    Raises:
        UserError: no labels at all.
    """
    known = ~np.isnan(labels)
    insides = [strata == stratum for stratum in np.unique(strata)]
    sizes = [float(inside.mean()) for inside in insides]
    parts = [_stratum(labels, predicted, inside & known, inside & ~known, confidence) for inside in insides]
    seen = [(size, part.value) for size, part in zip(sizes, parts, strict=True) if part]
    if not seen:
        raise UserError("no labels: nothing can be corrected", fix="label some of these conversations")
    guess = Estimate(value=sum(s * v for s, v in seen) / sum(s for s, _ in seen), low=0.0, high=1.0)
    return _add_up([(size, part or guess) for size, part in zip(sizes, parts, strict=True)], len(strata), confidence)


def _stratum(
    labels: Floats, predicted: Floats, known: npt.NDArray[np.bool_], rest: npt.NDArray[np.bool_], confidence: float
) -> Estimate | None:
    """Estimate one stratum; with few labels by them alone, since tuning on a handful chases noise."""
    n = int(known.sum())
    if not n:
        return None
    if n >= MIN_LABELS:
        return prediction_powered(labels[known], predicted[known], predicted[rest], confidence=confidence)
    low, high = _interval(float(labels[known].mean()), n, confidence)
    return Estimate(value=float(labels[known].mean()), low=low, high=high)


def _add_up(parts: list[tuple[float, Estimate]], n: int, confidence: float) -> Estimate:
    value = sum(size * part.value for size, part in parts)
    below = sum((size * (part.value - part.low)) ** 2 for size, part in parts)
    above = sum((size * (part.high - part.value)) ** 2 for size, part in parts)
    # the strata's shares are themselves a sample's
    mix = normal_quantile(confidence) ** 2 * sum(size * (part.value - value) ** 2 for size, part in parts) / n
    return Estimate(value=value, low=max(0.0, value - sqrt(below + mix)), high=min(1.0, value + sqrt(above + mix)))


def _interval(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Interval of a share by Agresti and Coull (1998): never narrower than Wilson's, which dips near 0 and 1."""
    z2 = normal_quantile(confidence) ** 2
    middle = (value * n + z2 / 2) / (n + z2)
    half = sqrt(z2 * middle * (1 - middle) / (n + z2))
    return max(0.0, middle - half), min(1.0, middle + half)


def rogan_gladen(
    judge_passed: int, judge_n: int, hits: tuple[int, int], rejections: tuple[int, int], confidence: float = 0.95
) -> Estimate:
    """Correct a pass rate by hit rates that were measured elsewhere, with the doubt of all three.

    Rogan and Gladen (1978) with the interval of Lang and Reiczigel (2014), as recommended for LLM judges in
    arXiv 2511.21140. Holds where the judge errs as often here as there.

    Args:
        judge_passed, judge_n: passes and scored conversations of the judge in this set.
        hits: of the labelled passes elsewhere, how many the judge passed, and their number.
        rejections: of the labelled failures elsewhere, how many the judge failed, and their number.

    Raises:
        UserError: too few labels, or a judge that these labels do not tell from chance.
    """
    _refuse_weak_evidence(hits, rejections, confidence)
    z2 = normal_quantile(confidence) ** 2
    raw = (judge_passed / judge_n + rejections[0] / rejections[1] - 1) / (
        hits[0] / hits[1] + rejections[0] / rejections[1] - 1
    )
    n, n_hits, n_rejections = judge_n + z2, hits[1] + 2, rejections[1] + 2
    passed, hit, rejected = (judge_passed + z2 / 2) / n, (hits[0] + 1) / n_hits, (rejections[0] + 1) / n_rejections
    skill = hit + rejected - 1
    middle = (passed + rejected - 1) / skill
    doubt_hit, doubt_rejected = hit * (1 - hit) / n_hits, rejected * (1 - rejected) / n_rejections
    shift = 2 * z2 * (middle * doubt_hit - (1 - middle) * doubt_rejected)
    variance = (passed * (1 - passed) / n + (1 - middle) ** 2 * doubt_rejected + middle**2 * doubt_hit) / skill**2
    half = sqrt(z2 * variance)
    value = min(1.0, max(0.0, raw))
    low, high = max(0.0, middle + shift - half), min(1.0, middle + shift + half)
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _refuse_weak_evidence(hits: tuple[int, int], rejections: tuple[int, int], confidence: float) -> None:
    if min(hits[1], rejections[1]) < MIN_LABELS_EACH:
        raise UserError(
            f"too few labels: {hits[1]} passes and {rejections[1]} failures",
            fix=f"label until there are at least {MIN_LABELS_EACH} of each",
        )
    shares = [(part / whole, *wilson_interval(part, whole, confidence)) for part, whole in (hits, rejections)]
    skill = sum(value for value, _, _ in shares) - 1
    if skill - sqrt(sum((value - low) ** 2 for value, low, _ in shares)) <= 0:
        raise UserError(
            f"these labels do not tell the judge from chance (it passes {shares[0][0]:.0%} of the passes and fails "
            f"{shares[1][0]:.0%} of the failures)",
            fix="label more, or use another judge",
        )


def corrected_rates(ratings: Ratings, criterion: str, confidence: float = 0.95) -> tuple[CorrectedRate, ...]:
    """Correct every judge's pass rate on one criterion by the labels in the same set.

    The population is what the judge called applicable, its unscored cells included. The rate is that of the process
    that the conversations came from; for exactly these conversations the interval is somewhat wide.
    """
    return tuple(
        _same_set(ratings, judge, criterion, confidence) for judge in ratings.judges if ratings.asked(judge, criterion)
    )


def _same_set(ratings: Ratings, judge: str, criterion: str, confidence: float) -> CorrectedRate:
    codes = ratings.codes[judge][criterion]
    truth = ratings.codes[ratings.truth or ""][criterion]
    applicable = (codes != NA) & (codes != ABSENT) & (truth != NA)
    said, real = codes[applicable], truth[applicable]
    labels = np.where(real <= PASS, (real == PASS).astype(np.float64), np.nan)
    known = int((real <= PASS).sum())
    facts = CorrectedRate(
        judge=judge,
        criterion=criterion,
        method="stratified prediction-powered",
        n=len(said),
        labels=known,
        judge_rate=share(int((said == PASS).sum()), int((said <= PASS).sum())),
    )
    if known < MIN_LABELS:
        return facts.model_copy(update={"refused": f"{known} labels, at least {MIN_LABELS} are needed"})
    guesses = np.select([said == PASS, said == FAIL], [1.0, 0.0], 0.5)
    probability = ratings.probabilities[judge][criterion][applicable]
    predicted = np.where(np.isnan(probability), guesses, probability)
    return facts.model_copy(update={"rate": stratified(labels, predicted, said.astype(int), confidence=confidence)})


def transferred_rates(
    judgments: Iterable[Judgment],
    labelled_judgments: Iterable[Judgment],
    labels: Iterable[Label],
    *,
    truth: str | None = None,
    confidence: float = 0.95,
) -> tuple[CorrectedRate, ...]:
    """Correct every judge's pass rates by labels that were given to another set, per criterion and overall.

    Covers what the judge scored; its unscored cells are outside. A criterion with too little evidence is refused alone.

    Args:
        judgments: of the set whose rates are wanted.
        labelled_judgments: of the same judges on the set that the labels are of.
        truth: as in `align`.

    Raises:
        NotComparableError: other rubrics, or a judge that did not judge the labelled set.
    """
    here, there = align(judgments, shared_only=True), align(labelled_judgments, labels, truth=truth, shared_only=True)
    if here.rubric_hash != there.rubric_hash:
        raise NotComparableError(
            f"the labelled set was judged with rubric {there.rubric_hash[:12]}, this one with {here.rubric_hash[:12]}",
            fix="judge both sets with one rubric",
        )
    absent = [judge for judge in here.judges if judge not in there.judges]
    if absent:
        raise NotComparableError(
            f"{absent[0]!r} did not judge the labelled set", fix=f"judges there: {', '.join(there.judges)}"
        )
    if there.truth is None:
        raise NotComparableError("the other set has no labels", fix="give --labels FILE")
    return tuple(
        _other_set(here, there, judge, criterion, confidence)
        for criterion in here.criteria
        for judge in here.judges
        if criterion in there.criteria and here.asked(judge, criterion)
    )


def _other_set(here: Ratings, there: Ratings, judge: str, criterion: str, confidence: float) -> CorrectedRate:
    codes, measured = here.codes[judge][criterion], there.codes[judge][criterion]
    truth = there.codes[there.truth or ""][criterion]
    scored, passed = int((codes <= PASS).sum()), int((codes == PASS).sum())
    usable = measured <= PASS
    hits = int((usable & (truth == PASS) & (measured == PASS)).sum()), int((usable & (truth == PASS)).sum())
    rejections = int((usable & (truth == FAIL) & (measured == FAIL)).sum()), int((usable & (truth == FAIL)).sum())
    facts = CorrectedRate(
        judge=judge,
        criterion=criterion,
        method="Rogan-Gladen",
        n=scored,
        labels=hits[1] + rejections[1],
        judge_rate=share(passed, scored),
    )
    if not scored:
        reason = f"none scored here ({int((codes == UNSCORED).sum())} unscored)"
        return facts.model_copy(update={"refused": reason})
    try:
        return facts.model_copy(update={"rate": rogan_gladen(passed, scored, hits, rejections, confidence)})
    except UserError as error:
        return facts.model_copy(update={"refused": error.what})
