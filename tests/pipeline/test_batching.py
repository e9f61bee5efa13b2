"""`--batch` from the command line: the same command twice, verdicts as by single calls, and nothing paid twice."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.llm.batch import desk as desk_module
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer
from tests.support.forked import typed

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
COUNT = 9


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "_FIRST_WAIT_S", 0.01)


def line(server: FaultServer, *words: object, run: str = "r") -> list[object]:
    return [*words, "-m", "openai/test", "--api-base", server.base_url, "--run", run]


def verdicts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def test_the_same_command_after_the_batch_gives_the_verdicts_of_single_calls(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve()
    first = cli(*line(server, "judge", data, "--batch", "--jsonl", "batch.jsonl"))
    assert first.code == 0, first.err
    assert f"submitted batch batch_1 (openai/test): {COUNT} requests, price unknown" in first.err
    assert f"{COUNT} wait for a batch" in first.err
    assert "safetyqc batch collect --run r --wait" in first.err
    assert (first.out, (tmp_path / "batch.jsonl").exists()) == ("", False)
    assert server.witness.good.total() == 0

    status = cli("batch", "status", "--run", "r")
    assert "batch batch_1 (openai/test): completed" in status.out
    collected = cli("batch", "collect", "--run", "r", "--wait", "--every", "0.1")
    assert collected.out == f"batch batch_1 (openai/test): completed; {COUNT} answered\n"
    assert "safetyqc judge" in collected.err  # the command that uses the answers

    second = cli(*line(server, "judge", data, "--batch", "--jsonl", "batch.jsonl"))
    assert (second.code, "9 done" in second.err, "wait for a batch" in second.err) == (0, True, False)
    assert cli(*line(server, "judge", data, "--jsonl", "single.jsonl", run="other")).code == 0
    assert verdicts(tmp_path / "batch.jsonl") == verdicts(tmp_path / "single.jsonl")
    assert len(server.desk.batches) == 1


def test_the_same_command_collects_by_itself(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve()
    for _ in range(2):
        ended = cli(*line(server, "judge", data, "--batch"))
        assert ended.code == 0, ended.err
    assert "batch batch_1 (openai/test): completed; 9 answered" in ended.err
    assert "judge: 9 done" in ended.err
    assert (server.witness.good.total(), server.witness.paid_twice) == (COUNT, 0)


def test_while_a_batch_runs_no_command_pays_for_its_requests(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve(batch_s=60)
    cli(*line(server, "judge", data, "--batch"))
    for flags in (["--batch"], []):
        ended = cli(*line(server, "judge", data, *flags))
        assert ended.code == 0, ended.err
        assert "9 wait for a batch" in ended.err
    assert (server.witness.good.total(), len(server.desk.batches)) == (0, 1)
    assert "in_progress, 0 of 9 done" in cli("batch", "status", "--run", "r").out
    cancelled = cli("batch", "cancel", "batch_1", "--run", "r")
    assert "cancelled; 4 answered; 5 without an answer" in cancelled.out
    assert cli(*line(server, "judge", data)).code == 0
    assert (server.witness.good.total(), server.witness.paid_twice) == (COUNT, 0)


def test_the_status_can_be_seen_while_another_command_writes_the_run(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve(batch_s=60)
    cli(*line(server, "judge", data, "--batch"))
    with Store.open("r"):
        status = cli("batch", "status", "--run", "r", "--json")
        assert (status.code, cli("batch", "collect", "--run", "r").code) == (0, 2)
    [told] = json.loads(status.out)
    assert (told["batch"]["batch_id"], told["provider"]["status"], told["waiting"]) == ("batch_1", "in_progress", COUNT)


def test_waiting_can_be_stopped_and_the_batch_goes_on(serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve(batch_s=60)
    assert typed(tmp_path, *line(server, "judge", data, "--batch")).wait() == 0
    waiting = typed(tmp_path, "batch", "collect", "--run", "r", "--wait")
    assert waiting.reaches(lambda: "in_progress" in waiting.err)
    waiting.send(signal.SIGINT)
    assert waiting.wait() == 130, waiting.err
    assert server.desk.batches["batch_1"].status == "in_progress"


def test_a_server_without_batches_is_asked_call_by_call(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve(batch_faults=["no_batches"])
    ended = cli(*line(server, "judge", data, "--batch"))
    assert ended.code == 0, ended.err
    assert "has no batch API (404 for /files): asking call by call, at the full price" in ended.err
    assert "judge: 9 done" in ended.err
    assert server.witness.good.total() == COUNT


def test_a_wrong_key_stops_with_a_fix_and_nothing_waits(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve(batch_faults=["bad_batch_key"])
    ended = cli(*line(server, "judge", data, "--batch"))
    assert (ended.code, "fix: check the API key" in ended.err, "sk-" in ended.err) == (3, True, False)
    assert cli(*line(server, "judge", data)).code == 0
    assert server.witness.good.total() == COUNT


def test_what_failed_in_a_batch_goes_with_the_next_or_is_asked_normally(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve(batch_faults=["line_errors"])
    cli(*line(server, "judge", data, "--batch"))
    second = cli(*line(server, "judge", data, "--batch"))
    assert "6 answered; 3 without an answer" in second.err
    assert "1: openai/test: 500 internal error" in second.err
    assert "1 wait for a batch" in second.err  # the 500; the other two errors would come again
    server.desk.faults = frozenset()
    third = cli(*line(server, "judge", data))
    assert third.code == 0, third.err
    assert server.witness.paid_twice == 0


def test_votes_and_criteria_of_classified_conversations_go_together(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve()
    for flags in (["--votes", "3"], ["--per-criterion"]):
        words = ["judge", data, "--batch", *flags]
        first = cli(*line(server, *words, run=flags[0]))
        assert f"{3 * COUNT} requests" in first.err
        assert "judge: 9 done" in cli(*line(server, *words, run=flags[0])).err


def test_what_depends_on_an_answer_waits_for_it(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve()
    rows = [{"messages": json.loads(text)["messages"]} for text in data.read_text().splitlines()]
    (tmp_path / "bare.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    words = ["judge", "bare.jsonl", "--batch", "--votes", "2"]
    assert f": {COUNT} requests" in cli(*line(server, *words)).err  # the first vote says what they are about
    assert f": {COUNT} requests" in cli(*line(server, *words)).err
    assert "judge: 9 done" in cli(*line(server, *words)).err


def test_a_panel_goes_in_a_batch_for_each_model(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve()
    words = ["judge", data, "-m", "panel:openai/a,openai/b,local", "--api-base", server.base_url, "--run", "r"]
    first = cli(*words, "--batch")
    assert first.code == 0, first.err
    assert len(server.desk.batches) == 2
    assert "judge: 9 done" in cli(*words, "--batch").err
    assert server.witness.paid_twice == 0


def test_generate_and_rewrite_go_in_batches_too(cli: Cli, serve: Serve) -> None:
    server = serve()
    for done in (False, True):
        ended = cli(*line(server, "generate", "-n", 9, "--batch"))
        assert (ended.code, "generate: 9 done" in ended.err) == (0, done)
    assert cli(*line(server, "judge")).code == 0
    with Store.read("r") as store:
        weak = sum(judgment.passed is False for judgment in store.judgments())
    assert weak
    first = cli(*line(server, "rewrite", "--batch"))
    assert f"{weak} wait for a batch" in first.err
    second = cli(*line(server, "rewrite", "--batch"))
    assert (second.code, "wait for a batch" in second.err) == (0, False)
    with Store.read("r") as store:
        assert len(list(store.rewrites())) == weak
    assert server.witness.paid_twice == 0


def test_a_top_up_in_a_batch_is_planned_once(cli: Cli, serve: Serve) -> None:
    server = serve()
    words = line(server, "generate", "--batch", "--top-up", "self_harm_support=3")
    assert "3 wait for a batch" in cli(*words).err
    assert cli(*words).code == 0
    with Store.read("r") as store:
        assert store.count_conversations() == {"generated": 3}
        assert store.meta("plan")["count"] == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", "-n", 9, "--batch", "--mode", "dialogue"], "each turn waits for the one before"),
        (["generate", "-n", 9, "--batch", "--fresh"], "--batch and --fresh exclude each other"),
        (["judge", "data.jsonl", "--batch", "--fresh"], "--batch and --fresh exclude each other"),
    ],
)
def test_where_a_batch_makes_no_sense_it_is_refused(
    cli: Cli, serve: Serve, data: Path, words: list[object], told: str
) -> None:
    ended = cli(*line(serve(), *words))
    assert (ended.code, told in ended.err, "fix:" in ended.err) == (2, True, True)


def test_a_judge_without_calls_needs_no_batch(cli: Cli, data: Path) -> None:
    ended = cli("judge", data, "-m", "local", "--batch")
    assert (ended.code, "judge: 9 done" in ended.err) == (0, True)
    assert cli("batch", "status").out == "no batch in this run waits for anything\n"


def test_max_cost_cuts_the_batch(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("models: {prices: {openai/test: [1, 1]}}")
    ended = cli(*line(serve(), "judge", data, "--batch", "--max-cost", "0.02"))
    assert ended.code == 0, ended.err
    assert "at most $0.02, counted at the full price" in ended.err
    assert "more do not fit into --max-cost" in ended.err


def test_killed_while_submitting_the_same_command_goes_on(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve()
    words = line(server, "judge", data, "--batch", "-q")
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.4):
        process = typed(tmp_path, *words)
        process.reaches((tmp_path / "r" / "run.sqlite").exists)
        time.sleep(delay_s)
        process.send(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0), process.err
    assert cli(*words).code == 0
    assert len(server.desk.batches) == 1
    assert server.witness.paid_twice == 0
