from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def write(path: str, refusing: bool) -> None:
    rows = [
        {
            "prompt": f"{kind} thing {n}",
            "intent": kind,
            "pair": str(n),
            "answer": "I can't help with that." if kind == "harmful" and refusing else "Sure, this is how.",
        }
        for kind in ("harmful", "benign")
        for n in range(20)
    ]
    Path(path).write_text("\n".join(map(json.dumps, rows)))


def test_json_is_all_of_stdout_and_holds_the_twin_metric(cli: Callable[..., Any]) -> None:
    write("after.jsonl", refusing=True)
    ended = cli("probe", "-m", "answers:after.jsonl", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["twin_metric"]["rate"] == 1.0
    assert found["prompt_set"]["pairs"] == 20
    assert found["arms"]["model"]["measures"]["harm_refused"]["n"] == 20


@pytest.mark.parametrize(("model", "against", "code"), [("after", "before", 0), ("before", "after", 4)])
def test_check_ends_with_its_code_when_it_got_worse(
    cli: Callable[..., Any], model: str, against: str, code: int
) -> None:
    write("after.jsonl", refusing=True)
    write("before.jsonl", refusing=False)
    ended = cli("probe", "-m", f"answers:{model}.jsonl", "--against", f"answers:{against}.jsonl", "--check")
    assert ended.code == code, ended.err


def test_check_ends_with_its_code_when_a_bar_is_missed(cli: Callable[..., Any]) -> None:
    write("after.jsonl", refusing=True)
    Path("safetyqc.yaml").write_text("probe: {bars: {benign_helped: 0.9, harm_complied: 0.1}}\n")
    assert cli("probe", "-m", "answers:after.jsonl", "--check").code == 0
    write("before.jsonl", refusing=False)
    ended = cli("probe", "-m", "answers:before.jsonl", "--check")
    assert ended.code == 4
    assert "at most 0.10" in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "answers:gone.jsonl"], "gone.jsonl"),
        (["-m", "answers:a.jsonl", "--check"], "there are no bars to check"),
        (["-m", "local:gone.gguf"], "gone.gguf"),
        (["-m", "answers:a.jsonl", "--prompts", "gone.csv"], "gone.csv"),
        (["-m", "answers:a.jsonl", "--judge", "panl:x"], "panl"),
        (["-m", "answers:a.jsonl", "--against", "a.jsonl"], "is no probe"),
    ],
)
def test_bad_input_ends_with_2_and_a_fix(cli: Callable[..., Any], arguments: list[str], message: str) -> None:
    write("a.jsonl", refusing=True)
    ended = cli("probe", *arguments)
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert "fix:" in ended.err


def test_an_unknown_bar_is_named_with_its_line(cli: Callable[..., Any]) -> None:
    write("a.jsonl", refusing=True)
    Path("safetyqc.yaml").write_text("probe:\n  bars:\n    twins: 0.9\n")
    ended = cli("probe", "-m", "answers:a.jsonl", "--check")
    assert ended.code == 2
    assert "twin_metric" in ended.err
