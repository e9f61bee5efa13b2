"""Conversations as a table of columns: Parquet, and CSV with the messages as JSON in one cell."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from safetyqc.errors import UserError
from safetyqc.formats.export.encoding import FACTS, Example, Exporter, system_turns
from safetyqc.formats.export.trainers import axolotl, trl
from safetyqc.formats.sheets import guard


def _parquet(examples: Sequence[Example]) -> Iterator[bytes]:
    conversations = [example.conversation for example in examples]
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
    columns["messages"] = pyarrow.array(
        [[*system_turns(c, "role", "content"), *c.as_messages()] for c in conversations], pyarrow.list_(turn)
    )
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    yield buffer.getvalue()


def _csv(examples: Sequence[Example]) -> Iterator[bytes]:
    """Yield a row each. The messages are a JSON list, which no spreadsheet takes for a formula; facts are guarded."""
    names = ("id", "category", "intent", "language")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerow([*names, "messages"])
    for conversation in (example.conversation for example in examples):
        messages = [*system_turns(conversation, "role", "content"), *conversation.as_messages()]
        facts = [guard(getattr(conversation, name)) for name in names]
        writer.writerow([*facts, json.dumps(messages, ensure_ascii=False)])
        yield out.getvalue().encode("utf-8")
        out.seek(0)
        out.truncate()


CSV = Exporter("safety_conversations.csv", _csv, holds=FACTS | {"system", "turns"}, is_table=False)

PARQUET = Exporter(
    "safety_conversations.parquet",
    _parquet,
    holds=FACTS | {"system", "turns"},
    snippets={"axolotl.yaml": axolotl(field_messages="messages"), "trl.yaml": trl("sft")},
)
