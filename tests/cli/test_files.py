"""Files as people have them: line ends, byte-order marks, other scripts, archives, stdin; bad lines are counted."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.store import Store

Cli = Callable[..., Any]
TEXTS = [
    ("How do I calm a friend down?", "Sit with them and breathe slowly together."),
    ("怎么安慰失业的朋友？", "先听他说完，不要急着给建议。"),
    ("Is this ok? 🙂👩🏽‍🚀 naïve \u2028 line", "Yes \U0001f44d, quite ok: ﷽ and   spaces."),
]
PAIRS = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in TEXTS]
LINES = [json.dumps({"messages": pair}, ensure_ascii=False) for pair in PAIRS]
BARE = [json.dumps(pair) for pair in PAIRS]
SHAREGPT = [
    json.dumps({"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}) for q, a in TEXTS
]


def joined(lines: list[str], end: str = "\n") -> bytes:
    return end.join([*lines, ""]).encode()


FORMS: dict[str, tuple[str, bytes]] = {
    "lf": ("a.jsonl", joined(LINES)),
    "crlf": ("a.jsonl", joined(LINES, "\r\n")),
    "no last line end": ("a.jsonl", joined(LINES).rstrip(b"\n")),
    "empty lines between": ("a.jsonl", joined(LINES, "\n\n  \n")),
    "byte-order mark": ("a.jsonl", b"\xef\xbb\xbf" + joined(LINES)),
    "ascii escapes": ("a.jsonl", joined(BARE)),
    "sharegpt": ("a.jsonl", joined(SHAREGPT)),
    "one json array": ("a.json", ("[" + ",".join(LINES) + "]").encode()),
    "indented json": ("a.json", json.dumps([json.loads(line) for line in LINES], indent=2).encode()),
    "gzip": ("a.jsonl.gz", gzip.compress(joined(LINES))),
    "a name with spaces and 中文": ("我 的 data.jsonl", joined(LINES)),
}


def imported(folder: Path) -> list[list[tuple[str, str]]]:
    with Store.read(folder / "r") as store:
        return [[(m.role, m.content) for m in c.messages] for c in store.conversations()]


WANTED = [[("user", q), ("assistant", a)] for q, a in TEXTS]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_conversations(form: str, cli: Cli, tmp_path: Path) -> None:
    name, data = FORMS[form]
    (tmp_path / name).write_bytes(data)
    ended = cli("import", name, "--run", "r")
    assert ended.code == 0, ended.err
    assert "3 new" in ended.err
    assert imported(tmp_path) == WANTED


@pytest.mark.parametrize("form", ["lf", "crlf", "byte-order mark", "one json array", "gzip"])
def test_stdin_is_a_file_like_any_other(form: str, cli: Cli, tmp_path: Path) -> None:
    ended = cli("import", "-", "--run", "r", stdin=FORMS[form][1])
    assert ended.code == 0, ended.err
    assert imported(tmp_path) == WANTED


def test_an_error_in_stdin_names_it_and_its_line(cli: Cli) -> None:
    ended = cli("check", "-", stdin=joined([LINES[0], "{"]))
    assert ended.code == 2
    assert "stdin:2:" in ended.err


def test_the_same_file_again_adds_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined(LINES))
    cli("import", "a.jsonl", "--run", "r")
    ended = cli("import", "a.jsonl", "--run", "r")
    assert "0 new; 3 already there" in ended.err
    assert len(imported(tmp_path)) == 3


def test_bad_lines_are_left_out_counted_and_shown(cli: Cli, tmp_path: Path) -> None:
    bad = [
        "{",
        "42",
        '{"messages": []}',
        '{"messages": [{"role": "assistant", "content": "x"}]}',
        "[]",
        "nonsense",
        '"x"',
    ]
    (tmp_path / "a.jsonl").write_bytes(joined([LINES[0], *bad, *LINES[1:]]))
    ended = cli("import", "a.jsonl", "--skip-bad-lines", "--run", "r")
    assert ended.code == 0, ended.err
    assert f"a.jsonl: skipped {len(bad)} of {len(bad) + len(LINES)} lines" in ended.err
    assert "a.jsonl:2: " in ended.err
    assert "and 2 more" in ended.err
    assert "kind=" not in ended.err
    assert imported(tmp_path) == WANTED


def test_an_index_points_at_the_record_of_the_file_also_behind_bad_lines(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined(["{bad", LINES[0], "{bad2", LINES[1], LINES[2], LINES[0]]))
    (tmp_path / "near.txt").write_text(TEXTS[2][0] + "\n")
    cli("import", "a.jsonl", "--skip-bad-lines", "--run", "r")  # a run that has them already changes nothing
    judged = cli("judge", "a.jsonl", "--skip-bad-lines", "-m", "local", "--run", "r", "--jsonl", "-")
    assert [json.loads(line)["index"] for line in judged.out.splitlines()] == [1, 3, 4, 5], judged.err
    found = cli("dedup", "a.jsonl", "--skip-bad-lines", "--against", "near.txt", "--jsonl", "-")
    group, match = map(json.loads, found.out.splitlines())
    assert (group["kept"], [d["index"] for d in group["dropped"]]) == (1, [5])
    assert match["index"] == 4


def test_without_a_file_an_index_is_the_place_in_the_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined(["{", LINES[0], LINES[1]]))
    (tmp_path / "b.jsonl").write_bytes(joined([LINES[2], LINES[0]]))
    cli("import", "a.jsonl", "b.jsonl", "--skip-bad-lines", "--run", "r")
    judged = cli("judge", "-m", "local", "--run", "r", "--jsonl", "-")
    assert [json.loads(line)["index"] for line in judged.out.splitlines()] == [0, 1, 2], judged.err


def test_check_counts_bad_lines_among_all_records(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined([*LINES, "{", "42"]))
    ended = cli("check", "a.jsonl", "--skip-bad-lines", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["records"], found["conversations"]) == (5, 3)


def test_latin_1_is_refused_with_its_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined([LINES[0]]) + '{"messages": "é"}\n'.encode("latin-1"))
    ended = cli("check", "a.jsonl")
    assert ended.code == 2
    assert "a.jsonl:2:" in ended.err
    assert "UTF-8" in ended.err


def test_a_broken_archive_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(joined(LINES * 50))[:-20])
    ended = cli("check", "a.jsonl.gz")
    assert ended.code == 2
    assert "a.jsonl.gz" in ended.err
    assert "fix: " in ended.err


def test_a_file_without_a_readable_line_gives_no_verdicts_of_the_rest_of_the_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(joined(LINES))
    (tmp_path / "bad.jsonl").write_bytes(b"{\n")
    assert cli("judge", "a.jsonl", "--run", "r").code == 0
    ended = cli("judge", "bad.jsonl", "--skip-bad-lines", "--run", "r", "--jsonl", "out.jsonl")
    assert (ended.code, "bad.jsonl: nothing is left of it: every line was skipped" in ended.err) == (2, True)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_cannot_be_read_is_not_offered_itself(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    ended = cli("check", "gone.jsonl")
    assert (ended.code, "did you mean" in ended.err, "fix: check the path" in ended.err) == (2, False, True)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_is_utf8_whatever_the_pipe_asks_for(tmp_path: Path, encoding: str) -> None:
    turns = [
        {"role": "user", "content": "怎样打开门锁？😀"},
        {"role": "assistant", "content": "这个我不能帮你。"},
    ]
    (tmp_path / "z.jsonl").write_text(json.dumps(turns), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "safetyqc", "check", "z.jsonl"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 of 1 record clean" in ended.stdout.decode("utf-8")
