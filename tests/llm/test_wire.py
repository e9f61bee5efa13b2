"""What servers say is read without trusting it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm import FormatRefused, Request
from safetyqc.llm.client import Allowance, Format, Schema, fast_json
from safetyqc.llm.wire import (
    body_of,
    encode_body,
    explain_error,
    read_allowance,
    read_duration,
    read_reply,
    read_retry_after,
    read_usage,
    redact,
)
from safetyqc.records import Usage


def completion(finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": finish, "message": message}]}


@pytest.mark.parametrize(
    ("body", "text", "finish", "refusal"),
    [
        (completion(content="hi"), "hi", "stop", None),
        (completion(content="hi", finish="max_tokens"), "hi", "length", None),
        (completion(content=None, finish="length"), "", "length", None),
        (completion(content=None, finish="SAFETY"), "", "content_filter", None),
        (completion(content=None, refusal="no"), "", "stop", "no"),
        (completion(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "stop", None),
        (completion(content="hi", finish=None), "hi", "", None),
    ],
)
def test_a_completion_is_read(body: dict[str, Any], text: str, finish: str, refusal: str | None) -> None:
    reply = read_reply(body, model="m", latency_s=1.0)
    assert (reply.text, reply.finish_reason, reply.refusal) == (text, finish, refusal)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"choices": []},
        {"choices": "none"},
        {"choices": [None]},
        {"choices": [{}]},
        completion(content=None),
        completion(content=" \n"),
        {"error": {"message": "upstream failed", "code": 502}},
        {"error": "overloaded"},
    ],
)
def test_what_holds_no_answer_may_be_tried_again(body: Any) -> None:
    with pytest.raises(ModelError) as caught:
        read_reply(body, model="m", latency_s=1.0)
    assert caught.value.kind == "provider_error"
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"prompt_tokens": -3, "completion_tokens": "many"}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": 10**12}, (None, None)),
        (None, (None, None)),
        ("12", (None, None)),
    ],
)
def test_impossible_token_counts_are_unknown(usage: Any, expected: tuple[int | None, int | None]) -> None:
    assert read_usage(usage) == Usage(prompt_tokens=expected[0], completion_tokens=expected[1])


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "bad key"}}, "fatal"),
        (403, {"error": {"message": "not allowed in your country"}}, "fatal"),
        (402, {"error": {"message": "pay"}}, "fatal"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "fatal"),
        (404, "404 page not found", "fatal"),
        (400, {"error": {"message": "The model `x` does not exist"}}, "fatal"),
        (403, {"error": {"message": "input was flagged by moderation"}}, "filtered_by_provider"),
        (400, {"error": {"message": "blocked", "code": "content_filter"}}, "filtered_by_provider"),
        (400, {"error": {"message": "response_format is not supported"}}, "format"),
        (422, {"detail": "json_schema: extra field"}, "format"),
        (400, {"error": {"message": "context length exceeded"}}, "provider_error"),
        (429, {"error": {"message": "slow down"}}, "overload"),
        (529, {"error": {"message": "overloaded"}}, "overload"),
        (503, "", "retry"),
        (503, {"error": {"message": "model is overloaded"}}, "overload"),
        (500, {"error": {"message": "oops"}}, "retry"),
        (502, "<html><h1>Bad gateway</h1></html>", "retry"),
        (408, "", "retry"),
    ],
)
def test_every_status_has_an_outcome(status: int, body: Any, kind: str) -> None:
    error = explain_error(status, body, model="m", base="http://h/v1")
    seen = (
        "fatal"
        if isinstance(error, FatalModelError)
        else "format"
        if isinstance(error, FormatRefused)
        else "overload"
        if error.overload
        else "retry"
        if error.retryable
        else error.kind
    )
    assert seen == kind
    assert str(status) in error.reason
    assert "<h1>" not in error.reason
    if isinstance(error, FatalModelError):
        assert error.fix


def test_a_missing_v1_is_named() -> None:
    error = explain_error(404, "not found", model="m", base="http://h/api")
    assert isinstance(error, FatalModelError)
    assert "/v1" in (error.fix or "")


@pytest.mark.parametrize(
    "text", ["key sk-abcdefghijklmnopqrst is wrong", "Authorization: Bearer abc.def", "the key tr0ub4dor is wrong"]
)
def test_keys_never_reach_a_message(text: str) -> None:
    shown = redact(text, "tr0ub4dor")
    assert "[key]" in shown
    assert not any(secret in shown for secret in ("sk-abc", "abc.def", "tr0ub4dor"))


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_and_bounded(headers: dict[str, str], wait_s: float | None) -> None:
    assert read_retry_after(headers) == wait_s


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (read_retry_after({"retry-after": date}) or 0) <= 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("6m0s", 360), ("120ms", 0.12), ("17", 17), ("1h2m3s", 3723), ("", None), ("never", None)]
)
def test_durations_of_rate_headers(text: str, seconds: float | None) -> None:
    assert read_duration(text) == seconds


def test_allowance_in_openai_and_anthropic_spelling() -> None:
    openai = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
    }
    assert read_allowance(openai) == Allowance(limit_requests=500, remaining_requests=499, reset_requests_s=0.12)
    anthropic = {"anthropic-ratelimit-tokens-limit": "1000", "anthropic-ratelimit-tokens-remaining": "0"}
    assert read_allowance(anthropic) == Allowance(limit_tokens=1000, remaining_tokens=0)
    assert read_allowance({"content-type": "text/html"}) is None


def test_a_body_says_what_the_request_asks() -> None:
    request = Request(
        model="hosted_vllm/org/name",
        messages=({"role": "user", "content": "hi"},),
        temperature=0.5,
        max_tokens=7,
        seed=3,
        schema={"type": "object"},
        format="json_schema",
    )
    body = body_of(request)
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("org/name", 0.5, 7, 3)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "response_format" not in body_of(Request(model="m", messages=()))


@pytest.mark.parametrize("schema", [None, {"b": ["ü"], "a": 1.5}, Schema({"type": "object"})])
@pytest.mark.parametrize("form", ["text", "json_object", "json_schema"])
@pytest.mark.parametrize("model", ["openai/m", 'a "messages":[] b'])
def test_an_encoded_body_is_the_body_byte_for_byte(schema: Any, form: Format, model: str) -> None:
    for content in ("plain", 'quote " \\ \n \x01 你好 “messages”:[]', "half \ud83d"):
        messages = ({"role": "system", "content": content}, {"role": "user", "content": content[::-1]})
        for seed in (None, 3):
            request = Request(model, messages, 0.7, 100, seed, schema, form, "http://x/v1")
            assert encode_body(request) == fast_json(body_of(request))
    assert encode_body(Request(model, ())) == fast_json(body_of(Request(model, ())))
