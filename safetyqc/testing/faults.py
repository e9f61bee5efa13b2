"""The ways in which the fault server goes wrong, one table entry each.

A new fault is one entry here; the tests run it through both lanes the moment it exists. Connections that are refused
have no entry: stop the server for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

_HUGE = 10_000_000
_HTML = "<!doctype html><html><head><title>Bad gateway</title></head><body><h1>nginx</h1></body></html>"


@dataclass
class Asked:
    """One request as a fault sees it.

    Args:
        text: the good answer.
        number: counts the requests of this server, for ids.
        stopped: set when the server stops.
    """

    http: web.Request
    body: dict[str, Any]
    text: str
    retry_after_s: float
    number: int
    stopped: asyncio.Event

    def completion(self, text: str | None = None, **changes: Any) -> dict[str, Any]:
        """A chat completion that says the good answer, or another text."""
        return {**completion(self.body, self.text if text is None else text, self.number), **changes}

    def choice(self, finish_reason: str, **message: Any) -> dict[str, Any]:
        """A completion whose only choice ends as given."""
        message = {"role": "assistant", "content": None, **message}
        return self.completion(choices=[{"index": 0, "finish_reason": finish_reason, "message": message}])


def completion(body: Mapping[str, Any], said: str, number: int) -> dict[str, Any]:
    """A chat completion that says this; `number` makes its id."""
    prompt, answer = sum(len(str(m.get("content", ""))) for m in body["messages"]) // 4, len(said) // 4
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
    }


Send = Callable[[Asked], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Args:
        good: it carries a good answer nevertheless; delivered twice for one request, it was paid twice.
    """

    about: str
    send: Send
    good: bool = False


def error_response(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as OpenAI words it."""
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


def _error(status: int, message: str, code: str) -> Send:
    async def send(_: Asked) -> web.StreamResponse:
        return error_response(status, message, code)

    return send


def _text(status: int, text: str, content_type: str = "text/html") -> Send:
    async def send(_: Asked) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type)

    return send


def _json(make: Callable[[Asked], dict[str, Any]]) -> Send:
    async def send(asked: Asked) -> web.StreamResponse:
        return web.json_response(make(asked))

    return send


async def _wait(asked: Asked) -> web.StreamResponse:
    return error_response(429, "too many requests", "rate_limit", {"Retry-After": f"{asked.retry_after_s:g}"})


async def _reset(asked: Asked) -> web.StreamResponse:
    if asked.http.transport is not None:
        asked.http.transport.abort()
    return web.Response()


async def _hang(asked: Asked) -> web.StreamResponse:
    await asked.stopped.wait()
    return web.Response()


async def _trickle(asked: Asked) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(asked.http)
    with contextlib.suppress(ConnectionError):
        for byte in json.dumps(asked.completion()).encode():
            await response.write(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.stopped.wait(), 1)
                break
    return response


async def _cut_body(asked: Asked) -> web.StreamResponse:
    whole = json.dumps(asked.completion()).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole))})
    await response.prepare(asked.http)
    await response.write(whole[: len(whole) // 2])
    if asked.http.transport is not None:
        asked.http.transport.abort()
    return response


async def _plain_text(asked: Asked) -> web.StreamResponse:
    return web.Response(text=json.dumps(asked.completion()), content_type="text/plain")


def _no_such_model(asked: Asked) -> dict[str, Any]:
    return {"error": {"message": f"The model {asked.body.get('model')!r} does not exist", "code": 404}}


FAULTS: dict[str, Fault] = {
    "rate_limited": Fault("429 without Retry-After", _error(429, "too many requests", "rate_limit_exceeded")),
    "rate_limited_wait": Fault("429 with Retry-After", _wait),
    "error_500": Fault("500 with a JSON error", _error(500, "internal error", "server_error")),
    "error_502": Fault("502 with an HTML page, as proxies send it", _text(502, _HTML)),
    "error_503": Fault("503 with an empty body", _text(503, "")),
    "error_529": Fault("529, overloaded", _error(529, "overloaded", "overloaded_error")),
    "reset": Fault("connection reset before any answer", _reset),
    "hang": Fault("accepts the request and never answers", _hang),
    "trickle": Fault("sends a byte a second", _trickle),
    "cut_body": Fault("closes the connection half-way through the body", _cut_body),
    "wrong_content_type": Fault("a good answer that calls itself text/plain", _plain_text, good=True),
    "html_page": Fault("200 with an HTML page", _text(200, _HTML)),
    "error_in_200": Fault(
        "200 with an error inside, as gateways send it",
        _json(lambda _: {"error": {"message": "upstream failed", "code": 502}}),
    ),
    "empty_choices": Fault("a completion without choices", _json(lambda asked: asked.completion(choices=[]))),
    "null_content": Fault("a choice without content", _json(lambda asked: asked.choice("stop"))),
    "refusal": Fault(
        "the refusal field is set", _json(lambda asked: asked.choice("stop", refusal="I cannot help with that."))
    ),
    "content_filter": Fault("the provider's filter stopped it", _json(lambda asked: asked.choice("content_filter"))),
    "cut_off": Fault(
        "finish reason length, half the answer",
        _json(lambda asked: asked.choice("length", content=asked.text[: len(asked.text) // 2])),
    ),
    "not_json": Fault(
        "prose where an object was asked for",
        _json(lambda asked: asked.completion("Well, that depends on how one looks at it.")),
    ),
    "other_shape": Fault(
        "JSON of another shape", _json(lambda asked: asked.completion('{"verdict": "fine", "confidence": 11}'))
    ),
    "two_objects": Fault(
        "a wrong object, then the good one",
        _json(lambda asked: asked.completion(f'{{"draft": true}}\nNo, this one:\n{asked.text}')),
        good=True,
    ),
    "fenced_thoughts": Fault(
        "the good answer after a think block, in a code fence",
        _json(lambda asked: asked.completion(f'<think>{{"level": "x"}}?</think>\n```json\n{asked.text}\n```')),
        good=True,
    ),
    "not_a_number": Fault(
        "NaN and Infinity in the object", _json(lambda asked: asked.completion('{"score": NaN, "other": Infinity}'))
    ),
    "huge": Fault("an answer of 10 MB", _json(lambda asked: asked.completion("x" * _HUGE))),
    "wrong_usage": Fault(
        "the good answer with impossible token counts",
        _json(lambda asked: asked.completion(usage={"prompt_tokens": -3, "completion_tokens": "many"})),
        good=True,
    ),
    "same_id": Fault(
        "the good answer under an id that others have too",
        _json(lambda asked: asked.completion(id="chatcmpl-same")),
        good=True,
    ),
    "bad_key": Fault("401", _error(401, "Incorrect API key provided: sk-abcdefghijklmnop", "invalid_api_key")),
    "no_credit": Fault(
        "429 that means an empty account", _error(429, "You exceeded your current quota", "insufficient_quota")
    ),
    "no_model": Fault("200 with an error inside: no such model", _json(_no_such_model)),
    "wrong_path": Fault("404 for everything", _text(404, "404 page not found", "text/plain")),
    "bad_request": Fault("400 for the request itself", _error(400, "messages: invalid value", "invalid_request")),
}
"""Every fault by its name."""
