"""Agreement statistics of aligned ratings, vectorised; knows codes and arrays, no records but the resulting ones.

Imports numpy at module top: only what compares judges imports it. No row is ever
resampled: a statistic of two raters depends only on how often each pattern of cells occurs, so one draw of weights over
the few patterns is the bootstrap of all conversations, exactly, and its cost does not grow with their number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from safetyqc.judge.ratings import FAIL, PASS, Codes
from safetyqc.results.compare import Calibration, Estimate
from safetyqc.results.statistics import wilson_interval

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_JEFFREYS = 0.5
_FOR_UPPER_END = np.array([1.0, 0.25, 0.25, 1.0])
BINS = 10
"""Equal-width bins of the expected calibration error."""


def pair_counts(first: Codes, second: Codes) -> Counts:
    """Count both-pass, only-first-passes, only-second-passes and both-fail cells of each conversation.

    Args:
        first, second: codes of shape (conversations, criteria).

    Returns:
        Shape (conversations, 4); cells that one of the two did not score count nowhere.
    """
    cells = [(first == a) & (second == b) for a in (PASS, FAIL) for b in (PASS, FAIL)]
    return np.stack([cell.sum(axis=1) for cell in cells], axis=1)


def kappa(counts: npt.ArrayLike) -> Floats:
    """Cohen's kappa of 2x2 tables in the order of `pair_counts`, over the last axis; nan where it is undefined."""
    table = np.asarray(counts, np.float64)
    n = table.sum(axis=-1)
    both_pass, first_only, second_only, both_fail = np.moveaxis(table, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (both_pass + both_fail) / n
        expected = (
            (both_pass + first_only) * (both_pass + second_only) + (both_fail + first_only) * (both_fail + second_only)
        ) / n**2
        value: Floats = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    return value


def kappa_estimate(counts: Counts, *, resamples: int, seed: int, confidence: float) -> Estimate | None:
    """Estimate kappa with an interval by the Bayesian bootstrap over whole conversations (Rubin, 1981).

    Beside the conversations that were seen half a one of each kind of cell is imagined (Jeffreys' prior): a bootstrap
    of what was seen alone claims certainty where one rater said one thing only, or where no cell differs, however few
    the cells. For the upper end a cell that differs is imagined with a quarter of its weight: with one or two failures
    among the labels it would else stay below what a good judge has (`benchmarks/corrected_rates.py`). None when kappa
    is undefined.

    Args:
        counts: of shape (conversations, 4), from `pair_counts`.
    """
    value = float(kappa(counts.sum(axis=0)))
    if np.isnan(value):
        return None
    tail = (1 - confidence) / 2
    seen, imagined = _weighted_tables(counts, resamples, seed)
    low = np.nanquantile(kappa(seen + imagined), tail)
    high = np.nanquantile(kappa(seen + imagined * _FOR_UPPER_END), 1 - tail)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def _weighted_tables(counts: Counts, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Draw tables of shape (resamples, 4): the patterns of cells that were seen, and imagined cells, by chance."""
    base = int(counts.max(initial=0)) + 1
    keys = counts @ (base ** np.arange(4))
    patterns, frequencies = np.unique(keys[keys > 0], return_counts=True)
    cells = (patterns[:, None] // base ** np.arange(4)) % base
    shapes = np.concatenate([frequencies, np.full(4, _JEFFREYS)])
    weights = np.random.default_rng(seed).gamma(shapes, size=(resamples, len(shapes)))
    return weights[:, :-4] @ cells, weights[:, -4:]


class CellShare(NamedTuple):
    """A share of cells, and how many independent cells the conversations that they stand in are worth."""

    share: float
    worth: float


def share_of_cells(part: Counts, whole: Counts) -> CellShare | None:
    """Share of cells whose conversations stand or fall together; None of nothing.

    Worth the effective sample size of a ratio estimator over conversations (clusters: Cochran, Sampling Techniques,
    1977, 9.7).

    Args:
        part, whole: cells of each conversation.
    """
    there = whole > 0
    part, whole = part[there], whole[there]
    n, conversations = int(whole.sum()), len(whole)
    if not n:
        return None
    value = float(part.sum() / n)
    effective = float(conversations)
    if conversations > 1 and conversations < n and 0 < value < 1:
        variance = float(((part - value * whole) ** 2).sum()) / n**2 * conversations / (conversations - 1)
        effective = min(float(n), value * (1 - value) / variance) if variance else float(n)
    return CellShare(value, effective)


def pass_rate(passed: Counts, scored: Counts, confidence: float) -> Estimate | None:
    """Estimate a share of cells, given by conversation, with Wilson's interval at what they are worth."""
    found = share_of_cells(passed, scored)
    if found is None:
        return None
    low, high = wilson_interval(found.share * found.worth, found.worth, confidence)
    return Estimate(value=found.share, low=low, high=high)


def paired_p(differences: npt.NDArray[np.int64]) -> float | None:
    """Two-sided exact p-value that differences are as likely to be below 0 as above it; None without any.

    The sign-flip test over conversations; with differences of 1 it is McNemar's exact test (1947).

    Args:
        differences: of each conversation, cells that only the first rater passes (or gets right) less those that only
            the second does.
    """
    from scipy.special import bdtr

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return None
    total = abs(int(differences.sum()))
    n = int(counts.sum())
    if list(sizes) == [1]:
        return min(1.0, 2 * float(bdtr((n - total) // 2, n, 0.5)))
    return min(1.0, 2 * float(_flipped(sizes, counts)[_centre(sizes, counts) + total :].sum()))


def _flipped(sizes: Counts, counts: Counts) -> Floats:
    """Chances of every sum of differences with random signs, from the smallest sum to the largest."""
    from scipy.signal import fftconvolve
    from scipy.stats import binom

    chances: Floats = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        of_size = np.zeros(2 * size * count + 1)
        of_size[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.maximum(fftconvolve(chances, of_size), 0)
    return chances


def _centre(sizes: Counts, counts: Counts) -> int:
    return int((sizes * counts).sum())


def alpha(codes: list[Codes]) -> float | None:
    """Krippendorff's nominal alpha over raters; None with fewer than two, or when all used one class only.

    Args:
        codes: one array for each rater, any shape, the same for all.
    """
    if len(codes) < 2:
        return None
    import krippendorff

    stacked = np.stack([c.ravel() for c in codes])
    counts = np.stack([(stacked == code).sum(axis=0) for code in (FAIL, PASS)], axis=1)
    pairable = counts[counts.sum(axis=1) >= 2]
    if (pairable.sum(axis=0) == 0).any():
        return None
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement="nominal"))


def calibration(probabilities: Floats, truth: Codes) -> Calibration | None:
    """Compare probabilities of pass with labels, where both are there; None where they never meet.

    Brier (1950) score, and the expected calibration error over 10 equal-width bins (Naeini et al., AAAI 2015).
    """
    usable = ~np.isnan(probabilities) & ((truth == PASS) | (truth == FAIL))
    n = int(usable.sum())
    if not n:
        return None
    said, is_pass = probabilities[usable], (truth[usable] == PASS).astype(np.float64)
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, said - is_pass, BINS)
    return Calibration(n=n, brier=float(((said - is_pass) ** 2).mean()), ece=float(np.abs(gaps).sum() / n))
