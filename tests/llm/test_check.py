"""`models check` tells with one call what a model needs."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.llm.check import ModelReport, check_model
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.prices import Price
from safetyqc.testing.server import FaultServer


async def check(server: FaultServer, **settings: Any) -> ModelReport:
    door = open_door(None, settings=DoorSettings(api_base=server.base_url, deadline_s=5, **settings))
    try:
        return await check_model(door, "openai/m")
    finally:
        await door.close()


async def test_a_usable_model_costs_one_call() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
    }
    async with FaultServer(headers=headers) as server:
        report = await check(server, prices={"openai/m": Price(0.1, 0.4)}, api_key="k")
    assert (report.usable, report.follows_schema, report.format, report.lane) == (True, True, "json_schema", "direct")
    assert (report.key, report.requests_per_minute, report.input_usd) == ("set", 500, 0.1)
    assert report.fixes == ()
    assert server.witness.received.total() == 1


async def test_a_missing_price_is_named_with_what_to_set() -> None:
    async with FaultServer() as server:
        report = await check(server)
    assert report.input_usd is None
    assert any("prices" in fix for fix in report.fixes)


async def test_a_model_without_schemas_is_found_out() -> None:
    async with FaultServer(formats=["text"]) as server:
        report = await check(server)
    assert (report.usable, report.format) == (True, "text")


async def test_a_model_that_cannot_follow_a_schema_is_not_usable_and_told_why() -> None:
    async with FaultServer(script=["not_json", "not_json"]) as server:
        report = await check(server)
    assert (report.usable, report.follows_schema) == (False, False)
    assert any("larger model" in fix for fix in report.fixes)


@pytest.mark.parametrize(("fault", "fix"), [("bad_key", "API key"), ("no_credit", "credit"), ("no_model", "name")])
async def test_an_unusable_model_is_told_with_what_to_do(fault: str, fix: str) -> None:
    async with FaultServer(script=[fault]) as server:
        report = await check(server)
    assert not report.usable
    assert report.error
    assert fix in report.fixes[0]
    assert server.witness.received.total() == 1
