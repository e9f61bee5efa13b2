"""Parquet holds messages beside what is known of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.records import Conversation
from safetyqc.testing import conversation


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_parquet_holds_messages_and_plan(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    export_conversations([kept(1, intent="benign"), kept(2, None)], ExportPlan(format="parquet", path=path))
    first, second = parquet.read_table(path).to_pylist()
    assert first["messages"] == kept(1).as_messages()
    assert (first["category"], first["intent"], second["category"]) == ("general_safety", "benign", None)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'safetyqc\[parquet\]'"):
        export_conversations([kept(1)], ExportPlan(format="parquet", path=tmp_path / "a.parquet"))
    assert list(tmp_path.iterdir()) == []
