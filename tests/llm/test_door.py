"""One door: nothing paid twice, nothing lost, nobody pestered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import BudgetReached, FatalModelError, ModelError, UserError
from safetyqc.llm import FormatRefused, Reply, Request, ask_json
from safetyqc.llm import door as door_module
from safetyqc.llm.door import Door, DoorSettings, open_door
from safetyqc.llm.prices import Price
from safetyqc.records import Usage
from safetyqc.store import Store
from safetyqc.testing import Answer, ScriptedClient
from safetyqc.testing.server import FaultServer

REQUEST = Request(model="m", messages=({"role": "user", "content": "hi"},), stage="judge")
GOOD = Reply(text="yes", usage=Usage(prompt_tokens=100, completion_tokens=10), latency_s=0.5, model="m")
RETRY = ModelError("provider_error", "500", retryable=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "run") as store:
        yield store


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_FIRST_WAIT_S", 0.0)


def door_of(
    store: Store | None, script: list[Answer] | Callable[[Request], Answer], **settings: Any
) -> tuple[Door, ScriptedClient]:
    door, lane = open_door(store, settings=DoorSettings(**settings)), ScriptedClient(script)
    door._lanes["litellm"] = door._lanes["direct"] = lane
    return door, lane


async def test_an_answer_is_on_disk_before_it_is_returned(store: Store) -> None:
    door, _ = door_of(store, [GOOD])
    reply = await door.complete(REQUEST)
    with Store.read(store.folder) as other:
        assert other.find_reply(REQUEST.key) == replace(reply, reused=True)
        [spent] = other.spending()
    assert (spent.stage, spent.calls, spent.prompt_tokens, spent.unpriced) == ("judge", 1, 100, 1)


async def test_the_same_request_is_answered_from_the_ledger(store: Store) -> None:
    door, lane = door_of(store, [GOOD])
    first, again = await door.complete(REQUEST), await door.complete(REQUEST)
    assert (first.reused, again.reused, again.text, len(lane.requests)) == (False, True, "yes", 1)
    assert (door.counters.calls, door.counters.reused) == (1, 1)


async def test_another_process_of_the_run_finds_the_answer_too(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        await door_of(store, [GOOD])[0].complete(REQUEST)
    with Store.open(tmp_path) as store:
        door, lane = door_of(store, [])
        assert (await door.complete(REQUEST)).reused
        assert lane.requests == []


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="n"),
        replace(REQUEST, temperature=0.5),
        replace(REQUEST, max_tokens=7),
        replace(REQUEST, seed=1),
        replace(REQUEST, repeat=1),
        replace(REQUEST, schema={"type": "object"}),
        replace(REQUEST, format="json_object"),
        replace(REQUEST, api_base="http://other/v1"),
        replace(REQUEST, messages=({"role": "user", "content": "ho"},)),
    ],
)
async def test_whatever_can_change_the_answer_is_another_request(store: Store, other: Request) -> None:
    door, lane = door_of(store, [GOOD, GOOD])
    await door.complete(REQUEST)
    await door.complete(other)
    assert len(lane.requests) == 2


async def test_another_stage_asking_the_same_is_the_same_request(store: Store) -> None:
    door, lane = door_of(store, [GOOD])
    await door.complete(REQUEST)
    assert (await door.complete(replace(REQUEST, stage="rewrite"))).reused
    assert len(lane.requests) == 1


@pytest.mark.parametrize(
    "bad",
    [replace(GOOD, finish_reason="length"), replace(GOOD, finish_reason="content_filter"), replace(GOOD, refusal="no")],
)
async def test_bad_answers_are_written_down_but_never_reused(store: Store, bad: Reply) -> None:
    door, lane = door_of(store, [bad, GOOD])
    await door.complete(REQUEST)
    assert (await door.complete(REQUEST)).text == "yes"
    assert len(lane.requests) == 2
    assert store.spending()[0].calls == 2


async def test_fresh_asks_again(store: Store) -> None:
    await door_of(store, [GOOD])[0].complete(REQUEST)
    door, lane = door_of(store, [replace(GOOD, text="no")], fresh=True)
    assert (await door.complete(REQUEST)).text == "no"
    assert len(lane.requests) == 1


class SlowClient(ScriptedClient):
    """Answers when it is told to."""

    def __init__(self, script: list[Answer]) -> None:
        super().__init__(script)
        self.go = asyncio.Event()

    async def complete(self, request: Request) -> Reply:
        await self.go.wait()
        return await super().complete(request)


async def test_identical_requests_in_flight_share_one_call(store: Store) -> None:
    door, _ = door_of(store, [])
    lane = door._lanes["litellm"] = SlowClient([GOOD])
    tasks = [asyncio.create_task(door.complete(REQUEST)) for _ in range(5)]
    await asyncio.sleep(0)
    lane.go.set()
    replies = await asyncio.gather(*tasks)
    assert len(lane.requests) == 1
    assert sorted(reply.reused for reply in replies) == [False, True, True, True, True]


async def test_when_the_first_asker_is_cancelled_the_next_one_asks(store: Store) -> None:
    door, _ = door_of(store, [])
    lane = door._lanes["litellm"] = SlowClient([GOOD])
    first, second = (asyncio.create_task(door.complete(REQUEST)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert not second.done()
    lane.go.set()
    assert (await second).text == "yes"
    assert door.counters.in_flight == 0


async def test_an_error_is_shared_as_well(store: Store) -> None:
    door, _ = door_of(store, [])
    lane = door._lanes["litellm"] = SlowClient([ModelError("provider_error", "400")])
    tasks = [asyncio.create_task(door.complete(REQUEST)) for _ in range(3)]
    await asyncio.sleep(0)
    lane.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["provider_error: 400"] * 3
    assert len(lane.requests) == 1


async def test_a_retry_mends_what_may_be_mended_and_leaves_its_history(store: Store) -> None:
    door, lane = door_of(store, [RETRY, ModelError("provider_error", "429", retryable=True, overload=True), GOOD])
    assert (await door.complete(REQUEST)).text == "yes"
    assert (len(lane.requests), door.counters.retries, door.counters.faults.total()) == (3, 2, 2)
    assert store.history(REQUEST.key) == ("500", "429")
    assert not door.counters.failures


async def test_attempts_end(store: Store) -> None:
    door, lane = door_of(store, lambda _: RETRY, max_attempts=3)
    with pytest.raises(ModelError, match=r"500 \(after 3 attempts in \d+ s\)"):
        await door.complete(REQUEST)
    assert len(lane.requests) == 3
    assert door.counters.failures == {"provider_error": 1}


async def test_being_told_to_wait_burns_no_attempts_but_the_deadline_holds() -> None:
    script: list[Answer] = [ModelError("provider_error", "429", retryable=True, overload=True)] * 20
    door, lane = door_of(None, [*script, GOOD], max_attempts=3)
    assert (await door.complete(REQUEST)).text == "yes"
    assert len(lane.requests) == 21
    wait = ModelError("provider_error", "429", retryable=True, retry_after_s=5.0, overload=True)
    door, lane = door_of(None, [wait], deadline_s=5)
    with pytest.raises(ModelError, match=r"after 1 attempts in 0 s; 5 s are the most"):
        await door.complete(REQUEST)


@pytest.mark.parametrize(
    "error", [ModelError("provider_error", "400"), ModelError("filtered_by_provider", "x"), FormatRefused("y")]
)
async def test_what_no_retry_can_mend_is_not_retried(error: ModelError) -> None:
    door, lane = door_of(None, [error])
    with pytest.raises(ModelError) as caught:
        await door.complete(REQUEST)
    assert caught.value is error
    assert len(lane.requests) == 1


async def test_after_a_fatal_error_nothing_more_is_sent() -> None:
    door, lane = door_of(None, [FatalModelError("wrong key")])
    for _ in range(3):
        with pytest.raises(FatalModelError, match="wrong key"):
            await door.complete(REQUEST)
    assert len(lane.requests) == 1


async def test_a_fallback_answers_when_the_model_cannot_and_says_so(store: Store) -> None:
    def script(request: Request) -> Answer:
        return FatalModelError("no credit") if request.model == "m" else replace(GOOD, model=request.model)

    door, lane = door_of(store, script, fallback="other")
    replies = [await door.complete(replace(REQUEST, seed=i)) for i in range(3)]
    assert [reply.model for reply in replies] == ["other"] * 3
    assert [request.model for request in lane.requests] == ["m", "other", "other", "other"]


async def test_a_filtered_text_does_not_go_to_the_fallback() -> None:
    door, _ = door_of(None, [ModelError("filtered_by_provider", "x")], fallback="other")
    with pytest.raises(ModelError, match="filtered"):
        await door.complete(REQUEST)


PRICES = {"m": Price(1000.0, 1000.0)}


async def test_cost_is_counted_from_usage(store: Store) -> None:
    door, _ = door_of(store, [GOOD], prices=PRICES)
    assert (await door.complete(REQUEST)).cost_usd == pytest.approx(0.11)
    assert store.spent_usd() == door.counters.cost_usd == pytest.approx(0.11)


async def test_max_cost_is_never_passed_and_counts_what_was_spent_before(store: Store) -> None:
    requests = [replace(REQUEST, seed=i, max_tokens=10) for i in range(40)]
    door, lane = door_of(store, lambda _: GOOD, prices=PRICES, max_cost_usd=3.0)
    outcomes = await asyncio.gather(*(door.complete(r) for r in requests), return_exceptions=True)
    assert any(isinstance(outcome, BudgetReached) for outcome in outcomes)
    assert 2.0 < store.spent_usd() <= 3.0
    again, lane = door_of(store, lambda _: GOOD, prices=PRICES, max_cost_usd=3.0)
    with pytest.raises(BudgetReached):
        await again.complete(replace(REQUEST, seed=99, max_tokens=2000))
    assert lane.requests == []


async def test_max_cost_without_a_price_is_refused_before_any_call() -> None:
    door, lane = door_of(None, [GOOD], max_cost_usd=1.0)
    with pytest.raises(UserError, match="price of 'm' is unknown"):
        await door.complete(REQUEST)
    assert lane.requests == []


@pytest.mark.parametrize(
    ("model", "api_base", "lane", "expected"),
    [
        ("openai/gpt-4o", None, "auto", "litellm"),
        ("openrouter/a/b", None, "auto", "litellm"),
        ("openai/x", "http://h", "auto", "direct"),
        ("org/x", "http://h", "auto", "direct"),
        ("anthropic/x", "http://h", "auto", "litellm"),
        ("hosted_vllm/x", None, "auto", "direct"),
        ("ollama/x", None, "litellm", "litellm"),
        ("local", "http://h", "auto", "local"),
        ("local:/x.gguf", None, "litellm", "local"),
    ],
)
def test_which_lane_a_model_takes(
    model: str, api_base: str | None, lane: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    assert open_door(None, settings=DoorSettings(api_base=api_base, lane=lane)).lane_name(model) == expected


async def test_the_base_url_is_part_of_every_request_but_the_local_ones() -> None:
    door, lane = door_of(None, [GOOD, GOOD], api_base="http://h/v1")
    door._lanes["local"] = lane
    await door.complete(REQUEST)
    await door.complete(replace(REQUEST, model="local"))
    assert [request.api_base for request in lane.requests] == ["http://h/v1", None]


async def test_learnt_capabilities_survive_the_process(tmp_path: Path) -> None:
    request = replace(REQUEST, schema={"type": "object"})
    with Store.create(tmp_path) as store:
        door, _ = door_of(store, [FormatRefused("no"), "{}"])
        await ask_json(door, request, dict)
    with Store.open(tmp_path) as store:
        door, lane = door_of(store, [])
        assert (await ask_json(door, request, dict)).replies[0].reused
        assert lane.requests == []


async def test_close_closes_every_lane_once() -> None:
    door, lane = door_of(None, [])
    await door.close()
    await door.close()
    assert lane.closed


def test_settings_do_not_show_the_key() -> None:
    assert "secret" not in repr(DoorSettings(api_key="secret"))


@pytest.mark.parametrize("shows_key", [True, False])
def test_a_url_that_came_with_a_file_is_shown_no_key(shows_key: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    door = open_door(None, settings=DoorSettings(api_base="http://h:1/v1", shows_key=shows_key))
    assert door.place(Request("openai/m", ())).with_key is shows_key
    assert door.places.may_show_key("openai/m", "http://h:1/v1") is shows_key
    assert not door.places.may_show_key("openai/m", "http://elsewhere:1/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere:1/v1")
    assert door.places.may_show_key("openai/m", "http://elsewhere:1/v1")


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_no_lane_sends_a_key_to_such_a_url(lane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    seen: list[str | None] = []
    async with FaultServer() as server:
        answered = server._answer

        async def look(http: Any, *rest: Any) -> Any:
            seen.append(http.headers.get("Authorization"))
            return await answered(http, *rest)

        server._answer = look  # type: ignore[method-assign]
        for shows_key in (True, False):
            door = open_door(None, settings=DoorSettings(api_base=server.base_url, shows_key=shows_key, lane=lane))
            await door.complete(replace(REQUEST, model="openai/m"))
            await door.close()
    assert "sk-of-mine" in str(seen[0])
    assert "sk-of-mine" not in str(seen[1])


async def test_a_pause_longer_than_a_request_may_take_ends_the_run_with_that_reason() -> None:
    wait = ModelError("provider_error", "429 slow down", retryable=True, retry_after_s=3600.0, overload=True)
    door, lane = door_of(None, [wait], deadline_s=900)
    with pytest.raises(FatalModelError, match="3,600 s"):
        await door.complete(REQUEST)
    with pytest.raises(FatalModelError):
        await door.complete(replace(REQUEST, seed=1))
    assert len(lane.requests) == 1


async def test_what_was_counted_without_an_answer_is_in_the_ledger_and_the_budget(store: Store) -> None:
    usage = Usage(prompt_tokens=1000, completion_tokens=1000)
    bill = ModelError("provider_error", "502 upstream failed", retryable=True, usage=usage)
    door, lane = door_of(store, [bill, GOOD], prices={"m": Price(10.0, 40.0)}, max_cost_usd=1.0)
    await door.complete(REQUEST)
    assert door.counters.calls == len(lane.requests) == 2
    assert store.spent_usd() == pytest.approx(door.budget.spent_usd)
    assert door.budget.spent_usd == pytest.approx(0.05 + 0.0014)


async def test_an_empty_answer_is_paid_once_and_never_given_again(store: Store) -> None:
    empty = replace(GOOD, text=" ")
    door, lane = door_of(store, [empty, GOOD])
    assert (await door.complete(REQUEST)).is_empty
    assert (await door.complete(REQUEST)).text == "yes"
    assert (len(lane.requests), store.spending()[0].calls) == (2, 2)


async def test_errors_that_only_a_schema_gets_lead_a_rung_down() -> None:
    def answer(request: Request) -> Answer:
        if request.format == "json_schema":
            return ModelError("provider_error", "500", retryable=True, status=500)
        return Reply('{"a": 1}')

    door, lane = door_of(None, answer)
    request = replace(REQUEST, schema={"type": "object"})
    for seed in (1, 2):
        await ask_json(door, replace(request, seed=seed), lambda value: value)
    assert [asked.format for asked in lane.requests] == ["json_schema", "json_schema", "json_object", "json_object"]
