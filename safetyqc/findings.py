"""What a check of one file says, as records: the JSON of `safetyqc check --json`, and what reports draw.

The numbers are counted by the check stage. Everywhere here: shares are 0..1 and of all records of the file.
"""

from __future__ import annotations

from safetyqc.readers import BadLine
from safetyqc.records import Record


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
    max_share: float
    """What `collapsed` compares the commonest opening's share with."""
    collapsed: bool


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


class CheckReport(Record):
    """What one file holds, and what is wrong with it, in numbers."""

    path: str
    records: int
    """All records: conversations, bad structure and unreadable lines."""
    conversations: int
    clean: int
    """Conversations that no rule hit and that copy no other."""
    notes: dict[str, int]
    """What was kept aside rather than used, and how often."""
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
