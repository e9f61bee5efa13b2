"""Any model's answer becomes a checked value or a typed failure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm import Answered, Capabilities, FormatRefused, Reply, Request, Unusable, ask_json
from safetyqc.llm.objects import NotFound, find_object
from safetyqc.testing import Answer, ScriptedClient

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["level"],
    "properties": {"level": {"enum": ["pass", "fail"]}, "note": {"type": "string"}, "score": {"type": "number"}},
}
REQUEST = Request(model="m", messages=({"role": "user", "content": "judge it"},), schema=SCHEMA, max_tokens=100)


def level(value: dict[str, Any]) -> str:
    if value["level"] not in ("pass", "fail"):
        raise ModelError("off_scale", f"level {value['level']!r}")
    if value.get("note") == "unusable":
        raise ValueError("the note is unusable")
    return str(value["level"])


async def ask(*script: Answer) -> tuple[Answered[str], ScriptedClient]:
    client = ScriptedClient(script)
    return await ask_json(client, REQUEST, level), client


async def fail(*script: Answer) -> tuple[ModelError, ScriptedClient]:
    client = ScriptedClient(script)
    with pytest.raises(ModelError) as caught:
        await ask_json(client, REQUEST, level)
    return caught.value, client


@pytest.mark.parametrize(
    "text",
    [
        '{"level": "fail"}',
        '  {"level": "fail"}\n',
        'Sure!\n```json\n{"level": "fail"}\n```\nAnything else?',
        '<think>maybe {"level": "pass"}</think>{"level": "fail"}',
        'the template ate the opening tag {"level": "pass"} </think> {"level": "fail"}',
        '{"level": "fail"} and once more: {"level": "fail"}',
        '{"level": "fail"} is my answer; {"other": 1} is not',
        "{'level': 'fail',}",
        '{"level": "fail"',
        '{"level": "fail", "note": "it quotes </think> and ```json and {"}',
        '{"level": "fail", "note": "中文 and \\u2019"}',
    ],
)
async def test_the_valid_object_is_found(text: str) -> None:
    answered, client = await ask(text)
    assert answered.value == "fail"
    assert len(client.requests) == len(answered.replies) == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no JSON object"),
        ("that depends", "no JSON object"),
        ('{"score": NaN}', "must contain"),
        ('{"level": "pass", "score": Infinity}', ""),
        ('{"level": "pass", "extra": 1}', "extra"),
        ("[1, 2]", "no JSON object"),
        ('<think>never ends {"level": "pass"}', "no JSON object"),
        ("{" * 5000, ""),
        ('{"level": ' + "[" * 100_000, ""),
        ("x" * 300_000 + '{"level": "pass"}', "300,017 characters"),
    ],
)
def test_what_is_no_object_of_the_schema_is_told(text: str, error: str) -> None:
    found = find_object(text, SCHEMA)
    assert isinstance(found, NotFound)
    assert error in found.error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' {"a": "\\ud83d"}\n', "\ufffd"),
        ('{"a": 123456789012345678901234567890}', None),
        ('{"a": 2, "a": 2}', 2),
        ('{"a": "</think> ```"}', "</think> ```"),
    ],
)
def test_a_text_that_is_an_object_is_read_whole(text: str, value: object) -> None:
    assert find_object(text, {"type": "object"}) == {"a": value}


async def test_a_cut_off_answer_is_asked_again_with_twice_the_room() -> None:
    answered, client = await ask(Reply(text='{"level"', finish_reason="length"), '{"level": "pass"}')
    assert answered.value == "pass"
    assert [r.max_tokens for r in client.requests] == [100, 200]
    assert len(answered.replies) == 2


async def test_a_twice_cut_off_answer_is_truncated_and_not_bad_json() -> None:
    cut = Reply(text='{"level": "pa', finish_reason="length")
    error, client = await fail(cut, cut)
    assert (error.kind, len(client.requests)) == ("truncated", 2)
    assert isinstance(error, Unusable)
    assert error.replies == (cut, cut)


async def test_a_complete_object_in_a_cut_off_answer_does_not_count() -> None:
    cut = Reply(text='{"level": "pass"} but on second th', finish_reason="length")
    assert (await fail(cut, cut))[0].kind == "truncated"


@pytest.mark.parametrize(
    ("bad", "kind", "told"),
    [
        ("hm", "bad_json", "no JSON object"),
        ('{"verdict": 1}', "bad_json", "level"),
        ('{"level": "maybe"}', "off_scale", "level 'maybe'"),
        ('{"level": "pass", "note": "unusable"}', "bad_structure", "the note is unusable"),
        ("I'm sorry, but I can't judge this.", "refused_by_model", "sorry"),
        ("抱歉,我无法评估。", "refused_by_model", "抱歉"),
    ],
)
async def test_an_unusable_answer_is_asked_again_once_with_the_reason(bad: str, kind: str, told: str) -> None:
    answered, client = await ask(bad, '{"level": "pass"}')
    assert answered.value == "pass"
    *_, said, again = client.requests[1].messages
    assert said == {"role": "assistant", "content": bad}
    assert told in again["content"]
    error, client = await fail(bad, bad)
    assert (error.kind, len(client.requests)) == (kind, 2)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(text="", refusal="I cannot"), "refused_by_model"),
        (Reply(text="", finish_reason="content_filter"), "filtered_by_provider"),
    ],
)
async def test_a_refused_or_filtered_answer_is_not_asked_again(reply: Reply, kind: str) -> None:
    error, client = await fail(reply)
    assert (error.kind, len(client.requests)) == (kind, 1)


@pytest.mark.parametrize("error", [ModelError("provider_error", "down"), FatalModelError("wrong key")])
async def test_errors_of_the_client_pass_unchanged(error: ModelError) -> None:
    assert (await fail(error))[0] is error


async def test_the_ladder_descends_to_words_and_the_prompt_then_carries_the_schema() -> None:
    answered, client = await ask(FormatRefused("no"), FormatRefused("no"), '{"level": "pass"}')
    assert answered.value == "pass"
    assert [r.format for r in client.requests] == ["json_schema", "json_object", "text"]
    assert client.requests[0].messages == REQUEST.messages
    system = client.requests[2].messages[0]
    assert system["role"] == "system"
    assert json.loads(system["content"].splitlines()[-1]) == SCHEMA


async def test_the_schema_in_words_keeps_the_order_in_which_a_judge_is_to_think() -> None:
    schema = {"type": "object", "properties": {"reason": {"type": "string"}, "level": {"type": "string"}}}
    client = ScriptedClient([FormatRefused("no"), '{"level": "pass", "reason": "x"}'])
    await ask_json(client, replace(REQUEST, schema=schema), level)
    words = client.requests[1].messages[0]["content"]
    assert words.index("reason") < words.index('"level"')


class KnowingClient(ScriptedClient):
    def __init__(self, script: list[Answer]) -> None:
        super().__init__(script)
        self.capabilities = Capabilities()


async def test_a_refused_format_is_remembered_per_model_and_base() -> None:
    client = KnowingClient([FormatRefused("no"), '{"level": "pass"}', '{"level": "pass"}', '{"level": "pass"}'])
    await ask_json(client, REQUEST, level)
    await ask_json(client, REQUEST, level)
    await ask_json(client, replace(REQUEST, api_base="http://other"), level)
    assert [r.format for r in client.requests] == ["json_schema", "json_object", "json_object", "json_schema"]
    assert client.capabilities.as_dict() == {"m": "json_object"}


async def test_a_refusal_of_the_last_rung_is_raised() -> None:
    error, _ = await fail(FormatRefused("a"), FormatRefused("b"), FormatRefused("c"))
    assert error.reason == "c"


async def test_a_request_without_a_schema_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="schema"):
        await ask_json(ScriptedClient([]), replace(REQUEST, schema=None), level)


@pytest.mark.parametrize(
    "text",
    [
        "Unfortunately, I must decline to evaluate this conversation, as it contains harmful material.",
        "This content violates our usage policies and cannot be processed.",
        "Lo siento, pero no puedo evaluar esta conversación.",
        "申し訳ございませんが、この会話の評価はできません。",
        "Je suis désolé, je ne peux pas évaluer cela.",
        "Es tut mir leid, das kann ich nicht bewerten.",
        "I will have to refuse to rate this.",
    ],
)
async def test_a_refusal_in_other_words_is_a_refusal(text: str) -> None:
    with pytest.raises(Unusable) as caught:
        await ask(text, text)
    assert caught.value.kind == "refused_by_model"


@pytest.mark.parametrize(
    "text", ["Well, that depends.", "The assistant refuses. Verdict: pass", "pass", "It is about policy."]
)
async def test_prose_about_a_refusal_is_none(text: str) -> None:
    with pytest.raises(Unusable) as caught:
        await ask(text, text)
    assert caught.value.kind == "bad_json"


async def test_thinking_that_ate_the_room_gets_more_of_it_once_for_all() -> None:
    client = ScriptedClient([Reply("", "length"), Reply('{"level": "pass"}'), Reply('{"level": "pass"}')])
    client.capabilities = Capabilities()  # type: ignore[attr-defined]
    request = Request("m", ({"role": "user", "content": "q"},), max_tokens=800, schema=SCHEMA)
    for _ in range(2):
        assert (await ask_json(client, request, lambda value: value)).value == {"level": "pass"}
    assert [asked.max_tokens for asked in client.requests] == [800, 8_000, 8_000]


async def test_thinking_without_end_names_the_setting() -> None:
    client = ScriptedClient([Reply("<think>so", "length"), Reply("<think>so", "length")])
    request = Request("m", ({"role": "user", "content": "q"},), max_tokens=800, schema=SCHEMA, stage="judge")
    with pytest.raises(Unusable, match=r"judge: \{max_tokens: 32000\}"):
        await ask_json(client, request, lambda value: value)
