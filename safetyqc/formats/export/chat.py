"""Whole conversations as lists of messages: nanochat, OpenAI, ShareGPT, LLaMA-Factory, and our own records."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.export.encoding import FACTS, Exporter, facts_of, lines_of, system_turns
from safetyqc.formats.export.trainers import OPENAI_TAGS, axolotl, llamafactory, trl
from safetyqc.formats.turns import keys_beside
from safetyqc.records import Conversation

NANOCHAT_FILE = "safety_conversations.jsonl"


def _openai(conversation: Conversation) -> dict[str, Any]:
    """Keys such as `weight` and `reasoning_content` stand beside a message again, as they were brought in."""
    beside = keys_beside(conversation)
    turns = [{**message, **beside.get(n, {})} for n, message in enumerate(conversation.as_messages())]
    return {"messages": [*system_turns(conversation, "role", "content"), *turns]}


def _llamafactory(conversation: Conversation) -> dict[str, Any]:
    messages = [*system_turns(conversation, "role", "content"), *conversation.as_messages()]
    return {"messages": messages, **facts_of(conversation)}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[m.role], "value": m.content} for m in conversation.messages]
    return {"conversations": [*system_turns(conversation, "from", "value"), *turns], **facts_of(conversation)}


def _nanochat_home() -> Path:
    """Where nanochat itself looks: its own variable, else its folder in the user's cache."""
    return Path(os.environ.get("NANOCHAT_BASE_DIR") or Path.home() / ".cache" / "nanochat")


NANOCHAT = Exporter(
    NANOCHAT_FILE,
    lines_of(Conversation.as_messages, ascii_only=True),
    _nanochat_home,
    holds=frozenset({"turns"}),
    is_table=False,
)
OPENAI = Exporter(
    "safety_conversations.openai.jsonl",
    lines_of(_openai),
    holds=frozenset({"system", "turns", "keys"}),
    snippets={
        "dataset_info.json": llamafactory({"messages": "messages"}, OPENAI_TAGS),
        "axolotl.yaml": axolotl(field_messages="messages"),
        "trl.yaml": trl("sft"),
    },
)
LLAMAFACTORY = Exporter(
    "safety_conversations.llamafactory.jsonl",
    lines_of(_llamafactory),
    holds=FACTS | {"system", "turns"},
    snippets=OPENAI.snippets,
)
SHAREGPT = Exporter(
    "safety_conversations.sharegpt.jsonl",
    lines_of(_sharegpt),
    holds=FACTS | {"system", "turns"},
    snippets={
        "dataset_info.json": llamafactory({"messages": "conversations"}),
        "axolotl.yaml": axolotl(
            field_messages="conversations", message_property_mappings={"role": "from", "content": "value"}
        ),
    },
)
SAFETYQC = Exporter(
    "safety_conversations.safetyqc.jsonl",
    lines_of(lambda c: c.model_dump(mode="json")),
    holds=FACTS | {"system", "turns", "keys", "meta"},
    is_table=False,
)


def validate_nanochat_file(path: str | Path) -> int:
    """Check every line as nanochat's CustomJSON does, and that it is ASCII; returns the number of conversations.

    Raises:
        InputError: names the first line that training would stop at.
    """
    count = 0
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                if problem := _nanochat_problem(line):
                    raise InputError(problem, path=path, line=number, fix="export again with --format nanochat")
                count += 1
    return count


def _nanochat_problem(line: str) -> str | None:
    try:
        messages = json.loads(line)
    except ValueError as error:
        return f"is not JSON: {error}"
    if not line.isascii():
        return "is not ASCII"
    if not isinstance(messages, list) or len(messages) < 2:
        return "is not a list of at least two messages"
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f"message {number} has no text"
        if message.get("role") != ("assistant", "user")[number % 2]:
            return f"message {number} has the role {message.get('role')!r}"
    return None
