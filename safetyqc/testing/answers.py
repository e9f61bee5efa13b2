"""Makes up sensible answers for the fault server: text, conversations, and objects of whatever schema was asked for.

No model is behind it: the same request gets the same answer, quotes stand in the turns they name, and conversations
differ enough not to look like copies of each other. It judges nothing: levels are drawn, most of them the first one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_TURN = re.compile(r"^\[(\d+)\] (?:user|assistant):\n((?:    .*\n?)+)", re.MULTILINE)
_MESSAGES_WANTED = re.compile(r"exactly (\d+) messages", re.IGNORECASE)
_GOOD_LEVEL_SHARE = 0.8


@cache
def _bank(language: str) -> dict[str, list[str]]:
    text = (files("safetyqc.testing") / "words.yaml").read_text(encoding="utf-8")
    words: dict[str, list[str]] = yaml.safe_load(text)[language]
    return words


def answer(body: Mapping[str, Any], rng: random.Random) -> str:
    """Answer a chat completion body: an object where one was asked for, else a paragraph."""
    messages = body["messages"]
    prompt = "\n".join(str(m.get("content", "")) for m in messages)
    words = _bank("zh" if "Chinese" in prompt or "中文" in prompt else "en")
    schema = _schema(body, messages)
    if schema is not None:
        return json.dumps(_instance(schema, "", _Writer(prompt, words, rng)), ensure_ascii=False)
    as_user = any(m["role"] == "system" and "You play the user" in str(m["content"]) for m in messages)
    return _user_text(words, rng) if as_user else _assistant_text(words, rng)


def _schema(body: Mapping[str, Any], messages: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        schema: Mapping[str, Any] = form["json_schema"]["schema"]
        return schema
    for line in (line for m in messages for line in str(m.get("content", "")).splitlines()):
        if line.startswith("{") and '"properties"' in line:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return None


class _Writer:
    """What an instance is made of: the prompt with its numbered turns, words, and chance."""

    def __init__(self, prompt: str, words: Mapping[str, list[str]], rng: random.Random) -> None:
        self.words, self.rng = words, rng
        self.turns = {int(number): " ".join(text.split()) for number, text in _TURN.findall(prompt)}
        wanted = _MESSAGES_WANTED.search(prompt)
        self.messages = int(wanted.group(1)) if wanted else len(self.turns) or 4

    def text(self) -> str:
        """One sentence."""
        return _fill("{open}: {who} is {feel}, {why}.", self.words, self.rng)

    def quote(self, turn: int) -> str:
        """Words that stand in a turn."""
        text = self.turns.get(turn, "")
        return text[:60] if " " not in text[:60] else " ".join(text.split()[:10])

    def conversation(self) -> list[dict[str, str]]:
        """Alternating messages, as many as the prompt wants."""
        return [
            {
                "role": "assistant" if i % 2 else "user",
                "content": (_assistant_text if i % 2 else _user_text)(self.words, self.rng),
            }
            for i in range(self.messages)
        ]


def _instance(schema: Mapping[str, Any], name: str, writer: _Writer) -> Any:
    """Something that the schema accepts, as far as its common keywords go."""
    if "enum" in schema:
        values = list(schema["enum"])
        first = name == "level" and writer.rng.random() < _GOOD_LEVEL_SHARE
        return values[0] if first else writer.rng.choice(values)
    if "anyOf" in schema:
        return _instance(schema["anyOf"][0], name, writer)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, writer)
    if kind == "array":
        items = schema.get("items", {})
        if {"role", "content"} <= set(items.get("properties", {})):
            return writer.conversation()
        return [_instance(items, name, writer) for _ in range(max(int(schema.get("minItems", 1)), 1))]
    plain = {"integer": int(schema.get("minimum", 1)), "number": 0.5, "boolean": True, "null": None}
    return plain[kind] if kind in plain else writer.text()[: int(schema.get("maxLength", 1000))]


def _object(schema: Mapping[str, Any], writer: _Writer) -> dict[str, Any]:
    properties = schema.get("properties", {})
    value = {name: _instance(part, name, writer) for name, part in properties.items()}
    if isinstance(turn := value.get("turn"), int) and "quote" in value:
        value["quote"] = writer.quote(turn)[: int(properties["quote"].get("maxLength", 1000))]
    return value


def _fill(pattern: str, words: Mapping[str, list[str]], rng: random.Random) -> str:
    text = re.sub(r"{(\w+)}", lambda match: rng.choice(words[match.group(1)]), pattern)
    return text[0].upper() + text[1:]


def _user_text(words: Mapping[str, list[str]], rng: random.Random) -> str:
    if words is _bank("zh"):
        return _fill("{when},{who}因为{what}让我很{feel},{who}也谈到了{what}。{ask}?", words, rng)
    return _fill("{when} {who} has been {feel} about {what}, and {who} mentioned {what}. {ask}?", words, rng)


def _assistant_text(words: Mapping[str, list[str]], rng: random.Random) -> str:
    if words is _bank("zh"):
        return _fill(
            "{open}。这件事我不能帮忙,{why}。你可以{offer},也可以{offer}。关于{what},我们还可以再谈。", words, rng
        )
    return " ".join(
        _fill(sentence, words, rng)
        for sentence in (
            "{open}.",
            "I will not go further with {what}, {why}.",
            "You could {offer}, or {offer}.",
            "If {who} is {feel} {when}, we can talk about {what} as well.",
        )
    )
