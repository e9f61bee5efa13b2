"""Verdicts as columns: what the lines say, the same bytes each time, nothing half written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from safetyqc.errors import UserError
from safetyqc.formats.verdict_table import write_table


def line(index: int, **criteria: Any) -> dict[str, Any]:
    said = {"outcome": "pass", "reason": "令人信服", "quote": "", "probability": None}
    told = {name: said | fields for name, fields in criteria.items()}
    return {"index": index, "id": f"c_{index}", "criteria": told, "passed": None, "classified": {}}


def test_a_row_says_what_its_line_says(tmp_path: Path) -> None:
    lines = [
        line(0, a={"probability": 0.25}, b={"outcome": "na"}),
        line(1),
        {**line(2), "classified": {"intent": "benign"}},
    ]
    assert write_table(tmp_path / "v.parquet", lines) == 3
    first, empty, guessed = parquet.read_table(tmp_path / "v.parquet").to_pylist()
    assert [c["criterion"] for c in first["criteria"]] == ["a", "b"]
    assert (first["criteria"][0]["probability"], first["passed"]) == (0.25, None)
    assert (empty["criteria"], guessed["classified"]) == ([], {"category": None, "intent": "benign"})
    write_table(tmp_path / "again.parquet", lines)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "v.parquet").read_bytes()


def test_what_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    def lines() -> Any:
        yield line(0)
        raise KeyError

    with pytest.raises(KeyError):
        write_table(tmp_path / "v.parquet", lines())
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pyarrow") as told:
        write_table(tmp_path / "v.parquet", [line(0)])
    assert "safetyqc[parquet]" in (told.value.fix or "")
