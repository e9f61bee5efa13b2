"""The numbers of the embedded judge: linear models over named features, read from and written to one JSON file.

Holds no text of any training set: names of cues, single words, weights, and the figures that were measured on sources
that were left out of training. Plain Python on purpose: importing numpy would take longer than judging a thousand
conversations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from pydantic import Field, ValidationError

from safetyqc.errors import ConfigError
from safetyqc.judge.embedded.reading import Features
from safetyqc.records import Outcome, Record

FORMAT = 3
SHIPPED = "weights.json"


class Linear(Record):
    """A logistic model over named features; an unknown one weighs nothing."""

    bias: float = 0.0
    weights: Mapping[str, float] = Field(default_factory=dict)

    def logit(self, features: Features) -> float:
        """Log odds of yes."""
        get = self.weights.get
        return self.bias + sum([get(name, 0.0) * value for name, value in features.items()])


class Figures(Record):
    """How verdicts agreed with labels of sources that were not trained on.

    Args:
        n: labelled cells.
        coverage: share of them that got a verdict.
        accuracy: share of those that agree.
    """

    n: int
    coverage: float | None = None
    accuracy: float | None = None


class Scale(Record):
    """What a logit means for one criterion, language and knowledge of the intent.

    Args:
        slope, bias: make a probability of pass of a logit, fitted on sources that were left out.
        pass_from: logit from which on its word for a pass counts; None: never.
        fail_to: logit down to which it counts for a fail; None: never.
    """

    slope: float = 1.0
    bias: float = 0.0
    pass_from: float | None = None
    fail_to: float | None = None
    figures: Figures

    def probability(self, logit: float) -> float:
        """Calibrated probability of pass."""
        return sigmoid(self.slope * logit + self.bias)

    def verdict(self, logit: float) -> Outcome:
        """Pass or fail where labels allow to say so; unscored in between."""
        if self.pass_from is not None and logit >= self.pass_from:
            return "pass"
        return "fail" if self.fail_to is not None and logit <= self.fail_to else "unscored"


class Weights(Record):
    """Everything that training finds.

    Args:
        trained_on: source to number of conversations.
        models: by name, see `scoring.py`.
        scales: by criterion, setting and language, such as `no_dangerous_steps/unknown/zh`.
    """

    format: int
    trained_on: Mapping[str, int]
    models: Mapping[str, Linear]
    scales: Mapping[str, Scale]

    @property
    def shown(self) -> frozenset[str]:
        """Criteria that it passes or fails in any language and setting."""
        speaks = [k for k, scale in self.scales.items() if (scale.pass_from, scale.fail_to) != (None, None)]
        return frozenset(key.partition("/")[0] for key in speaks)


def sigmoid(logit: float) -> float:
    """Probability of log odds, without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def load_weights(path: str | Path | None = None) -> Weights:
    """Read weights: the package's own, or a file that `safetyqc train-judge` wrote.

    Raises:
        ConfigError: the file is absent, or is not one of these.
    """
    source = Path(path) if path else files("safetyqc.judge.embedded").joinpath(SHIPPED)
    fix = "make one with `safetyqc train-judge LABELS --out PATH`"
    try:
        weights = Weights.model_validate_json(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"weights cannot be read: {error.strerror}", where=str(source), fix=fix) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError("is no weights file of the embedded judge", where=str(source), fix=fix) from error
    if weights.format != FORMAT:
        raise ConfigError(f"weights have format {weights.format}, not {FORMAT}", where=str(source), fix=fix)
    return weights
