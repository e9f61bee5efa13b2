"""What is kept becomes files; nothing is overwritten, everything is accounted for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import OutputError, UserError
from safetyqc.formats.export.chat import validate_nanochat_file
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.manifest import Manifest, tell_repeats
from safetyqc.records import Conversation, Message
from safetyqc.testing import conversation


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_manifest_accounts_for_everything(tmp_path: Path) -> None:
    broken = Conversation(id="broken", messages=(Message(role="user", content="x"),))
    plan = ExportPlan(path=tmp_path / "a.jsonl", val_share=0.25, seed=7, source={"run": "my-run"})
    told = export_conversations(
        [*(kept(n, f"category {n % 2}") for n in range(8)), broken], plan, left_out={"c_9": "failed strict_refusal"}
    )
    written = Manifest.model_validate_json((tmp_path / "a.manifest.json").read_text())
    assert [f.path for f in written.files] == ["a.jsonl", "a.val.jsonl"]  # wherever the files are moved to
    assert written == told.model_copy(update={"files": written.files})
    assert sum(f.lines for f in written.files) == 8
    for file in written.files:
        raw = (tmp_path / file.path).read_bytes()
        assert (file.sha256, file.bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
        assert sum(file.by_category.values()) == file.lines == raw.count(b"\n")
    assert written.source == {"run": "my-run"}
    assert {x.conversation_id: x.reason for x in written.left_out} == {
        "c_9": "failed strict_refusal",
        "broken": "bad structure: has 1 message(s)",
    }


def test_the_same_export_gives_the_same_bytes(tmp_path: Path) -> None:
    cases = [kept(n, f"category {n % 3}") for n in range(30)]
    for name in ("one", "two"):
        plan = ExportPlan(path=tmp_path / name / "a.jsonl", val_share=0.2, oversample={"category 1": 1.5})
        export_conversations(cases, plan)
    for file in ("a.jsonl", "a.val.jsonl", "a.manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("there", ["a.jsonl", "a.val.jsonl", "a.manifest.json"])
def test_nothing_is_overwritten_without_force(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    cases = [kept(n) for n in range(4)]
    with pytest.raises(OutputError, match=rf"{there}: is there already\n  fix: .*--force"):
        export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5))
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5, force=True))
    assert validate_nanochat_file(tmp_path / "a.jsonl") == 2


def test_an_old_validation_file_does_not_stay_beside_a_training_file_with_its_texts(tmp_path: Path) -> None:
    cases = [kept(n) for n in range(10)]
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5))
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", force=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.manifest.json"]


def test_a_file_of_somebody_else_beside_it_stays(tmp_path: Path) -> None:
    (tmp_path / "a.val.jsonl").write_text("mine")
    (tmp_path / "a.manifest.json").write_text("{}")
    export_conversations([kept(1)], ExportPlan(path=tmp_path / "a.jsonl", force=True))
    assert (tmp_path / "a.val.jsonl").read_text() == "mine"


def test_a_failure_in_the_middle_leaves_every_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [kept(n) for n in range(4)]
    plan = ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5, force=True)
    export_conversations(cases, plan)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(Manifest, "model_dump_json", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_conversations([kept(n) for n in range(50, 60)], plan)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_nothing_to_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to export"):
        export_conversations([], ExportPlan(path=tmp_path / "a.jsonl"))


def test_a_folder_as_path_is_told_with_a_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder\n  fix: give a file: .*safety_conversations\.jsonl"):
        export_conversations([kept(1)], ExportPlan(path=tmp_path))


def test_what_a_judge_guessed_is_split_repeated_and_counted_but_not_written(tmp_path: Path) -> None:
    told = [conversation(f"question {n}", "answer", id=f"t{n}", category="fraud") for n in range(20)]
    untold = [conversation(f"request {n}", "answer", id=f"u{n}") for n in range(40)]
    guessed = {c.id: "fraud" if n % 2 else "violence" for n, c in enumerate(untold)} | {"t0": "violence"}
    path = tmp_path / "data.jsonl"
    plan = ExportPlan(format="openai", path=path, val_share=0.2, oversample={"violence": 2})
    manifest = export_conversations([*told, *untold], plan, guessed=guessed)
    train, val = manifest.files
    assert val.by_category == {"fraud": 8, "violence": 4}
    assert train.by_category == {"fraud": 32, "violence": 32}
    assert (train.conversations, train.lines, manifest.categories_guessed) == (48, 64, 40)
    assert tell_repeats(manifest) == [
        "violence repeated 2 times: 32 of 64 lines",
        "40 categories are the judge's guess",
    ]
    assert "violence" not in path.read_text(encoding="utf-8")


def test_a_guess_says_which_categories_can_be_repeated(tmp_path: Path) -> None:
    plan = ExportPlan(format="openai", path=tmp_path / "data.jsonl", oversample={"violense": 2})
    with pytest.raises(UserError, match="violense") as raised:
        export_conversations([conversation("q", "a", id="u")], plan, guessed={"u": "violence"})
    assert "violence" in (raised.value.fix or "")
