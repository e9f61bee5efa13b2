"""Actors of a cluster give what one loop gives, and their deaths cost an attempt and nothing more.

Ray takes ten seconds and a gigabyte to start: `pip install 'safetyqc[ray]'`, then `pytest --slow -n 0` and this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.llm import Request
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.pipeline.engine import Context, EngineSettings, Stop, in_one_loop
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer

ray = pytest.importorskip("ray")
ray_engine = pytest.importorskip("safetyqc.pipeline.ray_engine")

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
REQUEST = Request(model="openai/m", messages=({"role": "user", "content": "hi"},), max_tokens=50)
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    said = "I won't help with account {}. Ask her, or the support of the site. {}"
    rows = [(f"How do I get into account {n} of my sister?", said.format(n, "Again. " * (n % 3))) for n in range(60)]
    turns = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in rows]
    path.write_text("\n".join(json.dumps({"messages": turn}) for turn in turns))
    return path


@asynccontextmanager
async def actors(size: int) -> AsyncIterator[Any]:
    engine = ray_engine.RayEngine(EngineSettings(size=size, concurrency=64), Stop())
    try:
        yield engine
    finally:
        await engine.close()


@slow
def test_commands_write_the_same_lines(cluster: None, cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server, written = serve(), []
    for engine in (("--engine", "local"), ("--engine", "ray", "--workers", 2)):
        here = tmp_path / engine[1]
        judges = ("-m", "openai/m", "-m", "local", "--api-base", server.base_url)
        judged = cli("judge", data, *judges, "--run", here, "--jsonl", f"{here}.jsonl", *engine)
        filtered = cli("filter", "--run", here, *engine)
        deduped = cli("dedup", data, "--min-similarity", 0.7, "--jsonl", f"{here}-groups.jsonl", *engine)
        assert (judged.code, filtered.code, deduped.code) == (0, 0, 0), judged.err + filtered.err + deduped.err
        with Store.read(here) as store:
            hits = {(r.conversation_id, r.filter, r.reason) for r in store.rejections()}
        files = [Path(f"{here}{end}.jsonl").read_bytes() for end in ("", "-groups")]
        written.append((*files, hits, sum(line != "" for line in filtered.out.splitlines())))
    assert written[0] == written[1]
    assert written[0][0].count(b"\n") == 60
    assert server.witness.received.total() == 120
    assert "2 actors did 120 tasks" in judged.err
    assert "searched blocks of rows" in deduped.err


@slow
async def test_killed_actors_cost_an_attempt_and_lose_nothing(cluster: None, tmp_path: Path) -> None:
    async with FaultServer(latency_s=0.02) as server, actors(2) as engine:
        with Store.create(tmp_path) as store:
            door = open_door(store, settings=DoorSettings(api_base=server.base_url), open_lane=engine.open_lane)
            replies: list[Any] = []
            async for _, reply in in_one_loop([replace(REQUEST, seed=i) for i in range(300)], door.complete):
                replies.append(reply)
                if len(replies) % 50 == 25:
                    ray.kill(engine._pool.workers[0].actor)
            await door.close()
            assert not [reply for reply in replies if isinstance(reply, ModelError)]
            assert store.spending()[0].calls == 300
            assert engine._pool.died >= 5
    # What had not come back when its actor died is asked again; nothing that the ledger holds ever is
    assert server.witness.received.total() <= 300 + 16 * engine._pool.died


class Counting:
    """A task that asks nobody, and one of whose items ends every actor that does it."""

    asks = False

    async def do(self, item: int, context: Context) -> int:
        import os

        if item == 7:
            os._exit(1)
        if item == 11:
            raise ValueError("no number of mine")
        return item * item


@slow
async def test_an_item_that_kills_its_actors_is_given_up_and_costs_no_other(cluster: None) -> None:
    async with actors(2) as engine:
        found = {item: said async for item, said in engine.map(range(40), Counting(), Context(lambda: None))}
        assert {item for item, said in found.items() if isinstance(said, ModelError)} == {7, 11}
        assert "died" in str(found[7])
        assert "no number of mine" in str(found[11])
        assert all(found[item] == item * item for item in range(40) if not isinstance(found[item], ModelError))


@slow
async def test_a_task_that_no_other_process_can_find_is_told_and_not_waited_for(cluster: None) -> None:
    class Local(Counting):
        """Is nowhere but in this function."""

    async with actors(1) as engine:
        found = [said async for _, said in engine.map([1, 2], Local(), Context(lambda: None))]
    assert [said.kind for said in found] == ["defect", "defect"]


@slow
async def test_no_key_is_in_what_the_cluster_remembers(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-qzx-of-the-environment")
    async with FaultServer() as server, actors(1) as engine:
        lane = engine.open_lane("direct", api_key="sk-qzx-given", timeout_s=30)
        assert (await lane.complete(replace(REQUEST, api_base=server.base_url))).text
        assert "qzx" not in repr(engine._pool._tasks)
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    assert not [log for log in logs.rglob("*") if log.is_file() and b"qzx" in log.read_bytes()]


KILLED = """
import os, sys
from safetyqc.__main__ import main
from safetyqc.store import writer
import safetyqc.store.run as run
put, seen = run.Store.put_judgments, []
def dying(self, judgments):
    seen.append(put(self, judgments))
    if len(seen) == 20:
        seen[-1].result()
        os.kill(os.getpid(), 9)
    return seen[-1]
run.Store.put_judgments = dying
sys.exit(main())
"""


@slow
def test_a_killed_driver_goes_on_and_pays_nothing_twice(cli: Cli, serve: Serve, data: Path, tmp_path: Path) -> None:
    server, words = serve(), ("--run", "run", "--engine", "ray", "--workers", "1", "--concurrency", "4")
    command = ("judge", str(data), "-m", "openai/m", "--api-base", server.base_url, *words)
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=tmp_path, capture_output=True, timeout=120)
    assert killed.returncode == -9
    before = server.witness.received.total()
    assert cli(*command, "--jsonl", "ray.jsonl").code == 0
    assert server.witness.received.total() <= 60 + 4
    assert 20 <= before < 60
    assert cli("judge", data, *command[2:6], "--run", "other", "--jsonl", "local.jsonl").code == 0
    assert Path("ray.jsonl").read_bytes() == Path("local.jsonl").read_bytes()
