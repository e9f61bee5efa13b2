"""What a plan of labels says, as records: the JSON of `safetyqc label plan --json`, and what its table draws."""

from __future__ import annotations

from safetyqc.records import Record


class PlannedStratum(Record):
    """Conversations that are drawn alike: how many there are, are to be labelled, and are labelled."""

    stratum: str
    conversations: int
    to_label: int
    labelled: int


class PlannedRate(Record):
    """A pass rate, and half the width that its 95% interval is expected to have.

    `group` is the category that the rate is about, None for all. `half_width_all` is what would be left if every
    conversation were labelled: the rate is that of the process which they came from, so that is not 0.
    """

    criterion: str
    group: str | None
    conversations: int
    labels: int
    half_width: float
    half_width_all: float


class Step(Record):
    """So many labels by this plan give the least exact rate this half-width."""

    labels: int
    half_width: float


class LabelPlan(Record):
    """Which conversations people are asked about, and what interval that gives."""

    draw: str
    criteria: tuple[str, ...]
    by: str | None
    judge: str | None
    """Whose verdicts the strata are made of."""
    half_width: float | None
    """What was asked for; None where a number of labels was."""
    conversations: int
    to_label: int
    labelled: int
    even_draw: int | None
    """Labels that the same would take if all conversations were drawn equally often; None where all are too few."""
    labels_alone: int | None
    """Labels that the same would take if they were drawn equally often and judges' verdicts were not used."""
    strata: tuple[PlannedStratum, ...]
    rates: tuple[PlannedRate, ...]
    steps: tuple[Step, ...]
    known_errors: int
    """Labels by which the judges' errors are estimated; where there are few, they are mostly assumed."""
