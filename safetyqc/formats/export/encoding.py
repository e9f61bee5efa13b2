"""What an export format is made of: conversations in, the bytes of one file out.

A new format is a file with an `Exporter` and a line in `EXPORTERS` (table.py). Splitting, repeating, writing and
the manifest are the same for all and stand beside it. Such a file is imported with the command line: what a format
needs beside Python is imported in its `encode`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetyqc.records import Conversation


@dataclass(frozen=True)
class Exporter:
    """One format.

    Args:
        file_name: as it is called where nobody says.
        encode: conversations to chunks of bytes, a chunk being written as it comes; must not depend on the split.
        home: the folder that it goes to where nobody says; None of its own is the working folder.
    """

    file_name: str
    encode: Callable[[Sequence[Conversation]], Iterator[bytes]]
    home: Callable[[], Path] = Path

    def default_path(self) -> Path:
        """The path that is used when none is given."""
        return self.home() / self.file_name


def lines_of(of: Callable[[Conversation], Any], *, ascii_only: bool = False) -> Callable[..., Iterator[bytes]]:
    """Encode as JSON Lines, one value a conversation."""

    def encode(conversations: Sequence[Conversation]) -> Iterator[bytes]:
        for conversation in conversations:
            yield json.dumps(of(conversation), ensure_ascii=ascii_only).encode("utf-8") + b"\n"

    return encode


def system_turns(conversation: Conversation, role: str, content: str) -> list[dict[str, str]]:
    """The system message, under these keys; for formats that have a place for one."""
    return [{role: "system", content: conversation.system}] if conversation.system else []
