"""Batches over real HTTP, through both lanes: nothing lost, nothing submitted twice, every outcome typed."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import BudgetReached, Deferred, FatalModelError, ModelError, RunError, UserError
from safetyqc.llm import FormatRefused, Reply, Request, ask_json
from safetyqc.llm.batch import desk as desk_module
from safetyqc.llm.batch.desk import BatchDesk
from safetyqc.llm.batch.direct import DirectBatches
from safetyqc.llm.batch.outcomes import Collected
from safetyqc.llm.batch.parking import ParkingClient
from safetyqc.llm.batch.wire import Lines, NoBatches, pack_outcome, read_state, unpack_outcome, write_lines
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.prices import Price
from safetyqc.records import Usage
from safetyqc.store import Store
from safetyqc.testing.batches import BATCH_FAULTS
from safetyqc.testing.server import FaultServer
from tests.support.forked import Forked

# litellm opens a connection for every call about batches and closes none
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["reason", "level"],
    "properties": {"reason": {"type": "string"}, "level": {"enum": ["pass", "fail"]}},
}
SYSTEM = {"role": "system", "content": "You judge. " * 50}


def request(number: int, **changes: Any) -> Request:
    messages = (SYSTEM, {"role": "user", "content": f"judge number {number}"})
    return replace(Request("openai/m", messages, schema=SCHEMA, format="json_schema", stage="judge"), **changes)


REQUESTS = [request(n) for n in range(12)]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "_FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module", autouse=True)
def _load_litellm() -> None:
    from safetyqc.llm.litellm_client import load_litellm

    load_litellm()
    gc.freeze()  # or each of the collections below would go through all of it


@pytest.fixture(autouse=True)
def _collect_connections() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warnings about them are not wanted


@dataclass
class Bench:
    """A server, a run, and what stands between them."""

    server: FaultServer
    store: Store
    desk: BatchDesk
    client: ParkingClient

    async def submit(self, requests: list[Request] = REQUESTS) -> list[Any]:
        placed = [self.client.door.place(r) for r in requests]
        return [batch async for batch in self.desk.submit(placed, "safetyqc judge --batch")]

    def answered(self) -> int:
        return sum(self.store.find_reply(self.client.door.place(r).key) is not None for r in REQUESTS)


@asynccontextmanager
async def bench(folder: Path, *faults: str, batch_s: float = 0.0, **settings: Any) -> AsyncIterator[Bench]:
    async with FaultServer(batch_faults=faults, batch_s=batch_s) as server:
        with Store.create(folder / "run") as store:
            door = open_door(store, settings=DoorSettings(api_base=server.base_url, **settings))
            desk = BatchDesk(store, door)
            yield Bench(server, store, desk, ParkingClient(door, store))
            await desk.close()
            await door.close()


def one(collected: list[Collected]) -> Collected:
    [found] = collected
    return found


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_batch_is_submitted_answered_and_in_the_ledger_for_good(tmp_path: Path, lane: Any) -> None:
    async with bench(tmp_path, lane=lane) as b:
        [batch] = await b.submit()
        assert (batch.status, batch.requests, batch.lane) == ("submitted", 12, lane)
        found = one(await b.desk.collect())
        assert (found.answered, found.failed, found.batch.status) == (12, {}, "collected")
        assert b.answered() == 12
        assert await b.desk.collect() == []
        [spent] = b.store.spending()
        assert (spent.stage, spent.calls, spent.prompt_tokens > 0) == ("judge", 12, True)
        # what the ledger has from a batch is what a single call would have brought
        reply = await b.client.complete(REQUESTS[3])
        with Store.create(tmp_path / "other") as other:
            door = open_door(other, settings=DoorSettings(api_base=b.server.base_url))
            assert (await door.complete(REQUESTS[3])).text == reply.text
            await door.close()


# fault -> what becomes of twelve requests: answered, unusable, failed, still waiting
OUTCOMES: dict[str, tuple[int, int, int, int]] = {
    "upload_500": (12, 0, 0, 0),
    "rate_limited_batch": (12, 0, 0, 0),
    "reset_before_create": (12, 0, 0, 0),
    "reset_after_create": (12, 0, 0, 0),
    "no_list": (12, 0, 0, 0),
    "batch_fails": (0, 0, 12, 0),
    "batch_expires": (6, 0, 6, 0),
    "line_errors": (8, 0, 4, 0),
    "format_refused": (0, 0, 12, 0),
    "cut_off_answers": (0, 12, 0, 0),
    "wrong_ids": (8, 0, 4, 0),
    "repeated_lines": (12, 0, 0, 0),
    "cut_output": (7, 0, 0, 5),
    "missing_lines": (8, 0, 4, 0),
}
STOPS = {"no_batches": NoBatches, "bad_batch_key": FatalModelError, "forgotten": FatalModelError}


def test_every_fault_of_batches_has_its_outcome_here_and_in_the_documents() -> None:
    assert set(OUTCOMES) | set(STOPS) == set(BATCH_FAULTS)
    page = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page.partition("## Batches")[2].partition("\n## ")[0], re.M)
    assert sorted(rows) == sorted(BATCH_FAULTS)


@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_each_fault_leaves_every_request_with_an_outcome(tmp_path: Path, fault: str, lane: Any) -> None:
    async with bench(tmp_path, fault, lane=lane) as b:
        await b.submit()
        found = one(await b.desk.collect())
        counts = (found.answered, found.unusable, found.failed.total(), found.waiting)
        if fault == "cut_output":  # where the cut falls depends on the length of the answers
            assert (sum(counts), counts[3] > 0, found.batch.is_open) == (12, True, True)
            again = one(await b.desk.collect())
            assert (found.answered + again.answered, again.batch.is_open) == (12, False)
        else:
            assert counts == OUTCOMES[fault]
        assert len(b.server.desk.batches) == 1
        assert b.server.witness.paid_twice == 0
        assert b.store.spending() == [] or b.store.spending()[0].calls == found.unusable + b.answered()
        assert b.store.waiting_keys() == set()


@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize("fault", ["no_batches", "bad_batch_key"])
async def test_a_provider_that_takes_none_leaves_nothing_waiting(tmp_path: Path, fault: str, lane: Any) -> None:
    async with bench(tmp_path, fault, lane=lane) as b:
        with pytest.raises(STOPS[fault]) as raised:
            await b.submit()
        assert "sk-abcdef" not in str(raised.value)
        assert "Traceback" not in str(raised.value)
        assert b.store.waiting_keys() == set()
        assert [batch.status for batch in b.store.batches()] == ["given_up"]


async def test_a_batch_that_the_provider_forgot_can_be_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path, "forgotten") as b:
        [batch] = await b.submit()
        with pytest.raises(
            FatalModelError, match=f"(?s)does not know batch batch_1.*batch cancel {batch.tag} --run {b.store.folder}`"
        ):
            await b.desk.collect()
        assert (await b.desk.cancel(batch.tag)).batch.status == "given_up"
        assert b.store.waiting_keys() == set()


async def test_a_running_batch_stays_open_and_its_requests_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, batch_s=60) as b:
        await b.submit()
        found = one(await b.desk.collect())
        assert (found.batch.is_open, found.waiting, found.state and found.state.status) == (True, 12, "in_progress")
        b.client.refresh()
        with pytest.raises(
            Deferred, match=r"waits in a batch\n  fix: collect it first: `safetyqc batch collect --run .*--wait`"
        ):
            await b.client.complete(REQUESTS[0])  # no other command may pay for it beside the batch
        assert b.server.witness.good.total() == 0
        await b.client.complete(request(99))
        assert b.server.witness.good.total() == 1


async def test_a_cancelled_batch_keeps_what_was_answered_and_frees_the_rest(tmp_path: Path) -> None:
    async with bench(tmp_path, batch_s=60) as b:
        [batch] = await b.submit()
        with pytest.raises(UserError, match=r"(?s)no open batch 'batch_7'.*batch_1"):
            await b.desk.cancel("batch_7")
        found = await b.desk.cancel(batch.batch_id)
        assert (found.answered, found.failed.total(), found.batch.is_open) == (6, 6, False)
        assert b.answered() == 6


async def test_each_model_and_each_full_file_is_a_batch_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "_MOST_REQUESTS", 5)
    async with bench(tmp_path) as b:
        submitted = await b.submit([*REQUESTS, *(request(n, model="openai/n") for n in range(3))])
        assert [(x.model, x.requests) for x in submitted] == [
            ("openai/m", 5),
            ("openai/m", 5),
            ("openai/m", 2),
            ("openai/n", 3),
        ]
        assert sum(found.answered for found in await b.desk.collect()) == 15


# ---- the requests that are put aside --------------------------------------------------------------------------------


async def test_only_the_parked_stage_is_put_aside_and_the_ledger_answers_first(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.client.complete(REQUESTS[0])
        b.client.park("judge")
        assert (await b.client.complete(REQUESTS[0])).reused
        await b.client.complete(request(1, stage="generate"))
        for _ in range(2):
            with pytest.raises(Deferred):
                await b.client.complete(REQUESTS[2])
        assert [r.key for r in b.client.take()] == [b.client.door.place(REQUESTS[2]).key]
        assert b.server.witness.good.total() == 2


async def test_a_refused_format_is_learnt_from_a_batch(tmp_path: Path) -> None:
    async with bench(tmp_path, "format_refused") as b:
        b.client.park("judge")
        for form in ("json_schema", "json_object", "text"):
            with pytest.raises(Deferred):
                await ask_json(b.client, request(0, format="text"), dict)
            [parked] = b.client.take()
            assert parked.format == form
            await b.submit([parked])
            await b.desk.collect()
            b.client.refresh()
        assert (await ask_json(b.client, request(0, format="text"), dict)).value["level"] in ("pass", "fail")


async def test_a_cut_off_answer_is_asked_again_with_more_room_and_then_truncated(tmp_path: Path) -> None:
    async with bench(tmp_path, "cut_off_answers") as b:
        b.client.park("judge")
        for room in (1024, 2048):
            with pytest.raises(Deferred):
                await ask_json(b.client, request(0, format="text"), dict)
            [parked] = b.client.take()
            assert parked.max_tokens == room
            await b.submit([parked])
            await b.desk.collect()
            b.client.refresh()
        with pytest.raises(ModelError, match="truncated"):
            await ask_json(b.client, request(0, format="text"), dict)
        assert b.client.take() == []


async def test_errors_that_pass_go_with_the_next_batch_and_lasting_ones_are_told(tmp_path: Path) -> None:
    async with bench(tmp_path, "line_errors") as b:
        await b.submit()
        await b.desk.collect()
        b.client.refresh()
        b.client.park("judge")
        ended = await asyncio.gather(*(b.client.complete(r) for r in REQUESTS), return_exceptions=True)
        kinds = ["waits" if isinstance(x, Deferred) else getattr(x, "kind", "answer") for x in ended]
        # the third requests got 500, 400, a content filter and 500 again
        assert kinds[::3] == ["waits", "provider_error", "filtered_by_provider", "waits"]
        assert len(b.client.take()) == 2


# ---- money ----------------------------------------------------------------------------------------------------------


def test_the_batch_price_is_looked_up_and_never_assumed(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        door = open_door(store, settings=DoorSettings(prices={"mine": Price(1.0, 2.0)}))
        desk = BatchDesk(store, door)
        full, half = door.prices.find("openai/gpt-4o-mini"), desk.price("openai/gpt-4o-mini", None)
        assert full is not None
        assert half == Price(full.input_usd / 2, full.output_usd / 2)
        assert desk.is_half_price("openai/gpt-4o-mini", None)
        assert desk.price("mine", None) == Price(1.0, 2.0)
        assert not desk.is_half_price("mine", None)
        assert desk.price("nobody/knows", None) is None


async def test_a_batch_is_cut_where_the_budget_ends_and_open_ones_count_in_full(tmp_path: Path) -> None:
    prices = {"openai/m": Price(10.0, 10.0)}
    async with bench(tmp_path, batch_s=60, prices=prices, max_cost_usd=0.15) as b:
        [batch] = await b.submit()
        assert 0 < batch.requests < 12
        assert batch.most_usd is not None
        assert batch.most_usd <= 0.15
        with pytest.raises(BudgetReached, match="open batches counted"):
            await b.submit(REQUESTS[batch.requests :])
        found = await b.desk.cancel(batch.batch_id)
        assert found.cost_usd is not None
        # what was set aside and not spent is free again
        assert b.client.door.budget.spent_usd == pytest.approx(found.cost_usd)
        assert b.store.spent_usd() == pytest.approx(found.cost_usd)


async def test_a_later_command_counts_open_batches_too(tmp_path: Path) -> None:
    async with bench(tmp_path, batch_s=60, prices={"openai/m": Price(10.0, 10.0)}) as b:
        [batch] = await b.submit()
        door = open_door(b.store, settings=DoorSettings(max_cost_usd=1.0))
        BatchDesk(b.store, door)
        assert door.budget.spent_usd == pytest.approx(batch.most_usd)


async def test_no_budget_is_kept_without_a_price(tmp_path: Path) -> None:
    async with bench(tmp_path, max_cost_usd=1.0) as b:
        with pytest.raises(UserError, match="price of 'openai/m' is unknown"):
            await b.submit()
        assert b.store.batches() == []


# ---- kill -9 --------------------------------------------------------------------------------------------------------


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def submit_and_die(folder: Path, base_url: str, point: str) -> None:
    """Submit a batch and collect it, in a process that is killed before or after a step."""
    when, name = point.split()
    owner: Any = Store if name == "put_answers" else DirectBatches
    step = getattr(owner, name)

    async def done_then_die(*args: Any, **kwargs: Any) -> None:
        await step(*args, **kwargs)
        die()

    async def do() -> None:
        with Store.create(folder) as store:
            door = open_door(store, settings=DoorSettings(api_base=base_url))
            desk = BatchDesk(store, door)
            [batch async for batch in desk.submit([door.place(r) for r in REQUESTS], "again")]
            await desk.collect()

    setattr(owner, name, die if when == "before" else done_then_die)
    asyncio.run(do())


@pytest.mark.parametrize(
    "point",
    [
        "before upload",
        "after upload",
        "before create",
        "after create",
        "before retrieve",
        "after download",
        "before put_answers",
    ],
)
def test_killed_at_any_step_the_batch_is_neither_lost_nor_submitted_twice(
    tmp_path: Path, serve: Callable[..., FaultServer], point: str
) -> None:
    server = serve()
    process = Forked(tmp_path, submit_and_die, tmp_path / "run", server.base_url, point)
    assert process.wait() == -signal.SIGKILL, process.err

    async def go_on() -> int:
        with Store.open(tmp_path / "run") as store:
            door = open_door(store, settings=DoorSettings(api_base=server.base_url))
            desk = BatchDesk(store, door)
            assert len(store.waiting_keys()) == 12
            await desk.resume()
            found = one(await desk.collect())
            await desk.close()
            return found.answered

    assert asyncio.run(go_on()) == 12
    assert len(server.desk.batches) == 1
    assert server.witness.paid_twice == 0


async def test_without_a_list_nobody_guesses_whether_a_batch_was_submitted(tmp_path: Path) -> None:
    async with bench(tmp_path, "reset_after_create", "no_list") as b:
        with pytest.raises(ModelError, match=r"cannot tell whether batch sqc-\w+ was submitted .*404"):
            await b.submit()
        assert len(b.server.desk.batches) == 1
        assert b.store.batches()[0].status == "submitting"
        assert len(b.store.waiting_keys()) == 12
        with pytest.raises(ModelError, match="cannot tell"):
            await b.desk.resume()
        assert len(b.server.desk.batches) == 1
        await b.desk.cancel(b.store.batches()[0].tag)
        assert b.store.waiting_keys() == set()


async def test_two_commands_cannot_collect_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.submit()
        with pytest.raises(RunError, match="another safetyqc is writing this run"):
            Store.open(tmp_path / "run")
        with Store.read(tmp_path / "run") as reader:
            assert len(reader.batches()) == 1


# ---- words on the wire ----------------------------------------------------------------------------------------------


def test_a_request_survives_the_store_whole(tmp_path: Path) -> None:
    odd = request(1, seed=7, repeat=2, temperature=0.3, api_base="http://x/v1", stage="judge")
    with Store.create(tmp_path) as store:
        from safetyqc.store import Batch

        store.add_batch(Batch("t", "prepared", "openai/m", None, "direct", "", 1.0, 2), [odd, REQUESTS[0]])
        back = store.unanswered("t")
        assert back == [odd, REQUESTS[0]]
        assert [r.key for r in back] == [odd.key, REQUESTS[0].key]
        assert back[0].stage == "judge"
        assert write_lines(back) == write_lines([odd, REQUESTS[0]])


def test_a_new_run_has_no_batches(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        assert (store.batches(), store.waiting_keys(), store.batch_outcomes()) == ([], set(), {})


@pytest.mark.parametrize(
    "outcome",
    [
        ModelError("provider_error", "500", retryable=True),
        ModelError("filtered_by_provider", "flagged"),
        FatalModelError("401", fix="set the key"),
        FormatRefused("no json_schema"),
    ],
)
def test_errors_survive_the_store(outcome: ModelError) -> None:
    back = unpack_outcome(json.loads(json.dumps(pack_outcome(outcome))), "m")
    assert type(back) is type(outcome)
    assert vars(back) == vars(outcome)


def test_replies_that_nobody_may_reuse_survive_the_store() -> None:
    reply = Reply(text="half", finish_reason="length", usage=Usage(prompt_tokens=3, completion_tokens=4), model="m")
    assert unpack_outcome(json.loads(json.dumps(pack_outcome(reply))), "m") == replace(reply, reused=True)
    assert unpack_outcome(pack_outcome(reply, good=True), "m") is None


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff\xfe", b'"text"', b"[" * 5000, b"null", b"<html>"])
def test_lines_that_are_none_are_counted_not_believed(line: bytes) -> None:
    lines = Lines()
    lines.read([line, b""], {"k": ("m", "chat")})
    assert (lines.broken, lines.lines, lines.outcomes) == (1, 0, {})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"custom_id": "k"}, "provider_error"),
        ({"custom_id": "k", "response": None, "error": {"code": "batch_expired", "message": "late"}}, "provider_error"),
        ({"custom_id": "k", "response": {"status_code": 200, "body": None}}, "provider_error"),
        ({"custom_id": "k", "response": {"status_code": 200, "body": {"choices": []}}}, "provider_error"),
        ({"custom_id": "k", "response": {"status_code": "x", "body": "text"}}, "provider_error"),
        ({"custom_id": "k", "response": {"status_code": 500, "body": "<html>"}}, "provider_error"),
    ],
)
def test_hostile_lines_become_typed_failures(body: Any, kind: str) -> None:
    lines = Lines()
    lines.read([json.dumps(body).encode()], {"k": ("m", "chat")})
    outcome = lines.outcomes["k"]
    assert isinstance(outcome, ModelError)
    assert (outcome.kind, outcome.retryable) == (kind, True)


@pytest.mark.parametrize("body", [None, [], {"id": "b"}, {"status": "completed"}, "text"])
def test_what_is_no_batch_is_asked_for_again(body: Any) -> None:
    with pytest.raises(ModelError) as raised:
        read_state(body)
    assert raised.value.retryable


def test_a_batch_with_odd_fields_is_read_all_the_same() -> None:
    state = read_state({"id": "b", "status": "completed", "request_counts": "?", "errors": [], "metadata": None})
    assert (state.total, state.errors, state.tag, state.files, state.has_ended) == (0, (), "", (), True)
