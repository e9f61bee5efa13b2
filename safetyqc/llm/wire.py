"""Speaks with OpenAI-compatible servers: a Request becomes a body, and a body a Reply.

Both lanes use it. It sends nothing; what an error means is `complaints`' business. Whatever a server counts is read
before anything else: an answer that cannot be used was paid for all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from safetyqc.errors import ModelError
from safetyqc.llm.client import Allowance, Endpoint, Format, Reply, Request, Schema, fast_json
from safetyqc.llm.complaints import explain_error, read_duration, read_number, status_of
from safetyqc.llm.dialect import Dialect
from safetyqc.llm.endpoints import added_fields, as_chat, other_body, read_logprobs
from safetyqc.llm.hosts import wire_name
from safetyqc.llm.secrets import Secrets, remember
from safetyqc.records import Usage
from safetyqc.text import mend_json, shorten

_SECRET_HEADER = re.compile(r"(?i)auth|key|token|secret|cookie|session|password")
_NO_MESSAGES = b'"messages":[]'
_MOST_TOKENS = 100_000_000
_PLAIN = Dialect()
_TEXT_PARTS = frozenset({"text", "output_text", None})
_NO_SECRETS = Secrets(())
_NOT_COUNTED = Usage()
_FINISH = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
}


def headers_with(own: Mapping[str, str] | None, key: str | None) -> dict[str, str]:
    """A model's own headers, known as secrets from now on, and its key where none of them gives one."""
    for name, value in (own or {}).items():
        if _SECRET_HEADER.search(name):
            remember(value)
            remember(value.rpartition(" ")[2])
    names = {name.lower() for name in own or {}}
    return ({"Authorization": f"Bearer {key}"} if key and "authorization" not in names else {}) | dict(own or {})


def body_of(request: Request) -> dict[str, Any]:
    """The JSON body of a request, in the server's own dialect."""
    dialect = request.dialect
    if request.endpoint != "chat":
        return dialect.parameters(other_body(request, wire_name(request.model)))
    body: dict[str, Any] = {
        "model": wire_name(request.model),
        "messages": dialect.messages(request.messages),
        **dialect.parameters({"temperature": request.temperature}),
        dialect.tokens: dialect.room(request.max_tokens),
    }
    if request.seed is not None:
        body |= dialect.parameters({"seed": request.seed})
    if (form := response_format(request)) is not None:
        body["response_format"] = form
    return body | dialect.parameters(added_fields(request))


def encode_body(request: Request) -> bytes:
    """`body_of` as JSON, byte for byte; what a judge's requests share, nine tenths of it, is written once."""
    if request.dialect != _PLAIN or not request.is_plain_chat:
        return fast_json(body_of(request))
    schema = Schema.of(request.schema).as_json if request.schema is not None else None
    before, after = _around_messages(
        request.model, request.temperature, request.max_tokens, request.seed, request.format, schema
    )
    messages = [
        _system_message(m["content"]) if m["role"] == "system" else fast_json(dict(m)) for m in request.messages
    ]
    return b"".join((before, b",".join(messages), after))


@lru_cache(maxsize=256)
def _around_messages(
    model: str, temperature: float, max_tokens: int, seed: int | None, form: Format, schema: bytes | None
) -> tuple[bytes, bytes]:
    given = json.loads(schema) if schema is not None else None
    body = fast_json(body_of(Request(model, (), temperature, max_tokens, seed, given, form)))
    before, _, after = body.partition(_NO_MESSAGES)
    return before + _NO_MESSAGES[:-1], b"]" + after


@lru_cache(maxsize=256)
def _system_message(content: str) -> bytes:
    return fast_json({"role": "system", "content": content})


def response_format(request: Request) -> dict[str, Any] | None:
    """How the wanted format is asked for on the wire."""
    if request.format == "json_schema" and request.schema is not None:
        return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": request.schema}}
    return {"type": "json_object"} if request.format == "json_object" else None


def read_reply(
    body: Any,
    *,
    model: str,
    latency_s: float,
    allowance: Allowance | None = None,
    endpoint: Endpoint = "chat",
    wants_object: bool = False,
    secrets: Secrets = _NO_SECRETS,
) -> Reply:
    """Read an answer.

    Args:
        wants_object: an object was asked for, which some servers put beside the text: into the arguments of a tool
            call, or where a model thinks. For prose those places hold nothing that was meant to be read.
        secrets: taken out of whatever is read.

    Raises:
        ModelError: the body is no completion; with `usage` where it was counted nevertheless.
    """
    try:
        body = body if endpoint == "chat" else as_chat(mend_json(body), endpoint)
        if not isinstance(body, dict):
            raise ModelError("provider_error", f"the server answered {shorten(repr(body), 80)}", retryable=True)
        choice, complaint = mend_json(_first_choice(body)), mend_json(body.get("error"))
    except ValueError as error:
        raise ModelError("bad_json", f"the answer cannot be read: {error}", usage=_NOT_COUNTED) from error
    usage = read_usage(body.get("usage"))
    counted = None if usage.prompt_tokens is None and usage.completion_tokens is None else usage
    if said := complaint or choice.get("error"):
        explained = explain_error(status_of(said), said, model=model)
        explained.usage = counted
        raise explained
    if not choice and counted is None:
        raise ModelError("provider_error", "the server answered without choices", retryable=True)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    finish = str(choice.get("finish_reason") or "").lower()[:40]
    text = _text(message.get("content"))
    if wants_object and not text.strip():
        text = _beside(message, finish)
    if endpoint != "chat" and not text.strip():
        raise ModelError("provider_error", "the server answered without a verdict", retryable=True, usage=counted)
    refusal = message.get("refusal")
    return Reply(
        text=secrets.hide(text),
        finish_reason=_FINISH.get(finish, finish),
        refusal=secrets.hide(shorten(str(refusal), 500)) if refusal else None,
        usage=usage,
        latency_s=latency_s,
        model=model,
        allowance=allowance,
        logprobs=read_logprobs(choice),
    )


def _first_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    """The choice that is read; of all others nothing is kept."""
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _text(content: Any) -> str:
    """The text of a message; parts that a model thinks in are none."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS]
        return "".join(str(part.get("text") or "") for part in parts)
    return json.dumps(content, ensure_ascii=False) if isinstance(content, dict) and content else ""


def _beside(message: Mapping[str, Any], finish: str) -> str:
    """The object that was put beside an empty text: the arguments of a tool call, or what a model thought aloud."""
    calls = message.get("tool_calls")
    calls = [call.get("function") for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    for call in (*calls, message.get("function_call")):
        arguments = call.get("arguments") if isinstance(call, Mapping) else None
        if isinstance(arguments, dict) and arguments:
            return json.dumps(arguments, ensure_ascii=False)
        if isinstance(arguments, str) and arguments.strip():
            return arguments
    thoughts = (message.get(name) for name in ("reasoning_content", "reasoning"))
    said = next((thought for thought in thoughts if isinstance(thought, str) and "{" in thought), "")
    return said if finish in ("stop", "end_turn", "eos", "") else ""


def read_usage(usage: Any) -> Usage:
    """Token counts as far as they are credible: whole, not negative, not absurd."""
    if not isinstance(usage, dict):
        return _NOT_COUNTED
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")), completion_tokens=_count(usage.get("completion_tokens"))
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else None


_RATE_HEADERS = [
    (tuple(template.format(what="limit", unit=unit) for unit in ("requests", "tokens")), template)
    for template in ("x-ratelimit-{what}-{unit}", "anthropic-ratelimit-{unit}-{what}")
]


def read_allowance(headers: Mapping[str, str]) -> Allowance | None:
    """Read rate-limit headers in OpenAI's or Anthropic's spelling; None when there are none."""
    for marks, template in _RATE_HEADERS:
        if any(mark in headers for mark in marks):
            get = _getter(headers, template)
            return Allowance(
                limit_requests=_whole(get("limit", "requests")),
                limit_tokens=_whole(get("limit", "tokens")),
                remaining_requests=_whole(get("remaining", "requests")),
                remaining_tokens=_whole(get("remaining", "tokens")),
                reset_requests_s=read_duration(get("reset", "requests")),
                reset_tokens_s=read_duration(get("reset", "tokens")),
            )
    return None


def _getter(headers: Mapping[str, str], template: str) -> Any:
    return lambda what, unit: headers.get(template.format(what=what, unit=unit))


def _whole(value: str | None) -> int | None:
    number = read_number(value)
    return None if number is None else int(number)
