"""Folders of shards: verdicts beside them, a manifest, and no more in memory than some of the conversations."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.readers import reading
from safetyqc.pipeline import importing
from safetyqc.reports import views
from safetyqc.store import Store

Cli = Callable[..., Any]


def record(n: int, **beside: Any) -> str:
    said = "I can't help with that, but a doctor or a friend can." if n % 3 else "Of course. 当然可以。"
    turns = [{"role": "user", "content": f"How do I do the thing number {n}?"}, {"role": "assistant", "content": said}]
    return json.dumps({"messages": turns, **beside}, ensure_ascii=False) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    (data / "a-00.jsonl").write_text("".join(map(record, range(7))), encoding="utf-8")
    (data / "a-01.jsonl").write_text("".join(map(record, range(7, 9))), encoding="utf-8")
    with gzip.open(data / "more" / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(map(record, range(5, 12)))  # four of them stand in the other shards too
    return data


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little fits memory that everything goes its way in parts."""
    monkeypatch.setattr(reading, "_HELD", 3)
    monkeypatch.setattr(importing, "_AT_A_TIME", 4)
    monkeypatch.setattr(views, "_AT_A_TIME", 2)


def judged(cli: Cli, data: Path, out: str, run: str) -> Path:
    ended = cli("judge", data, "-m", "local", "--run", run, "--jsonl", out)
    assert ended.code == 0, ended.err
    return Path(out)


def test_each_shard_gets_its_verdicts_and_the_manifest_names_them(cli: Cli, folder: Path, small: None) -> None:
    out = judged(cli, folder, "verdicts", "run")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert [(s["data"], s["conversations"]) for s in manifest["shards"]] == [
        ("a-00.jsonl", 7), ("a-01.jsonl", 2), ("more/b.jsonl.gz", 7),
    ]  # fmt: skip
    assert manifest["conversations"] == 16 == sum(manifest[name] for name in ("passed", "failed", "open"))
    for number, shard in enumerate(manifest["shards"]):
        written = (out / shard["verdicts"]).read_bytes()
        assert hashlib.sha256(written).hexdigest() == shard["sha256"]
        alone = judged(cli, folder / shard["data"], f"alone-{number}.jsonl", f"run-{number}").read_text("utf-8")
        own, other = ([json.loads(line) for line in text.splitlines()] for text in (written.decode(), alone))
        assert [line["index"] for line in own] == list(range(shard["conversations"]))
        assert [line["criteria"] for line in own] == [line["criteria"] for line in other]


def test_the_same_command_again_judges_nothing_and_writes_the_same_bytes(cli: Cli, folder: Path, small: None) -> None:
    def written() -> dict[str, bytes]:
        out = judged(cli, folder, "verdicts", "run")
        return {str(file): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}

    first = written()
    with Store.read("run") as store:
        before = {j.conversation_id: seq for seq, j in enumerate(store.judgments())}
    assert written() == first
    assert len(first) == 4
    with Store.read("run") as store:
        assert {j.conversation_id: seq for seq, j in enumerate(store.judgments())} == before


def test_a_folder_that_would_be_read_as_data_is_refused(cli: Cli, folder: Path) -> None:
    for out in (folder / "verdicts", folder):
        ended = cli("judge", folder, "-m", "local", "--jsonl", out)
        assert (ended.code, "lies in the folder that is read" in ended.err) == (2, True)
    assert not Path("safetyqc-run").exists()


def test_a_file_of_all_verdicts_can_be_had_of_a_folder_too(cli: Cli, folder: Path) -> None:
    out = judged(cli, folder, "all.jsonl", "run")
    assert out.read_bytes().count(b"\n") == 16


def state(run: str) -> tuple[list[str], list[str | None]]:
    with Store.read(run) as store:
        found = list(store.conversations())
    return [c.id for c in found], [c.category for c in found]


def test_parts_are_brought_in_as_a_whole_is(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named and nameless, known and new, copies, and facts that are told anew: in whichever part they stand."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("".join(record(n, id=f"mine-{n}") for n in range(0, 12, 2)), encoding="utf-8")
    lines = [record(n) for n in range(9)] + [record(n, id=f"mine-{n}", category="weapons") for n in range(9)]
    lines += [record(3), record(20, id="mine-2"), record(21, id="late"), record(21), record(4, category="hate")]
    second.write_text("".join(lines), encoding="utf-8")
    told = []
    for run in ("run-w", "run-p"):
        if run == "run-p":
            monkeypatch.setattr(reading, "_HELD", 2)
            monkeypatch.setattr(importing, "_AT_A_TIME", 3)
        for file in (first, second, second):
            ended = cli("import", file, "--run", run)
            assert ended.code == 0, ended.err
            told.append(ended.out.replace(run, "") + ended.err.replace(run, ""))
    assert state("run-w") == state("run-p")
    assert told[:3] == told[3:]
    assert "weapons" in state("run-p")[1]


def test_a_bad_line_at_the_end_leaves_the_run_as_it_was(cli: Cli, folder: Path, small: None) -> None:
    with (folder / "a-01.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user"\n')
    ended = cli("import", folder, "--run", "run")
    assert (ended.code, "a-01.jsonl" in ended.err) == (2, True)
    assert not Path("run").exists()
