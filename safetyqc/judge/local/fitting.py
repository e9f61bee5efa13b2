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

from safetyqc.judge.local.features import Features
from safetyqc.judge.local.model import Linear

Floats = npt.NDArray[np.float64]
DIGITS = 4
"""Decimals of a stored weight: more would not change a verdict."""


def fit_logistic(
    rows: Sequence[Features],
    targets: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    prior: Linear | None = None,
    sign: Callable[[str], int] = lambda _: 0,
    penalty: float = 1.0,
) -> Linear:
    """Fit log odds of yes.

    Args:
        targets: 1 for yes, 0 for no; a share counts as so much of each.
        weights: what each row counts; None for 1.
        prior: weights that the penalty pulls towards; features that it does not name are pulled to 0.
        sign: 1 or -1 for features whose weight must not be of the other sign.
        penalty: larger stays nearer to the prior.
    """
    start = prior or Linear()
    names = sorted({name for row in rows for name in row} | set(start.weights))
    matrix = _matrix(rows, names)
    yes = np.asarray(targets, np.float64)
    count = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    middle = np.array([start.weights.get(name, 0.0) for name in names])
    transposed = matrix.T.tocsr()

    def loss(theta: Floats) -> tuple[float, Floats]:
        logits, away = matrix @ theta[:-1] + theta[-1], theta[:-1] - middle
        value = float((count * (np.logaddexp(0, logits) - yes * logits)).sum() + penalty / 2 * (away @ away))
        error = count * (1 / (1 + np.exp(-np.clip(logits, -50, 50))) - yes)
        return value, np.append(transposed @ error + penalty * away, error.sum())

    bounds = [_BOUNDS[sign(name)] for name in names] + [(None, None)]
    result: Any = minimize(
        loss, np.append(middle, start.bias), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 500}
    )
    found = {name: round(float(w), DIGITS) for name, w in zip(names, result.x, strict=False)}
    return Linear(bias=round(float(result.x[-1]), DIGITS), weights={name: w for name, w in found.items() if w})


_BOUNDS: Mapping[int, tuple[float | None, float | None]] = {1: (0.0, None), -1: (None, 0.0), 0: (None, None)}


def _matrix(rows: Sequence[Features], names: Sequence[str]) -> Any:
    place = {name: column for column, name in enumerate(names)}
    cells = [(r, place[name], value) for r, row in enumerate(rows) for name, value in row.items() if value]
    if not cells:
        return csr_matrix((len(rows), len(names)))
    row_index, column_index, values = zip(*cells, strict=True)
    return csr_matrix((values, (row_index, column_index)), shape=(len(rows), len(names)))


def fit_calibration(logits: Sequence[float], passed: Sequence[bool]) -> tuple[float, float]:
    """Slope and offset that turn held-out logits into probabilities (Platt 1999), pulled towards (1, 0)."""
    rows = [{"logit": logit / 4} for logit in logits]
    yes, no = sum(passed), len(passed) - sum(passed)
    targets = [(yes + 1) / (yes + 2) if p else 1 / (no + 2) for p in passed]  # Platt's own smoothing
    fitted = fit_logistic(rows, targets, prior=Linear(weights={"logit": 4.0}), sign=lambda _: 1, penalty=0.3)
    return max(fitted.weights.get("logit", 0.0) / 4, 0.05), fitted.bias
