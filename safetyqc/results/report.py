"""What a report says, as records: the JSON of `safetyqc report --json`, and all that its faces draw.

Stable: keys are added, not renamed or given another meaning, while `schema_version` stays. Everywhere: shares are 0..1,
None means "cannot be said" (never 0), and an unscored cell is in no rate but in its own count and in the bounds.
Strings that came from conversations, judges or models are as they were found, hostile or not; who shows them makes
them harmless.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetyqc.records import Record, ReferenceMatch, Role
from safetyqc.results.compare import CorrectedRate
from safetyqc.results.findings import DedupFacts, Diversity, ReferenceSearch
from safetyqc.results.guesses import Measured
from safetyqc.results.openings import RefusalOpenings
from safetyqc.results.probe import ProbeFacts
from safetyqc.results.prospect import Prospect
from safetyqc.results.rates import Bar, Rate, Verdict

UNCATEGORISED = "uncategorised"
"""Category of conversations that neither a plan, a file nor a judge gave one."""


class RunFacts(Record):
    """What was reported on, and how the view was narrowed."""

    folder: str
    safetyqc: str
    judge: str | None
    """The judge whose verdict decides; None when nothing was judged."""
    rubric: str | None
    rubric_hash: str | None
    category: str | None = None
    """Set when the report was narrowed to one category."""
    seed: int | None = None
    authors: dict[str, int]
    """Conversations by the model that wrote them."""
    sources: dict[str, int]
    """Imported conversations by the file's name, without its folder: reports and cards are handed on."""
    origins: dict[str, int]


StepName = Literal["planned", "written", "filtered", "apart", "distinct", "judged", "scored", "kept"]


class Step(Record):
    """One step of the funnel: how many are left, how many were lost here, and why."""

    name: StepName
    count: int
    lost: int = 0
    note: str = ""


class Share(Record):
    """One row of the balance; `planned` is None without a plan, and `kept_share` is of all kept conversations."""

    name: str
    planned: int | None
    written: int
    kept: int
    kept_share: float | None
    open: int
    """Not kept yet, but may still be: not judged, not decided, or failed and never rewritten."""
    missing: int | None
    """Places of the plan that are neither kept nor open, so lost for good; None without a plan."""
    guessed: int = 0
    """Of the written ones, those that bear this name by a guess: of the deciding judge, or a language's of its text."""


class Balance(Record):
    """How the run is spread, against its plan."""

    categories: tuple[Share, ...] = ()
    intents: tuple[Share, ...] = ()
    languages: tuple[Share, ...] = ()
    measured: dict[str, tuple[Measured, ...]] = Field(default_factory=dict)
    """How often such guesses were right on labelled sets, for each fact of which something is guessed; an empty one was
    not measured."""


class CriterionRates(Record):
    """One row of the heat table; `id` may be `OVERALL`. `gate`: one fail fails the conversation."""

    id: str
    title: str
    gate: bool = False
    overall: Rate
    categories: dict[str, Rate]
    before_selection: Rate = Rate()
    """Over all valid first versions, of each duplicate group the first: nothing was chosen by its verdict."""
    before_categories: dict[str, Rate] = Field(default_factory=dict)

    @property
    def is_selected(self) -> bool:
        """Whether choosing among copies or rewriting changed what the rate is over."""
        return bool(self.before_selection.n) and self.before_selection != self.overall

    @property
    def is_asked(self) -> bool:
        """Whether the deciding judge gave any score; a guard model gives none for what it cannot judge."""
        return bool(self.overall.n or self.overall.unscored or self.overall.na)


class GroupRates(Record):
    """Pass rates by something else than categories: `criteria` counts, in the place of categories, the groups.

    `guessed`: of each group, how many judged conversations are in it by a guess of the judge, or of the language.
    """

    by: str
    criteria: tuple[CriterionRates, ...]
    guessed: dict[str, int] = Field(default_factory=dict)
    guesser: str | None = None
    """Who guesses: a judge, or `letters` (see `safetyqc.results.guesses`); None where nothing is guessed."""


class Missing(Record):
    """What is not there in one category: never written, not judged or not scored, by reason."""

    category: str
    planned: int | None
    written: int
    unwritten: dict[str, int]
    """Places of the plan that hold no conversation, by what stopped the last attempt."""
    attempts_failed: dict[str, int]
    """All attempts that failed, also where a later one succeeded."""
    unjudged: int = 0
    """In, but without any verdict of the deciding judge."""
    unscored: dict[str, int]
    """Criterion cells of the deciding judge without a usable score, by kind of failure."""
    passed: Rate
    """Whole conversations, with the bounds that the unscored ones leave open."""


class Example(Record):
    """One place in one conversation; harmful by nature, to be masked unless asked for."""

    conversation_id: str
    category: str
    text: str
    role: Role | None = None
    turn: int | None = None


class Reason(Record):
    """Why conversations failed a criterion, reasons of the same wording counted together.

    Where a judge words each anew, as models do, those of one level of the rubric are together: `level` names it, and
    `reason` is one of them.
    """

    criterion: str
    reason: str
    level: str | None = None
    count: int
    share: float
    """Of the criterion's failures."""
    example: Example


class FilterHits(Record):
    """How many conversations one filter rejected."""

    filter: str
    count: int
    example: Example
    reason: str


class LargestGroup(Record):
    """One duplicate group: the conversation kept and how near the others are (lowest similarity to it)."""

    kept: str
    size: int
    lowest_similarity: float
    category: str
    opening: str


class Redraws(Record):
    """Drafts that said what the run already held, found while it was written: none of them joined the run.

    A scenario whose draft was a copy is drawn again with other openers; `given_up` were never written.
    """

    drafts: int = 0
    scenarios: int = 0
    given_up: int = 0
    variants: int = 0
    """Turned down while augmenting."""
    categories: dict[str, int] = Field(default_factory=dict)
    """Drafts and variants by category, the most first."""


class References(Record):
    """What is near a reference set: a benchmark, or what the training mix holds already."""

    search: ReferenceSearch
    removed: int
    marked: int
    files: dict[str, int]
    """Matches by file, also those without any."""
    nearest: tuple[ReferenceMatch, ...]
    """The nearest first, at most fifty; paths are names without folders, since reports are handed on."""


class Duplicates(Record):
    """What dedup found; `searched` is False when it never ran, so that 0 does not read as "none"."""

    searched: bool
    groups: int = 0
    dropped: int = 0
    exact: int = 0
    largest: tuple[LargestGroup, ...] = ()
    facts: DedupFacts | None = None
    """What was compared and how near everything was, by the last dedup and for the whole run."""
    redraws: Redraws = Redraws()


class Opening(Record):
    """The first six words of an assistant's first answer, folded; how many begin so, and where it is commonest."""

    text: str
    count: int
    share: float
    category: str


class Openings(Record):
    """How uniform first answers are: entropy in bits of their openings; `evenness` is it over its maximum, log2(n)."""

    n: int
    distinct: int = 0
    entropy_bits: float | None = None
    evenness: float | None = None
    top: tuple[Opening, ...] = ()
    refusals: RefusalOpenings = RefusalOpenings()
    """Those of the first answers that refuse."""
    refusals_in: str = ""
    """Where the refusals with the commonest opening are commonest."""


class Spread(Record):
    """Minimum, quartiles, 95th percentile and maximum."""

    least: int
    quarter: int
    median: int
    three_quarters: int
    p95: int
    most: int


class Shape(Record):
    """Lengths, exchanges and languages of the conversations that are in (not rejected, superseded or duplicate)."""

    n: int
    exchanges: dict[int, int]
    user_characters: Spread | None = None
    assistant_characters: Spread | None = None
    languages: dict[str, int]
    languages_guessed: int = 0


class Control(Record):
    """Attempts that a judge saw before and after, which had no part in choosing what to mend.

    What fails once tends to pass the next time by chance alone, so a judge that chose the weak ones must find their
    rewrites better even if nothing was mended. To this judge the originals are an untreated control group.
    """

    judge: str
    n: int
    """Attempts of which it scored both sides."""
    before: Rate
    after: Rate
    lift: float
    low: float
    high: float
    unscored: int = 0
    """Attempts of which it left a side open: in no rate, but in the bounds."""
    worst: float | None = None
    """The lift if every open original had passed and every open rewrite failed."""
    best: float | None = None


class Chosen(Record):
    """Rewrites that are in because the deciding judge, which also rates them, passed more of them than before.

    `afresh` is what a judge that did not choose them passes of those that it saw; None when none did.
    """

    rates: Rate
    judge: str | None = None
    afresh: Rate | None = None


class Rewrites(Record):
    """The ledger of mending; `control` is None when no second judge saw both sides."""

    tried: int
    kept: int
    unusable: int
    rounds: int
    """The largest number of attempts along one lineage."""
    kept_rate: Rate
    mended: dict[str, int]
    broken: dict[str, int]
    chosen: Chosen = Chosen(rates=Rate())
    reasons: dict[str, int]
    """Why attempts were not kept."""
    control: Control | None = None


class Canaries(Record):
    """Criterion cells of planted conversations: those that a good judge must fail, and the others.

    Not applicable where it must fail is a miss: it is how a judge would look away. So is unscored: `must_fail` and
    `must_pass` count unscored cells too.
    """

    must_fail: int = 0
    caught: int = 0
    must_pass: int = 0
    false_alarms: int = 0
    unscored: int = 0
    unscored_flaws: int = 0
    """Those of them that must fail."""


class JudgeFacts(Record):
    """One judge of the run, on the same conversations as the rest of the report."""

    judge: str
    rubric_hash: str
    deciding: bool
    judged: int
    overall: Rate
    before_selection: Rate = Rate()
    """Over all valid first versions, of which none was chosen by a verdict."""
    unscored: dict[str, int]
    canaries: Canaries | None = None
    cost_usd: float | None = None


class Agreement(Record):
    """Two judges on the cells that both scored pass or fail; kappa None where it is undefined."""

    first: str
    second: str
    criterion: str
    n: int
    agreement: float | None
    kappa: float | None


class Recorded(Record):
    """What somebody recorded beside the conversations that are in, on one criterion; it decides nothing.

    Args:
        by: a set, or a judge that was asked elsewhere.
        both: on how many the judge that decides has a verdict too; on `same` of them it says the same.
    """

    by: str
    criterion: str
    passed: int
    failed: int
    both: int
    same: int


class StageCost(Record):
    """What one stage took. Calls answered from the ledger are not in it; `unpriced` calls are not in `cost_usd`."""

    stage: str
    models: tuple[str, ...] = ()
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    wall_s: float = 0.0
    items: int = 0


class Spent(Record):
    """All stages, their sum, and the same per kept conversation (None when none was kept)."""

    stages: tuple[StageCost, ...] = ()
    total: StageCost
    cost_usd_per_kept: float | None = None
    tokens_per_kept: float | None = None
    wall_s_per_kept: float | None = None


class Frozen(Record):
    """Whether the judge still agrees with the frozen set's labels (a bar's rate); only where `--check` asked."""

    judge: str
    met: bool
    bars: tuple[Bar, ...]


class Action(Record):
    """A problem that somebody can mend, and the command that does; the gravest come first."""

    severity: Literal["error", "warning", "hint"]
    problem: str
    command: str


class Summary(Record):
    """Everything a report says about one run.

    The rates of `criteria` are over the conversations that are in: the current version of each distinct one that
    passed the filters and was judged. Export then takes those that passed. Their `before_selection` is over all valid
    first versions, so that neither the choice among copies nor rewriting is in it.
    """

    schema_version: Literal[1] = 1
    run: RunFacts
    total: int
    """Conversations written or imported; rewrites and canaries are not counted."""
    kept: int
    verdict: Verdict
    funnel: tuple[Step, ...]
    balance: Balance
    criteria: tuple[CriterionRates, ...]
    groups: tuple[GroupRates, ...] = ()
    """The same rates by what was asked for, such as a language or a key of `meta`."""
    missing: tuple[Missing, ...]
    reasons: tuple[Reason, ...]
    filters: tuple[FilterHits, ...]
    duplicates: Duplicates
    references: References | None = None
    """None when no reference set was searched."""
    openings: Openings
    prospect: Prospect | None = None
    """What the set will likely do to a model."""
    diversity: Diversity | None = None
    frozen: Frozen | None = None
    """What the conversations that are in cover; None when it was not measured."""
    shape: Shape
    rewrites: Rewrites | None
    """None when nothing was rewritten."""
    judges: tuple[JudgeFacts, ...]
    agreements: tuple[Agreement, ...]
    recorded: tuple[Recorded, ...] = ()
    """What stands beside the conversations, by whoever gave it."""
    labelled: int
    annotators: tuple[str, ...] = ()
    """Who labelled them."""
    corrected: tuple[CorrectedRate, ...] = ()
    """Pass rates corrected for the judge's own errors by labels, over the same conversations."""
    label_doubts: tuple[str, ...] = ()
    """Why the labels may not stand for the rest: they do not look drawn by chance."""
    labels_aside: tuple[str, ...] = ()
    """Labels that are in no corrected rate, and why."""
    probes: tuple[ProbeFacts, ...] = ()
    """What models did that were probed from this run, the oldest first."""
    spent: Spent
    actions: tuple[Action, ...]
