from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import safetyqc as sq
from safetyqc.errors import ModelError, UserError
from safetyqc.llm.client import Reply, Request
from safetyqc.llm.door import Door, DoorSettings
from safetyqc.llm.hosts import nanochat_url

PIECES = ["I'm sorry, ", "but I can't ", "help with that. 🙂"]


@asynccontextmanager
async def served(lines: list[bytes], status: int = 200, seen: list[Any] | None = None) -> AsyncIterator[str]:
    """A server that answers as nanochat's does, with these events."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append((dict(request.headers), await request.json()))
        if status >= 300:
            return web.json_response({"detail": "Message 0 is too long. Maximum 8000 characters"}, status=status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        return response

    app = web.Application()
    app.router.add_post("/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def events(*pieces: str, done: bool = True) -> list[bytes]:
    told = [{"token": piece, "gpu": 0} for piece in pieces] + ([{"done": True}] if done else [])
    return [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in told]


def ask(lines: list[bytes], status: int = 200, seen: list[Any] | None = None) -> Reply:
    async def asked() -> Reply:
        async with served(lines, status, seen) as url:
            door = Door(None, DoorSettings(max_attempts=1))
            try:
                return await door.complete(
                    Request(f"nanochat:{url}", ({"role": "user", "content": "Hi"},), max_tokens=9000)
                )
            finally:
                await door.close()

    return asyncio.run(asked())


def test_an_answer_is_put_together_from_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    seen: list[Any] = []
    reply = ask(events(*PIECES), seen=seen)
    assert reply.text == "".join(PIECES)
    headers, body = seen[0]
    assert body == {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.0, "max_tokens": 4096}
    assert "sk-secret" not in str(headers)


def test_an_answer_that_breaks_off_is_none() -> None:
    with pytest.raises(ModelError, match="broke off before it was done"):
        ask(events(*PIECES, done=False))


@pytest.mark.parametrize("line", [b"data: {nonsense\n\n", b"data: [1]\n\n"])
def test_what_is_no_event_is_an_error_of_the_provider(line: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        ask([line])
    assert caught.value.kind == "provider_error"


def test_a_refusal_says_what_the_server_says() -> None:
    with pytest.raises(ModelError, match="Message 0 is too long"):
        ask([], status=400)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("nanochat:http://host:8000", "http://host:8000"),
        ("nanochat:http://host:8000/", "http://host:8000"),
        ("nanochat:host:8000", "http://host:8000"),
        ("nanochat:https://host/chat", "https://host/chat"),
    ],
)
def test_its_address_is_its_name(name: str, url: str) -> None:
    assert nanochat_url(name) == url


def test_a_name_without_an_address_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a URL"):
        sq.probe("nanochat:", tmp_path / "run", quiet=True)


def test_it_is_probed_like_any_other_model(tmp_path: Path) -> None:
    async def probed() -> Any:
        async with served(events(*PIECES)) as url:
            return await sq.aprobe(f"nanochat:{url}", tmp_path / "run", sample=12, max_cost_usd=0.0, quiet=True)

    arm = asyncio.run(probed()).result.arms["model"]
    assert arm.by_language["en"]["harm_refused"].rate == 1.0
    assert arm.by_language["en"]["benign_helped"].rate == 0.0
    assert arm.by_language["zh"]["incoherent"].rate == 1.0  # English answers to Chinese prompts
