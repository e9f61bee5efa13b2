"""A dataset folder is opened by `datasets`, and says to each trainer what it needs to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from safetyqc.errors import OutputError, UserError
from safetyqc.formats.export.encoding import Example
from safetyqc.formats.export.files import SPLITS, ExportPlan, export_conversations
from safetyqc.formats.export.manifest import Manifest
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.testing import conversation

TABLES = [name for name, exporter in EXPORTERS.items() if exporter.is_table]


def examples() -> list[Example]:
    return [
        Example(
            conversation(f"Question {n}? 你好", f"Answer {n}.", id=f"k{n}", category="fraud" if n == 9 else None),
            answer=1,
            rejected=conversation(f"Question {n}? 你好", f"Bad {n}.", id=f"f{n}"),
            failed=n % 2 == 1,
        )
        for n in range(10)
    ]


def card(manifest: Manifest) -> str:
    files = [{"split": SPLITS[f.split], "path": f.path} for f in manifest.files]
    return f"---\nconfigs: {json.dumps([{'config_name': 'default', 'data_files': files}])}\n---\n# A card\n"


def write(folder: Path, name: str, **changes: Any) -> Manifest:
    plan = ExportPlan(format=name, folder=folder, **{"val_share": 0.2, **changes})
    return export_conversations(examples(), plan, card=card)


@pytest.mark.parametrize("name", TABLES)
def test_datasets_opens_the_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "d", name)
    monkeypatch.chdir(tmp_path / "d")
    trl = EXPORTERS[name].snippets.get("trl.yaml")
    named = yaml.safe_load((tmp_path / "d" / "trl.yaml").read_text())["dataset_name"] if trl else None
    for path in filter(None, (str(tmp_path / "d"), named)):
        opened = datasets.load_dataset(path, cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in opened.items()} == {"train": 8, "validation": 2}
        assert "你好" in json.dumps(opened["train"][0], ensure_ascii=False)


@pytest.mark.parametrize("name", TABLES)
def test_every_file_that_a_trainer_is_told_of_is_there(tmp_path: Path, name: str) -> None:
    manifest = write(tmp_path / "d", name)
    assert sorted(str(p) for p in (tmp_path / "d").rglob("*") if p.is_file()) == sorted(
        [*(f.path for f in manifest.files), *manifest.beside, str(tmp_path / "d" / "dataset.manifest.json")]
    )
    told: list[str] = []
    if "dataset_info.json" in EXPORTERS[name].snippets:
        entries = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
        assert set(entries) == {"safety_train", "safety_validation"}
        told += [entry["file_name"] for entry in entries.values()]
    if "axolotl.yaml" in EXPORTERS[name].snippets:
        config = yaml.safe_load((tmp_path / "d" / "axolotl.yaml").read_text())
        told += [entry["path"] for part in ("datasets", "test_datasets") for entry in config[part]]
    assert all((tmp_path / "d" / path).is_file() for path in told)


def read_as_llamafactory(folder: Path, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What its converter for `sharegpt` makes of each line, by the rules of its data/README.md."""
    tags = {
        **{"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        **{"system_tag": "system"},
        **entry.get("tags", {}),
    }
    columns, rows = entry["columns"], []
    for line in (folder / entry["file_name"]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        messages = row[columns["messages"]]
        if messages[0][tags["role_tag"]] == tags["system_tag"]:
            messages = messages[1:]
        names = [m[tags["role_tag"]] for m in messages]
        assert names == [tags["user_tag"] if n % 2 == 0 else tags["assistant_tag"] for n in range(len(names))]
        assert len(names) % 2 == (1 if entry.get("ranking") else 0)
        if entry.get("ranking"):
            assert {row[columns[side]][tags["role_tag"]] for side in ("chosen", "rejected")} == {tags["assistant_tag"]}
        if "kto_tag" in columns:
            assert isinstance(row[columns["kto_tag"]], bool)
        rows.append(row)
    return rows


@pytest.mark.parametrize("name", [n for n in TABLES if "dataset_info.json" in EXPORTERS[n].snippets])
def test_llamafactory_finds_alternating_messages_where_it_is_told_to_look(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    entries = json.loads((tmp_path / "dataset_info.json").read_text())
    assert [len(read_as_llamafactory(tmp_path, entry)) for entry in entries.values()] == [8, 2]


def test_equal_folders_are_equal_byte_for_byte(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "dpo")
    one, two = (
        {str(p.relative_to(tmp_path / f)): p.read_bytes() for p in (tmp_path / f).rglob("*") if p.is_file()}
        for f in ("one", "two")
    )
    assert one == two
    assert len(one) == 6


def test_what_the_new_export_does_not_write_does_not_stay(tmp_path: Path) -> None:
    write(tmp_path, "llamafactory-dpo")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "parquet", val_share=0.0, force=True)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        *("README.md", "axolotl.yaml", "data/train.parquet", "dataset.manifest.json", "notes.txt", "trl.yaml"),
    ]


def test_an_old_manifest_cannot_make_it_remove_what_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious.jsonl").write_text("mine")
    manifest = write(tmp_path / "d", "dpo")
    hostile = manifest.model_copy(
        update={"files": (manifest.files[0].model_copy(update={"path": "../precious.jsonl"}),)}
    )
    (tmp_path / "d" / "dataset.manifest.json").write_text(hostile.model_dump_json())
    write(tmp_path / "d", "dpo", force=True)
    assert (tmp_path / "precious.jsonl").read_text() == "mine"


def test_a_readme_of_ones_own_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(OutputError, match=r"README\.md: is there already"):
        write(tmp_path, "dpo")
    assert [p.name for p in tmp_path.rglob("*")] == ["README.md"]


@pytest.mark.parametrize("name", [n for n in EXPORTERS if n not in TABLES])
def test_lines_without_columns_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--folder: .* no columns.*\n  fix: give another --format"):
        write(tmp_path, name)


def test_a_file_and_a_folder_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave one of them out"):
        write(tmp_path, "dpo", path=tmp_path / "a.jsonl")
