"""The page answers the one who has its address, on this machine, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from safetyqc.errors import OutputError
from safetyqc.review.desk import Desk
from safetyqc.review.server import ReviewServer

OpenDesk = Callable[..., Desk]
LABEL = {"id": "c_0001", "criterion": "strict_refusal", "level": "refuses"}


@pytest.mark.parametrize("path", ["", "start", "item?at=0", "review.js", "verdicts?id=c_0001", "../start"])
async def test_without_the_token_every_path_is_refused(desk: OpenDesk, path: str) -> None:
    async with ReviewServer(desk()) as server, aiohttp.ClientSession() as session:
        for before in ("", "x" * len(server.token) + "/", server.token[:-1] + "/", server.token.swapcase() + "/"):
            async with session.get(f"http://127.0.0.1:{server.port}/{before}{path}") as answer:
                assert 400 <= answer.status < 500
                assert "strict" not in await answer.text()
            async with session.post(f"http://127.0.0.1:{server.port}/{before}label", json=LABEL) as answer:
                assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({}, 200),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 200),
    ],
)
async def test_what_another_page_sends_is_refused_and_stores_nothing(
    desk: OpenDesk, headers: dict[str, str], status: int
) -> None:
    here = desk()
    async with ReviewServer(here) as server, aiohttp.ClientSession() as session:
        sent = {"Content-Type": "application/json"} | {k: v.format(port=server.port) for k, v in headers.items()}
        body = '{"id": "c_0001", "criterion": "strict_refusal", "level": "refuses"}'
        async with session.post(server.address + "label", data=body, headers=sent) as answer:
            assert answer.status == status
    assert bool(here.own.labels) == (status == 200)


async def test_the_page_lets_nothing_run_but_its_own_script(desk: OpenDesk) -> None:
    async with ReviewServer(desk("<b>ann</b>")) as server, aiohttp.ClientSession() as session:
        async with session.get(server.address) as answer:
            text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "<b>ann" not in text
        assert text.count("<script") == 1
        assert "style=" not in text
        for name in ("review.js", "review.css", "icon.svg"):
            async with session.get(server.address + name) as answer:
                assert answer.status == 200
                assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("label", LABEL | {"level": "nonsense"}, 409, "no level 'nonsense'"),
        ("label", LABEL | {"more": 1}, 400, "reload"),
        ("label", LABEL | {"seconds": -1}, 400, "reload"),
        ("label", ["no", "object"], 400, "reload"),
        ("undo", {}, 409, "nothing to undo"),
        ("defer", {"id": "c_x"}, 409, "not in this queue"),
        ("label", LABEL | {"note": "x" * 70_000}, 413, "Too Large"),
    ],
)
async def test_what_cannot_be_done_says_why(desk: OpenDesk, path: str, body: Any, status: int, said: str) -> None:
    async with (
        ReviewServer(desk()) as server,
        aiohttp.ClientSession() as session,
        session.post(server.address + path, json=body) as answer,
    ):
        assert answer.status == status
        assert said in await answer.text()


async def test_an_item_that_is_not_there_says_what_is(desk: OpenDesk) -> None:
    async with ReviewServer(desk()) as server, aiohttp.ClientSession() as session:
        for at in ("30", "-1", "x", "²", "9" * 5000, ""):
            async with session.get(server.address + "item", params={"at": at}) as answer:
                assert answer.status == 409
                assert "0 to 29" in (await answer.json())["error"]


async def test_a_verdict_is_refused_until_the_answer_is_there(desk: OpenDesk) -> None:
    async with ReviewServer(desk()) as server, aiohttp.ClientSession() as session:
        async with session.get(server.address + "verdicts?id=c_0001") as answer:
            assert answer.status == 409
        for criterion, level in (("strict_refusal", "refuses"), ("no_dangerous_steps", "safe")):
            async with session.post(server.address + "label", json=LABEL | {"criterion": criterion, "level": level}):
                pass
        async with session.post(
            server.address + "label", json=LABEL | {"criterion": "safe_alternative", "level": "none"}
        ) as answer:
            told = await answer.json()
            assert told["next"]["item"]["id"] != "c_0001"
        async with session.get(server.address + "verdicts?id=c_0001") as answer:
            assert {x["judge"] for x in await answer.json()} == {"local", "openai/gpt"}


async def test_it_stops_by_itself_when_nobody_uses_it(desk: OpenDesk) -> None:
    async with ReviewServer(desk(), idle_s=0.05) as server:
        assert await asyncio.wait_for(server.until_idle(), 10)


async def test_a_port_that_is_taken_is_named(desk: OpenDesk) -> None:
    async with ReviewServer(desk()) as server:
        with pytest.raises(OutputError, match=f"port {server.port}"):
            async with ReviewServer(desk("ben"), port=server.port):
                pass
