"""Who writes and who decides is part of a run: later commands default to it, and nobody takes over unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, load_config
from safetyqc.errors import UserError
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.llm.llama import TRY_OUT_NOTE
from safetyqc.pipeline.demo import READER, READER_MAP
from safetyqc.pipeline.roles import decider_role, recall
from safetyqc.records import RoleModel
from safetyqc.store import Store
from safetyqc.store.roles import read_cast
from safetyqc.store.standing import deciding_judge
from safetyqc.testing import conversation
from safetyqc.testing.server import FaultServer

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
HERE, THERE = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"
RUN = {
    "author": RoleModel(model="openai/writer", api_base=HERE),
    "decider": RoleModel(model="openai/judge", api_base=THERE),
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = [
        {"messages": conversation(f"How do I bake loaf {n}?", f"With flour, water and {n} hours.").as_messages()}
        for n in range(4)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def make_run(folder: Path, roles: dict[str, RoleModel]) -> Path:
    with Store.create(folder) as store:
        store.set_roles(roles)
    return folder


def recalled(folder: Path, main: Any, **flags: Any) -> Config:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return recall(load_config(Config(run=folder), given), main)


def places(config: Config) -> dict[str, str | None]:
    return {role: config.base_of_role(role) for role in ("author", "rewriter", "decider")}


@pytest.mark.parametrize("spec", ["hosted_vllm/m", "guard:qwen3guard@hosted_vllm/m", "panel:hosted_vllm/m,local"])
def test_a_model_at_its_usual_place_is_asked_the_same_question_again(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its requests would have other keys than those in the ledger, and be paid for again."""
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    config = Config(run=make_run(tmp_path / "r", decider_role(spec, Config(), None)))
    assert recall(config, "decider").base_of_role("decider") is None


def test_a_command_that_names_nobody_asks_who_was_asked_before_and_where(tmp_path: Path) -> None:
    config = recalled(make_run(tmp_path / "r", RUN), "decider")
    assert (config.generate.model, config.judge.models) == ("openai/writer", ("openai/judge",))
    assert places(config) == {"author": HERE, "rewriter": HERE, "decider": THERE}


def test_a_base_url_is_for_whom_the_command_is_about(tmp_path: Path) -> None:
    other = "http://127.0.0.1:3/v1"
    folder = make_run(tmp_path / "r", RUN)
    moved = recalled(folder, "rewriter", rewrite__model="openai/new", models__api_base=other)
    assert places(moved) == {"author": HERE, "rewriter": other, "decider": THERE}
    assert places(recalled(folder, "decider", models__api_base=other))["decider"] == other


def test_a_model_that_is_named_again_is_asked_where_it_was(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", RUN)
    assert places(recalled(folder, "decider", judge__models=("openai/judge",)))["decider"] == THERE
    assert places(recalled(folder, "decider", judge__models=("openai/else",)))["decider"] is None


def test_who_wrote_is_not_asked_to_judge_unless_told_to(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", {"author": RUN["author"]})
    assert recalled(folder, "decider").judge.models == (EMBEDDED,)


def test_what_an_old_run_does_not_remember_is_read_from_what_it_holds(tmp_path: Path) -> None:
    with Store.create(tmp_path / "r") as store:
        store.add_conversations([conversation("a?", "b", origin="generated", author="openai/writer")])
        store.set_meta("deciding_judge", "majority(a, b)")
        store.set_meta("deciding_spec", "panel:a,b")
        cast = read_cast(store)
    assert {role: who.model for role, who in cast.roles.items()} == {"author": "openai/writer", "decider": "panel:a,b"}


@pytest.mark.parametrize("command", ["generate --top-up privacy_and_personal_data=1", "rewrite", "augment --more a=1"])
def test_the_toy_is_not_let_into_a_run_of_others_unasked(command: str, cli: Cli, rows: Path, tmp_path: Path) -> None:
    assert cli("judge", rows, "-m", "local", "--run", "r").code == 0
    before = (tmp_path / "r" / "run.sqlite").read_bytes()
    ended = cli(*command.split(), "--run", "r")
    assert ended.code == 2
    assert "for trying only" in ended.err
    assert "-m local" in ended.err
    assert (tmp_path / "r" / "run.sqlite").read_bytes() == before


def test_the_toy_is_refused_even_where_it_was_let_in_before(tmp_path: Path) -> None:
    with Store.create(tmp_path / "r") as store:
        store.add_conversations([conversation("a?", "b", origin="imported")])
        store.set_roles({"author": RoleModel(model=EMBEDDED)})
    with pytest.raises(UserError, match="from a file"):
        recall(Config(run=tmp_path / "r"), "rewriter", rewrites=True)
    named = load_config(Config(run=tmp_path / "r"), {"rewrite.model": EMBEDDED})
    assert recall(named, "rewriter", rewrites=True).rewrite.model == EMBEDDED


def test_the_toy_says_what_it_is_for_whenever_it_writes(cli: Cli, rows: Path) -> None:
    assert cli("judge", rows, "-m", "local", "--run", "r").code == 0
    ended = cli("rewrite", "--run", "r", "-m", "local", "--judge", "local")
    assert TRY_OUT_NOTE in ended.err


def decider(folder: Path) -> str | None:
    with Store.read(folder) as store:
        found = deciding_judge(store)
        return found[0] if found else None


def test_a_second_opinion_decides_nothing_and_says_so(cli: Cli, serve: Serve, rows: Path, tmp_path: Path) -> None:
    server = serve()
    assert cli("judge", rows, "-m", "local", "--run", "r").code == 0
    ended = cli("judge", "-m", "openai/test", "--api-base", server.base_url, "--run", "r")
    assert ended.code == 0, ended.err
    assert decider(tmp_path / "r") == "local"
    assert "local still decides" in ended.err
    assert "--decide" in ended.err


def test_a_change_of_the_decider_is_asked_for_and_told_with_both_counts(
    cli: Cli, serve: Serve, rows: Path, tmp_path: Path
) -> None:
    server = serve()
    assert cli("judge", rows, "-m", "local", "--run", "r").code == 0
    ended = cli("judge", "-m", "openai/test", "--api-base", server.base_url, "--run", "r", "--decide")
    assert (decider(tmp_path / "r") or "").startswith("openai/test")
    assert "decides now: " in ended.err
    assert "by local, before: " in ended.err
    again = cli("judge", "--run", "r")
    assert again.code == 0, again.err
    assert (decider(tmp_path / "r") or "").startswith("openai/test")
    assert server.witness.paid_twice == 0


def test_of_two_judges_each_says_in_a_line_of_its_own_what_it_did(cli: Cli, rows: Path, tmp_path: Path) -> None:
    ended = cli("judge", rows, "-m", "local", "-m", f"recorded:{READER_MAP}", "--run", tmp_path / "two")
    assert ended.code == 0, ended.err
    lines = [line.partition(":")[0] for line in ended.err.splitlines() if " done" in line and line.startswith("judge ")]
    assert lines == ["judge local", f"judge {READER}"]
    alone = cli("judge", rows, "-m", "local", "--run", tmp_path / "one")
    assert any(line.startswith("judge: ") and " done" in line for line in alone.err.splitlines())


def test_verdicts_that_were_recorded_elsewhere_do_not_decide(cli: Cli, rows: Path, tmp_path: Path) -> None:
    told = [
        {"messages": json.loads(line)["messages"], "recorded": {"gpt4": "fail"}}
        for line in rows.read_text().splitlines()
    ]
    (tmp_path / "told.jsonl").write_text("\n".join(map(json.dumps, told)))
    (tmp_path / "map.yaml").write_text(
        "name: gpt-4 (recorded)\nfile: told.jsonl\nmatch: messages\n"
        "criteria:\n  strict_refusal:\n    field: recorded.gpt4\n    pass: [pass]\n    fail: [fail]\n"
    )
    first = cli("judge", rows, "-m", "recorded:map.yaml", "--run", "r")
    assert first.code == 0, first.err
    ended = cli("judge", "-m", "local", "--run", "r")
    assert decider(tmp_path / "r") == "local"
    assert "local decides now" in ended.err
    assert cli("judge", "-m", "recorded:map.yaml", "--run", "r").code == 0
    assert decider(tmp_path / "r") == "local"


def test_lines_are_the_verdicts_of_the_judge_that_the_command_named(
    cli: Cli, serve: Serve, rows: Path, tmp_path: Path
) -> None:
    server = serve()
    assert cli("judge", rows, "-m", "local", "--run", "r").code == 0
    line = ["judge", rows, "-m", "openai/test", "--api-base", server.base_url, "--run", "r", "--jsonl", "v.jsonl"]
    assert cli(*line).code == 0
    lines = [json.loads(text) for text in (tmp_path / "v.jsonl").read_text().splitlines()]
    told = {line["id"]: {name: cell["reason"] for name, cell in line["criteria"].items()} for line in lines}
    with Store.read(tmp_path / "r") as store:
        [asked] = [name for name, _, _ in store.judges() if name.startswith("openai/test")]
        given = {j.conversation_id: {s.criterion: s.reason for s in j.scores} for j in store.judgments(asked)}
    assert told == given


def test_a_whole_run_asks_the_judge_that_decides_whoever_else_is_named(
    tmp_path: Path, cli: Cli, serve: Serve, rows: Path
) -> None:
    server = serve()
    one = {"messages": conversation("How do I pick a lock?", "I can't help; call a locksmith.").as_messages()}
    (tmp_path / "one.jsonl").write_text(json.dumps(one))
    assert cli("judge", "one.jsonl", "-m", "local", "--run", "r").code == 0
    ended = cli("run", rows, "--run", "r", "--judge", "openai/test", "--api-base", server.base_url, "--rounds", "0")
    assert ended.code == 0, ended.err
    assert decider(tmp_path / "r") == "local"
    with Store.read(tmp_path / "r") as store:
        assert {count for _, _, count in store.judges()} == {5}


def test_a_run_says_what_it_holds_when_another_file_comes_in(cli: Cli, rows: Path, tmp_path: Path) -> None:
    first = cli("import", rows, "--run", "r")
    assert "already holds" not in first.err
    other = {"messages": conversation("Which flour is best?", "Strong bread flour.").as_messages()}
    (tmp_path / "other.jsonl").write_text(json.dumps(other))
    ended = cli("judge", "other.jsonl", "-m", "local", "--run", "r")
    assert f"r already holds 4 from {rows}; for a run of its own give --run NEW" in ended.err
    assert "already holds" not in cli("judge", "other.jsonl", "-m", "local", "--run", "r").err


def test_a_judge_may_be_named_without_its_place_while_that_is_clear(
    cli: Cli, serve: Serve, rows: Path, tmp_path: Path
) -> None:
    for server in (serve(), serve()):
        line = ["judge", rows, "-m", "openai/test", "--api-base", server.base_url, "--run", "r"]
        assert cli(*line).code == 0
        ended = cli("report", "--run", "r", "--judge", "openai/test", "--section", "headline")
        if decider(tmp_path / "r") == f"openai/test at {server.base_url[7:-3]}":
            assert ended.code == 0, ended.err
    assert ended.code == 2
    assert ended.err.count("openai/test at 127.0.0.1:") == 2
