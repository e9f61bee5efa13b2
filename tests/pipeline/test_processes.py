"""Worker processes answer like the lane itself, and their deaths cost an attempt and nothing more."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm import FormatRefused, Request
from safetyqc.llm.client import Client
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.pipeline.engine import EngineSettings, Stop, in_one_loop
from safetyqc.pipeline.processes import ProcessEngine
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer

REQUEST = Request(model="openai/m", messages=({"role": "user", "content": "hi"},), max_tokens=50)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("provider_error", "429", retryable=True, retry_after_s=3.0, overload=True),
        ModelError("filtered_by_provider", "x"),
        FatalModelError("wrong key", fix="set it"),
        FormatRefused("no schema"),
    ],
)
def test_an_error_arrives_as_it_was_raised(error: ModelError) -> None:
    revived = pickle.loads(pickle.dumps(error))
    assert type(revived) is type(error)
    assert (vars(revived), str(revived)) == (vars(error), str(error))


@asynccontextmanager
async def processes(size: int) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(EngineSettings(size=size), Stop())
    try:
        yield engine
    finally:
        await engine.close()


def lane_of(engine: ProcessEngine) -> Client:
    return engine.open_lane("direct", api_key=None, timeout_s=60)


async def test_requests_are_spread_and_answered() -> None:
    async with FaultServer(latency_s=0.02) as server, processes(2) as engine:
        lane = lane_of(engine)
        requests = [replace(REQUEST, api_base=server.base_url, seed=i) for i in range(40)]
        replies = await asyncio.gather(*(lane.complete(r) for r in requests))
    assert len(replies) == 40
    assert server.witness.received.total() == 40
    assert server.witness.most_in_flight > 1


async def test_errors_come_back_typed_over_real_http() -> None:
    async with FaultServer(script=["rate_limited_wait", "bad_key"], retry_after_s=7) as server, processes(1) as engine:
        lane = lane_of(engine)
        request = replace(REQUEST, api_base=server.base_url)
        with pytest.raises(ModelError) as caught:
            await lane.complete(request)
        assert caught.value.retry_after_s == 7
        with pytest.raises(FatalModelError):
            await lane.complete(request)


async def test_a_killed_worker_costs_an_attempt_and_loses_nothing(tmp_path: Path) -> None:
    async with FaultServer(latency_s=0.02) as server, processes(2) as engine:
        with Store.create(tmp_path) as store:
            door = open_door(store, settings=DoorSettings(api_base=server.base_url), open_lane=engine.open_lane)
            requests = [replace(REQUEST, seed=i) for i in range(120)]
            killed, replies = False, []
            async for _, reply in in_one_loop(requests, door.complete):
                replies.append(reply)
                if not killed and len(replies) == 20:
                    os.kill(engine._pool.workers[0].process.pid, signal.SIGKILL)
                    killed = True
            await door.close()
            assert killed
            assert not [r for r in replies if isinstance(r, ModelError)]
            assert store.spending()[0].calls == 120
        # Answers that died with the worker were not delivered to us; nothing that was recorded was asked again
        assert server.witness.received.total() <= 120 + 16


async def test_workers_that_cannot_live_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.pipeline.processes.sys.executable", "/bin/false")
    errors = []
    async with processes(1) as engine:
        for _ in range(12):
            with pytest.raises(ModelError) as caught:
                await lane_of(engine).complete(REQUEST)
            errors.append(caught.value)
    assert isinstance(errors[-1], FatalModelError)


async def test_a_cancelled_request_is_cancelled_in_the_worker() -> None:
    async with FaultServer(script=["hang"]) as server, processes(1) as engine:
        lane = lane_of(engine)
        request = replace(REQUEST, api_base=server.base_url)
        asking = asyncio.create_task(lane.complete(request))
        while not server.witness.faults:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await lane.complete(request)).text


ORPHANED = """
import asyncio, sys
from safetyqc.llm import Request
from safetyqc.pipeline.engine import EngineSettings, Stop
from safetyqc.pipeline.processes import ProcessEngine
async def main():
    engine = ProcessEngine(EngineSettings(size=1), Stop())
    lane = engine.open_lane("direct", api_key=None, timeout_s=60)
    asking = asyncio.ensure_future(lane.complete(Request("openai/m", (), api_base=sys.argv[1])))
    while not engine._pool.workers:
        await asyncio.sleep(0.01)
    print(engine._pool.workers[0].process.pid, flush=True)
    await asking
asyncio.run(main())
"""


async def test_workers_end_when_the_parent_is_killed() -> None:
    async with FaultServer(script=["hang"]) as server:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ORPHANED, server.base_url, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        worker = int(await parent.stdout.readline())
        while not server.witness.faults:
            await asyncio.sleep(0.01)
        parent.kill()
        await parent.wait()
        for _ in range(500):
            if not Path(f"/proc/{worker}").exists() or "Z (zombie)" in Path(f"/proc/{worker}/status").read_text():
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the worker outlived its parent")
