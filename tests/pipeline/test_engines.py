"""Every engine runs the same commands to the same end: one in the table is all that a new one takes."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import Deferred, ModelError
from safetyqc.pipeline.engine import Context, LocalEngine, Task
from safetyqc.pipeline.engines import ENGINES, EXTRAS
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [
        [
            {"role": "user", "content": f"How do I get into account {n} of my sister?"},
            {"role": "assistant", "content": f"I won't help with account {n}. Ask her, or the support of the site."},
        ]
        for n in range(20)
    ]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    return path


class Backwards(LocalEngine):
    """A dummy that takes the last item first."""

    seen: list[str]

    def map(
        self, items: Iterable[Any], task: Task[Any, Any], context: Context
    ) -> AsyncIterator[tuple[Any, Any | ModelError | Deferred]]:
        """See Engine."""
        self.seen.append(type(task).__name__)
        return super().map(list(items)[::-1], task, context)


def test_an_engine_that_is_registered_runs_commands(
    cli: Cli, serve: Serve, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Backwards.seen = []
    monkeypatch.setitem(ENGINES, "backwards", Backwards)
    for words in (["judge", data, "-m", "openai/m", "--api-base", serve().base_url, "-q"], ["filter"]):
        ended = cli(*words, "--engine", "backwards")
        assert ended.code == 0, ended.err
    assert list(dict.fromkeys(Backwards.seen)) == ["Judging", "Filtering"]
    with Store.read("safetyqc-run") as store:
        assert len(list(store.judgments())) == 20
    wrong = cli("judge", data, "--engine", "bakwards")
    assert (wrong.code, "did you mean 'backwards'? valid: backwards, local, processes, ray" in wrong.err) == (2, True)


def test_workers_for_the_engine_that_has_none_are_refused(cli: Cli, data: Path, tmp_path: Path) -> None:
    ended = cli("judge", data, "--engine", "local", "--workers", "2")
    assert (ended.code, "--workers is the size of --engine processes" in ended.err) == (2, True)
    assert not (tmp_path / "safetyqc-run").exists()


def test_ray_that_is_not_installed_is_told_with_how_to_get_it(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRAS, "ray", "a_package_that_is_nowhere")
    for words in (["judge", data, "-m", "local"], ["dedup", data]):
        ended = cli(*words, "--engine", "ray")
        assert (ended.code, "pip install 'safetyqc[" in ended.err, "not installed" in ended.err) == (2, True, True)
    assert not (tmp_path / "safetyqc-run").exists()


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_an_address_for_an_engine_without_a_cluster_is_refused(cli: Cli, data: Path, engine: str) -> None:
    for words in (["judge", data, "-m", "local"], ["dedup", data]):
        ended = cli(*words, "--engine", engine, "--ray-address", "head:6379")
        assert (ended.code, "--ray-address is where --engine ray finds its cluster" in ended.err) == (2, True)


def results(folder: str) -> dict[str, Any]:
    with Store.read(folder) as store:
        return {
            "judgments": {j.conversation_id: (j.scores, j.passed) for j in store.judgments()},
            "rejections": {(r.conversation_id, r.filter, r.reason) for r in store.rejections()},
            "calls": sum(s.calls for s in store.spending()),
        }


def test_processes_give_what_one_loop_gives(cli: Cli, serve: Serve, data: Path) -> None:
    server, found = serve(), []
    for engine in (("--engine", "local"), ("--engine", "processes", "--workers", 2)):
        run = f"run-{engine[1]}"
        judges = ("-m", "openai/m", "-m", "local", "--api-base", server.base_url)
        ended = cli("judge", data, *judges, "--run", run, *engine, "-q")
        assert ended.code == 0, ended.err
        assert cli("filter", "--run", run, *engine).code == 0
        found.append(results(run))
    assert found[0] == found[1]
    assert len(found[0]["judgments"]) == 20
    assert server.witness.received.total() == 40


def test_equal_runs_export_the_same_bytes_however_fast_their_answers_were(
    cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shuffling(LocalEngine):
        def map(
            self, items: Iterable[Any], task: Task[Any, Any], context: Context
        ) -> AsyncIterator[tuple[Any, Any | ModelError | Deferred]]:
            return super().map(random.sample(list(items), len(list(items))), task, context)

    monkeypatch.setitem(ENGINES, "shuffling", Shuffling)
    server, written = serve(), []
    for number, engine in enumerate(("local", "shuffling", "shuffling")):
        run = tmp_path / f"r{number}"
        words = ("-n", 18, "-m", "openai/m", "--api-base", server.base_url, "--run", run, "--engine", engine, "-q")
        ended = cli("run", *words)
        assert ended.code == 0, ended.err
        written.append((run / "export" / "safety_conversations.jsonl").read_bytes())
        with Store.read(run) as store:
            assert any(rewrite.kept for rewrite in store.rewrites())
    assert written[0] == written[1] == written[2]
