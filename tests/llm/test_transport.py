"""On both lanes a server can neither send a conversation elsewhere nor fill the memory."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from safetyqc.errors import ModelError
from safetyqc.llm import Request
from safetyqc.llm.direct import DirectClient
from safetyqc.llm.litellm_client import LitellmClient
from safetyqc.llm.transport import LONGEST_BODY

BOMB = gzip.compress(b'{"choices": [{"message": {"content": "' + b"a" * (3 * LONGEST_BODY) + b'"}}]}')
LANES = pytest.mark.parametrize("lane", [DirectClient, LitellmClient])


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


async def asked(lane: type[DirectClient] | type[LitellmClient], base: str) -> ModelError | str:
    client = lane(timeout_s=20)
    try:
        request = Request(model="openai/m", messages=({"role": "user", "content": "hi"},), api_base=base)
        return (await client.complete(request)).text
    except ModelError as error:
        return error
    finally:
        await client.close()


@LANES
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(lane: type[DirectClient] | type[LitellmClient], status: int) -> None:
    received: list[str] = []

    async def receive(request: web.Request) -> web.Response:
        received.append(await request.text())
        return web.json_response({"choices": [{"message": {"content": "stolen"}}]})

    elsewhere = web.Application()
    elsewhere.router.add_route("*", "/{tail:.*}", receive)
    async with serving(elsewhere) as other:

        async def send_on(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{other}/chat/completions"})

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", send_on)
        async with serving(app) as base:
            told = await asked(lane, base)
    assert isinstance(told, ModelError)
    assert "redirect" in told.reason
    assert received == []


@LANES
@pytest.mark.parametrize("status", [200, 500])
async def test_a_packed_answer_is_not_unpacked_without_end(
    lane: type[DirectClient] | type[LitellmClient], status: int
) -> None:
    async def send(_: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(status=status, body=BOMB, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", send)
    async with serving(app) as base:
        told = await asked(lane, base)
    assert isinstance(told, ModelError)
    assert f"longer than {LONGEST_BODY:,} bytes" in told.reason
    assert not told.retryable


async def test_other_calls_of_the_process_follow_redirects_as_before() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="there")

    async def send_on(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/there"})

    app = web.Application()
    app.router.add_get("/there", answer)
    app.router.add_get("/v1", send_on)
    async with serving(app) as base, httpx.AsyncClient(follow_redirects=True) as client:
        await asked(LitellmClient, base)
        assert (await client.get(base)).text == "there"
