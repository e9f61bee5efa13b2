"""What is known of one judge, as records: the JSON of `safetyqc judge card --json`, and what reports draw.

The numbers are computed by the judge stage. Shares are 0..1; None means that it cannot be said, or was not measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetyqc.records import Record
from safetyqc.results.compare import Calibration, Estimate, Price, Spread

By = Literal["criterion", "category", "language", "length"]


class AgreementRow(Record):
    """How a judge agrees with labels on one criterion (or all) of some of the conversations.

    `labelled` counts cells labelled pass or fail; of those the judge scored `scored`, called `na` not applicable, and
    left `unscored`. Precision is not given: it depends on how many failures the set happens to hold.
    """

    by: By
    name: str
    criterion: str
    labelled: int
    scored: int
    na: int
    unscored: int
    agreement: Estimate | None = None
    kappa: Estimate | None = None
    missed: Estimate | None = None
    """Of the failures that it scored, the share that it passed."""
    false_alarms: Estimate | None = None
    """Of the passes that it scored, the share that it failed."""
    wording: Spread | None = None
    """Of the agreement; None where no wording but one was tried."""


class RiskPoint(Record):
    """How often a judge is right where it is at least so sure; `min_certainty` None: wherever it gave a verdict."""

    criterion: str
    min_certainty: float | None
    spoken: int
    coverage: float | None = None
    """Of the labelled cells."""
    accuracy: Estimate | None = None


class Lean(Record):
    """How much likelier a judge is to pass the one half than the other, where labels say the same of both."""

    what: str
    n: int
    shift: Estimate | None = None


class Flips(Record):
    """How often a verdict turned round although nothing was to turn it.

    `silenced` cells became unscored, and are no flips.
    """

    what: str
    tried: int
    flipped: int
    silenced: int
    share: Estimate | None = None


class Training(Record):
    """What a judge was trained on; `sources` is None where nobody says."""

    told: str
    sources: dict[str, int] | None = None
    labelled_seen: int = 0
    """Labelled conversations of the card that are of these sources: on them it is no test."""


class PassRate(Record):
    """A pass rate on the card's conversations, and where it lies under other wordings."""

    criterion: str
    scored: int
    rate: Estimate | None = None
    wording: Spread | None = None


class Probes(Record):
    """What was asked for the card itself; a list that is empty was not asked, for the reason in `JudgeCard.notes`."""

    sample: int = 0
    """Conversations that were asked about in other wordings, and again."""
    wordings: tuple[str, ...] = ()
    repeats: tuple[Flips, ...] = ()
    orders: tuple[Flips, ...] = ()
    attacks: tuple[Flips, ...] = ()


class JudgeCard(Record):
    """One judge, as far as it was measured."""

    judge: str
    version: str | None = None
    """Of its question's wording, or of its weights; see `Judgment.prompt_hash`."""
    rubric: str
    rubric_hash: str
    conversations: int
    labelled: int
    truth: str | None = None
    confidence: float = 0.95
    rates: tuple[PassRate, ...] = ()
    agreement: tuple[AgreementRow, ...] = ()
    risk: tuple[RiskPoint, ...] = ()
    calibration: Calibration | None = None
    leans: tuple[Lean, ...] = ()
    probes: Probes = Probes()
    training: Training
    price: Price
    notes: tuple[str, ...] = Field(default=())
