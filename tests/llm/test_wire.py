"""What servers say is read without trusting it."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.llm import Request
from safetyqc.llm.client import Allowance, Format, Schema, fast_json
from safetyqc.llm.wire import body_of, encode_body, read_allowance, read_reply, read_usage
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


OBJECT = '{"a": 1}'


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "", "reasoning_content": OBJECT}, "stop", OBJECT),
        ({"content": None, "reasoning": f"so: {OBJECT}"}, "stop", f"so: {OBJECT}"),
        ({"content": "", "reasoning_content": "let me think"}, "stop", ""),
        ({"content": "", "reasoning_content": OBJECT}, "length", ""),
        ({"content": None, "tool_calls": [{"function": {"arguments": OBJECT}}]}, "tool_calls", OBJECT),
        ({"content": None, "tool_calls": [{"function": {"arguments": {"a": 1}}}]}, "tool_calls", OBJECT),
        ({"content": None, "function_call": {"arguments": OBJECT}}, "function_call", OBJECT),
        ({"content": {"a": 1}}, "stop", OBJECT),
        ({"content": "said", "reasoning_content": OBJECT}, "stop", "said"),
        ({"content": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "said"}]}, "stop", "said"),
        ({"content": 7, "tool_calls": "x", "function_call": 3}, "stop", ""),
    ],
)
def test_an_object_beside_an_empty_text_is_the_answer(message: Any, finish: str, text: str) -> None:
    body = {"choices": [{"finish_reason": finish, "message": message}]}
    assert read_reply(body, model="m", latency_s=0.0, wants_object=True).text == text


def test_for_prose_only_the_text_counts() -> None:
    body = completion(content=None, tool_calls=[{"function": {"arguments": OBJECT}}], reasoning_content=OBJECT)
    assert read_reply(body, model="m", latency_s=0.0).is_empty


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "upstream failed"}, "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        {"choices": [{"error": {"code": 502}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ],
)
def test_an_error_that_was_counted_says_what_it_cost(body: Any) -> None:
    with pytest.raises(ModelError) as caught:
        read_reply(body, model="m", latency_s=0.0)
    assert caught.value.usage == Usage(prompt_tokens=3, completion_tokens=4)


def test_what_no_file_could_hold_is_mended_where_it_comes_in() -> None:
    reply = read_reply(
        completion(content="half \ud83d whole \ud83d\ude00 \0", refusal="\udc00"), model="m", latency_s=0.0
    )
    assert (reply.text, reply.refusal) == ("half \ufffd whole \U0001f600 \ufffd", "\ufffd")


def test_a_body_that_is_nested_without_end_is_a_typed_failure() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ModelError, match="nested too deeply"):
        read_reply({"choices": [{"message": deep}]}, model="m", latency_s=0.0)
    assert read_reply(completion(content="hi") | {"unread": deep}, model="m", latency_s=0.0).text == "hi"


def test_an_answer_that_repeats_a_key_is_kept_without_it() -> None:
    from safetyqc.llm.secrets import Secrets

    reply = read_reply(
        completion(content="it is k3y-0123456789"), model="m", latency_s=0.0, secrets=Secrets(["k3y-0123456789"])
    )
    assert reply.text == "it is [key]"
