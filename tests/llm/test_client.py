"""The key of a request is what resumed runs find their paid answers by."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from safetyqc.llm import Request
from safetyqc.llm.client import Schema

FULL = Request(
    model="openai/m",
    messages=({"role": "system", "content": "Judge."}, {"role": "user", "content": "“hi” 你好 \ud83d"}),
    max_tokens=1000,
    schema={"type": "object", "properties": {"a": {"type": "string"}}},
    format="json_schema",
    api_base="http://localhost:8000/v1",
    stage="judge",
)
SHORT = Request(model="m", messages=({"role": "user", "content": "x"},), temperature=1, seed=3, repeat=2)


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (FULL, "04c18bb2f9c886001a3856aa8f78cf847c56b4d4b491762a947dc316125f581f"),
        (SHORT, "1beb0ae63f3994966a7086c0ea6a0badae7a2b6856e6f4e7fbccef9c01de612b"),
    ],
)
def test_a_key_is_the_one_under_which_earlier_versions_paid(request_: Request, key: str) -> None:
    assert request_.key == key


def test_a_shared_schema_has_the_key_of_a_plain_one() -> None:
    assert replace(FULL, schema=Schema(FULL.schema or {})).key == FULL.key


def test_a_schema_reaches_another_process_once_and_unchanged() -> None:
    schema = Schema({"type": "object", "properties": {"b": {"enum": ["ü", 1.5]}, "a": {"type": "string"}}})
    one, other = (pickle.loads(pickle.dumps(schema)) for _ in range(2))
    assert one is other
    assert (dict(one), one.as_json, one.digest) == (dict(schema), schema.as_json, schema.digest)
