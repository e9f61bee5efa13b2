"""Agreement statistics of aligned ratings, vectorised; knows codes and arrays, no records but the resulting ones.

Imports numpy at module top: only what compares judges imports it. The one surprising thing: no row is ever resampled.
A statistic of two raters depends only on how often each pattern of cells occurs, so one multinomial draw over the few
patterns is the bootstrap of all conversations, exactly, and its cost does not grow with their number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from safetyqc.judge.ratings import FAIL, PASS, Codes
from safetyqc.results.compare import Calibration, Estimate
from safetyqc.results.statistics import wilson_interval

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
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
    """Estimate kappa with a percentile bootstrap interval that resamples whole conversations.

    Where no cell differs the bootstrap would claim certainty however few the cells, so the lower end then comes from
    Wilson's upper limit of the share of conversations that differ. None when kappa is undefined.

    Args:
        counts: of shape (conversations, 4), from `pair_counts`.
    """
    value = float(kappa(counts.sum(axis=0)))
    if np.isnan(value):
        return None
    tables = _resampled_tables(counts, resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(kappa(tables), [tail, 1 - tail])
    total = counts.sum(axis=0)
    if total[1] + total[2] == 0:
        conversations = int((counts.sum(axis=1) > 0).sum())
        low = 1 - wilson_interval(0, conversations, confidence)[1] / (1 - _expected(total))
    return Estimate(value=value, low=max(-1.0, min(float(low), value)), high=max(float(high), value))


def _expected(total: Counts) -> float:
    n = total.sum()
    both_pass, first_only, second_only, both_fail = (int(c) for c in total)
    chance = (both_pass + first_only) * (both_pass + second_only) + (both_fail + first_only) * (both_fail + second_only)
    return float(chance / n**2)


def _resampled_tables(counts: Counts, resamples: int, seed: int) -> Floats:
    """Draw `resamples` tables of shape (resamples, 4), each the sum over as many conversations as have a cell."""
    base = int(counts.max(initial=0)) + 1
    keys = counts @ (base ** np.arange(4))
    patterns, frequencies = np.unique(keys[keys > 0], return_counts=True)
    cells = (patterns[:, None] // base ** np.arange(4)) % base
    n = int(frequencies.sum())
    draws = np.random.default_rng(seed).multinomial(n, frequencies / n, size=resamples)
    tables: Floats = (draws @ cells).astype(np.float64)
    return tables


def mcnemar_p(first_only: int, second_only: int) -> float | None:
    """Two-sided exact p-value that both discordant cells are equally likely (McNemar 1947); None without any."""
    from scipy.special import bdtr

    n = first_only + second_only
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), n, 0.5))) if n else None


def alpha(codes: list[Codes]) -> float | None:
    """Krippendorff's nominal alpha over raters; None with fewer than two, or when all used one class only.

    Args:
        codes: one array for each rater, any shape, the same for all.
    """
    import krippendorff

    stacked = np.stack([c.ravel() for c in codes])
    counts = np.stack([(stacked == code).sum(axis=0) for code in (FAIL, PASS)], axis=1)
    pairable = counts[counts.sum(axis=1) >= 2]
    if len(codes) < 2 or (pairable.sum(axis=0) == 0).any():
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
