"""The nouns that stages hand to each other, and their stable ids.

Everything here crosses a file, so it is a frozen pydantic model that refuses unknown keys. Nothing here does work:
no reading, no judging. Ids are made from content (and, for generated conversations, from
the scenario), so the same input gets the same id on every machine and a second import of a file adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["user", "assistant"]
Intent = Literal["harmful", "borderline", "benign", "distress"]
INTENTS: tuple[Intent, ...] = ("harmful", "borderline", "benign", "distress")
Origin = Literal["imported", "generated", "rewritten", "augmented", "canary"]
Outcome = Literal["pass", "fail", "na", "unscored"]

FailureKind = Literal[
    "refused_by_model",  # the author refused to write, or the judge refused to judge
    "filtered_by_provider",  # the provider's own content filter stepped in
    "truncated",  # cut off at max_tokens: the finish reason is looked at before the text is parsed
    "bad_json",  # no object of the asked schema in the reply
    "bad_structure",  # JSON, but not a valid conversation
    "off_scale",  # a level that the rubric does not name
    "evidence_not_found",  # the required quote does not stand in the named turn
    "provider_error",  # network, HTTP or server error after all retries
    "duplicate",  # generated again what the run already holds
    "not_reliable",  # this judge was never shown to be better than chance on this criterion
    "unsure",  # the judge abstained: its probability lies in the middle
    "defect",  # safetyqc itself failed on this one, which is a bug; the reason says where
    "not_shown",  # the conversation was too long to be shown whole, and what was shown did not fail
    "tie",  # a panel or repeated votes without a majority
    "not_recorded",  # verdicts given elsewhere, and none among them about this conversation
]
PASSES_LATER: frozenset[str] = frozenset({"provider_error", "truncated", "filtered_by_provider", "defect"})
"""Reasons that another attempt, on another day, may not meet."""


class Record(BaseModel):
    """Base of all records: frozen, and an unknown key is an error rather than a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn."""

    role: Role
    content: str = Field(min_length=1)


class Source(Record):
    """Where an imported conversation stood: file name as given, line (1-based) and 0-based index among the records."""

    path: str
    line: int | None = None
    index: int


def _is_empty(told: object) -> bool:
    """Whether a key that earlier versions had not is left out, so that ids made of what they wrote stay the same."""
    return not told


class Scenario(Record):
    """What one conversation is to be about, drawn before any model is asked.

    `turns` counts user/assistant exchanges, so a conversation has 2 * turns messages.
    """

    index: int
    category: str
    intent: Intent
    language: str = "en"
    turns: int = Field(default=2, ge=1)
    style: str = "direct"
    persona: str = ""
    openers: tuple[str, ...] = ()
    topic: str = Field(default="", exclude_if=_is_empty)
    traits: Mapping[str, str] = Field(default_factory=dict, exclude_if=_is_empty)
    """Who asks and how, beside the persona: `situation`, `motive`, `register`, `length`."""
    answer: str = Field(default="", exclude_if=_is_empty)
    """How the assistant is to go about its answers, by its name in the taxonomy."""
    pair: str = Field(default="", exclude_if=_is_empty)
    """Shared by a harmful request and its benign twin."""
    avoid: tuple[str, ...] = Field(default=(), exclude_if=_is_empty)
    """Openings and phrases that were used too often before and must not come again."""
    draw: int = 0
    """0 for the planned scenario; 1, 2, ... when it was drawn again because earlier draws failed."""

    @property
    def id(self) -> str:
        """Stable over machines: the same plan gives the same ids."""
        return stable_id("s", self.model_dump(mode="json"))


class Conversation(Record):
    """Messages that alternate from user to assistant, and where they came from.

    Category and intent are the plan's or the file's own words, never what a model said about its own text. `system` is
    a system message that comes before the messages; without one the key is not written, as before there was one.
    """

    id: str
    messages: tuple[Message, ...]
    system: str | None = Field(default=None, exclude_if=lambda told: told is None)
    category: str | None = None
    intent: Intent | None = None
    language: str | None = None
    origin: Origin = "imported"
    author: str | None = None
    scenario: Scenario | None = None
    parent_id: str | None = None
    revision: int = 0
    source: Source | None = None
    meta: dict[str, Any] = Field(default_factory=dict)

    @property
    def file(self) -> str | None:
        """Name of the file it came from, without its folder; None for what was written here."""
        return PurePath(self.source.path).name if self.source else None

    @property
    def user_turns(self) -> list[str]:
        """Contents of the user's messages, in order."""
        return [m.content for m in self.messages if m.role == "user"]

    @property
    def assistant_turns(self) -> list[str]:
        """Contents of the assistant's messages, in order."""
        return [m.content for m in self.messages if m.role == "assistant"]

    def as_messages(self) -> list[dict[str, str]]:
        """The messages as plain dictionaries, ready for JSON."""
        return [{"role": m.role, "content": m.content} for m in self.messages]


class Usage(Record):
    """Tokens of one call as the server counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Score(Record):
    """What one judge says on one criterion.

    `outcome` is na when the criterion does not apply, unscored when the judge gave nothing usable (`unscored_reason`
    says why); neither is ever counted as pass or fail. `value` is the level's score in 0..1; `probability` is the
    judge's probability of pass in 0..1, where it has one. `turn` is the 0-based message index of the quote.
    """

    criterion: str
    outcome: Outcome
    level: str | None = None
    value: float | None = Field(default=None, ge=0, le=1)
    probability: float | None = Field(default=None, ge=0, le=1)
    reason: str = ""
    quote: str = ""
    turn: int | None = None
    unscored_reason: FailureKind | None = None


AGAIN = " (again)"
"""Ends the name under which a judge, asked afresh, judges a sample of rewrites and of what they came from."""


class Judgment(Record):
    """All scores of one judge on one conversation, with what is needed to trust or repeat them."""

    conversation_id: str
    judge: str
    """Name of the judge as reports show it: `local`, or the model's name, or a panel's."""
    rubric: str
    rubric_hash: str
    scores: tuple[Score, ...]
    passed: bool | None
    """By the rubric set's rule; None when an unscored criterion leaves it open."""
    category: str | None = None
    intent: Intent | None = None
    classified: bool = False
    """True when category or intent were decided by the judge because the input had none."""
    prompt_hash: str | None = None
    """Of the prompt's wording, or of the embedded judge's weights and phrases: its version, beside the rubric's."""
    model: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    reply: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    latency_s: float | None = None

    def score(self, criterion: str) -> Score | None:
        """The score on one criterion, or None when this judge was not asked for it."""
        return next((s for s in self.scores if s.criterion == criterion), None)

    @property
    def unscored_reasons(self) -> tuple[FailureKind, ...]:
        """Why criteria are unscored, each reason once, sorted."""
        return tuple(sorted({s.unscored_reason for s in self.scores if s.outcome == "unscored" and s.unscored_reason}))


class Failure(Record):
    """Something that was tried and did not become a result."""

    stage: str
    record_id: str
    kind: FailureKind
    reason: str
    category: str | None = None
    attempt: int = 0
    model: str | None = None


class Rejection(Record):
    """A filter's hit: which rule, and what it saw."""

    conversation_id: str
    filter: str
    reason: str


class Label(Record):
    """A verdict that counts as truth for measuring judges, by a person or a recorded source.

    `disputed` (people could not agree) and `cleared` (it was taken back) leave the cell without a verdict.
    """

    conversation_id: str
    criterion: str
    outcome: Literal["pass", "fail", "na", "disputed", "cleared"]
    level: str | None = None
    """Of the rubric, where one was chosen: what the outcome comes from."""
    annotator: str = "human"
    source: str | None = None
    """Where it came from: a file's name, or the page it was given on."""
    at: float | None = None
    """When it was given, in seconds since 1970 (UTC)."""
    rubric_hash: str | None = None
    """Of the rubric set whose wording was shown or meant."""
    note: str = ""
    seconds: float | None = Field(default=None, ge=0)
    """How long it took."""
    queue: str | None = None
    """Why this one was shown: `plan`, `disagreement`, `overlap`, ..."""
    stratum: str | None = None
    probability: float | None = Field(default=None, gt=0, le=1)
    """With which this one was drawn; None where it was not drawn by chance."""
    seen: tuple[str, ...] = ()
    """Judges whose verdicts the annotator saw before."""
    adjudicated: bool = False
    """Decides between annotators who disagreed."""

    @property
    def is_verdict(self) -> bool:
        """Whether the cell has a verdict of this annotator by it."""
        return self.outcome not in ("disputed", "cleared")


class RoleModel(Record):
    """Who was asked in some role, and where; `api_base` is None at the provider's own URL."""

    model: str
    api_base: str | None = None


class Duplicate(Record):
    """A conversation that a duplicate group drops, and how near it is to the one kept (cosine, 1.0 = same text)."""

    conversation_id: str
    similarity: float
    exact: bool = False
    terms: tuple[str, ...] = ()
    """Rare terms that both share: the evidence."""


class DuplicateGroup(Record):
    """Conversations that say nearly the same; one is kept and every drop names it."""

    kept: str
    dropped: Annotated[tuple[Duplicate, ...], Field(min_length=1)]


class ReferenceMatch(Record):
    """A conversation that is near a reference set, such as a benchmark that a model will be measured on.

    `removed` is False when it was only to be marked. `turn` is the 0-based message index of the user turn that
    matched, None when the whole conversation did; `text` and `reference_text` are what matched, cut where long.
    """

    conversation_id: str
    path: str
    line: int | None = None
    similarity: float
    removed: bool = True
    turn: int | None = None
    text: str = ""
    reference_text: str = ""
    terms: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The reference as people look it up: the file's name, without its folder, and the line."""
        name = PurePath(self.path).name
        return f"{name}:{self.line}" if self.line else name


class Rewrite(Record):
    """One attempt to mend a weak conversation: kept or not, and why."""

    parent_id: str
    child_id: str | None
    """None when the rewriter gave nothing usable."""
    revision: int
    kept: bool
    reason: str
    judge: str
    mended: tuple[str, ...] = ()
    """Criteria that failed in the parent and pass now."""
    broken: tuple[str, ...] = ()
    """Criteria that passed in the parent and do not pass now."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, so hashes of it are stable."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def stable_id(prefix: str, value: Any) -> str:
    """Short id from content: the prefix and 12 hex digits (48 bits) of its hash."""
    return f"{prefix}_{content_hash(value)[:12]}"


def conversation_id(
    messages: list[dict[str, str]] | tuple[Message, ...], salt: str = "", system: str | None = None
) -> str:
    """Id of a conversation: its messages, a system message where it has one, and a salt where equal texts must stay
    apart (scenario id, occurrence)."""
    plain = [m.model_dump() if isinstance(m, Message) else m for m in messages]
    return stable_id("c", [plain, salt] if system is None else [plain, salt, system])
