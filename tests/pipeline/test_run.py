"""A whole run over real HTTP: both lanes, resumed, killed, interrupted, refused, out of money and out of disk."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from safetyqc.store import Store
from safetyqc.testing.server import FaultServer
from tests.support.forked import typed

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
CATEGORIES = 9
STAGES = {"generate", "judge", "rewrite"}


def run_line(server: FaultServer, *more: object, count: int = 18, run: str = "r") -> list[str]:
    line = ["run", "-n", count, "-m", "openai/test", "--api-base", server.base_url, "--run", run, *more]
    return [str(part) for part in line]


def facts(folder: Path) -> dict[str, Any]:
    """What a run holds, apart from the order in which concurrent calls happened to end."""
    with Store.read(folder) as store:
        return {
            "plan": store.meta("plan"),
            "scenarios": sorted(
                (c.scenario.index, c.scenario.category, c.scenario.intent) for c in store.conversations() if c.scenario
            ),
            "conversations": {c.id: c.messages for c in store.conversations()},
            "verdicts": {j.conversation_id: j.passed for j in store.judgments()},
            "rewrites": {(r.parent_id, r.child_id, r.kept) for r in store.rewrites()},
            "exported": sorted((folder / "export" / "safety_conversations.jsonl").read_text().splitlines()),
        }


def asked_of(messages: list[dict[str, str]], seed: int | None) -> str:
    """Name a request by what both the ledger and the wire know of it."""
    return json.dumps([[(m["role"], m["content"]) for m in messages], seed])


def on_the_wire(bodies: list[dict[str, Any]]) -> list[str]:
    return [asked_of(body["messages"], body.get("seed")) for body in bodies]


def in_ledger(folder: Path) -> set[str]:
    """Requests whose answer is durable."""
    if not (folder / "run.sqlite").exists():
        return set()
    with closing(sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        texts = dict(connection.execute("SELECT hash, text FROM texts"))
        requests = [json.loads(row[0]) for row in connection.execute("SELECT request FROM calls WHERE good")]
    # A system message, the same in many requests, is kept once and named by its hash
    whole = [
        [{"role": m["role"], "content": texts[m["text"]] if "text" in m else m["content"]} for m in request["messages"]]
        for request in requests
    ]
    return {asked_of(messages, request["seed"]) for messages, request in zip(whole, requests, strict=True)}


@pytest.mark.parametrize("lane", ["direct", "litellm"])
def test_a_run_does_every_stage_and_again_asks_nothing(lane: str, cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    first = cli(*run_line(server, "--lane", lane))
    assert first.code == 0, first.err
    asked = server.witness.received.total()
    with Store.read(tmp_path / "r") as store:
        assert store.count_conversations()["generated"] == 18
        assert {c.scenario.index for c in store.conversations() if c.origin == "generated" and c.scenario} == set(
            range(18)
        )
        assert set(store.meta("plan")["per_category"].values()) == {18 // CATEGORIES}
        assert {s.stage for s in store.spending()} == STAGES
        assert sum(s.calls for s in store.spending()) == asked
        assert any(r.kept for r in store.rewrites())
    exported = (tmp_path / "r" / "export" / "safety_conversations.jsonl").read_text(encoding="ascii").splitlines()
    assert 10 <= len(exported) <= 18
    for line in exported:
        messages = json.loads(line)
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
    before = facts(tmp_path / "r")

    again = cli(*run_line(server, "--lane", lane))
    assert again.code == 0, again.err
    assert server.witness.received.total() == asked
    assert server.witness.paid_twice == 0
    assert "18 of 18 already done" in again.err
    assert facts(tmp_path / "r") == before


def test_a_run_over_files_checks_them_and_writes_nothing_of_its_own(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    line = '{"messages": [{"role": "user", "content": "How do I %s?"}, {"role": "assistant", "content": "%s"}]}\n'
    answers = ["Open the panel and follow the arrows there.", "Ask the person at the desk, they will know it."]
    (tmp_path / "mine.jsonl").write_text("".join(line % (verb, a) for verb in ("park", "bake") for a in answers))
    server = serve()
    ended = cli("run", "mine.jsonl", *run_line(server)[3:])
    assert ended.code == 0, ended.err
    with Store.read(tmp_path / "r") as store:
        assert store.count_conversations()["imported"] == 4
        assert "generated" not in store.count_conversations()


def test_a_dry_run_asks_nothing(cli: Cli, serve: Serve) -> None:
    server = serve()
    ended = cli(*run_line(server, "--dry-run"))
    assert ended.code == 0
    assert "18 calls" in ended.err
    assert server.witness.received.total() == 0


def test_a_fallback_answers_for_a_model_that_cannot_be_used(
    cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.base_url)
    words = ["generate", "-n", "9", "-m", "groq/any", "--mode", "oneshot", "--run", "r"]
    alone = cli(*words)
    assert (alone.code, "GROQ_API_KEY is not set" in alone.err) == (3, True)
    helped = cli(*words, "--fallback", "hosted_vllm/other")
    assert (helped.code, "generate: 9 done" in helped.err) == (0, True)
    with Store.read("r") as store:
        assert {spent.model for spent in store.spending()} == {"hosted_vllm/other"}


def test_an_estimate_for_fewer_than_planned_is_about_the_whole_plan(cli: Cli, serve: Serve) -> None:
    server = serve()
    assert cli("generate", *run_line(server)[1:]).code == 0
    ended = cli(*run_line(server, "--dry-run", count=3))
    assert ended.code == 0, ended.err
    assert "0 to do, 18 of 18 already done" in ended.err


def test_more_conversations_than_before_keep_those_that_are_there(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    assert cli(*run_line(server, count=9)).code == 0
    before = facts(tmp_path / "r")["conversations"]
    assert cli(*run_line(server, count=18)).code == 0
    assert before.items() <= facts(tmp_path / "r")["conversations"].items()
    assert server.witness.paid_twice == 0


# ---- killed and interrupted ---------------------------------------------------------------------------------------


def test_kill_9_at_any_moment_ends_with_the_same_run_and_pays_nothing_known_twice(
    cli: Cli, serve: Serve, tmp_path: Path
) -> None:
    """What is lost at a kill is at most what was in flight: delivered by the server, not yet durable here.

    An answer that the process never could write down cannot be told from one that it never got, so such a request is
    asked again. Everything else is asked once: that is what the server's witness says of each request.
    """
    in_flight, kills = 4, 6
    rng, folder = random.Random(11), tmp_path / "r"
    server = serve(latency_s=0.02)
    server.keep_bodies = True
    line = run_line(server, "--concurrency", in_flight, "--quiet")
    may_repeat: set[str] = set()
    for _ in range(kills):
        known, seen = in_ledger(folder), len(server.bodies)
        process = typed(tmp_path, *line)
        wanted = seen + rng.randrange(0, 12)
        process.reaches(lambda wanted=wanted: len(server.bodies) >= wanted and folder.exists())
        time.sleep(rng.uniform(0, 0.04))
        process.send(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0), process.err
        asked = on_the_wire(server.bodies[seen:])
        assert not set(asked) & known, "a request whose answer was saved was asked again"
        assert len(asked) == len(set(asked)), "a request was asked twice within one process"
        lost = set(asked) - in_ledger(folder)
        assert len(lost) <= in_flight
        may_repeat |= lost
    known, seen = in_ledger(folder), len(server.bodies)
    assert known, "every kill came before the first answer"
    ended = cli(*line)
    assert ended.code == 0, ended.err
    assert known <= set(on_the_wire(server.bodies)), "the ledger and the wire name requests differently"
    assert not set(on_the_wire(server.bodies[seen:])) & known
    delivered = on_the_wire(server.bodies)
    assert {name for name in delivered if delivered.count(name) > 1} <= may_repeat

    untouched = serve()
    assert cli(*run_line(untouched, run="whole")).code == 0
    assert facts(folder) == facts(tmp_path / "whole")


def test_ctrl_c_saves_what_is_in_flight_and_says_how_to_go_on(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve(latency_s=0.05)
    line = run_line(server, "--concurrency", 4)
    process = typed(tmp_path, *line)
    assert process.reaches(lambda: server.witness.received.total() >= 6)
    process.send(signal.SIGINT)
    assert process.wait() == 130, process.err
    assert "Traceback" not in process.err
    assert "safetyqc " + " ".join(line) in process.err
    assert len(in_ledger(tmp_path / "r")) == server.witness.good.total() == server.witness.received.total()

    resumed = cli(*line)
    assert resumed.code == 0, resumed.err
    assert server.witness.paid_twice == 0
    assert len(facts(tmp_path / "r")["scenarios"]) >= 18


def test_a_second_ctrl_c_cancels_what_is_in_flight(serve: Serve, tmp_path: Path) -> None:
    server = serve(script=["hang"] * 50)
    process = typed(tmp_path, *run_line(server, "--concurrency", 4))
    assert process.reaches(lambda: server.witness.received.total() >= 4)
    process.send(signal.SIGINT)
    # Two signals at once may arrive as one: the second goes when the first has been answered
    assert process.reaches(lambda: "press Ctrl-C again" in process.err)
    process.send(signal.SIGINT)
    assert process.wait() == 130, process.err
    assert "cancelling" in process.err
    assert "Traceback" not in process.err


def test_a_terminated_run_ends_like_an_interrupted_one(serve: Serve, tmp_path: Path) -> None:
    server = serve(latency_s=0.05)
    process = typed(tmp_path, *run_line(server, "--concurrency", 2))
    assert process.reaches(lambda: server.witness.received.total() >= 2)
    process.send(signal.SIGTERM)
    assert process.wait() == 130, process.err
    assert len(in_ledger(tmp_path / "r")) == server.witness.good.total()


# ---- refused, out of money, in use ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["bad_key", "no_credit", "no_model", "wrong_path"])
def test_what_no_retry_can_mend_ends_at_once_without_the_key(
    fault: str, cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-abcdefghijklmnop"  # the server says it in its message, as providers do
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server = serve(script=[fault] * 100)
    ended = cli(*run_line(server, "--concurrency", 4))
    assert ended.code == 3
    assert server.witness.received.total() <= 4
    assert "\n  fix: " in ended.err
    assert "Traceback" not in ended.err
    assert key not in ended.out + ended.err
    for path in (tmp_path / "r").rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), f"the key stands in {path.name}"


def test_a_good_run_leaves_no_key_behind(
    cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-very-secret-key-4711")
    ended = cli(*run_line(serve(), count=9))
    assert ended.code == 0
    assert "4711" not in ended.out + ended.err
    assert not [p for p in (tmp_path / "r").rglob("*") if p.is_file() and b"very-secret" in p.read_bytes()]


def test_max_cost_stops_cleanly_and_a_higher_one_goes_on(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("models: {prices: {openai/test: [10, 10]}}\n")
    server = serve()
    stopped = cli(*run_line(server, "--max-cost", 0.1))
    assert stopped.code == 0, stopped.err
    assert "--max-cost" in stopped.err
    with Store.read(tmp_path / "r") as store:
        assert 0 < store.spent_usd() <= 0.1
        assert store.count_conversations().get("generated", 0) < 18
    on = cli(*run_line(server, "--max-cost", 50))
    assert on.code == 0, on.err
    assert server.witness.paid_twice == 0
    assert len(facts(tmp_path / "r")["scenarios"]) >= 18


def test_an_unknown_price_with_max_cost_is_refused_before_any_call(cli: Cli, serve: Serve) -> None:
    server = serve()
    ended = cli(*run_line(server, "--max-cost", 1))
    assert ended.code == 2
    assert "price" in ended.err
    assert server.witness.received.total() == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rubric", "safty"], "did you mean 'safety'"),
        (["--judge", "local:absent.gguf"], "absent.gguf"),
        (["--rewriter", "local:absent.gguf"], "absent.gguf"),
        (["--language", "tlh"], "tlh"),
    ],
)
def test_a_mistake_in_a_later_stage_is_found_before_anything_is_paid(
    flags: list[str], said: str, cli: Cli, serve: Serve
) -> None:
    server = serve()
    ended = cli(*run_line(server, *flags))
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert server.witness.received.total() == 0


def test_a_second_process_on_the_run_is_told(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Store.create(tmp_path / "r"):
        ended = cli(*run_line(server))
    assert ended.code == 2
    assert "another safetyqc" in ended.err
    assert server.witness.received.total() == 0


def test_another_plan_for_the_same_run_is_refused(cli: Cli, serve: Serve) -> None:
    server = serve()
    assert cli(*run_line(server, count=9)).code == 0
    asked = server.witness.received.total()
    ended = cli(*run_line(server, "--seed", 5, count=9))
    assert ended.code == 2
    assert "seed" in ended.err
    assert server.witness.received.total() == asked


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of its own where this user may mount one; says whether it is there."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("size", ["4k", "16k", "60k", "100k", "140k", "156k"])
def test_a_disk_that_is_full_while_a_run_is_made_leaves_it_usable(size: str, cli: Cli, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good morning to you."}]
    (tmp_path / "a.jsonl").write_text(json.dumps(turns) + "\n")
    with small_disk(tmp_path / "disk", size) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        ended = cli("import", "a.jsonl", "--run", "disk/r")
        assert ended.code == 2, ended.err
        assert "fix: free some space" in ended.err
        assert not list((tmp_path / "disk").rglob("*.making*"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path / "disk")], check=True)
        again = cli("import", "a.jsonl", "--run", "disk/r")
        assert again.code == 0, again.err
        assert cli("report", "--run", "disk/r").code == 0


def test_a_full_disk_is_said_and_nothing_that_was_saved_is_lost(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with small_disk(tmp_path / "disk", "400k") as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        ended = cli(*run_line(server, count=54, run="disk/r"))
        assert ended.code == 2, ended.err
        assert "full" in ended.err
        assert "free some space" in ended.err
        assert "Traceback" not in ended.err
        saved = in_ledger(tmp_path / "disk" / "r")
        assert saved
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path / "disk")], check=True)
        assert cli(*run_line(server, count=54, run="disk/r")).code == 0
        assert saved <= in_ledger(tmp_path / "disk" / "r")


def test_a_run_folder_that_cannot_be_written_is_said(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with small_disk(tmp_path / "disk", "2m") as mounted:
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        elif os.geteuid() == 0:
            pytest.skip("root may write anywhere here")
        else:
            (tmp_path / "disk").chmod(0o555)
        ended = cli(*run_line(server, run="disk/r"))
    assert ended.code == 2
    assert "cannot make a run there" in ended.err
    assert "fix: " in ended.err
    assert server.witness.received.total() == 0
