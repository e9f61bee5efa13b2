"""Completions, moderations and log-probabilities, over real HTTP and both lanes; plain chats keep their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic_core import to_json

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.batch.wire import Lines, write_lines
from safetyqc.llm.client import Request
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.llama import LocalClient
from safetyqc.llm.wire import read_reply
from safetyqc.store import Store

TEXT = ({"role": "user", "content": "was it harmful?"},)
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
TOKEN = {"token": "un", "logprob": -0.1, "bytes": [1]}
ANSWERS: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "unsafe"},
                "finish_reason": "stop",
                "logprobs": {"content": [{**TOKEN, "top_logprobs": [TOKEN, {**TOKEN, "token": "safe"}]}]},
            }
        ],
        "usage": USAGE,
    },
    "completions": {
        "object": "text_completion",
        "choices": [
            {
                "index": 0,
                "text": "unsafe",
                "finish_reason": "stop",
                "logprobs": {
                    "tokens": ["un"],
                    "token_logprobs": [-0.1],
                    "text_offset": [0],
                    "top_logprobs": [{"un": -0.1, "safe": -0.1}],
                },
            }
        ],
        "usage": USAGE,
    },
    "moderations": {
        "results": [
            {
                "flagged": True,
                "categories": {"violence": True, "hate": False},
                "category_scores": {"violence": 0.9, "hate": 0.1},
                "category_applied_input_types": {"violence": ["text"]},
            }
        ]
    },
}


@asynccontextmanager
async def serving(seen: list[tuple[str, dict[str, Any]]]) -> AsyncIterator[str]:
    async def answer(http: web.Request) -> web.Response:
        body = await http.json()
        name = http.path.removeprefix("/v1/")
        seen.append((name, body))
        return web.json_response({"id": "x", "created": 1, "model": body["model"], **ANSWERS[name]})

    app = web.Application()
    app.router.add_post("/v1/{name:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize(
    ("request_", "path", "sent"),
    [
        (
            Request("vllm/g", TEXT, top_logprobs=5, extra={"chat_template_kwargs": {"think": False}}),
            "chat/completions",
            {"logprobs": True, "top_logprobs": 5, "chat_template_kwargs": {"think": False}, "messages": list(TEXT)},
        ),
        (
            Request("vllm/g", TEXT, endpoint="completions", top_logprobs=5, extra={"stop": ["\n"]}),
            "completions",
            {"prompt": "was it harmful?", "logprobs": 5, "stop": ["\n"]},
        ),
        (Request("vllm/g", TEXT, endpoint="moderations"), "moderations", {"input": "was it harmful?", "model": "g"}),
    ],
    ids=["chat", "completions", "moderations"],
)
async def test_every_endpoint_is_asked_and_read_the_same_in_both_lanes(
    lane: Any, request_: Request, path: str, sent: dict[str, Any]
) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    async with serving(seen) as base:
        door = open_door(None, settings=DoorSettings(api_base=base, lane=lane, max_attempts=1))
        reply = await door.complete(request_)
        await door.close()
    assert seen[0][0] == path
    assert sent.items() <= seen[0][1].items()
    if path == "moderations":
        assert reply.text == '{"flagged":true,"categories":["violence"]}'
        assert reply.usage.prompt_tokens == 0
    else:
        assert reply.text == "unsafe"
        assert reply.logprobs == (("un", {"un": -0.1, "safe": -0.1}),)


def test_a_plain_chat_has_the_key_that_it_always_had() -> None:
    plain = Request("openai/x", TEXT)
    assert plain.key == "ad5f1db60825cc311b3ebb1aba2b6d1288bd2fd7cc2c46a3920d1a7117c1c815"


@pytest.mark.parametrize(
    "other",
    [
        Request("openai/x", TEXT, endpoint="completions"),
        Request("openai/x", TEXT, endpoint="moderations"),
        Request("openai/x", TEXT, top_logprobs=5),
        Request("openai/x", TEXT, extra={"chat_template_kwargs": {"think": True}}),
    ],
)
def test_what_changes_the_answer_changes_the_key(other: Request) -> None:
    assert other.key != Request("openai/x", TEXT).key


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        ({"results": []}, "moderations"),
        ({"results": [{"nothing": "known"}]}, "moderations"),
        ({"choices": [{"text": ""}]}, "completions"),
        ({"choices": "none"}, "completions"),
        ([], "moderations"),
        ({"error": {"message": "no such thing", "code": 500}}, "moderations"),
    ],
)
def test_an_odd_body_is_an_error_and_never_an_answer(body: Any, endpoint: Any) -> None:
    with pytest.raises(ModelError):
        read_reply(body, model="m", latency_s=0.0, endpoint=endpoint)


@pytest.mark.parametrize("told", ["yes", {"content": [{"token": None, "top_logprobs": 3}]}, {"tokens": 1}, None])
def test_odd_log_probabilities_do_not_spoil_an_answer(told: Any) -> None:
    body = {"choices": [{"message": {"content": "safe"}, "finish_reason": "stop", "logprobs": told}]}
    assert read_reply(body, model="m", latency_s=0.0).text == "safe"


async def test_the_ledger_gives_log_probabilities_again(tmp_path: Path) -> None:
    request = Request("vllm/g", TEXT, endpoint="completions", top_logprobs=2)
    with Store.create(tmp_path / "run") as store:
        reply = read_reply(ANSWERS["completions"], model="vllm/g", latency_s=0.1, endpoint="completions")
        await store.record_call(request, reply, good=True)
        known = store.find_reply(request.key)
    assert known is not None
    assert [[token, dict(choices)] for token, choices in known.logprobs or ()] == [["un", {"un": -0.1, "safe": -0.1}]]


def test_a_batch_names_the_endpoint_and_reads_its_answers() -> None:
    request = Request("vllm/g", TEXT, endpoint="completions")
    assert b'"url":"/v1/completions"' in write_lines([request])
    lines = Lines()
    line = {"custom_id": request.key, "response": {"status_code": 200, "body": ANSWERS["completions"]}}
    lines.read([to_json(line)], {request.key: ("vllm/g", "completions")})
    assert getattr(lines.outcomes[request.key], "text", None) == "unsafe"


async def test_a_model_in_this_process_says_that_it_only_chats(tmp_path: Path) -> None:
    with pytest.raises(FatalModelError, match="answers chats alone"):
        await LocalClient(tmp_path / "x.gguf").complete(Request("local", TEXT, endpoint="completions"))
