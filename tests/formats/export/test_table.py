"""Every form is read back; a name that is none is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.formats.export.encoding import Example
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.table import EXPORTERS, format_for
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation
from safetyqc.testing import conversation


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def told(number: int) -> Conversation:
    """A conversation of which some facts are known, as in every second one."""
    known = {"category": "fraud", "intent": "harmful", "language": "en", "system": "Be kind."} if number % 2 else {}
    return conversation(f"Hi {number} 你好 🙂", "Hello.", f"How {number}?", "I won't.", id=f"k{number}", **known)


def examples_for(name: str, count: int = 6) -> list[Example]:
    def failed(number: int) -> Conversation:
        mended = told(number)
        bad = mended.messages[-1].model_copy(update={"content": "Like this."})
        return mended.model_copy(update={"id": f"f{number}", "messages": (*mended.messages[:-1], bad)})

    takes = EXPORTERS[name].takes
    if takes == "pairs":
        return [Example(told(n), answer=3, rejected=failed(n)) for n in range(count)]
    bad = [Example(failed(n), failed=True) for n in range(count)] if takes == "verdicts" else []
    return [*(Example(told(n)) for n in range(count)), *bad]


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_is_read_back_as_the_same_conversations(tmp_path: Path, name: str) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    path, examples = tmp_path / EXPORTERS[name].file_name, examples_for(name)
    manifest = export_conversations(examples, ExportPlan(format=name, path=path))
    found = read_conversations(path).conversations
    wanted = [e.conversation for e in examples]
    assert [c.messages for c in found] == [c.messages for c in wanted]
    holds = EXPORTERS[name].holds
    for fact in ("system", "category", "intent", "language"):
        if fact in holds:
            assert [getattr(c, fact) for c in found] == [getattr(c, fact) for c in wanted]
    assert all(c.meta.keys() <= {"rejected_id", "side", "label", "kto_tag", "origin"} for c in found)
    assert (manifest.format, manifest.files[0].lines) == (name, len(examples))


@pytest.mark.parametrize("name", [n for n, e in EXPORTERS.items() if e.is_table])
def test_a_dataset_folder_is_read_back_as_a_whole(tmp_path: Path, name: str) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    examples = examples_for(name)
    plan = ExportPlan(format=name, folder=tmp_path / "d", val_share=0.4)
    export_conversations(examples, plan, card=lambda _: "# A card\n")
    assert len(read_conversations(tmp_path / "d").conversations) == len(examples)


@pytest.mark.parametrize(
    ("file", "named", "last", "found"),
    [
        ("train.parquet", None, None, "parquet"),
        ("train.PARQUET", None, "openai", "parquet"),
        ("train.csv", None, None, "csv"),
        ("train.csv", "csv", None, "csv"),
        ("train.jsonl", None, None, "nanochat"),
        ("train.jsonl", None, "openai", "openai"),
        ("train.jsonl", "sharegpt", "openai", "sharegpt"),
        (None, None, "dpo", "dpo"),
        ("/dev/stdout", None, None, "nanochat"),
    ],
)
def test_the_format_is_what_the_name_tells_then_what_was_asked_then_the_last(
    file: str | None, named: str | None, last: str | None, found: str
) -> None:
    assert format_for(Path(file) if file else None, named, last) == found


@pytest.mark.parametrize(
    ("file", "named", "told"),
    [("a.parquet", "openai", "its name says parquet, and --format openai"), ("a.xlsx", None, "no format writes .xlsx")],
)
def test_a_name_that_contradicts_is_refused(file: str, named: str | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        format_for(Path(file), named)


def test_csv_holds_messages_as_json_and_facts_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    sly = kept(0).model_copy(update={"category": "=cmd|' /C calc'!A0"})
    export_conversations([sly], ExportPlan(format="csv", path=tmp_path / "a.csv"))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as written:
        (row,) = csv.DictReader(written)
    assert json.loads(row["messages"]) == sly.as_messages()
    assert row["category"].startswith("'=")


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no export format 'nanchat'\n  fix: did you mean 'nanochat'"):
        export_conversations([kept(1)], ExportPlan(format="nanchat"))
