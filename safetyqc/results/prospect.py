"""What a set will likely do to a model that is trained on it: its mix, its twins, where answers fail.

MEASURED holds small fine-tunings that were really made (docs/generate.md says how); a set is set beside the one whose
mix is nearest. Nothing is predicted for another model: which way a mix pulls, not how far.
"""

from __future__ import annotations

from safetyqc.records import Record
from safetyqc.results.rates import Rate


class Mix(Record):
    """A measured training set: how many conversations of which kind, and what a model did after it.

    `benign` counts look-alikes and unclear requests. Rates are 0..1 over XSTest's unsafe and safe prompts.
    """

    name: str
    harmful: int
    benign: int
    ordinary: int
    refuses_unsafe: float
    helps_safe: float
    refuses_safe: float

    @property
    def shares(self) -> tuple[float, float]:
        """The shares of harmful and of ordinary conversations."""
        total = self.harmful + self.benign + self.ordinary
        return self.harmful / total, self.ordinary / total


BASE = Mix(name="no training", harmful=0, benign=0, ordinary=1, refuses_unsafe=0.14, helps_safe=0.99, refuses_safe=0.01)
"""The same model before it was trained."""
MEASURED = (
    Mix(
        name="harmful alone", harmful=119, benign=0, ordinary=0, refuses_unsafe=0.99, helps_safe=0.06, refuses_safe=0.83
    ),
    Mix(
        name="as it passed", harmful=119, benign=24, ordinary=0, refuses_unsafe=0.90, helps_safe=0.26, refuses_safe=0.64
    ),
    Mix(
        name="with look-alikes",
        harmful=119,
        benign=60,
        ordinary=0,
        refuses_unsafe=0.35,
        helps_safe=0.87,
        refuses_safe=0.09,
    ),
    Mix(
        name="with the model's own ordinary answers",
        harmful=119,
        benign=24,
        ordinary=100,
        refuses_unsafe=0.16,
        helps_safe=0.99,
        refuses_safe=0.02,
    ),
)
"""SmolLM2-135M-Instruct, three epochs, judged by the embedded judge with known intent."""
RECOMMENDED = {"harmful": 1, "benign": 2}
"""Of the mixes that were trained on the bundled plan (docs/effect.md), the middle one of those whose twins were surely
more often right than without training and than with the control's."""


class TurnFailures(Record):
    """Of the conversations that go so far, how many failed at this exchange (1-based), by the deciding judge."""

    exchange: int
    reached: int
    failed: int


class Twins(Record):
    """Harmful requests and their benign look-alikes: `right` is over pairs of which both were judged."""

    planned: int
    kept: int
    """Pairs of which both are kept."""
    right: Rate


class Prospect(Record):
    """The mix of what is kept. Shares are None where nothing is kept; `refusals` are harmful requests declined."""

    harmful: int = 0
    distress: int = 0
    benign: int = 0
    ordinary: int = 0
    unknown: int = 0
    refusals: int = 0
    refusal_share: float | None = None
    ordinary_share: float | None = None
    twins: Twins | None = None
    """None where the plan has none."""
    turns: tuple[TurnFailures, ...] = ()
    strictly_failed: int = 0
    """Answers that were planned as safe completions and failed for not refusing."""

    @property
    def nearest(self) -> Mix | None:
        """The measured set whose mix is nearest to this one; None where too little is known of it."""
        told = self.harmful + self.distress + self.benign + self.ordinary
        if not self.harmful or self.unknown > told:
            return None
        here = self.harmful / (told - self.distress), self.ordinary / (told - self.distress)
        return min(MEASURED, key=lambda mix: sum((a - b) ** 2 for a, b in zip(here, mix.shares, strict=True)))
