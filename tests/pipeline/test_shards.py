"""Folders of shards: verdicts beside them, a manifest, and no more in memory than some of the conversations."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pyarrow import parquet

from safetyqc.errors import FatalModelError
from safetyqc.formats.readers import reading
from safetyqc.judge.embedded.judge import LocalJudge
from safetyqc.pipeline import folders, importing
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


def files_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def spoil(file: Path) -> None:
    """Make it unreadable without a trace in its size or time: so whoever opens it is found out."""
    before = file.stat()
    file.write_bytes(b"?" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_finished_is_not_opened_again_and_what_changed_is(cli: Cli, folder: Path, small: None) -> None:
    first = files_of(judged(cli, folder, "verdicts", "run"))
    spoil(folder / "a-00.jsonl")
    spoil(folder / "more" / "b.jsonl.gz")
    with (folder / "a-01.jsonl").open("a", encoding="utf-8") as file:
        file.write(record(30))
    again = files_of(judged(cli, folder, "verdicts", "run"))
    changed = {name for name in first if first[name] != again[name]}
    assert changed == {"a-01.jsonl.verdicts.jsonl", "manifest.json"}
    assert again["a-01.jsonl.verdicts.jsonl"].startswith(first["a-01.jsonl.verdicts.jsonl"])
    assert json.loads(again["manifest.json"])["conversations"] == 17


@pytest.mark.parametrize(
    "more",
    [("--run", "other"), ("--rubric", "safe_alternative"), ("--retry-unscored",), ("--fresh",)],
    ids=lambda words: words[0],
)
def test_what_was_finished_in_another_way_is_read_again(
    cli: Cli, folder: Path, small: None, more: tuple[str, ...]
) -> None:
    judged(cli, folder, "verdicts", "run")
    spoil(folder / "a-00.jsonl")
    ended = cli("judge", folder, "-m", "local", "--run", "run", "--jsonl", "verdicts", *more)
    assert (ended.code, "a-00.jsonl" in ended.err) == (2, True)


def test_verdicts_that_are_gone_or_were_changed_are_written_again(cli: Cli, folder: Path, small: None) -> None:
    first = files_of(judged(cli, folder, "verdicts", "run"))
    Path("verdicts/a-01.jsonl.verdicts.jsonl").unlink()
    Path("verdicts/a-00.jsonl.verdicts.jsonl").write_text("not mine")
    assert files_of(judged(cli, folder, "verdicts", "run")) == first


@pytest.mark.parametrize("fails_at", [2, 8, 12])
def test_a_stop_leaves_whole_files_and_the_rest_is_the_same_as_without_it(
    cli: Cli, folder: Path, small: None, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    whole = files_of(judged(cli, folder, "whole", "run-w"))
    monkeypatch.setattr(folders, "_TOGETHER", 1)
    score, times = LocalJudge.score, [0]

    def stops(self: LocalJudge, conversation: Any) -> Any:
        times[0] += 1
        if times[0] == fails_at:
            raise FatalModelError("stopped")
        return score(self, conversation)

    monkeypatch.setattr(LocalJudge, "score", stops)
    ended = cli("judge", folder, "-m", "local", "--run", "run", "--jsonl", "verdicts")
    assert ended.code == 3, ended.err
    left = files_of(Path("verdicts")) if Path("verdicts").exists() else {}
    assert left == {name: body for name, body in whole.items() if name in left}
    assert len(left) == (fails_at > 7) + (fails_at > 9)  # of the files before; no manifest
    for name in left:
        spoil(folder / name.removesuffix(".verdicts.jsonl"))
    with Store.read("run") as store:
        before = len(list(store.judgments()))
    done = times[0]
    assert files_of(judged(cli, folder, "verdicts", "run")) == whole
    assert before + times[0] - done == 16  # nothing was judged twice


def test_files_read_one_by_one_make_the_run_that_all_of_them_at_once_make(
    cli: Cli, folder: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies in one file and across files, ids that two files use, and texts that the run has from elsewhere."""
    with (folder / "a-01.jsonl").open("a", encoding="utf-8") as file:
        file.writelines([record(7), record(1, id="x"), record(40, id="mine"), record(41), record(41)])
    with gzip.open(folder / "more" / "b.jsonl.gz", "at", encoding="utf-8") as file:
        file.writelines([record(2, id="x"), record(1, id="x"), record(40), record(41), record(41), record(5)])
    Path("earlier.jsonl").write_text(record(3, id="mine") + record(9, id="nine"), encoding="utf-8")
    for run in ("run-a", "run-i", "run-o"):
        assert cli("import", "earlier.jsonl", "--run", run).code == 0
    all_at_once = judged(cli, folder, "all.jsonl", "run-a").read_bytes()
    monkeypatch.setattr(folders, "_TOGETHER", 1)
    one_by_one = files_of(judged(cli, folder, "verdicts", "run-o"))
    assert b"".join(body for name, body in one_by_one.items() if name != "manifest.json") == all_at_once
    for _ in range(2):
        assert cli("import", folder, "--run", "run-i").code == 0
    assert state("run-a") == state("run-o") == state("run-i")


def test_parquet_gets_the_same_verdicts_as_columns(cli: Cli, folder: Path, small: None) -> None:
    lines = files_of(judged(cli, folder, "verdicts", "run"))
    ended = cli("judge", folder, "-m", "local", "--run", "run", "--parquet", "columns")
    assert ended.code == 0, ended.err
    for name in ("a-00.jsonl", "a-01.jsonl", "more/b.jsonl.gz"):
        rows = parquet.read_table(f"columns/{name}.verdicts.parquet").to_pylist()
        for row in rows:
            row["criteria"] = {said.pop("criterion"): said for said in row["criteria"]}
            row["classified"] = {key: value for key, value in row["classified"].items() if value}
        assert rows == [json.loads(line) for line in lines[f"{name}.verdicts.jsonl"].splitlines()]
    manifests = [json.loads(Path(out, "manifest.json").read_text("utf-8")) for out in ("verdicts", "columns")]
    assert [s["sha256"] for s in manifests[0]["shards"]] == [s["sha256"] for s in manifests[1]["shards"]]
    assert cli("judge", folder, "-m", "local", "--parquet", "columns", "--jsonl", "verdicts").code == 2
    ended = cli("judge", folder / "a-00.jsonl", "-m", "local", "--run", "run", "--parquet", "one.parquet")
    assert (ended.code, parquet.read_table("one.parquet").num_rows) == (0, 7), ended.err


def test_a_url_is_a_folder_like_any_other(cli: Cli, folder: Path, small: None) -> None:
    local = files_of(judged(cli, folder, "verdicts", "run"))
    store = fsspec.filesystem("memory")
    store.put(f"{folder}/", "/bucket/data/", recursive=True)
    try:
        for _ in range(2):
            ended = cli(
                "judge", "memory://bucket/data", "-m", "local", "--run", "run-m", "--jsonl", "memory://bucket/v"
            )
            assert ended.code == 0, ended.err
            there = {path.removeprefix("/bucket/v/"): store.cat(path) for path in store.find("/bucket/v")}
            assert {n: b for n, b in there.items() if n != "manifest.json"} == {
                n: b for n, b in local.items() if n != "manifest.json"
            }
            before = set(store.find("/bucket/data"))
            store.store["/bucket/data/a-00.jsonl"] = spoiled(store.store["/bucket/data/a-00.jsonl"])
        assert set(store.find("/bucket/data")) == before
        ended = cli("judge", f"file://{folder}", "-m", "local", "--run", "run", "--jsonl", "memory://bucket/data/v")
        assert ended.code == 0, ended.err
        nested = cli("judge", "memory://bucket/data", "-m", "local", "--run", "r", "--jsonl", "memory://bucket/data/v")
        assert (nested.code, "lies in the folder that is read" in nested.err) == (2, True)
    finally:
        store.rm("/bucket", recursive=True)


def spoiled(file: Any) -> Any:
    """What is there under the same size and time, and is no conversation."""
    other = type(file)(file.fs, file.path, b"?" * len(file.getvalue()))
    other.created = file.created
    return other


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
