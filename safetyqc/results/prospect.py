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


BASE = Mix(name="no training", harmful=0, benign=0, ordinary=1, refuses_unsafe=0.04, helps_safe=0.98, refuses_safe=0.02)
"""The same model before it was trained."""


def _measured(name: str, mix: tuple[int, int, int], rates: tuple[float, float, float]) -> Mix:
    fields = ("harmful", "benign", "ordinary", "refuses_unsafe", "helps_safe", "refuses_safe")
    return Mix.model_validate({"name": name, **dict(zip(fields, (*mix, *rates), strict=True))})


MEASURED = (
    _measured("harmful alone", (60, 0, 0), (1.00, 0.00, 1.00)),
    _measured("a generated set as it passed", (119, 24, 0), (0.81, 0.25, 0.75)),
    _measured("two look-alikes for three harmful", (60, 40, 0), (0.54, 0.72, 0.28)),
    _measured("as many look-alikes", (60, 60, 0), (0.49, 0.80, 0.19)),
    _measured("twice as many look-alikes", (60, 120, 0), (0.37, 0.84, 0.15)),
    _measured("three times as many look-alikes", (45, 136, 0), (0.20, 0.91, 0.09)),
    _measured("five times as many look-alikes", (27, 136, 0), (0.12, 0.93, 0.06)),
    _measured("twice as many look-alikes, and ordinary ones", (68, 136, 68), (0.45, 0.79, 0.21)),
    _measured("with the model's own ordinary answers", (119, 24, 100), (0.02, 0.99, 0.01)),
)
"""SmolLM2-135M-Instruct, three epochs, three seeds of those of the bundled plan and two of the others, XSTest's 450
prompts, by the words of the answers (docs/effect.md)."""
RECOMMENDED = {"harmful": 1, "benign": 2}
"""Of the mixes of the bundled plan that made the model refuse at least 0.3 more of what is unsafe, the one that helps
most: what the bundled plan deals, too."""


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
