"""What a comparison of judges says, as records: the JSON of `safetyqc compare --json`, and what reports draw.

The numbers are computed by the judge stage. Everywhere here: shares are 0..1, None means "cannot be said" (never 0),
and an unscored cell is in no rate, no kappa and no table but its own count. `OVERALL` (the
whole conversation) and `POOLED` (the cells of all criteria together) stand in the list of criteria as two of them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetyqc.records import Conversation, Outcome, Record

OVERALL = "overall"
"""Pseudo-criterion: did the conversation pass by the rubric set's rule."""
POOLED = "all criteria"
"""Pseudo-criterion: the cells of all criteria that every judge was asked; intervals resample whole conversations."""


class Estimate(Record):
    """A number and the interval that its confidence (see `Comparison.confidence`) gives it."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals share a point, so that neither may be called better."""
        return self.low <= other.high and other.low <= self.high


class RaterCounts(Record):
    """How one rater used one criterion, on its own.

    `applicable` is passed + failed + unscored; `na` cells are outside. The bounds count every unscored cell as a
    failure (`worst`) or as a pass (`best`).
    """

    rater: str
    applicable: int
    passed: int
    failed: int
    unscored: int
    na: int
    unscored_by_reason: dict[str, int] = Field(default_factory=dict)
    coverage: float | None = None
    pass_rate: Estimate | None = None
    worst: float | None = None
    best: float | None = None


class Counted(Record):
    """Which conversations of a run were compared, next to those that its report counts.

    `standings`: how many stand where (kept, failed, duplicate ...); the report's rates are over the `reported`, and
    its rates before selection over the `first_versions`.
    """

    run: str
    compared: int
    reported: int
    first_versions: int
    standings: dict[str, int]


class Agreement(Record):
    """Two raters on the cells that both scored (`n`); `na_conflicts`: cells that only one calls not applicable."""

    first: str
    second: str
    n: int
    both_pass: int
    both_fail: int
    only_first_passes: int
    only_second_passes: int
    na_conflicts: int = 0
    agreement: float | None = None
    kappa: Estimate | None = None
    mcnemar_p: float | None = None
    """Exact test of whether the two have the same pass rate on these cells."""
    more_often_right_p: float | None = None
    """The same test on labelled cells only: whether one is right more often than the other; None without labels."""


class Calibration(Record):
    """How far the judge's probabilities of pass can be believed: Brier score and expected calibration error.

    Over all labelled cells with a probability, also those on which the judge then abstained.
    """

    n: int
    brier: float
    ece: float


class Accuracy(Record):
    """One rater against the labels.

    `confusion[label][outcome]` counts label pass / fail / na against pass / fail / na / unscored. Precision, recall and
    F1 are of "fail", because a missed failure is what reaches the training set. `majority_baseline` is the agreement
    of always saying the commoner label.
    """

    rater: str
    n: int
    """Labelled cells that the rater scored."""
    conversations: int = 0
    """Conversations with at least one of them."""
    confusion: dict[str, dict[Outcome, int]]
    agreement: float | None = None
    kappa: Estimate | None = None
    majority_baseline: float | None = None
    precision_fail: float | None = None
    recall_fail: float | None = None
    """Weighted by what each label stands for, where labels were not drawn evenly over the judges' verdicts."""
    reweighted: bool = False
    """Whether recall and F1 were so weighted."""
    f1_fail: float | None = None
    calibration: Calibration | None = None


class CorrectedRate(Record):
    """A judge's pass rate, corrected for its own errors by labels; or the reason why it was not (`refused`)."""

    judge: str
    criterion: str
    method: str
    n: int
    """Conversations that the judge called applicable, unscored ones included."""
    labels: int
    """Those of them that are labelled pass or fail."""
    labelled_not_applicable: int = 0
    """Those that people call not applicable: they are outside the rate, and so is their share of what is unlabelled."""
    judge_rate: float | None = None
    """Passed share of what the judge scored, uncorrected."""
    rate: Estimate | None = None
    labels_alone: Estimate | None = None
    """What the labels say without the judge; None where they were not drawn evenly over what it said."""
    refused: str | None = None
    draw: str | None = None
    """The draw (`safetyqc label plan`) that the labels come from, with known probabilities; None where it is not known
    how the labelled ones were drawn."""


class CriterionComparison(Record):
    """All raters on one criterion."""

    criterion: str
    counts: tuple[RaterCounts, ...]
    agreements: tuple[Agreement, ...] = ()
    alpha: float | None = None
    """Krippendorff's alpha (nominal) over all judges."""
    accuracies: tuple[Accuracy, ...] = ()
    human_ceiling: tuple[Agreement, ...] = ()
    """Annotators against each other: no judge can be shown to be better than this."""
    corrected: tuple[CorrectedRate, ...] = ()


class Spread(Record):
    """Where a rate lies under each wording of the question: its smallest and its largest.

    `wordings` holds the rate under each; all are rates of the same conversations. The shipped wording is one of them.
    """

    n: int
    """Cells under the shipped wording that are in the rate."""
    low: float
    high: float
    wordings: dict[str, float]

    @property
    def width(self) -> float:
        """How far the wording alone moves the rate."""
        return self.high - self.low


Measure = Literal["pass rate", "agreement with labels"]


class WordingDifference(Record):
    """Whether two judges differ by more than other wordings of their questions would move them.

    `wording` is how far these could close the gap, as the judges' cards measured it; None where one has no card.
    """

    criterion: str
    measure: Measure
    first: str
    second: str
    difference: float
    wording: float | None = None
    is_larger: bool | None = None


class GroupDifference(Record):
    """A group in which one rater's rate surely is not that of all other conversations taken together."""

    group: str
    criterion: str
    rater: str
    measure: Measure
    difference: Estimate
    """The group's rate less that of the rest, with the interval of this difference alone."""


class Group(Record):
    """All raters on the conversations of one group; `criteria` is what `Comparison.criteria` is of all."""

    name: str
    conversations: int
    guessed: int = 0
    """Those that are in it by a guess: of the deciding judge, or of the language of their text."""
    criteria: tuple[CriterionComparison, ...]

    def criterion(self, name: str) -> CriterionComparison | None:
        """The comparison on one criterion within this group; None when nobody was asked it here."""
        return next((c for c in self.criteria if c.criterion == name), None)


class GroupedBy(Record):
    """A comparison by a fact of the conversations, such as their language."""

    by: str
    groups: tuple[Group, ...]
    guesser: str | None = None
    """Who guesses: a judge, or `letters` (see `safetyqc.results.guesses`); None where nothing is guessed."""
    tests: int = 0
    """Rates that were held against the rest's: what `unlike` says is adjusted for so many (Holm)."""
    unlike: tuple[GroupDifference, ...] = ()


class Price(Record):
    """What a judge takes per 1,000 conversations: money, and seconds of waiting if asked one after another.

    `unpriced` counts judgments whose cost is unknown; they are left out of the mean.
    """

    judge: str
    judged: int
    cost_usd_per_1000: float | None = None
    unpriced: int = 0
    latency_s_per_1000: float | None = None


class Recommendation(Record):
    """Which judge is worth its price; `judge` is None when the numbers do not say."""

    judge: str | None
    reason: str


class Comparison(Record):
    """Judges of one rubric on the same conversations, against each other and against labels."""

    rubric: str
    rubric_hash: str
    conversations: int
    left_out: int = 0
    """Conversations that not every judge judged; not 0 only when the caller asked for the shared ones."""
    judges: tuple[str, ...]
    annotators: tuple[str, ...] = ()
    truth: str | None = None
    """The annotator whose labels count as truth, or `majority`."""
    labelled: int = 0
    """Conversations with at least one label that counts."""
    confidence: float = 0.95
    resamples: int
    seed: int
    prices: tuple[Price, ...]
    criteria: tuple[CriterionComparison, ...]
    recommendation: Recommendation
    counted: tuple[Counted, ...] = ()
    """Which conversations of each run these are, and which its report counts."""
    notes: tuple[str, ...] = ()
    differences: tuple[WordingDifference, ...] = ()
    """Of judges one of whom has a card (`safetyqc judge card`)."""
    by: tuple[GroupedBy, ...] = ()
    """The same by what was asked for, such as the language."""

    def criterion(self, name: str) -> CriterionComparison | None:
        """The comparison on one criterion, `OVERALL` or `POOLED`; None when there is none."""
        return next((c for c in self.criteria if c.criterion == name), None)


class Side(Record):
    """What one rater said where raters differ; a label has neither reason nor quote."""

    rater: str
    outcome: Outcome
    is_label: bool = False
    level: str | None = None
    probability: float | None = None
    reason: str = ""
    quote: str = ""
    turn: int | None = None


class Disagreement(Record):
    """One cell where raters differ, with the conversation: hostile text, to be escaped by whoever shows it."""

    conversation: Conversation
    criterion: str
    sides: tuple[Side, ...]
