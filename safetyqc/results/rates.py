"""Pass rates, and the bars that they are held against: the judge's own, or those that labels correct."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from safetyqc.records import Record
from safetyqc.results.compare import CorrectedRate, Estimate
from safetyqc.results.statistics import wilson_interval


class Rate(Record):
    """How often something passed.

    `n` is passed + failed; `rate` is their share with its 95% Wilson interval. `worst` and `best` count every unscored
    one as a failure or as a pass. `na` ones are in none of it.
    """

    passed: int = 0
    failed: int = 0
    unscored: int = 0
    na: int = 0
    n: int = 0
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    worst: float | None = None
    best: float | None = None


def make_rate(passed: int, failed: int, unscored: int = 0, na: int = 0) -> Rate:
    """Build a Rate from its four counts."""
    n, all_applicable = passed + failed, passed + failed + unscored
    low, high = wilson_interval(passed, n) if n else (None, None)
    return Rate(
        passed=passed,
        failed=failed,
        unscored=unscored,
        na=na,
        n=n,
        rate=passed / n if n else None,
        low=low,
        high=high,
        worst=passed / all_applicable if all_applicable else None,
        best=(passed + unscored) / all_applicable if all_applicable else None,
    )


BarOf = Literal["rate", "corrected", "low"]


class BarSetting(Record):
    """The least that a user accepts of one pass rate; a plain number is that of the judge's own rate."""

    rate: float | None = Field(default=None, ge=0, le=1)
    corrected: float | None = Field(default=None, ge=0, le=1)
    """Of the rate corrected by labels."""
    low: float | None = Field(default=None, ge=0, le=1)
    """Of the lower end of the interval: the corrected rate's where labels correct it, else the judge's."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"rate": value} if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.goals:
            raise ValueError("a bar is a number, or says what it asks: corrected: 0.99, or low: 0.97")
        return self

    @property
    def goals(self) -> dict[BarOf, float]:
        """Each number that was set, by what it is about."""
        of: tuple[BarOf, ...] = ("rate", "corrected", "low")
        return {name: goal for name in of if (goal := getattr(self, name)) is not None}


class Bar(Record):
    """One of the user's own bars. `certain`: the whole 95% interval lies on the side that `met` says."""

    name: str
    bar: float
    rate: Rate
    """The judge's own."""
    met: bool
    certain: bool
    of: BarOf = "rate"
    corrected: CorrectedRate | None = None
    """The rate corrected by labels, where the bar asks for it and there is one."""

    @property
    def title(self) -> str:
        """The name with what of the rate is held against the bar."""
        return self.name + {"rate": "", "corrected": ", corrected", "low": ", lower end"}[self.of]

    @property
    def estimate(self) -> Estimate | None:
        """The rate that counts, with its interval."""
        if self.corrected and self.corrected.rate:
            return self.corrected.rate
        if self.of == "corrected" or self.rate.rate is None or self.rate.low is None or self.rate.high is None:
            return None
        return Estimate(value=self.rate.rate, low=self.rate.low, high=self.rate.high)

    @property
    def n(self) -> int:
        """How many conversations, or labels, the rate stands on."""
        return self.corrected.labels if self.corrected else 0 if self.of == "corrected" else self.rate.n

    @property
    def doubt(self) -> str:
        """What is to be said against the figure, in few words."""
        if self.of == "corrected" and self.estimate is None:
            return (self.corrected.refused if self.corrected else None) or "no labels"
        if self.of == "low":
            return "" if self.corrected and self.corrected.rate else "by the judge alone"
        return "" if self.certain else "not certain"


class Verdict(Record):
    """Whether every bar is met; None without bars. A bar without a single scored conversation is not met.

    Nor is one for a corrected rate where there are not labels enough to correct it.
    """

    met: bool | None
    bars: tuple[Bar, ...] = ()
