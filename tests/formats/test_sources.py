"""Tables, columns, shards and folders are read as the records that they hold; what is broken is told with its place."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import InputError, UserError
from safetyqc.formats.readers import read_conversations
from safetyqc.formats.turns import Reading

Q, A = "How do I pick a lock?", "=I won't help, 但是…\nA locksmith can."
TURNS = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
ROWS = [{"id": f"r{n}", "prompt": f"{Q} {n}", "response": A, "is_safe": n % 2 == 0, "note": None} for n in range(5)]


def table(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_tables_are_read_by_their_columns(tmp_path: Path, name: str, delimiter: str) -> None:
    result = read_conversations(table(tmp_path / name, ROWS, delimiter))
    assert [c.id for c in result.conversations] == ["r0", "r1", "r2", "r3", "r4"]
    assert result.conversations[1].messages[1].content == A
    assert result.conversations[1].meta == {
        "is_safe": "False",
        "recorded": {"BeaverTails": {"no_dangerous_steps": "fail"}},
    }
    assert [c.source.line for c in result.conversations if c.source] == [2, 4, 6, 8, 10]


def test_a_table_with_names_of_its_own(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [{"ask": Q, "say": A}])
    with pytest.raises(
        InputError, match=r"a\.csv:2: has no messages \(keys: ask, say\)\n  fix: name its columns: --columns"
    ):
        read_conversations(path)
    (found,) = read_conversations(path, how=Reading(columns={"prompt": "ask", "response": "say"})).conversations
    assert found.as_messages() == TURNS


def test_cells_longer_than_pythons_own_limit_are_read(tmp_path: Path) -> None:
    (found,) = read_conversations(table(tmp_path / "a.csv", [{"prompt": "x" * 200_000, "response": A}])).conversations
    assert len(found.messages[0].content) == 200_000


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_files_of_columns_are_read_row_by_row(tmp_path: Path, kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"id": f"c{n}", "messages": TURNS, "conversations": None, "raw": b"\x00\x01"} for n in range(700)]
    made, path = pyarrow.Table.from_pylist(rows), tmp_path / ("a.parquet" if kind == "parquet" else "a.arrow")
    if kind == "parquet":
        parquet.write_table(made, path)
    else:
        new = pyarrow.ipc.new_file if kind == "arrow file" else pyarrow.ipc.new_stream
        with new(str(path), made.schema) as writer:
            writer.write_table(made, max_chunksize=300)
    result = read_conversations(path)
    assert [c.id for c in result.conversations] == [f"c{n}" for n in range(700)]
    assert result.conversations[-1].as_messages() == TURNS
    assert result.conversations[-1].meta == {"raw": "<2 bytes>"}
    assert [c.source.line for c in result.conversations if c.source][-1] == 700


def test_without_pyarrow_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.arrow").write_bytes(b"\xff\xff\xff\xff" + b"\0" * 20)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"a\.arrow: is a Parquet or Arrow file(.|\n)*pip install 'safetyqc\[parquet\]'"
    ):
        read_conversations(tmp_path / "a.arrow")


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xff", b"ARROW1\0\0", b"PAR1"])
def test_a_damaged_file_of_columns_is_told(tmp_path: Path, head: bytes) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.arrow").write_bytes(head + bytes(range(100)))
    with pytest.raises(InputError, match=r"a\.arrow: is an? \w+ file(, not JSON)?, and cannot be read(.|\n)*to_json"):
        read_conversations(tmp_path / "a.arrow")


def test_a_folder_of_shards_is_one_set_whose_records_name_their_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/b.jsonl", "data/a.jsonl", ".hidden.jsonl", "x.manifest.json", "dataset_info.json"):
        (tmp_path / name).write_text(json.dumps(TURNS if name.startswith("data/") else {"no": "data"}) + "\n")
    (tmp_path / "README.md").write_text("# A card")
    result = read_conversations(tmp_path)
    places = [(Path(c.source.path).name, c.source.index) for c in result.conversations if c.source]
    assert places == [("a.jsonl", 0), ("b.jsonl", 0)]
    assert len({c.id for c in result.conversations}) == 2
    assert [Path(name).name for name in result.how.files] == ["a.jsonl", "b.jsonl"]


def test_a_folder_of_save_to_disk_is_read_as_it_names_its_files(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([{"id": f"c{n}", "messages": TURNS} for n in range(20)])
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk(
        str(tmp_path / "saved"), num_shards={"train": 2, "test": 1}
    )
    (tmp_path / "saved" / "train" / "cache-0123.arrow").write_bytes(b"junk")
    result = read_conversations(tmp_path / "saved")
    assert len(result.conversations) == 23
    assert len(result.how.files) == 3


def test_a_dataset_that_lost_a_shard_or_names_a_stranger_is_told(tmp_path: Path) -> None:
    for name in ("gone.arrow", "../../etc/passwd"):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(InputError, match=r"state\.json: names '.*', which is not there"):
            read_conversations(tmp_path)
