"""Files of every form go all the way: imported, judged, exported, and opened by those who train on them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.export.chat import validate_nanochat_file
from tests.formats.readers.test_table import FORMS, A, Q

Cli = Callable[..., Any]
OTHERS = ("rows.csv", "rows.tsv", "rows.parquet", "rows.arrow", "shards", "saved")
"""Files that hold what JSON Lines hold, in another way."""
REFUSED = (
    "I can't help you with hurting anyone. That would put people in danger and is illegal. If something is wrong "
    "between you, I can help you write a calm message, or find a mediator."
)
FACTS = {"intent": "harmful", "category": "violence_or_crime"}


def asked(name: str) -> str:
    return f"How do I pick the lock of house {name} that is not mine?"


def row_of(name: str) -> dict[str, Any]:
    """A record of this form whose request no other file has."""
    value = json.loads(json.dumps(FORMS[name][1]).replace(Q, asked(name)).replace(A, REFUSED))
    return {**value, **FACTS}


def write_others(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from pyarrow import parquet

    def rows(name: str) -> list[dict[str, Any]]:
        return [{"prompt": asked(name), "response": REFUSED, **FACTS}]

    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows(name)[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows(name))
    made = datasets.Dataset.from_list
    parquet.write_table(made(rows("rows.parquet")).data.table, folder / "rows.parquet")
    made(rows("saved")).save_to_disk(str(folder / "saved"))
    made(rows("rows.arrow")).save_to_disk(str(folder / "tmp"))
    next((folder / "tmp").glob("*.arrow")).rename(folder / "rows.arrow")
    (folder / "shards").mkdir()
    (folder / "shards" / "a.jsonl").write_text(json.dumps(rows("shards")[0]))


def test_twenty_forms_and_more_are_imported_judged_and_exported(cli: Cli, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    named = {name: re.sub(r"\W+", "_", name) + ".jsonl" for name, (_, v) in FORMS.items() if isinstance(v, dict)}
    for name, file in named.items():
        (tmp_path / file).write_text(json.dumps(row_of(name)))
    write_others(tmp_path)
    wanted = {asked(name) for name in (*named, *OTHERS)}
    assert len(wanted) > 30
    ended = cli("import", *named.values(), *OTHERS)
    assert ended.code == 0, ended.err
    for name in OTHERS:
        assert cli("check", name).code == 0
    assert cli("judge", "-m", "local", "--rubric", "strict_refusal").code == 0
    columns = {"openai": "messages", "sharegpt": "conversations", "nanochat": None}
    for form, column in columns.items():
        ended = cli("export", f"{form}.jsonl", "--format", form)
        assert ended.code == 0, ended.err
        if column is None:
            assert validate_nanochat_file(tmp_path / "nanochat.jsonl") == len(wanted)
            said = [json.loads(line)[0]["content"] for line in (tmp_path / "nanochat.jsonl").read_text().splitlines()]
        else:
            opened = datasets.load_dataset(
                "json", data_files=str(tmp_path / f"{form}.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
            )
            turns = [[t for t in row[column] if t.get("role", t.get("from")) != "system"] for row in opened]
            said = [(t[0].get("content") or t[0].get("value")) for t in turns]
        assert set(said) == wanted
