"""Fits linear models over named features, with a direction and a starting weight for each; scipy, so training only.

A logistic regression whose penalty pulls towards given weights instead of towards zero, and whose signed weights
cannot cross zero (box-constrained L-BFGS; Byrd et al. 1995). Deterministic: it is convex and starts at the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from safetyqc.judge.embedded.features import Buckets, Features
from safetyqc.judge.embedded.model import BUCKET_NORM, Linear

Floats = npt.NDArray[np.float64]
DIGITS = 3
"""Decimals of a stored weight: more would not change a verdict."""


K = TypeVar("K", str, int)
Row = tuple[Features, Buckets]
Column = str | int
"""A feature by name, or a hash bucket by number."""


def fit_logistic(
    rows: Sequence[Row],
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
        prior: weights that the penalty pulls towards; what it does not name is pulled to 0.
        sign: 1 or -1 for features whose weight must not be of the other sign.
        penalty: larger stays nearer to the prior.
        hold_bias: let the penalty pull the bias towards the prior's, too.
        rarity: let features that few rows hold weigh more at the same penalty, as inverse document frequency does.
    """
    start = prior or Linear()
    names = sorted({name for features, _ in rows for name in features})
    numbers = sorted({number for _, buckets in rows for number in buckets})
    matrix = _matrix(rows, _places(names, numbers))
    scale = _rarity(matrix) if rarity else np.ones(matrix.shape[1])
    origin = [*(start.weights.get(n, 0.0) for n in names), *(start.buckets.get(n, 0.0) for n in numbers)]
    bounds = [_BOUNDS[sign(name)] for name in names] + [_BOUNDS[0]] * (len(numbers) + 1)
    loss = _Loss(
        matrix=matrix.multiply(scale).tocsr(),
        yes=np.asarray(targets, np.float64),
        count=np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64),
        origin=np.append(np.array(origin) / scale, start.bias),
        penalty=penalty * np.append(np.ones(len(origin)), float(hold_bias)),
    )
    result: Any = minimize(loss, loss.origin, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 500})
    found = np.round(result.x[:-1] * scale, DIGITS).tolist()
    return Linear(
        bias=round(float(result.x[-1]), DIGITS),
        weights=_moved(start.weights, names, found[: len(names)]),
        buckets=_moved(start.buckets, numbers, found[len(names) :]),
    )


def _moved(before: Mapping[K, float], columns: Sequence[K], found: Sequence[float]) -> dict[K, float]:
    """Weights after a fit; those that no row holds stay where the prior had them."""
    after = dict(before) | dict(zip(columns, found, strict=True))
    return {column: after[column] for column in sorted(after) if after[column]}


def _places(names: Sequence[str], numbers: Sequence[int]) -> dict[Column, int]:
    columns: list[Column] = [*names, *numbers]
    return {column: place for place, column in enumerate(columns)}


@dataclass(frozen=True)
class _Loss:
    """Weighted log loss plus the pull towards the origin, with its gradient."""

    matrix: Any
    yes: Floats
    count: Floats
    origin: Floats
    penalty: Floats

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        logits, away = self.matrix @ theta[:-1] + theta[-1], theta - self.origin
        loss = self.count * (np.logaddexp(0, logits) - self.yes * logits)
        error = self.count * (1 / (1 + np.exp(-np.clip(logits, -50, 50))) - self.yes)
        value = float(loss.sum() + (self.penalty * away**2).sum() / 2)
        return value, np.append(self.matrix.T @ error, error.sum()) + self.penalty * away


def without_dust(model: Linear, least: float = 0.02) -> Linear:
    """Drop hashed weights that cannot matter: thousands of them make most of a file and none of a verdict."""
    return Linear(
        bias=model.bias, weights=model.weights, buckets={n: w for n, w in model.buckets.items() if abs(w) >= least}
    )


def _rarity(matrix: Any) -> Floats:
    """Inverse document frequency of every column, about 1 for a feature that one row in fifty holds."""
    holds = np.asarray((matrix != 0).sum(axis=0)).ravel()
    out: Floats = np.log((matrix.shape[0] + 2) / (holds + 1)) / 4
    return out


_BOUNDS: Mapping[int, tuple[float | None, float | None]] = {1: (0.0, None), -1: (None, 0.0), 0: (None, None)}


def _matrix(rows: Sequence[Row], place: Mapping[Column, int]) -> Any:
    cells: list[tuple[int, int, float]] = []
    for row, (features, buckets) in enumerate(rows):
        cells += [(row, place[name], value) for name, value in features.items() if value]
        share = BUCKET_NORM / math.sqrt(max(len(buckets), 1))
        cells += [(row, place[number], share) for number in buckets]
    row_index, columns, values = np.array(cells).reshape(-1, 3).T
    return csr_matrix((values, (row_index.astype(int), columns.astype(int))), shape=(len(rows), len(place)))


SLOPES = np.linspace(0.2, 2.0, 91)


def fit_slope(logits: Sequence[float], passed: Sequence[bool], weights: Sequence[float]) -> float:
    """The slope by which held-out logits make the likeliest probabilities (temperature scaling, Guo et al. 2017).

    There is no offset on purpose: a source may hold one class only, and an offset would tell where labels come from.
    """
    signed = np.asarray(logits) * np.where(np.asarray(passed), -1.0, 1.0)
    losses = [float((np.asarray(weights) * np.logaddexp(0, slope * signed)).sum()) for slope in SLOPES]
    return round(float(SLOPES[int(np.argmin(losses))]), DIGITS)
