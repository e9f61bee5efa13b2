"""Speaks with OpenAI-compatible servers: a Request becomes a body, a body a Reply, an error a ModelError with a fix.

Both lanes use it, so the same fault has the same outcome whichever way a request went. It sends nothing. The one
surprising thing: statuses are not trusted alone, because gateways answer 200 with an error inside, 429 for an empty
account and 403 for a moderated text.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Allowance, Endpoint, Format, FormatRefused, Reply, Request, Schema, fast_json
from safetyqc.llm.endpoints import added_fields, as_chat, other_body, read_logprobs
from safetyqc.llm.hosts import key_variable, wire_name
from safetyqc.records import Usage
from safetyqc.text import shorten

_LONGEST_WAIT_S = 3600.0
_NO_MESSAGES = b'"messages":[]'
_MOST_TOKENS = 100_000_000
_SECRET = re.compile(r"(?i)\b(?:sk|pk|rk|key|gsk|xai|hf|AIza)[-_]?[A-Za-z0-9_*.-]{12,}|(?<=bearer )\S+")
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
_NO_CREDIT = re.compile(
    r"(?i)insufficient[_ ](?:quota|credit|balance|funds)|exceeded your current quota|billing|credits?\b"
)
_MODERATED = re.compile(r"(?i)content[_ ](?:policy|filter|management)|moderation|flagged|responsible.?ai|safety system")
_NO_FORMAT = re.compile(
    r"(?i)response_format|json_schema|json_object|json mode|structured output|guided|grammar|\bschema\b"
)
_BUSY = re.compile(r"(?i)overload|capacity|busy|too many|queue|throttl")
_NO_MODEL = re.compile(
    r"(?i)model.{0,80}(?:not found|not exist|unknown|no such|not a valid|decommissioned)|model_not_found"
)


def redact(text: str, key: str | None = None) -> str:
    """Remove whatever looks like a key, and the key itself, from a text that people will see."""
    if key:
        text = text.replace(key, "[key]")
    return _SECRET.sub("[key]", text)


def body_of(request: Request) -> dict[str, Any]:
    """The JSON body of a request."""
    if request.endpoint != "chat":
        return other_body(request, wire_name(request.model))
    body: dict[str, Any] = {
        "model": wire_name(request.model),
        "messages": list(request.messages),
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if (form := response_format(request)) is not None:
        body["response_format"] = form
    return body | added_fields(request)


def encode_body(request: Request) -> bytes:
    """`body_of` as JSON, byte for byte; what a judge's requests share, nine tenths of it, is written once."""
    if not request.is_plain_chat:
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
    body: Any, *, model: str, latency_s: float, allowance: Allowance | None = None, endpoint: Endpoint = "chat"
) -> Reply:
    """Read an answer.

    Raises:
        ModelError: retryable, when the body is no completion or holds neither text nor a reason for its absence.
    """
    body = as_chat(body, endpoint)
    if not isinstance(body, dict):
        raise ModelError("provider_error", f"the server answered {shorten(repr(body), 80)}", retryable=True)
    if error := body.get("error"):
        raise explain_error(_status_of(error), error, model=model)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ModelError("provider_error", "the server answered without choices", retryable=True)
    message = choices[0].get("message")
    message = message if isinstance(message, dict) else {}
    text = _text(message.get("content"))
    refusal = message.get("refusal")
    finish = str(choices[0].get("finish_reason") or "").lower()
    finish = _FINISH.get(finish, finish)
    if not text.strip() and not refusal and finish not in ("length", "content_filter"):
        raise ModelError("provider_error", f"the server answered no text (finish reason {finish!r})", retryable=True)
    return Reply(
        text=text,
        finish_reason=finish,
        refusal=shorten(str(refusal), 500) if refusal else None,
        usage=read_usage(body.get("usage")),
        latency_s=latency_s,
        model=model,
        allowance=allowance,
        logprobs=read_logprobs(choices[0]),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


def read_usage(usage: Any) -> Usage:
    """Token counts as far as they are credible: whole, not negative, not absurd."""
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")), completion_tokens=_count(usage.get("completion_tokens"))
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else None


def _status_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, Mapping) else None
    return int(str(code)) if str(code).isdigit() else 500


def explain_error(
    status: int,
    body: Any,
    *,
    model: str,
    base: str = "",
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
) -> ModelError:
    """Turn a status and an error body (an object or text) into the ModelError that says what to do."""
    message = redact(_message(body), key)
    said = f"{model}: {status} {message}".rstrip()
    if fatal := _fatal(status, said, message, model, base):
        return fatal
    if status in (400, 403, 422, 451) and _MODERATED.search(message):
        return ModelError("filtered_by_provider", said)
    if status in (400, 415, 422, 501) and _NO_FORMAT.search(message):
        return FormatRefused(said)
    if status in (408, 409, 425, 429) or status >= 500:
        wait_s = read_retry_after(headers or {})
        # A bare 503 may be a server that is gone, and must be able to break the circuit
        busy = status == 503 and (wait_s is not None or _BUSY.search(message) is not None)
        overload = status in (429, 529) or busy
        return ModelError("provider_error", said, retryable=True, retry_after_s=wait_s, overload=overload)
    return ModelError("provider_error", said)


def _fatal(status: int, said: str, message: str, model: str, base: str) -> FatalModelError | None:
    at = f" at {base}" if base else ""
    if status == 401 or (status == 403 and not _MODERATED.search(message)):
        return FatalModelError(said, fix=f"check the API key for {model}{at}: {key_hint(model, base)}")
    if status == 402 or (status == 429 and _NO_CREDIT.search(message)):
        return FatalModelError(said, fix="the account has no credit: add some, or use another model with -m")
    if status == 404 or (status == 400 and _NO_MODEL.search(message)):
        fix = f"check the model's name{at}"
        if base and not base.rstrip("/").endswith("/v1"):
            fix += ", and the base URL: most servers want it to end with /v1"
        return FatalModelError(said, fix=fix)
    return None


def key_hint(model: str, base: str = "") -> str:
    """Say where the key of a model is looked for; `base` is the URL of a server of the user's own."""
    there = f" --api-base {shlex.quote(base)}" if base else ""
    return f"set {key_variable(model)} (`safetyqc models check -m {shlex.quote(model)}{there}` tells more)"


def _message(body: Any) -> str:
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            code = inner.get("code") or inner.get("type") or ""
            text = inner.get("message") or inner.get("detail") or inner
            return shorten(f"{text} ({code})" if code and str(code) not in str(text) else str(text), 300)
        return shorten(str(inner), 300)
    text = (
        re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", str(body)[:5000]) if "<" in str(body)[:200] else str(body)
    )
    return shorten(text, 200)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return min(ms / 1000, _LONGEST_WAIT_S)
    value = headers.get("retry-after") or headers.get("Retry-After")
    if not value:
        return None
    if (seconds := _number(value)) is not None:
        return min(seconds, _LONGEST_WAIT_S)
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_duration(value: str | None) -> float | None:
    """Seconds of `6m0s`, `120ms`, `17` or an ISO date, as rate-limit headers write them."""
    if not value:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    if parts := _DURATION.findall(value):
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return max((datetime.fromisoformat(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


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
    number = _number(value)
    return None if number is None else int(number)
