"""What a check of one file and a search for copies say, as records: JSON of `safetyqc check --json`, and what reports
draw.

The numbers are counted by the check and dedup stages. Everywhere here: shares are 0..1 and, in a check, of all records
of the file.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from safetyqc.errors import InputError
from safetyqc.records import Record
from safetyqc.results.guesses import Measured
from safetyqc.results.openings import RefusalOpenings

StructureKind = Literal[
    "too_few_messages",  # fewer than two
    "unknown_role",  # neither user nor assistant, or a system message that does not lead
    "not_text",  # content that is no string: null, a tool call, an image
    "empty_message",  # nothing but white space or invisible characters
    "starts_with_assistant",
    "no_alternation",  # the same role twice in a row
    "ends_with_user",  # the last message has no answer
    "key_twice",  # one of two values of a key would be lost
]
STRUCTURE_KINDS: tuple[StructureKind, ...] = get_args(StructureKind)
BadKind = StructureKind | Literal["unreadable", "not_conversation"]


class BadLine(Record):
    """A record that did not become a conversation: where it stands, why, and how to mend it."""

    path: str
    line: int
    index: int
    """0-based among all records of the file."""
    kind: BadKind
    what: str
    fix: str

    @property
    def is_structure(self) -> bool:
        """True when it is a conversation, but not one that alternates from user to assistant."""
        return self.kind in STRUCTURE_KINDS

    def error(self) -> InputError:
        """Say the same as an exception; what was never in a file has no line, so its index says which it is."""
        path = self.path if self.line else f"{self.path}[{self.index}]"
        return InputError(self.what, path=path, line=self.line or None, fix=self.fix)


class HowRead(Record):
    """How a file was read: which files it stands for, what forms their records have, and what became of their keys."""

    files: tuple[str, ...] = ()
    forms: dict[str, int] = Field(default_factory=dict)
    """Records by form."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Keys that were read, each with what as."""
    system_messages: int = 0
    aside: dict[str, int] = Field(default_factory=dict)
    """Keys that are kept in `meta`, and of how many conversations."""
    verdicts: dict[str, int] = Field(default_factory=dict)
    """Conversations with verdicts that came along, by whose they are."""


class Example(Record):
    """One place to look at: its line in the file (1-based), its id if it has one, and what was seen there."""

    line: int | None
    id: str | None
    text: str


class Finding(Record):
    """How often one thing was found; `share` is of all records of the file."""

    name: str
    count: int
    share: float
    examples: tuple[Example, ...]


class Slice(Record):
    """One value and the conversations that have it; the value is None where the file does not say."""

    value: str | None
    count: int
    share: float


class Balance(Record):
    """How conversations spread over the values of one property, the largest first."""

    of: str
    slices: tuple[Slice, ...]
    smallest_to_largest: float | None
    """Count of the rarest value divided by that of the commonest (1 = even); None with fewer than two values."""
    guessed: int = 0
    """Conversations of which the file does not tell it, so that it is guessed."""
    measured: tuple[Measured, ...] = ()
    """How often such guesses were right on labelled sets; empty where nothing is guessed, or nothing was measured."""


class Opening(Record):
    """First answers that begin with the same words."""

    words: str
    count: int
    share: float
    example: Example


class Openings(Record):
    """How alike the first answers begin; a CJK character counts as a word."""

    first_words: int
    answers: int
    distinct: int
    commonest: tuple[Opening, ...]
    refusals: RefusalOpenings
    """Those of the first answers that refuse."""

    @property
    def collapsed(self) -> bool:
        """Whether the refusals begin so much alike that a model would learn the phrase, not the judgment."""
        return self.refusals.collapsed


class CopyExample(Record):
    """A copy and the conversation that it copies."""

    kept_line: int | None
    dropped_line: int | None
    similarity: float
    text: str


class Copies(Record):
    """Groups of equal or nearly equal conversations; `dropped` counts all but one of each group."""

    groups: int
    dropped: int
    share: float
    examples: tuple[CopyExample, ...]


class Template(Record):
    """A frame that many texts are filled into: its words with `[…]` for each slot, and how many texts have it.

    Of a large set `count` and `share` are estimated from a sample.
    """

    count: int
    share: float
    frame: str
    slots: int


class CheckReport(Record):
    """What one file holds, and what is wrong with it, in numbers."""

    path: str
    records: int
    """All records: conversations, bad structure and unreadable lines."""
    conversations: int
    clean: int
    """Conversations that no rule hit and that copy no other."""
    notes: dict[str, int]
    """What was passed over or kept aside rather than used, and how often."""
    how: HowRead = HowRead()
    unreadable: tuple[BadLine, ...]
    structure: tuple[Finding, ...]
    rules: tuple[Finding, ...]
    rejected: int
    """Conversations that at least one rule hit."""
    exact: Copies
    near: Copies | None
    """Copies that are not equal but similar; None when they were not looked for."""
    min_similarity: float | None
    balance: tuple[Balance, ...]
    openings: Openings
    templates: tuple[Template, ...] = ()
    """Frames that many of the conversations are filled into, the most used first."""


class Dropped(Record):
    """What a dedup dropped of how many conversations; `exact` counts drops with the same text as the one kept."""

    conversations: int
    groups: int
    dropped: int
    exact: int


class Bin(Record):
    """How many texts have their nearest neighbour at a similarity in [low, high); at 1, [1, 1] holds the copies."""

    low: float
    high: float
    count: int


class Nearness(Record):
    """How near every compared conversation is to the one most like it, before anything was dropped.

    `found_from` is the similarity from which pairs were looked for: the first bin holds whatever has none from there
    on. `categories` counts the same bins by category.
    """

    min_similarity: float
    found_from: float
    bins: tuple[Bin, ...]
    categories: dict[str, tuple[int, ...]]


class ReferenceSearch(Record):
    """Which reference sets were searched, and how: file names, references read, conversations compared."""

    files: tuple[str, ...]
    references: int
    conversations: int
    min_similarity: float
    marked_only: bool = False


class DedupFacts(Record):
    """What the last dedup of a run compared, how, and how near everything was; remembered with the run."""

    conversations: int
    pairs: int
    on: str
    analyzer: str = "word"
    weights: str
    linkage: str
    within_category: bool
    vocabulary_texts: int
    """On how many conversations the rarity of words was counted."""
    nearness: Nearness
    against: ReferenceSearch | None = None
    templates: tuple[Template, ...] = ()
    """Frames that many of the conversations that stay are filled into."""


class Coverage(Record):
    """What some conversations cover.

    `distinct_2` is the share of different word pairs among all of them (Li et al., NAACL 2016). `opening` is the most
    common beginning of a first answer and `opening_share` its share. `effective_intents` is how many equally frequent,
    wholly different requests would be as varied. `nearest` is the similarity to the most similar other conversation, of
    whatever category, as least, quarter, median, three quarters and most; 0 stands for all that is not known to be
    near.
    """

    distinct_2: float
    opening: str
    opening_share: float
    effective_intents: float
    nearest: tuple[float, ...]


class CategoryDiversity(Coverage):
    """One category."""

    conversations: int


class Diversity(Coverage):
    """A whole set, and each of its categories."""

    conversations: int
    measured: int
    """Conversations that all of this was measured on: every one, or an even sample of a large set."""
    distinct_1: float
    """The share of different words among all of them."""
    nearest_from: float
    """What is less similar than this is not known to be near."""
    categories: dict[str, CategoryDiversity]
