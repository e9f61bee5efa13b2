"""The lane to nanochat's own web server (`python -m scripts.chat_web`): `nanochat:URL` as a model's name.

Its endpoint streams an answer as events, one piece of text each, and knows neither models nor keys nor reasons to stop:
an answer that ends with its `done` event is whole, one that ends without it is not. One request, one attempt, as in
every lane. It is imported only when a request takes this lane, so aiohttp may stand at the top.
"""

from __future__ import annotations

import json
import time

import aiohttp

from safetyqc.errors import ModelError
from safetyqc.llm.client import Reply, Request
from safetyqc.llm.complaints import explain_error
from safetyqc.llm.hosts import nanochat_url
from safetyqc.text import shorten

_LONGEST_LINE, _LONGEST_ANSWER = 1_000_000, 4_000_000
_MOST_TOKENS, _HOTTEST = 4096, 2.0
"""What the server accepts; more is refused there."""


class NanochatClient:
    """Answers requests whose model is a nanochat server."""

    def __init__(self, *, timeout_s: float = 120.0) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, request: Request) -> Reply:
        """Send one request once.

        Raises:
            ModelError: with `retryable` set where the same request may succeed later.
            FatalModelError: no such endpoint there.
        """
        url = f"{nanochat_url(request.model)}/chat/completions"
        body = {
            "messages": [dict(message) for message in request.messages],
            "temperature": min(request.temperature, _HOTTEST),
            "max_tokens": min(request.max_tokens, _MOST_TOKENS),
        }
        started = time.monotonic()
        try:
            async with self._open().post(url, json=body, allow_redirects=False) as response:
                if response.status >= 300:
                    said = (await response.content.read(20_000)).decode("utf-8", "replace")
                    raise explain_error(response.status, _detail(said), model=request.model, base=url)
                text = await _read_events(response, request.model)
        except TimeoutError as error:
            reason = f"{request.model}: no whole answer within {self._timeout_s:g} s"
            raise ModelError("provider_error", reason, retryable=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = shorten(f"{request.model}: {type(error).__name__}: {error}", 400)
            unreachable = isinstance(error, aiohttp.ClientConnectorError)
            raise ModelError("provider_error", reason, retryable=True, unreachable=unreachable) from error
        return Reply(text, "stop", model=request.model, latency_s=time.monotonic() - started)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(self._timeout_s, 20))
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                timeout=timeout, connector=connector, read_bufsize=_LONGEST_LINE, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _detail(said: str) -> object:
    """What the server says is wrong, where it says it in its own way."""
    try:
        value = json.loads(said)
    except ValueError:
        return said
    detail = value.get("detail") if isinstance(value, dict) else None
    return {"error": {"message": str(detail)}} if detail else said


async def _read_events(response: aiohttp.ClientResponse, model: str) -> str:
    """Put an answer together from its events, to the one that says that it is done."""
    pieces: list[str] = []
    length = 0
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        event = json.loads(line[len(b"data:") :])
        if not isinstance(event, dict):
            raise ValueError(f"an event that is no object: {shorten(str(event), 80)!r}")
        if event.get("done"):
            return "".join(pieces)
        piece = event.get("token")
        if isinstance(piece, str):
            pieces.append(piece)
            length += len(piece)
        if length > _LONGEST_ANSWER:
            raise ModelError("bad_structure", f"{model}: the answer is longer than {_LONGEST_ANSWER:,} characters")
    raise ModelError("provider_error", f"{model}: the answer broke off before it was done", retryable=True)
