"""Every form is read back; a name that is none is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation
from safetyqc.testing import conversation


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


_READ_LATER = ("parquet", "prompt-completion")
"""Forms that no reader takes yet."""


@pytest.mark.parametrize("name", [n for n, e in EXPORTERS.items() if e.takes == "kept" and n not in _READ_LATER])
def test_every_format_is_read_back_as_the_same_messages(tmp_path: Path, name: str) -> None:
    conversations = [kept(n) for n in range(3)]
    path = tmp_path / EXPORTERS[name].file_name
    manifest = export_conversations(conversations, ExportPlan(format=name, path=path))
    found = read_conversations(path).conversations
    assert [c.messages for c in found] == [c.messages for c in conversations]
    assert [c.meta for c in found] == [{}] * 3  # an empty column is no metadata
    assert (manifest.format, manifest.files[0].lines) == (name, 3)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no export format 'nanchat'\n  fix: did you mean 'nanochat'"):
        export_conversations([kept(1)], ExportPlan(format="nanchat"))
