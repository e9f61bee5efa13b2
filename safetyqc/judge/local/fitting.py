"""Fits linear models over named features, with a direction and a starting weight for each; needs scipy, so training only.

A logistic regression whose penalty pulls towards given weights instead of towards zero, and whose signed weights
cannot cross zero (box-constrained L-BFGS; Byrd et al. 1995). Deterministic: the problem is convex and starts at the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from safetyqc.judge.local.features import Features, is_hashed
from safetyqc.judge.local.model import Linear

Floats = npt.NDArray[np.float64]
DIGITS = 3
"""Decimals of a stored weight: more would not change a verdict."""


def fit_logistic(
    rows: Sequence[Features],
    targets: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    prior: Linear | None = None,
    sign: Callable[[str], int] = lambda _: 0,
    penalty: float = 1.0,
    hold_bias: bool = False,
    rarity: bool = False,
) -> Linear:
    """Fit log odds of yes.

    Args:
        targets: 1 for yes, 0 for no; a share counts as so much of each.
        weights: what each row counts; None for 1.
        prior: weights that the penalty pulls towards; features that it does not name are pulled to 0.
        sign: 1 or -1 for features whose weight must not be of the other sign.
        penalty: larger stays nearer to the prior.
        hold_bias: let the penalty pull the bias towards the prior's, too.
        rarity: let features that few rows hold weigh more at the same penalty, as inverse document frequency does.
    """
    start = prior or Linear()
    names = sorted({name for row in rows for name in row} | set(start.weights))
    matrix = _matrix(rows, names)
    if rarity:
        scale = _rarity(matrix)
        matrix = matrix.multiply(scale).tocsr()
    yes = np.asarray(targets, np.float64)
    count = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    origin = np.array([*(start.weights.get(name, 0.0) for name in names), start.bias])
    pulled = np.array([1.0] * len(names) + [float(hold_bias)])
    transposed = matrix.T.tocsr()

    def loss(theta: Floats) -> tuple[float, Floats]:
        logits, away = matrix @ theta[:-1] + theta[-1], (theta - origin) * pulled
        value = float((count * (np.logaddexp(0, logits) - yes * logits)).sum() + penalty / 2 * (away @ away))
        error = count * (1 / (1 + np.exp(-np.clip(logits, -50, 50))) - yes)
        return value, np.append(transposed @ error, error.sum()) + penalty * away

    bounds = [_BOUNDS[sign(name)] for name in names] + [(None, None)]
    result: Any = minimize(
        loss, origin, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 500}
    )
    sizes = result.x[:-1] * scale if rarity else result.x[:-1]
    found = {name: round(float(w), DIGITS) for name, w in zip(names, sizes, strict=True)}
    return Linear(bias=round(float(result.x[-1]), DIGITS), weights={name: w for name, w in found.items() if w})


def without_dust(model: Linear, least: float = 0.02) -> Linear:
    """Drop hashed weights that cannot matter: thousands of them make most of a file and none of a verdict."""
    kept = {name: w for name, w in model.weights.items() if abs(w) >= least or not is_hashed(name)}
    return Linear(bias=model.bias, weights=kept)


def _rarity(matrix: Any) -> Floats:
    """Inverse document frequency of every column, about 1 for a feature that one row in fifty holds."""
    holds = np.asarray((matrix != 0).sum(axis=0)).ravel()
    return np.log((matrix.shape[0] + 1) / (holds + 1)) / 4


_BOUNDS: Mapping[int, tuple[float | None, float | None]] = {1: (0.0, None), -1: (None, 0.0), 0: (None, None)}


def _matrix(rows: Sequence[Features], names: Sequence[str]) -> Any:
    place = {name: column for column, name in enumerate(names)}
    cells = [(r, place[name], value) for r, row in enumerate(rows) for name, value in row.items() if value]
    if not cells:
        return csr_matrix((len(rows), len(names)))
    row_index, column_index, values = zip(*cells, strict=True)
    return csr_matrix((values, (row_index, column_index)), shape=(len(rows), len(names)))


def fit_calibration(
    logits: Sequence[float], passed: Sequence[bool], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """Slope and offset that turn held-out logits into probabilities (Platt 1999), pulled towards (1, 0).

    The pull is firm because a source may hold one class only: its offset would then say where the labels come from.
    """
    rows = [{"logit": logit / 4} for logit in logits]
    yes, no = sum(passed), len(passed) - sum(passed)
    targets = [(yes + 1) / (yes + 2) if p else 1 / (no + 2) for p in passed]  # Platt's own smoothing
    fitted = fit_logistic(rows, targets, weights=weights, prior=Linear(weights={"logit": 4.0}), sign=lambda _: 1, penalty=3.0, hold_bias=True)
    return max(fitted.weights.get("logit", 0.0) / 4, 0.05), fitted.bias
