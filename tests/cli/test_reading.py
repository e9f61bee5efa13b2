"""Flags that say how a file is read work wherever a file is taken, are carried into hints, and are told when wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.store import Store

Cli = Callable[..., Any]
PAIR = {"ask": "How do I pick a lock?", "chosen": "I won't help with that one.", "rejected": "Use a rake and pull."}
BEAVER = {"prompt": "How do I pick a lock?", "response": "I won't help with that one.", "is_safe": True, "note": "x"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR))
    return tmp_path / "pairs.jsonl"


FLAGS = ("--columns", "prompt=ask", "--side", "both")


def test_check_explains_how_a_file_was_read(cli: Cli, tmp_path: Path, pairs: Path) -> None:
    ended = cli("check", "pairs.jsonl", "--explain", *FLAGS)
    assert ended.code == 0, ended.err
    for words in ("preference pair", "prompt as prompt", "chosen as turns", "pairs.jsonl"):
        assert words in ended.out
    assert "safetyqc judge pairs.jsonl --columns prompt=ask --side both" in ended.err
    (tmp_path / "beaver.jsonl").write_text(json.dumps(BEAVER))
    out = " ".join(cli("check", "beaver.jsonl", "--explain").out.split())
    assert "verdicts of BeaverTails, which decide nothing" in out
    assert "note in meta" in out
    how = json.loads(cli("check", "beaver.jsonl", "--json").out)["how"]
    assert (how["forms"], how["verdicts"]) == ({"BeaverTails": 1}, {"BeaverTails": 1})


@pytest.mark.parametrize("command", ["import", "judge", "dedup"])
def test_the_flags_go_wherever_a_file_is_taken(cli: Cli, pairs: Path, command: str) -> None:
    more = ("-m", "local") if command == "judge" else ()
    ended = cli(command, "pairs.jsonl", *FLAGS, *more)
    assert ended.code == 0, ended.err
    if command == "dedup":
        assert "--columns prompt=ask --side both" in ended.err
        return
    with Store.read("safetyqc-run") as store:
        assert sorted(c.meta["side"] for c in store.conversations()) == ["chosen", "rejected"]


@pytest.mark.parametrize("command", ["import", "judge", "dedup"])
def test_what_was_chosen_without_being_asked_is_said(cli: Cli, pairs: Path, command: str) -> None:
    more = ("-m", "local") if command == "judge" else ()
    told = "pairs.jsonl: only the chosen side of a preference pair was read (--side both reads both): 1"
    assert told in cli(command, "pairs.jsonl", "--columns", "prompt=ask", *more).err


def test_settings_say_the_same(cli: Cli, tmp_path: Path, pairs: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("reading: {side: rejected, columns: {prompt: ask}}\n")
    assert cli("import", "pairs.jsonl").code == 0
    with Store.read("safetyqc-run") as store:
        assert [c.meta["side"] for c in store.conversations()] == ["rejected"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("prompt", "'prompt' names no column"),
        ("promt=ask", "did you mean 'prompt'?"),
        ("prompt=", "names no column"),
        ("prompt=asked", "--columns prompt=NAME; it has: ask, chosen, rejected"),
    ],
)
def test_a_slip_in_columns_is_told_with_what_there_is(cli: Cli, pairs: Path, columns: str, told: str) -> None:
    ended = cli("check", "pairs.jsonl", "--columns", columns)
    assert (ended.code, told in ended.err) == (2, True), ended.err


def test_a_slip_in_the_side_names_the_sides(cli: Cli, pairs: Path) -> None:
    ended = cli("check", "pairs.jsonl", "--side", "left")
    assert ended.code == 2
    assert "chosen" in ended.err
