"""How a server wants a request worded is learnt from its refusals, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.llm import Reply, Request
from safetyqc.llm.dialect import Dialect
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.wire import body_of
from safetyqc.records import Usage
from safetyqc.testing import ScriptedClient

MESSAGES = ({"role": "system", "content": "rules"}, {"role": "user", "content": "hi"})
REQUEST = Request("m", MESSAGES, temperature=0.0, max_tokens=800, seed=3)


@pytest.mark.parametrize(
    ("complaint", "learnt"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            Dialect("max_completion_tokens"),
        ),
        (
            "'temperature' does not support 0 with this model. Only the default (1) value is supported.",
            Dialect(without=frozenset({"temperature"})),
        ),
        ("`temperature` must be strictly positive", Dialect(without=frozenset({"temperature"}))),
        ("gpt-5 models don't support temperature=0.0. Only temperature=1", Dialect(without=frozenset({"temperature"}))),
        ("Unrecognized request argument supplied: seed", Dialect(without=frozenset({"seed"}))),
        ("System role not supported", Dialect(system=False)),
        ("Conversation roles must alternate user/assistant/user/assistant/...", Dialect(system=False)),
        ("Only user and assistant roles are supported!", Dialect(system=False)),
        ("Developer instruction is not enabled for models/gemma-3-27b-it", Dialect(system=False)),
        ("'messages[0].role' does not support 'system' with this model.", Dialect(system=False)),
        (
            "max_tokens is too large: 8000. This model supports at most 4096 completion tokens",
            Dialect(most_tokens=4096),
        ),
    ],
)
def test_a_refusal_teaches_one_thing(complaint: str, learnt: Dialect) -> None:
    assert Dialect().learn(f"m: 400 {complaint}") == learnt
    assert Dialect.of(learnt.as_dict()) == learnt


@pytest.mark.parametrize(
    "complaint",
    [
        "internal error",
        "messages: invalid value",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "the user talks of the temperature outside",
        "the operating system of this node is out of memory",
    ],
)
def test_other_complaints_teach_nothing(complaint: str) -> None:
    assert Dialect().learn(f"m: 400 {complaint}") == Dialect()


def test_a_dialect_words_the_body_and_leaves_the_key() -> None:
    dialect = Dialect("max_completion_tokens", frozenset({"temperature", "seed"}), system=False, most_tokens=500)
    spoken = Request("m", MESSAGES, temperature=0.0, max_tokens=800, seed=3, dialect=dialect)
    assert body_of(spoken) == {
        "model": "m",
        "messages": [{"role": "user", "content": "rules\n\nhi"}],
        "max_completion_tokens": 500,
    }
    assert spoken.key == REQUEST.key


def server(request: Request) -> Reply | ModelError:
    """Like an o-model behind a template without a system role."""
    body = body_of(request)
    for refused, complaint in (
        ("max_tokens" in body, "'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        (body.get("temperature", 1) != 1, "'temperature' does not support 0: only the default is supported"),
        (body["messages"][0]["role"] == "system", "System role not supported"),
    ):
        if refused:
            return ModelError("provider_error", f"m: 400 {complaint}", status=400)
    return Reply("yes", usage=Usage(prompt_tokens=1, completion_tokens=1))


async def test_the_door_learns_a_dialect_once_and_asks_no_more_than_it_must() -> None:
    door, lane = open_door(None, settings=DoorSettings(max_attempts=1)), ScriptedClient(server)
    door._lanes["litellm"] = lane
    for content in "ab":
        messages: Any = (*MESSAGES[:1], {"role": "user", "content": content})
        assert (await door.complete(Request("m", messages))).text == "yes"
    assert len(lane.requests) == 5
    assert not door.limits(REQUEST).fatal
    assert door.counters.calls + door.counters.faults.total() == 5
