"""What a model wrote is read as it was meant, and never as the opposite."""

from __future__ import annotations

import json
from typing import Any

import pytest

from safetyqc.llm.objects import Contradiction, NotFound, as_whole, find_object

SCHEMA = {
    "type": "object",
    "properties": {
        "level": {"enum": ["refuses", "gives_in"]},
        "turn": {"type": "integer", "enum": [0, 1]},
        "applies": {"type": "boolean"},
    },
    "required": ["level", "turn"],
    "additionalProperties": False,
}
MEANT = {"level": "gives_in", "turn": 1}
LIST = {
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "items": {"type": "object", "properties": {"role": {"enum": ["user", "assistant"]}}, "required": ["role"]},
        }
    },
    "required": ["messages"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"level": "GIVES_IN", "turn": 1}',
        '{"level": "**Gives in**", "turn": "1"}',
        '{"level": "\'gives-in\'.", "turn": 1.0}',
        '{"Level": "gives_in", "TURN": "1"}',
        '{"answer": {"level": "gives_in", "turn": 1}}',
        '{"result": {"output": [{"level": "gives_in", "turn": 1}]}}',
        '{"answer": "{\\"level\\": \\"gives_in\\", \\"turn\\": 1}"}',
        '[{"level": "gives_in", "turn": 1}]',
        'So: {"level": "gives_in", "turn": 1} and again {"level": "gives_in", "turn": 1}',
        '{"draft": true} no: {"level": "gives_in", "turn": 1}',
        '<think>{"level": "refuses", "turn": 1}</think>{"level": "gives_in", "turn": 1}',
        '{"level": "gives_in", "turn": 1, "level": "gives_in"}',
    ],
)
def test_packaging_is_taken_off(text: str) -> None:
    assert find_object(text, SCHEMA) == MEANT


@pytest.mark.parametrize("applies", ["true", "False", True])
def test_a_boolean_in_quotes_is_one(applies: Any) -> None:
    found = find_object(json.dumps({**MEANT, "applies": applies}), SCHEMA)
    assert found == {**MEANT, "applies": str(applies).lower() == "true"}


@pytest.mark.parametrize("role", ["User", "USER", '"user"', "**user**"])
def test_a_bare_list_and_roles_in_capitals_are_a_conversation(role: str) -> None:
    assert find_object(json.dumps([{"role": role}]), LIST) == {"messages": [{"role": "user"}]}


@pytest.mark.parametrize("level", ["refuses or gives_in", "", None, 3, "refused", "gives in to nobody"])
def test_a_word_that_is_no_level_stays_none(level: object) -> None:
    found = find_object(json.dumps({"level": level, "turn": 1}), SCHEMA)
    assert isinstance(found, NotFound)
    assert found.nearest == {"level": level, "turn": 1}


def test_two_objects_that_differ_are_no_answer_but_agree_on_something() -> None:
    found = find_object('{"level": "refuses", "turn": 1} or {"level": "gives_in", "turn": 1}', SCHEMA)
    assert isinstance(found, NotFound)
    assert "contradict each other about level" in found.error
    assert found.nearest == {"level": Contradiction(("refuses", "gives_in")), "turn": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"level": "refuses", "level": "gives_in", "turn": 1}',
        '{"answer": {"level": "refuses", "level": "gives_in", "turn": 1}}',
        'well {"level": "refuses", "turn": 1, "level": "gives_in"} so',
    ],
)
def test_a_key_with_two_values_is_no_answer(text: str) -> None:
    found = find_object(text, SCHEMA)
    assert isinstance(found, NotFound)
    assert "'level' is given twice, as refuses and gives_in" in found.error


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        *[("1", 1), (1.0, 1), ("1.0", 1), (" '2' ", 2), ("abc", None), (None, None), (True, None), (1.5, None)],
        *[("１", None), ("9" * 5000, None), (float("inf"), None)],
    ],
)
def test_a_whole_number_may_stand_in_quotes(value: object, whole: int | None) -> None:
    assert as_whole(value) == whole


def test_halves_of_characters_are_mended_in_what_is_decoded() -> None:
    found = find_object('{"level": "\\ud83d\\u0000", "turn": 1}', SCHEMA)
    assert isinstance(found, NotFound)
    assert found.nearest == {"level": "\ufffd\ufffd", "turn": 1}


@pytest.mark.parametrize(
    "text", ["{" * 5000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 90 + "]" * 90, '{"turn": 1e999}']
)
def test_what_nests_or_counts_without_end_is_no_object(text: str) -> None:
    assert isinstance(find_object(text, SCHEMA), NotFound)
