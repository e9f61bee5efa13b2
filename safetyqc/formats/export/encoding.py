"""What an export format is made of: examples in, the bytes of one file out.

A new format is an `Exporter` in a file of its family and a line in `EXPORTERS` (table.py). Splitting, repeating,
writing and the manifest are the same for all and stand beside it. Such a file is imported with the command line: what
a format needs beside Python is imported in its `encode`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetyqc.records import Conversation

Takes = Literal["kept", "pairs", "verdicts"]
"""What a format has a line for: a kept conversation, a kept and a failed answer to one prompt, or an answer of
either."""

Held = Literal["system", "turns", "keys", "category", "intent", "language", "meta"]
"""What a format may have no place for. Messages and roles have one in every format."""

Snippet = Callable[[Mapping[str, str]], str]
"""A trainer's settings for the files of a dataset folder: their names by split, to the text of one file."""


@dataclass(frozen=True)
class Example:
    """What one line is about.

    Args:
        conversation: the one to learn from or, where it failed, not to.
        answer: index of the message that is trained on, in formats that train on one; -1 is the last.
        rejected: a conversation that has another message there, one that failed, and the same before it.
        failed: whether its answer is one that failed.
    """

    conversation: Conversation
    answer: int = -1
    rejected: Conversation | None = None
    failed: bool = False

    @property
    def prompt(self) -> list[dict[str, str]]:
        """What comes before the answer, the system message first."""
        messages = self.conversation.as_messages()
        return [*system_turns(self.conversation, "role", "content"), *messages[: self.answer]]

    @property
    def completion(self) -> dict[str, str]:
        """The answer."""
        return self.conversation.as_messages()[self.answer]


Encode = Callable[[Sequence[Example]], Iterator[bytes]]


@dataclass(frozen=True)
class Exporter:
    """One format.

    Args:
        file_name: as it is called where nobody says.
        encode: examples to chunks of bytes, a chunk being written as it comes; must not depend on the split.
        home: the folder that it goes to where nobody says; None of its own is the working folder.
        takes: what it has a line for.
        holds: what it keeps of a conversation beside its messages; what it does not is counted and said.
        is_table: whether a line has columns, so that `datasets.load_dataset` opens a folder of such files.
        snippets: settings of trainers that read it, by the name of the file that they go to.
    """

    file_name: str
    encode: Encode
    home: Callable[[], Path] = Path
    takes: Takes = "kept"
    holds: frozenset[Held] = frozenset()
    is_table: bool = True
    snippets: Mapping[str, Snippet] = field(default_factory=dict)

    def default_path(self) -> Path:
        """The path that is used when none is given."""
        return self.home() / self.file_name


def lines_of(of: Callable[[Conversation], Any], *, ascii_only: bool = False) -> Encode:
    """Encode as JSON Lines, one value a conversation."""
    return example_lines(lambda example: of(example.conversation), ascii_only=ascii_only)


def example_lines(of: Callable[[Example], Any], *, ascii_only: bool = False) -> Encode:
    """Encode as JSON Lines, one value an example."""

    def encode(examples: Sequence[Example]) -> Iterator[bytes]:
        for example in examples:
            yield json.dumps(of(example), ensure_ascii=ascii_only).encode("utf-8") + b"\n"

    return encode


def system_turns(conversation: Conversation, role: str, content: str) -> list[dict[str, str]]:
    """The system message, under these keys; for formats that have a place for one."""
    return [{role: "system", content: conversation.system}] if conversation.system else []


FACTS: frozenset[Held] = frozenset({"category", "intent", "language"})


def facts_of(conversation: Conversation) -> dict[str, str]:
    """The columns that stand beside the messages: all of them in every line, "" where nobody knows.

    A reader of tables takes a column's type from the first lines or the first split; one that is null there throughout
    is refused where it turns out to hold text after all.
    """
    return {name: getattr(conversation, name) or "" for name in ("id", "category", "intent", "language")}
