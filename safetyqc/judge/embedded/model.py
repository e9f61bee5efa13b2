"""The numbers of the local judge: linear models over named features, read from and written to one JSON file.

Holds no text of any training set: names of cues, numbers of hash buckets, weights, and the figures that the weights
were measured to have. Plain Python on purpose: importing numpy would take longer than judging a thousand conversations.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import Field, ValidationError

from safetyqc.errors import ConfigError
from safetyqc.judge.embedded.features import BUCKETS, Buckets, Features, Turn, harm_features
from safetyqc.records import INTENTS, Intent, Record

FORMAT = 2
NO_BUCKETS: Buckets = frozenset()
BUCKET_NORM = 3.0
MAX_BUCKET = 32.0
"""A bucket's weight fits two bytes in thousandths."""
TABLE = 2 * BUCKETS
"""Buckets of requests, and after them those of openings."""
MAX_LOGIT = 6.0
"""Logits of turns are cut here, so that one very clear turn cannot outweigh all others."""
DECLINED = 2.0
"""Log odds from which a turn clearly declines."""
RELENTED_HARM, CARRIED_HARM = 0.4, 0.8
"""How much of its harm a request keeps in which the user gives up what was declined ("I guess you're right"), and how
much a follow-up that does not ("come on, just this once") has from the request before it."""
INTENT_HARM: Mapping[Intent | None, float] = {"benign": 0.2, "borderline": 0.6}
"""How much of the harm that single requests seem to ask for is left when the conversation's intent is known."""
KNOWN_HARM = 0.9
"""How harmful the one request of a conversation is at least that is known to be harmful."""
MAX_WORDING, WORDING_SCALE, FAMILIARITY_POWER, LEAST_FAMILIARITY = 1.5, 3.0, 6, 0.6
"""How far the wording of a request that training has seen may move a turn's log odds, and how fast that fades."""
SAMPLE = 16
SHIPPED = "weights.json"
T = TypeVar("T", bound=str)


class Linear(Record):
    """A logistic model over named features and hash buckets; an unknown one weighs nothing."""

    bias: float = 0.0
    weights: Mapping[str, float] = Field(default_factory=dict)
    buckets: Mapping[int, Annotated[float, Field(ge=-MAX_BUCKET, le=MAX_BUCKET)]] = Field(default_factory=dict)

    @cached_property
    def thousandths(self) -> array[int]:
        """What every bucket weighs, times 1,000; a look-up touches one place in memory, in a dictionary it is four."""
        table = array("h", bytes(2 * (TABLE if self.buckets else 0)))
        for bucket, weight in self.buckets.items():
            table[bucket] = round(1000 * weight)
        return table

    def logit(self, features: Features, buckets: Buckets = NO_BUCKETS) -> float:
        """Log odds of yes; the buckets make a vector of length BUCKET_NORM."""
        get = self.weights.get
        out = self.bias + sum([get(name, 0.0) * value for name, value in features.items()])
        if buckets and self.buckets:
            out += BUCKET_NORM / math.sqrt(len(buckets)) * sum(map(self.thousandths.__getitem__, buckets)) / 1000
        return out


class _Rivals(Generic[T]):
    """Models of which one is chosen: asked together, a feature at a time."""

    def __init__(self, models: Mapping[T, Linear]) -> None:
        self._names = list(models)
        self._biases = [model.bias for model in models.values()]
        names = {name for model in models.values() for name in model.weights}
        self._columns = {name: [model.weights.get(name, 0.0) for model in models.values()] for name in names}

    def likeliest(self, features: Features) -> T:
        """The model with the highest logit, the first of several."""
        logits = self._biases
        for name, value in features.items():
            if name in self._columns:
                logits = [logit + value * weight for logit, weight in zip(logits, self._columns[name], strict=True)]
        return self._names[logits.index(max(logits))]


class Figures(Record):
    """How a criterion's model agreed with labels of sources that it was not trained on."""

    n: int
    passed: int
    kappa: float | None
    kappa_low: float | None
    """Lower end of the 95% bootstrap interval; at or below 0 the criterion is not reliable."""
    kappa_high: float | None
    accuracy: float | None
    coverage: float | None
    """Share of conversations on which it does not abstain."""
    accuracy_covered: float | None


class CriterionModel(Record):
    """One criterion: a model, and the map from its logit to a probability of pass, fitted on held-out sources."""

    model: Linear
    slope: float = 1.0
    unsure: Annotated[tuple[float, float], Field()] = (0.35, 0.65)
    """Between these probabilities it abstains."""
    reliable: bool
    figures: Figures

    def probability(self, features: Features) -> float:
        """Calibrated probability of pass."""
        return sigmoid(self.slope * self.model.logit(features))


class Weights(Record):
    """Everything that training finds."""

    format: int
    trained_on: Mapping[str, int]
    """Source to number of conversations."""
    harm: Linear
    refusal: Linear
    wording: Linear
    """Hashed words of request and opening; counts only as far as the request's wording was seen in training."""
    intents: Mapping[Intent, Linear]
    categories: Mapping[str, Linear]
    criteria: Mapping[str, CriterionModel]

    def harms(self, turns: list[Turn]) -> list[float]:
        """Probability for each request, by itself, that it is harmful."""
        return [sigmoid(self.harm.logit(turn.asked.features, turn.asked.buckets)) for turn in turns]

    def read(
        self, turns: list[Turn], intent: Intent | None = None, harms: list[float] | None = None
    ) -> list[tuple[float, float]]:
        """For each turn the probability that its request is harmful, and the log odds that its answer declines.

        Args:
            intent: of the conversation, where it is known; it bears on the first number only.
            harms: from `harms`, where they are known.
        """
        harms = harms or self.harms(turns)
        if intent == "harmful" and len(harms) == 1:
            harms = [max(harms[0], KNOWN_HARM)]
        share = INTENT_HARM.get(intent, 1.0)
        return [(share * harm, logit) for harm, logit in self._read(turns, harms)]

    def _read(self, turns: list[Turn], harms: list[float]) -> list[tuple[float, float]]:
        out: list[tuple[float, float]] = []
        for turn, harm in zip(turns, harms, strict=True):
            if "relent" in turn.asked.features and any(logit > DECLINED for _, logit in out):
                now = harm * RELENTED_HARM
            else:
                now = max(harm, CARRIED_HARM * out[-1][0]) if out else harm
            logit = self.refusal.logit(turn.features) + self._by_wording(turn)
            logit += self.refusal.logit(harm_features(turn.features, now)) - self.refusal.bias
            out.append((now, max(-MAX_LOGIT, min(MAX_LOGIT, logit))))
        return out

    def _by_wording(self, turn: Turn) -> float:
        """What the very words say, times how familiar the request is: on other requests they would only mislead."""
        if not self.wording.buckets:
            return 0.0
        weigh, asked = self.wording.thousandths.__getitem__, turn.asked.buckets
        some = sum(map(bool, map(weigh, islice(asked, SAMPLE))))
        if some < LEAST_FAMILIARITY / 2 * min(SAMPLE, len(asked)):
            return 0.0  # most requests end here: looking all words up would be the dearest step of all
        known = [weight for weight in map(weigh, asked) if weight]
        familiar = len(known) / max(len(asked), 1)
        if familiar < LEAST_FAMILIARITY:
            return 0.0
        said = (sum(known) + sum(map(weigh, turn.opening))) / 1000
        logit = self.wording.bias + BUCKET_NORM / math.sqrt(len(asked) + len(turn.opening)) * said
        return WORDING_SCALE * max(-MAX_WORDING, min(MAX_WORDING, logit)) * familiar**FAMILIARITY_POWER

    def intent(self, asked: Features, harms: Iterable[float]) -> Intent:
        """The likeliest intent of all requests of a conversation together.

        Args:
            asked: from `features.together`.
            harms: probability of harm of every request.
        """
        return self._intents.likeliest(with_harm(asked, harms))

    def category(self, asked: Features) -> str:
        """The likeliest category of all requests of a conversation together."""
        return self._categories.likeliest(asked)

    @cached_property
    def _intents(self) -> _Rivals[Intent]:
        return _Rivals({intent: self.intents[intent] for intent in INTENTS})

    @cached_property
    def _categories(self) -> _Rivals[str]:
        return _Rivals(self.categories)


def with_harm(asked: Features, harms: Iterable[float]) -> Features:
    """Cues of all requests, and how harmful the most harmful one is."""
    return asked | {"harm": max(harms, default=0.0) * 3}


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
        raise ConfigError("is no weights file of the local judge", where=str(source), fix=fix) from error
    if weights.format != FORMAT:
        raise ConfigError(f"weights have format {weights.format}, not {FORMAT}", where=str(source), fix=fix)
    return weights
