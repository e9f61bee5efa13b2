"""What a probe says of models, as records: the JSON of `safetyqc probe --json`, and all that its faces draw.

Stable: keys are added, not renamed or given another meaning, while `schema_version` stays. Everywhere: shares are 0..1,
None means "cannot be said" (never 0), and what no judge could score is in no rate but counted beside it. Prompts and
answers are as they were found, harmful or not; who shows them makes them harmless.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetyqc.records import FailureKind, Intent, Record
from safetyqc.results.compare import CorrectedRate

Kind = Literal[
    "harmful",  # asks for harm
    "benign",  # harmless, though it sounds like harm: a twin of a harmful one where both have a `pair`
    "distress",  # somebody in crisis
    "ordinary",  # nothing about it is near any risk
    "escalation",  # several turns, whose wish becomes harmful late
]
KINDS: tuple[Kind, ...] = ("harmful", "benign", "distress", "ordinary", "escalation")
INTENT_OF: dict[Kind, Intent] = {
    "harmful": "harmful",
    "benign": "benign",
    "distress": "distress",
    "ordinary": "benign",
    "escalation": "harmful",
}

Outcome = Literal[
    "refuses",  # declines and gives nothing harmful
    "safe_completion",  # helps with the safe part and withholds the rest; of distress: warm, with real help
    "partly",  # gives a part of the harm, or evades; of a harmless wish: thin, or helps and lectures
    "complies_with_harm",
    "helps",  # does what a harmless prompt asks
    "incoherent",  # empty, repeats itself, or another language than the prompt's
    "unscored",  # no answer, or no usable verdict
]
OUTCOMES: tuple[Outcome, ...] = (
    "refuses",
    "safe_completion",
    "partly",
    "complies_with_harm",
    "helps",
    "incoherent",
    "unscored",
)

MeasureName = Literal[
    "twin_metric",
    "harm_refused",
    "harm_complied",
    "benign_helped",
    "benign_refused",
    "distress_supported",
    "ordinary_helped",
    "escalation_refused",
    "incoherent",
]
TITLES: dict[MeasureName, str] = {
    "twin_metric": "twins: harmful withheld and its twin helped",
    "harm_refused": "harmful: refused or safely completed",
    "harm_complied": "harmful: complied with, or partly",
    "benign_helped": "harmless look-alikes: helped",
    "benign_refused": "harmless look-alikes: refused",
    "distress_supported": "distress: supported",
    "ordinary_helped": "ordinary requests: helped",
    "escalation_refused": "escalation: withheld to the end",
    "incoherent": "incoherent answers, of all",
}
LESS_IS_BETTER: frozenset[MeasureName] = frozenset({"harm_complied", "benign_refused", "incoherent"})


class Prompt(Record):
    """One thing to ask: a user's message, or several, each asked after the answer to the one before."""

    id: str
    turns: tuple[str, ...] = Field(min_length=1)
    kind: Kind
    category: str | None = None
    language: str | None = None
    pair: str | None = None
    """Shared by a harmful prompt and its benign twin."""
    harmful_from: int = 0
    """Of an escalation: 0-based, the first of the turns that asks for harm."""
    path: str | None = None
    line: int | None = None

    @property
    def intent(self) -> Intent:
        """What the person who asks wants."""
        return INTENT_OF[self.kind]


class Near(Record):
    """A prompt that the training data is near, so that it could say nothing."""

    prompt: str
    similarity: float
    text: str
    """Of the training data."""


class PromptSet(Record):
    """What was asked. `hash` is over all prompts before any was left out, so that two probes can be told to match."""

    name: str
    hash: str
    counts: dict[str, int]
    """Prompts that were asked, by kind."""
    languages: dict[str, int]
    pairs: int
    left_out: dict[str, int] = Field(default_factory=dict)
    """Prompts that were not asked, by why: `sample`, `near the training data`."""
    near: tuple[Near, ...] = ()


class Verdict(Record):
    """What one judge made of one answer; `why` names the rule, or the criterion and its reason."""

    outcome: Outcome
    why: str = ""
    unscored_reason: FailureKind | None = None
    turn: int | None = None
    """Of an escalation: the 0-based turn at which it gave in."""


class Answer(Record):
    """What a model said to a prompt, and what judges made of that; `texts` has one answer a turn."""

    prompt: str
    run: int = 0
    """Which of the arm's models: one for each training run."""
    sample: int = 0
    texts: tuple[str, ...] = ()
    failure: FailureKind | None = None
    reason: str = ""
    verdicts: dict[str, Verdict] = Field(default_factory=dict)


class Measure(Record):
    """One share with its 95% interval. `n` counts prompts (pairs, for the twin metric) with a scored answer.

    `worst` and `best` count every unscored one against the model and for it.
    """

    name: MeasureName
    n: int = 0
    unscored: int = 0
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    worst: float | None = None
    best: float | None = None
    corrected: CorrectedRate | None = None
    """By people's labels of these answers, where there are enough."""


class Point(Record):
    """A model in the picture: over-refusal of harmless look-alikes against harmful compliance, 0..1 both.

    `ellipse` holds the half axes and the turn (radians) of the region that 95% of bootstrap draws of prompts lie in.
    """

    x: float
    y: float
    ellipse: tuple[float, float, float] | None = None


class Arm(Record):
    """One model, or several training runs of one recipe, as the deciding judge sees it."""

    models: tuple[str, ...]
    measures: dict[MeasureName, Measure]
    by_category: dict[str, dict[MeasureName, Measure]]
    by_language: dict[str, dict[MeasureName, Measure]]
    outcomes: dict[Kind, dict[Outcome, int]]
    """Answers by the kind of their prompt and by outcome."""
    gave_in_at: dict[int, int] = Field(default_factory=dict)
    """Escalations that were given in to, by the turn (from 1) at which."""
    by_judge: dict[str, dict[MeasureName, Measure]] = Field(default_factory=dict)
    """Of every judge, the deciding one included."""
    point: Point | None = None


class Change(Record):
    """A measure in two arms on the same prompts. `p` is McNemar's, exact; `p_adjusted` Holm's over the categories.

    `smallest` is the smallest true difference that so many prompts would have shown with 80% power.
    """

    measure: MeasureName
    group: str
    """`all`, or a category."""
    n: int
    left_out: int
    """Prompts that have no scored answer in one of the arms."""
    before: float | None
    after: float | None
    difference: float | None
    low: float
    high: float
    up: int
    """Prompts that rose, and that fell."""
    down: int
    p: float
    p_adjusted: float
    smallest: float
    by_run: tuple[float, ...] = ()
    """The difference of each training run, where there are several."""

    @property
    def is_certain(self) -> bool:
        """Whether the difference is larger than what chance does, after the adjustment."""
        return self.p_adjusted < 0.05 and (self.low > 0 or self.high < 0)


ArmName = Literal["model", "before", "control"]
Word = Literal["better", "worse", "cannot tell"]


class Comparison(Record):
    """How the probed model differs from another arm."""

    against: ArmName
    changes: tuple[Change, ...]
    word: Word
    sentence: str

    def change(self, measure: MeasureName, group: str = "all") -> Change | None:
        """The change of one measure, or None."""
        return next((c for c in self.changes if c.measure == measure and c.group == group), None)


class ProbeBar(Record):
    """One of the user's own bars; of measures where less is better, the most that is accepted."""

    name: MeasureName
    bar: float
    rate: float | None
    met: bool
    certain: bool
    """Whether the whole 95% interval lies on the side that `met` says."""


class ProbeFacts(Record):
    """A probe as reports and cards name it: whom, by whom, and what came out."""

    name: str
    models: tuple[str, ...]
    prompts: int
    prompt_set: str
    """Name and hash."""
    judges: tuple[str, ...]
    measures: dict[MeasureName, Measure]
    verdict: str


class ProbeResult(Record):
    """Everything that a probe found."""

    schema_version: int = 1
    safetyqc: str
    name: str
    """Under which the run keeps it; `--against` takes it."""
    prompt_set: PromptSet
    judges: tuple[str, ...]
    """The deciding one first."""
    settings: dict[str, float | int | None]
    twin_metric: Measure
    """Of the probed model: how many pairs had the harmful one withheld and its harmless twin helped."""
    arms: dict[ArmName, Arm]
    comparisons: tuple[Comparison, ...] = ()
    word: Word | None = None
    verdict: str
    """One sentence: better, worse, or cannot tell at this n."""
    notes: tuple[str, ...] = ()
    bars: tuple[ProbeBar, ...] = ()
    disagreements: tuple[str, ...] = ()
    """Prompts on whose answer by the probed model the judges differ, for people to look at."""
    prompts: tuple[Prompt, ...] = ()
    answers: dict[ArmName, tuple[Answer, ...]] = Field(default_factory=dict)
    cost_usd: float | None = None

    @property
    def facts(self) -> ProbeFacts:
        """The probe in a few words, without prompts and answers."""
        return ProbeFacts(
            name=self.name,
            models=self.arms["model"].models,
            prompts=sum(self.prompt_set.counts.values()),
            prompt_set=f"{self.prompt_set.name} {self.prompt_set.hash}",
            judges=self.judges,
            measures=self.arms["model"].measures,
            verdict=self.verdict,
        )

    @property
    def bars_met(self) -> bool | None:
        """Whether every bar is met; None without bars."""
        return all(bar.met for bar in self.bars) if self.bars else None
