"""Every fault of the fault server has a known outcome over real HTTP, in both lanes; docs/faults.md lists it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, Interrupted, ModelError, UserError
from safetyqc.llm import Request, ask_json
from safetyqc.llm import door as door_module
from safetyqc.llm import limits as limits_module
from safetyqc.llm.door import Door, DoorSettings, open_door
from safetyqc.pipeline.engine import Stop, in_one_loop
from safetyqc.store import Store
from safetyqc.testing.faults import FAULTS
from safetyqc.testing.server import FaultServer
from tests.support.forked import Forked

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["reason", "level"],
    "properties": {"reason": {"type": "string"}, "level": {"enum": ["pass", "fail"]}},
}
REQUEST = Request(model="openai/m", messages=({"role": "user", "content": "judge"},), schema=SCHEMA, max_tokens=50)
FAULTS_PAGE = Path(__file__).parents[1] / "docs" / "faults.md"

# fault -> what one of it leads to, and what it leads to when it never ends
OUTCOMES: dict[str, tuple[str, str]] = {
    "rate_limited": ("answer", "provider_error"),
    "rate_limited_wait": ("answer", "provider_error"),
    "error_500": ("answer", "provider_error"),
    "error_502": ("answer", "provider_error"),
    "error_503": ("answer", "provider_error"),
    "error_529": ("answer", "provider_error"),
    "reset": ("answer", "provider_error"),
    "hang": ("answer", "provider_error"),
    "trickle": ("answer", "provider_error"),
    "cut_body": ("answer", "provider_error"),
    "wrong_content_type": ("answer", "answer"),
    "html_page": ("answer", "provider_error"),
    "error_in_200": ("answer", "provider_error"),
    "empty_choices": ("answer", "bad_json"),
    "null_content": ("answer", "bad_json"),
    "refusal": ("refused_by_model", "refused_by_model"),
    "content_filter": ("filtered_by_provider", "filtered_by_provider"),
    "cut_off": ("answer", "truncated"),
    "not_json": ("answer", "bad_json"),
    "other_shape": ("answer", "bad_json"),
    "two_objects": ("answer", "answer"),
    "fenced_thoughts": ("answer", "answer"),
    "not_a_number": ("answer", "bad_json"),
    "huge": ("bad_json", "bad_json"),
    "wrong_usage": ("answer", "answer"),
    "same_id": ("answer", "answer"),
    "bad_key": ("stop", "stop"),
    "no_credit": ("stop", "stop"),
    "no_model": ("stop", "stop"),
    "wrong_path": ("stop", "stop"),
    "bad_request": ("provider_error", "provider_error"),
}
# litellm drops an answer whose usage it cannot read
THROUGH_LITELLM = {"wrong_usage": ("answer", "provider_error")}
MANY = 40


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_FIRST_WAIT_S", 0.005)


@pytest.fixture(scope="module", autouse=True)
def _load_litellm() -> None:
    from safetyqc.llm.litellm_client import load_litellm

    load_litellm()


def door_to(server: FaultServer, store: Store | None = None, **settings: Any) -> Door:
    return open_door(store, settings=DoorSettings(api_base=server.base_url, **settings))


async def outcome_of(door: Door, request: Request = REQUEST) -> str:
    try:
        await ask_json(door, request, lambda value: value)
    except FatalModelError:
        return "stop"
    except ModelError as error:
        return error.kind if "Traceback" not in error.reason else error.reason
    return "answer"


@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_its_outcome(fault: str, lane: Any) -> None:
    expected = THROUGH_LITELLM.get(fault, OUTCOMES[fault]) if lane == "litellm" else OUTCOMES[fault]
    slow = fault in ("hang", "trickle")
    settings = {"lane": lane, "timeout_s": 0.3 if slow else 5.0, "max_attempts": 2, "deadline_s": 0.9 if slow else 0.3}
    for times, wanted in zip((1, MANY), expected, strict=True):
        async with FaultServer(script=[fault] * times, retry_after_s=0.02) as server:
            # The first call of a process opens what later ones find open; the short deadline is not about that
            door = door_to(server, **(settings if times > 1 else {**settings, "deadline_s": 10.0}))
            assert await outcome_of(door) == wanted
            await door.close()


def test_the_table_of_faults_names_every_one_and_its_outcome() -> None:
    assert set(OUTCOMES) == set(FAULTS)
    page = FAULTS_PAGE.read_text(encoding="utf-8")
    rows = {
        name: (once, always) for name, once, always in re.findall(r"^\| `(\w+)` \|.*?\| (\w+) \| (\w+) \|", page, re.M)
    }
    assert rows == OUTCOMES


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_refused_connection_is_retried_until_the_server_is_back(lane: Any) -> None:
    server = FaultServer()
    await server.start()
    port = int(server.base_url.rsplit(":", 1)[1].split("/")[0])
    await server.stop()
    door = door_to(server, lane=lane, max_attempts=200)
    asking = asyncio.create_task(outcome_of(door))
    while not door.counters.faults:
        await asyncio.sleep(0.01)
    back = FaultServer()
    await back.start(port=port)
    assert await asking == "answer"
    await door.close()
    await back.stop()


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_server_that_was_never_there_ends_the_run_soon(lane: Any) -> None:
    server = FaultServer()
    await server.start()
    await server.stop()
    door = door_to(server, lane=lane, max_attempts=10_000)
    door.limits(REQUEST).unseen_s = 0.5
    with pytest.raises(FatalModelError, match="has not answered for"):
        await asyncio.wait_for(door.complete(REQUEST), 20)
    assert "does not answer" in door.counters.trouble()
    await door.close()


async def test_a_request_to_stop_ends_a_map_whose_server_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many wait for the one request that tries whether the server is back; all of them have to hear of the stop."""
    monkeypatch.setattr(limits_module, "_LONGEST_PROBE_S", 0.05)
    async with FaultServer(script=["error_500"] * 999, latency_s=0.05) as server:
        door, stop = door_to(server), Stop()
        stop.on_press(door.stop)
        requests = [replace(REQUEST, seed=n) for n in range(60)]

        async def ask() -> None:
            async for _ in in_one_loop(requests, door.complete, stop=stop):
                pass

        asking = asyncio.create_task(ask())
        while not door.limits(REQUEST).is_open or not door.limits(REQUEST)._waiting:
            await asyncio.sleep(0.005)
        stop.press()
        asked = server.witness.received.total()
        with pytest.raises(Interrupted):
            await asyncio.wait_for(asking, 10)
        assert server.witness.received.total() <= asked + 1  # at most the one that was on its way
        await door.close()


async def test_no_call_is_made_after_a_request_to_stop() -> None:
    """What stands in the limiter's queue has not been asked, and is not asked any more."""
    async with FaultServer(latency_s=0.1) as server:
        door, stop = door_to(server), Stop()
        stop.on_press(door.stop)
        door.limits(REQUEST).most_in_flight = 2
        asking = [asyncio.create_task(door.complete(replace(REQUEST, seed=n))) for n in range(16)]
        while server.witness.received.total() < 2:
            await asyncio.sleep(0.005)
        stop.press()
        ended = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 10)
        await door.close()
    assert server.witness.received.total() == 2
    assert [type(error) for error in ended if isinstance(error, BaseException)] == [Interrupted] * 14


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_request_to_stop_ends_retries_and_pauses(lane: Any) -> None:
    async with FaultServer(script=["rate_limited_wait"] * 99, retry_after_s=60) as server:
        door = door_to(server, lane=lane)
        asking = asyncio.create_task(door.complete(REQUEST))
        while not door.counters.faults:
            await asyncio.sleep(0.01)
        assert "asked to wait" in door.counters.trouble()
        door.stop()
        with pytest.raises(Interrupted):
            await asyncio.wait_for(asking, 5)
        await door.close()


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_server_without_schemas_is_asked_in_words_and_that_is_remembered(lane: Any) -> None:
    async with FaultServer(formats=["text"]) as server:
        server.keep_bodies = True
        door = door_to(server, lane=lane)
        for seed in (1, 2):
            assert await outcome_of(door, replace(REQUEST, seed=seed)) == "answer"
        await door.close()
        forms = [(body.get("response_format") or {}).get("type", "text") for body in server.bodies]
    assert forms == ["json_schema", "json_object", "text", "text"]


async def test_concurrency_adapts_to_what_the_server_takes() -> None:
    async with FaultServer(max_in_flight=8, latency_s=0.01) as server:
        door = door_to(server)
        requests = [replace(REQUEST, seed=i) for i in range(300)]
        outcomes = [o async for _, o in in_one_loop(requests, lambda r: outcome_of(door, r), concurrency=64)]
        await door.close()
    assert outcomes == ["answer"] * 300
    assert server.witness.paid_twice == 0
    refused = server.witness.faults["rate_limited"]
    assert refused < 150, "every second request was refused: the limit was not learnt"


MIXED_FAULTS = (
    *("rate_limited", "rate_limited_wait", "error_500", "error_502", "error_529", "reset", "cut_body", "html_page"),
    *("empty_choices", "null_content", "refusal", "content_filter", "cut_off", "not_json", "other_shape"),
)
MIXED = dict.fromkeys(MIXED_FAULTS, 0.2 / len(MIXED_FAULTS))


async def judge_all(server: FaultServer, store: Store, count: int) -> list[str]:
    door = door_to(server, store, timeout_s=5.0)
    requests = [replace(REQUEST, seed=i, stage="judge") for i in range(count)]
    outcomes = [outcome async for _, outcome in in_one_loop(requests, lambda r: outcome_of(door, r), concurrency=64)]
    await door.close()
    return [str(outcome) for outcome in outcomes]


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
async def test_a_fifth_of_mixed_faults_loses_nothing_and_pays_nothing_twice(tmp_path: Path, count: int) -> None:
    async with FaultServer(faults=MIXED, retry_after_s=0.02, seed=4) as server:
        with Store.create(tmp_path) as store:
            outcomes = await judge_all(server, store, count)
            assert len(outcomes) == count
            assert outcomes.count("answer") > 0.9 * count
            assert set(outcomes) <= {"answer", "refused_by_model", "filtered_by_provider", "bad_json", "truncated"}
            before = server.witness.good.total()
            await judge_all(server, store, count)
        assert server.witness.paid_twice == 0
        # The second round asked again only what had failed or was answered with nothing, and nothing that was answered
        empty = server.witness.faults["null_content"] + server.witness.faults["empty_choices"]
        assert server.witness.good.total() - before <= 2 * (count - outcomes.count("answer")) + empty


def ask_400(folder: Path, api_base: str) -> None:
    """Ask four hundred requests into a run; what a process does that is killed."""

    async def ask() -> None:
        with Store.create(folder) as store:
            door = open_door(store, settings=DoorSettings(api_base=api_base))
            async for _ in in_one_loop([replace(REQUEST, seed=i) for i in range(400)], door.complete):
                pass
            await door.close()

    asyncio.run(ask())


def recorded(folder: Path) -> set[int]:
    """Seeds of the requests whose answer is in the ledger."""
    if not (folder / "run.sqlite").exists():
        return set()
    with sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True) as connection:
        return {json.loads(row[0])["seed"] for row in connection.execute("SELECT request FROM calls WHERE good")}


def test_kill_9_at_any_moment_loses_no_answer(tmp_path: Path, serve: Callable[..., FaultServer]) -> None:
    rng, server, folder = random.Random(5), serve(latency_s=0.01), tmp_path / "r"
    server.keep_bodies = True
    for round_number in range(6):
        known = recorded(folder)
        server.bodies.clear()
        process = Forked(tmp_path, ask_400, folder, server.base_url)
        if round_number < 5:
            wanted = rng.randrange(5, 70)
            assert process.reaches(lambda wanted=wanted: len(server.bodies) >= wanted)
            process.send(signal.SIGKILL)
        code = process.wait()
        assert not {body["seed"] for body in server.bodies} & known, "an answered request was sent again"
        assert recorded(folder) >= known
    assert code == 0, process.err
    assert recorded(folder) == set(range(400))


async def test_a_second_process_on_the_run_is_told(tmp_path: Path) -> None:
    code = f"from safetyqc.store import Store; Store.create({str(tmp_path)!r})"
    with Store.create(tmp_path):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=subprocess.PIPE)
        _, errors = await process.communicate()
    assert process.returncode != 0
    assert "another safetyqc is writing this run" in errors.decode()


async def test_a_port_that_is_taken_is_told_with_the_way_out() -> None:
    first = FaultServer()
    await first.start()
    try:
        with pytest.raises(UserError, match="cannot be used") as raised:
            await FaultServer().start(port=int(first.base_url.rpartition(":")[2].partition("/")[0]))
        assert "--port 0" in str(raised.value)
    finally:
        await first.stop()
