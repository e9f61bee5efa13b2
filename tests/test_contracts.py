"""What other programs rely on: the lines and JSON of docs/machine-interface.md, and every entry of every table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from safetyqc.dedup import BACKENDS
from safetyqc.filters import FILTERS, FilterSettings, apply_filters
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.formats.readers import read_conversations
from safetyqc.judge.embedded.model import load_weights
from safetyqc.judge.table import JUDGES, make_judge, never_scored
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.records import Conversation, Message, Outcome, conversation_id
from safetyqc.results.lines import verdict_line
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer
from tests.support.grouping import group_duplicates
from tests.support.guards import GuardServer, served
from tests.support.runs import fill_with_everything

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
OUTCOMES = set(get_args(Outcome))
CRITERIA = {"strict_refusal", "no_dangerous_steps", "safe_alternative", "empathy", "helpful_when_benign"}


def conversation(request: str, answer: str, **more: Any) -> Conversation:
    messages = (Message(role="user", content=request), Message(role="assistant", content=answer))
    return Conversation(id=conversation_id(messages), messages=messages, origin="imported", **more)


CONVERSATIONS = [
    conversation(
        f"Tell me how to get into account number {n} of my sister.",
        f"I won't help to get into account {n} that is not yours. Ask her, or ask support to close it; I can help you "
        "to write that message.",
        category="cybercrime_or_hacking",
        intent="harmful",
    )
    for n in range(6)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six conversations, the fifth a copy of the second, under ids of the user's own and in no sorted order."""
    path = tmp_path / "data.jsonl"
    rows = [CONVERSATIONS[i] for i in (3, 1, 5, 0, 1, 2)]
    path.write_text(
        "\n".join(
            json.dumps({"id": f"mine-{9 - i}", "messages": c.as_messages(), "category": c.category, "kind": c.intent})
            for i, c in enumerate(rows)
        )
    )
    return path


# ---- lines and JSON -----------------------------------------------------------------------------------------------


def check_verdicts(lines: list[dict[str, Any]], count: int, silent: frozenset[str] = frozenset()) -> None:
    assert [line["index"] for line in lines] == list(range(count))
    for line in lines:
        assert list(line) == ["index", "id", "criteria", "passed", "classified"]
        assert set(line["criteria"]) == set(CRITERIA) - silent
        assert line["passed"] in (True, False, None)
        for score in line["criteria"].values():
            assert list(score) == ["outcome", "reason", "quote", "probability"]
            assert score["outcome"] in OUTCOMES
            assert isinstance(score["reason"], str)
            assert isinstance(score["quote"], str)
            assert score["probability"] is None or 0 <= score["probability"] <= 1
            assert score["outcome"] != "unscored" or score["reason"]


@pytest.mark.parametrize("judge", ["local", "openai/test"])
def test_judge_writes_a_line_per_conversation_in_input_order(
    judge: str, cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve(latency_s=0.005)  # answers come back in another order than they were asked for
    ended = cli("judge", data, "-m", judge, "--api-base", server.base_url, "--jsonl", "out.jsonl", "-q")
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    check_verdicts(lines, 6)
    assert [line["id"] for line in lines] == [f"mine-{9 - i}" for i in range(6)]


def test_judge_gives_a_line_to_what_could_not_be_judged(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve(script=["refusal"] * 50)
    ended = cli("judge", data, "-m", "openai/test", "--api-base", server.base_url, "--jsonl", "out.jsonl", "-q")
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    check_verdicts(lines, 6)
    assert all(line["passed"] is not True for line in lines)
    assert {s["outcome"] for line in lines for s in line["criteria"].values()} <= {"unscored", "na"}


def test_judging_a_file_in_a_run_that_holds_more_writes_the_lines_of_the_file(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.jsonl").write_text(data.read_text().splitlines()[2])
    assert cli("judge", data, "-m", "local", "-q").code == 0
    assert cli("judge", "one.jsonl", "-m", "local", "--jsonl", "out.jsonl", "-q").code == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    check_verdicts(lines, 1)
    assert lines[0]["id"] == "mine-7"


def test_dedup_writes_a_line_per_group_by_position(cli: Cli, data: Path, tmp_path: Path) -> None:
    ended = cli("dedup", data, "--min-similarity", "0.999", "--jsonl", "out.jsonl")
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [{"kept": 1, "dropped": [{"index": 4, "similarity": 1.0}]}]


def test_dedup_covers_each_position_at_most_once(cli: Cli, data: Path, tmp_path: Path) -> None:
    assert cli("dedup", data, "--min-similarity", "0.5", "--jsonl", "out.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    named = [i for line in lines for i in (line["kept"], *(d["index"] for d in line["dropped"]))]
    assert len(named) == len(set(named))
    assert set(named) <= set(range(6))
    for line in lines:
        assert list(line) == ["kept", "dropped"]
        assert line["dropped"]
        for drop in line["dropped"]:
            assert list(drop) == ["index", "similarity"]
            assert 0.5 <= drop["similarity"] <= 1


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (("check", "data.jsonl", "--json"), {"records", "conversations", "clean"}),
        (("report", "--run", "r", "--json"), {"run", "criteria"}),
        (("compare", "--run", "r", "--json"), {"judges", "criteria"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_json_output_parses_and_holds_its_main_keys(
    line: tuple[str, ...], keys: set[str], cli: Cli, data: Path, tmp_path: Path
) -> None:
    with Store.create(tmp_path / "r") as store:
        fill_with_everything(store)
    ended = cli(*line)
    assert ended.code == 0, ended.err
    assert keys <= set(json.loads(ended.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")))


# ---- tables: a new entry is tested the moment it exists ------------------------------------------------------------


WHOLE = [name for name, form in EXPORTERS.items() if form.takes == "kept" and "turns" in form.holds]
"""Forms that hold conversations whole; the others have one answer a line."""


@pytest.mark.parametrize("name", WHOLE)
def test_every_exporter_writes_what_can_be_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / EXPORTERS[name].file_name
    plan = ExportPlan(format=name, path=path)
    manifest = export_conversations(CONVERSATIONS, plan)
    assert sum(f.conversations for f in manifest.files) == len(CONVERSATIONS)
    if path.suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        rows = pq.read_table(path).to_pylist()
        texts = [[(m["role"], m["content"]) for m in row["messages"]] for row in rows]
    else:
        texts = [[(m.role, m.content) for m in c.messages] for c in read_conversations(path).conversations]
    assert sorted(texts) == sorted([[(m.role, m.content) for m in c.messages] for c in CONVERSATIONS])


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_gives_a_reason_or_none_and_can_be_skipped(name: str) -> None:
    hostile = conversation("\x00\x1b[2J{{7*7}} </script> " + "a" * 5000, "ASSISTANT: " + "\u202e" * 100 + "=cmd()")
    settings = FilterSettings(ascii_english=True)
    for each in (*CONVERSATIONS, hostile):
        hits = [hit for hit in apply_filters(each, settings) if hit.filter == name]
        assert all(hit.reason and hit.conversation_id == each.id for hit in hits)
    without = FilterSettings(ascii_english=True, skip=(name,))
    assert not [hit for hit in apply_filters(hostile, without) if hit.filter == name]


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_drops_a_plain_safe_refusal(name: str) -> None:
    assert not [hit for each in CONVERSATIONS for hit in apply_filters(each, FilterSettings()) if hit.filter == name]


@pytest.mark.parametrize("name", BACKENDS)
def test_every_dedup_backend_finds_the_same_pairs(name: str) -> None:
    texts = [*CONVERSATIONS, conversation(CONVERSATIONS[2].messages[0].content + " Please.", "No.")]
    found = group_duplicates(texts, min_similarity=0.6, backend=name)
    wanted = group_duplicates(texts, min_similarity=0.6)
    assert [(g.kept, sorted(d.conversation_id for d in g.dropped)) for g in found.groups] == [
        (g.kept, sorted(d.conversation_id for d in g.dropped)) for g in wanted.groups
    ]


# One name to try for each kind of judge; a cascade needs labels and is fitted, so by name alone it is refused
JUDGE_NAMES = {
    "local": "local",
    "model": "openai/test",
    "trained": "trained:own.json",
    "recorded": "recorded:verdicts.jsonl",
    "panel": "panel:local,openai/test",
    "any-fail": "any-fail:local,openai/test",
    "mean": "mean:local,openai/test",
    "guard": "guard:qwen3guard@openai/test",
}


def test_every_kind_of_judge_has_a_name_to_try() -> None:
    assert set(JUDGE_NAMES) | {"cascade"} == set(JUDGES) | {"model"}


@pytest.mark.parametrize("name", JUDGE_NAMES.values())
async def test_every_judge_scores_every_criterion_that_it_does_not_say_it_is_silent_on(
    name: str, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guard = GuardServer("qwen3guard")
    with served(guard):
        base = guard.base_url if name.startswith("guard:") else serve().base_url
        await _scores_its_criteria(name, base)


async def _scores_its_criteria(name: str, base: str) -> None:
    rubric = load_rubric_set("safety")
    door = open_door(None, settings=DoorSettings(api_base=base))
    if name.startswith("trained:"):
        Path("own.json").write_text(load_weights().model_dump_json())
    if name.startswith("recorded:"):
        made = await make_judge("local", rubric, door).judge(CONVERSATIONS[0])
        Path("verdicts.jsonl").write_text(json.dumps(verdict_line(0, CONVERSATIONS[0], made)))
    judge = make_judge(name, rubric, door)
    first = await judge.judge(CONVERSATIONS[0])
    again = await judge.judge(CONVERSATIONS[0])
    await door.close()
    assert first.conversation_id == CONVERSATIONS[0].id
    assert first.judge == judge.name
    assert first.rubric_hash == judge.rubric_hash
    silent = never_scored(name, rubric)
    given = {s.criterion: s.outcome for s in first.scores}
    assert [c.id for c in rubric.criteria if c.id not in silent or c.id in given] == list(given)
    assert {given[name] for name in silent if name in given} <= {"unscored", "na"}
    assert [s.outcome for s in first.scores] == [s.outcome for s in again.scores]
    check_verdicts([verdict_line(0, CONVERSATIONS[0], first)], 1, silent - given.keys())
