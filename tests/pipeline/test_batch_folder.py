"""`--batch-dir`: requests as files, answers by whoever ran them; nothing asked twice, nothing believed that is odd."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.cli import main
from safetyqc.llm.batch.folder import BatchFolder
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer
from tests.support.guards import GuardServer, served
from tests.support.run_batch import run_batch

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
COUNT = 9
MODEL = ("-m", "hosted_vllm/org/test")


def judge(data: Path, *more: object, run: str = "r") -> list[object]:
    return ["judge", data, *MODEL, "--run", run, "--batch-dir", "b", *more]


def requests(folder: Path) -> list[Path]:
    return sorted((folder / "requests").glob("*.jsonl"))


def answer_all(folder: Path, server: FaultServer | GuardServer, limit: int | None = None) -> None:
    """As one would in a shell: for f in requests/*.jsonl; vllm run-batch -i $f -o results/$(basename $f)."""
    for file in requests(folder):
        run_batch(file, folder / "results" / file.name, server.base_url, limit)


def test_the_round_trip_gives_the_verdicts_of_single_calls(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve()
    first = cli(*judge(data, "--jsonl", "batch.jsonl"))
    assert first.code == 0, first.err
    [file] = requests(tmp_path / "b")
    assert f"wrote {COUNT} requests for hosted_vllm/org/test: {file}" in first.err
    line = next(text for text in first.err.splitlines() if "vllm run-batch" in text).partition("model is: ")[2]
    assert shlex.split(line)[:3] == ["vllm", "run-batch", "-i"]
    assert Path(shlex.split(line)[5]).parent.is_dir()  # where the results go is there
    assert (server.witness.received.total(), (tmp_path / "batch.jsonl").exists()) == (0, False)

    answer_all(tmp_path / "b", server)
    collected = cli("batch", "collect", "--run", "r")
    assert f"{COUNT} answered" in collected.out
    assert requests(tmp_path / "b") == []  # nothing left to ask
    second = cli(*judge(data, "--jsonl", "batch.jsonl"))
    assert (second.code, "9 done" in second.err) == (0, True)
    alone = ["judge", data, *MODEL, "--api-base", server.base_url, "--run", "other", "--jsonl", "single.jsonl"]
    assert cli(*alone).code == 0
    strip = ("judge", "settings")  # the second was asked at a server

    def verdicts(path: str) -> list[dict[str, Any]]:
        rows = [json.loads(text) for text in (tmp_path / path).read_text(encoding="utf-8").splitlines()]
        return [{k: v for k, v in row.items() if k not in strip} for row in rows]

    assert verdicts("batch.jsonl") == verdicts("single.jsonl")


def test_a_line_is_what_vllm_reads_and_names_no_key(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "sk-secret-0123456789")
    cli(*judge(data))
    [file] = requests(tmp_path / "b")
    text = file.read_text(encoding="utf-8")
    for line in map(json.loads, text.splitlines()):
        assert set(line) == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"], line["body"]["model"]) == ("POST", "/v1/chat/completions", "org/test")
    assert "secret" not in text


def test_the_order_and_the_names_of_the_results_do_not_matter(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    cli(*judge(data))
    answer_all(tmp_path / "b", serve())
    [result] = (tmp_path / "b" / "results").iterdir()
    lines = result.read_text().splitlines()[::-1]
    result.unlink()
    (tmp_path / "b" / "results" / "part-1.jsonl").write_text("\n".join(lines[:4]))
    (tmp_path / "elsewhere.jsonl").write_text("\ufeff" + "\r\n".join(lines[4:]) + "\r\n", encoding="utf-8")
    assert "5 answers of 9 to come" in cli("batch", "collect", "--run", "r").out
    assert "5 answered" in cli("batch", "collect", "elsewhere.jsonl", "--run", "r").out
    assert "judge: 9 done" in cli(*judge(data)).err


def test_what_was_answered_is_not_asked_again_after_a_job_that_was_cut_off(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve()
    cli(*judge(data))
    answer_all(tmp_path / "b", server, limit=5)
    [result] = (tmp_path / "b" / "results").iterdir()
    result.write_bytes(result.read_bytes()[:-40])  # the job was killed while it wrote its fifth line
    collected = cli("batch", "collect", "--run", "r")
    assert "4 answered" in collected.out
    assert f"{result}: 1 line cut off or unreadable: is it still being written? collect again" in collected.out
    [file] = requests(tmp_path / "b")
    assert len(file.read_text().splitlines()) == 5  # what is still to be asked, and no more
    answer_all(tmp_path / "b", server)
    assert "judge: 9 done" in cli(*judge(data)).err
    assert server.witness.received.total() == 10  # the line that was lost, once more


def test_one_answer_that_was_all_thinking_asks_for_no_other_again(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve()
    cli(*judge(data))
    answer_all(tmp_path / "b", server)
    [result] = (tmp_path / "b" / "results").iterdir()
    first, *others = result.read_text().splitlines()
    thought = json.loads(first)
    choice = thought["response"]["body"]["choices"][0]
    choice |= {"finish_reason": "length", "message": {"role": "assistant", "content": "", "reasoning": "Hm."}}
    result.write_text("\n".join([json.dumps(thought), *others]) + "\n")
    cli("batch", "collect", "--run", "r")
    cli(*judge(data))
    [file] = requests(tmp_path / "b")
    [again] = map(json.loads, file.read_text().splitlines())
    assert again["body"]["max_tokens"] > 1600
    answer_all(tmp_path / "b", server)
    assert "judge: 1 done; 8 already done" in cli(*judge(data)).err
    assert server.witness.received.total() == COUNT + 1


def test_the_same_command_while_nothing_has_come_writes_nothing_anew(cli: Cli, data: Path, tmp_path: Path) -> None:
    cli(*judge(data))
    before = {p: p.stat().st_mtime_ns for p in requests(tmp_path / "b")}
    again = cli(*judge(data))
    assert (again.code, "9 wait for a batch" in again.err, "wrote" in again.err) == (0, True, False)
    assert {p: p.stat().st_mtime_ns for p in requests(tmp_path / "b")} == before
    assert "9 answers of 9 to come" in again.err


def test_lines_of_strangers_and_answers_by_another_model_are_told(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    cli(*judge(data))
    answer_all(tmp_path / "b", serve())
    [result] = (tmp_path / "b" / "results").iterdir()
    lines = [json.loads(line) for line in result.read_text().splitlines()]
    lines[0]["custom_id"] = "request-1"
    for line in lines[1:3]:
        line["response"]["body"]["model"] = "org/another"
    result.write_text("\n".join(map(json.dumps, lines)) + "\n[1]\nnull\n")
    told = cli("batch", "collect", "--run", "r").out
    assert "1 line about requests that this run never wrote: left out" in told
    assert "2 answers by org/another, where org/test was asked: the right file?" in told
    assert "2 lines cut off or unreadable" in told
    assert "1 answer of 9 to come" in told


def test_what_answers_a_changed_request_is_not_used(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve()
    cli(*judge(data))
    [file] = requests(tmp_path / "b")
    before = file.read_bytes()
    lines = [json.loads(line) for line in before.splitlines()]
    lines[3]["body"]["messages"][-1]["content"] = "Say yes."
    file.write_text("\n".join(json.dumps(line, indent=None, sort_keys=True) for line in lines))
    answer_all(tmp_path / "b", server)
    told = cli("batch", "collect", "--run", "r").out
    assert f"1 request changed after being written (the first: {file}:4)" in told
    assert "8 answered" in told
    assert file.read_bytes() == before.splitlines(keepends=True)[3]  # as it was, and alone
    (tmp_path / "b" / "results" / file.name).unlink()
    answer_all(tmp_path / "b", server)
    assert "judge: 9 done" in cli(*judge(data)).err


def test_an_answer_that_stands_in_two_files_counts_once(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    cli(*judge(data))
    answer_all(tmp_path / "b", serve())
    [result] = (tmp_path / "b" / "results").iterdir()
    (tmp_path / "b" / "results" / "copy.jsonl").write_bytes(result.read_bytes())
    assert "9 requests answered in more than one line" in cli("batch", "collect", "--run", "r").out
    with Store.read(tmp_path / "r") as store:
        assert sum(spent.calls for spent in store.spending()) == COUNT


def test_requests_that_failed_in_the_job_are_written_again(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    cli(*judge(data))
    server = serve()
    answer_all(tmp_path / "b", server)
    [result] = (tmp_path / "b" / "results").iterdir()
    lines = [json.loads(line) for line in result.read_text().splitlines()]
    lines[2] |= {"response": None, "error": "CUDA out of memory"}
    result.write_text("\n".join(map(json.dumps, lines)))
    again = cli(*judge(data))
    assert "1 without an answer" in again.err
    assert "CUDA out of memory" in again.err
    [file] = requests(tmp_path / "b")
    assert [json.loads(line)["custom_id"] for line in file.read_text().splitlines()] == [lines[2]["custom_id"]]


def test_a_batch_that_is_given_up_leaves_no_file_and_its_requests_can_be_asked(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve()
    cli(*judge(data))
    [file] = requests(tmp_path / "b")
    assert f"9 requests in {file}" in cli("batch", "status", "--run", "r").out
    assert "given up" in cli("batch", "cancel", file.stem, "--run", "r").out
    assert requests(tmp_path / "b") == []
    cli(*judge(data))
    answer_all(tmp_path / "b", server)
    assert "judge: 9 done" in cli(*judge(data)).err


def test_generate_and_rewrite_write_files_too(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    words = ["generate", "-n", 9, *MODEL, "--run", "r", "--batch-dir", "b"]
    for _ in range(2):
        ended = cli(*words)
        assert ended.code == 0, ended.err
        answer_all(tmp_path / "b", server)
    assert "9 already done" in cli(*words).err
    judging = ["judge", *MODEL, "--run", "r", "--batch-dir", "b"]
    cli(*judging)
    answer_all(tmp_path / "b", server)
    assert cli(*judging).code == 0
    mending = ["rewrite", *MODEL, "--judge", MODEL[1], "--run", "r", "--batch-dir", "b"]
    for _ in range(4):  # the rewrites, then their judgments, then what is judged afresh
        ended = cli(*mending)
        assert ended.code == 0, ended.err
        answer_all(tmp_path / "b", server)
    assert "wait for a batch" not in cli(*mending).err
    with Store.read(tmp_path / "r") as store:
        assert any(rewrite.kept for rewrite in store.rewrites())
    assert server.witness.paid_twice == 0


def test_guards_are_asked_by_file_with_their_probabilities(cli: Cli, data: Path, tmp_path: Path) -> None:
    words = ["judge", data, "-m", "guard:qwen3guard@hosted_vllm/Qwen/Qwen3Guard-Gen-4B", "--run", "r"]
    server = GuardServer("qwen3guard", logprobs=True)
    with served(server):  # asked by file alone, its self-check and the conversations together
        first = cli(*words, "--batch-dir", "b")
        assert first.code == 0, first.err
        answer_all(tmp_path / "b", server)
        ended = cli(*words, "--batch-dir", "b")
        assert ended.code == 0, ended.err
        assert "judge: 9 done" in ended.err
    assert all(body["logprobs"] for _, body in server.bodies)


def test_no_verdict_is_given_before_the_self_check_is_there(cli: Cli, data: Path, tmp_path: Path) -> None:
    words = ["judge", data, "-m", "guard:qwen3guard@hosted_vllm/Qwen/Qwen3Guard-Gen-4B", "--run", "r"]
    server = GuardServer("qwen3guard", "wrong_role")
    with served(server):
        cli(*words, "--batch-dir", "b")
        answer_all(tmp_path / "b", server)
    ended = cli(*words, "--batch-dir", "b")
    assert "self-check of guard:qwen3guard" in ended.err
    assert ended.code == 3
    with Store.read(tmp_path / "r") as store:
        assert not list(store.judgments())


def test_a_cascade_that_chooses_by_labels_waits_for_them(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve()
    rows = [{**json.loads(text), "labels": {"strict_refusal": "pass"}} for text in data.read_text().splitlines()]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["judge", data, "-m", "cascade:local>hosted_vllm/org/test", "--labels", "labels.jsonl", "--run", "r"]
    for _ in range(3):
        ended = cli(*words, "--batch-dir", "b")
        assert ended.code == 0, ended.err
        answer_all(tmp_path / "b", server)
    ended = cli(*words, "--batch-dir", "b")
    assert "wait for a batch" not in ended.err


def test_a_folder_that_cannot_be_made_is_told_before_anything_waits(cli: Cli, data: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file")
    ended = cli(*judge(data))
    assert (ended.code, "cannot be made" in ended.err, "fix: give another DIR" in ended.err) == (2, True, True)
    with Store.read(tmp_path / "r") as store:
        assert store.batches() == []
    (tmp_path / "b").unlink()
    assert f"wrote {COUNT} requests" in cli(*judge(data)).err


def test_a_batch_whose_folder_is_gone_before_it_was_written_goes_where_the_next_command_says(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    assert not killed_at(2, judge(data))  # noted with the run, not written yet
    (tmp_path / "b" / "requests").rmdir()
    (tmp_path / "b" / "results").rmdir()
    (tmp_path / "b").rmdir()
    (tmp_path / "b").write_text("a file")
    ended = cli("batch", "collect", "--run", "r")
    assert (ended.code, "safetyqc batch cancel sqc-" in ended.err) == (2, True)
    ended = cli(*judge(data, "--batch-dir", "elsewhere"))
    assert ended.code == 0, ended.err
    assert len(requests(tmp_path / "elsewhere")) == 1


def test_a_file_that_is_not_there_is_told_and_nothing_is_lost(cli: Cli, serve: Serve, data: Path) -> None:
    cli(*judge(data))
    ended = cli("batch", "collect", "gone.jsonl", "--run", "r")
    assert ended.code == 2
    assert "gone.jsonl: cannot be read" in ended.err


DURABLE: tuple[tuple[type, str], ...] = (
    (Store, "add_batch"),
    (BatchFolder, "write"),
    (Store, "put_answers"),
    (Store, "put_batch"),
    (BatchFolder, "keep"),
)
"""Every step of the two commands that leaves something on disk."""


def killed_at(step: int, words: list[object]) -> bool:
    """Run a command in a process of its own that kills itself, as kill -9 does, at its n-th durable step.

    Each step counts twice, before and after. Says whether the command lived through it.
    """
    child = os.fork()
    if child == 0:
        steps = itertools.count()
        for owner, name in DURABLE:
            setattr(owner, name, _deadly(getattr(owner, name), steps, step))
        sys.argv = ["safetyqc", *map(str, words)]
        try:
            main()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _deadly(work: Callable[..., Any], steps: Iterator[int], last: int) -> Callable[..., Any]:
    def step(*args: Any, **named: Any) -> Any:
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        done = work(*args, **named)
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return step


@pytest.mark.parametrize("moment", range(10))
def test_killed_at_any_moment_nothing_is_asked_twice(
    cli: Cli, serve: Serve, data: Path, tmp_path: Path, moment: int
) -> None:
    server = serve()
    writing, using = moment < 5, moment >= 5
    assert killed_at(moment if writing else 99, judge(data)) is not writing
    if writing:
        assert cli(*judge(data)).code == 0
    assert len(requests(tmp_path / "b")) == 1
    answer_all(tmp_path / "b", server, limit=5)
    assert killed_at(moment - 5 if using else 99, judge(data)) is not using
    assert cli(*judge(data)).code == 0
    answer_all(tmp_path / "b", server)
    assert "judge:" in cli(*judge(data, "--jsonl", "out.jsonl")).err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == COUNT
    assert (server.witness.received.total(), server.witness.paid_twice) == (COUNT, 0)
    with Store.read(tmp_path / "r") as store:
        assert sum(spent.calls for spent in store.spending()) == COUNT
        assert not [batch for batch in store.batches() if batch.is_open]
    assert requests(tmp_path / "b") == []


def test_a_command_that_asks_nobody_itself_loads_no_litellm(data: Path, tmp_path: Path) -> None:
    script = (
        "import sys, safetyqc as sq\n"
        f"sq.judge({str(data)!r}, model='openai/any', batch='b', run='r', quiet=True)\n"
        "print(sum(name.startswith('litellm') for name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "0"
