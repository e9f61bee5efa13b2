"""The formats that conversations are exported in, by name; encoding.py says what one is made of."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetyqc.errors import UserError, choose_from
from safetyqc.formats.encoding import Exporter, lines_of, system_turns
from safetyqc.records import Conversation

NANOCHAT_FILE = "safety_conversations.jsonl"


def _openai(conversation: Conversation) -> dict[str, Any]:
    return {"messages": [*system_turns(conversation, "role", "content"), *conversation.as_messages()]}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[m.role], "value": m.content} for m in conversation.messages]
    return {"id": conversation.id, "conversations": [*system_turns(conversation, "from", "value"), *turns]}


def _parquet(conversations: Sequence[Conversation]) -> Iterator[bytes]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        fix = "pip install 'safetyqc[parquet]', or choose another --format"
        raise UserError("Parquet needs pyarrow, which is not installed", fix=fix) from error
    turn = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    text = ("id", "category", "intent", "language", "origin", "parent_id")
    columns: dict[str, Any] = {
        name: pyarrow.array([getattr(c, name) for c in conversations], "string") for name in text
    }
    columns["messages"] = pyarrow.array([c.as_messages() for c in conversations], pyarrow.list_(turn))
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    yield buffer.getvalue()


def _nanochat_home() -> Path:
    """Where nanochat itself looks: its own variable, else its folder in the user's cache."""
    return Path(os.environ.get("NANOCHAT_BASE_DIR") or Path.home() / ".cache" / "nanochat")


EXPORTERS: dict[str, Exporter] = {
    "nanochat": Exporter(NANOCHAT_FILE, lines_of(Conversation.as_messages, ascii_only=True), _nanochat_home),
    "openai": Exporter("safety_conversations.openai.jsonl", lines_of(_openai)),
    "sharegpt": Exporter("safety_conversations.sharegpt.jsonl", lines_of(_sharegpt)),
    "parquet": Exporter("safety_conversations.parquet", _parquet),
    "safetyqc": Exporter("safety_conversations.safetyqc.jsonl", lines_of(lambda c: c.model_dump(mode="json"))),
}
"""Name -> format; open to additions. `safetyqc` writes whole records, which every command reads back without loss."""


def exporter_of(name: str) -> Exporter:
    """Look a format up.

    Raises:
        UserError: no such format; names the nearest one.
    """
    if name not in EXPORTERS:
        raise UserError(f"no export format {name!r}", fix=choose_from(name, EXPORTERS))
    return EXPORTERS[name]
