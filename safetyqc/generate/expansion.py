"""Asks a model to propose topics, or openers in another language, for a taxonomy; people edit what it proposes.

The result is a plain mapping in the form of a file that extends a taxonomy. Nothing proposed is used by itself: it is
written to a file, read again and checked like any other taxonomy. What the taxonomy holds already is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetyqc.generate.entries import Category, Language, Topic
from safetyqc.generate.taxonomy import ORDINARY, Taxonomy
from safetyqc.llm.client import Client, Request
from safetyqc.llm.structured import ask_json
from safetyqc.prompts import render
from safetyqc.records import Intent
from safetyqc.text import fold_to_ascii, printable

STAGE = "expand"
_MAX_TOKENS = 4096
_LONGEST_OPENER = 400
_KINDS: tuple[Intent, ...] = ("harmful", "benign", "borderline")


@dataclass(frozen=True)
class Wanted:
    """What is to be proposed for each category.

    Args:
        topics: how many new ones.
        openers: sets of openers in each.
    """

    topics: int = 4
    openers: int = 2


class Expander:
    """Proposes additions to a taxonomy."""

    def __init__(self, taxonomy: Taxonomy, client: Client, model: str, api_base: str | None = None) -> None:
        self._taxonomy, self._client, self._model, self._base = taxonomy, client, model, api_base

    async def topics(self, category: Category, languages: Sequence[Language], wanted: Wanted) -> dict[str, Any]:
        """Propose new topics of a category with openers in these languages; costs one call.

        Raises:
            ModelError: the model gives nothing usable.
        """
        kinds = _kinds(category)
        prompt = render(
            "expand_topics",
            category=category,
            topics=wanted.topics,
            openers=wanted.openers,
            languages=", ".join(f"{language.name} ({language.title})" for language in languages),
            is_ordinary=category.name == ORDINARY,
            distress="distress" in category.active_intents,
        )
        schema = _topics_schema(kinds, [language.name for language in languages])
        known = {opener for language in languages for kind in kinds for opener in category.pool(language.name, kind)}
        taken = {topic.name for topic in category.topics}

        def read(value: dict[str, Any]) -> list[dict[str, Any]]:
            topics = [t for t in (_topic(told, languages, kinds, known) for told in value["topics"]) if t]
            new = [topic for topic in topics if topic["name"] not in taken]
            if not new:
                raise ValueError("no topic among them is new and has openers of every kind in every language")
            return list({topic["name"]: topic for topic in new}.values())

        return {"name": category.name, "topics": await self._ask(prompt, schema, read)}

    async def language(self, category: Category, language: Language, like: str = "en") -> dict[str, Any]:
        """Propose openers in a language for the topics that have none in it; costs one call.

        Args:
            like: the language whose openers are shown.

        Raises:
            ModelError: the model gives nothing usable.
        """
        kinds = category.active_intents
        missing = [t for t in category.topics if not all(t.pool(language.name, kind) for kind in kinds)]
        if not missing:
            return {}
        examples = {t.name: {kind: t.pool(like, kind) for kind in kinds if t.pool(like, kind)} for t in missing}
        prompt = render("expand_language", category=category, title=language.title, topics=missing, examples=examples)
        pools: dict[str, Any] = {kind: _strings() for kind in kinds}
        by_name = {topic.name: _object(pools) for topic in missing}

        def read(value: dict[str, Any]) -> list[dict[str, Any]]:
            return [_translated(topic, language, value[topic.name]) for topic in missing]

        return {"name": category.name, "topics": await self._ask(prompt, _object(by_name), read)}

    async def _ask(self, prompt: str, schema: Mapping[str, Any], read: Any) -> Any:
        request = Request(
            model=self._model,
            messages=({"role": "user", "content": prompt},),
            temperature=0.9,
            max_tokens=_MAX_TOKENS,
            seed=0,
            api_base=self._base,
            schema=dict(schema),
            stage=STAGE,
        )
        return (await ask_json(self._client, request, read)).value


def _kinds(category: Category) -> tuple[Intent, ...]:
    return tuple(kind for kind in (*_KINDS, "distress") if kind in category.active_intents)


def _topics_schema(kinds: Sequence[str], languages: Sequence[str]) -> dict[str, Any]:
    one = _object({kind: {"type": "string"} for kind in kinds})
    openers = _object({language: {"type": "array", "items": one} for language in languages})
    severity = {"type": "integer", "minimum": 1, "maximum": 3}
    topic = _object({"title": {"type": "string"}, "severity": severity, "openers": openers})
    return _object({"topics": {"type": "array", "items": topic}})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _strings() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}}


def _topic(
    told: Mapping[str, Any], languages: Sequence[Language], kinds: Sequence[Intent], known: set[str]
) -> dict[str, Any] | None:
    """A proposed topic in the form of the file; None where a language or a kind of openers is missing."""
    title = " ".join(printable(str(told["title"])).split())
    name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    openers: dict[str, dict[str, list[str]]] = {}
    for language in languages:
        sets = [_cleaned(one, language) for one in told["openers"][language.name]]
        # A set stays whole: its benign opener is the twin of its harmful one
        whole = [one for one in sets if all(one.get(kind) for kind in kinds) and not known.intersection(one.values())]
        known.update(opener for one in whole for opener in one.values())
        if not whole:
            return None
        openers[language.name] = {kind: [one[kind] for one in whole] for kind in kinds}
    if not re.match("[a-z]", name):
        return None
    return {"name": name, "title": title, "severity": told["severity"], "openers": openers}


def _cleaned(one: Mapping[str, Any], language: Language) -> dict[str, str]:
    cleaned = {kind: _plain(text, language) for kind, text in one.items()}
    return {kind: text for kind, text in cleaned.items() if text and len(text) <= _LONGEST_OPENER}


def _plain(text: object, language: Language) -> str:
    told = " ".join(printable(str(text)).split())
    return fold_to_ascii(told) if language.ascii else told


def _translated(topic: Topic, language: Language, told: Mapping[str, Any]) -> dict[str, Any]:
    pools = {}
    for kind, texts in told.items():
        there = set(topic.pool(language.name, kind))  # type: ignore[arg-type]
        cleaned = dict.fromkeys(_plain(text, language) for text in texts)
        pools[kind] = [text for text in cleaned if text and len(text) <= _LONGEST_OPENER and text not in there]
    if empty := [kind for kind, texts in pools.items() if not texts]:
        raise ValueError(f"{topic.name} has no {empty[0]} message")
    return {"name": topic.name, "openers": {language.name: pools}}
