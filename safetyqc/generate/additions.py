"""What a file adds to a taxonomy that it extends: categories, topics, openers, languages, styles.

`merge` puts both together as plain values; whether the whole fits is for the taxonomy to say. What stands under a name
that is there already is added to it (topics, openers) or takes its place (everything else).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from safetyqc.errors import ConfigError
from safetyqc.generate.entries import (
    AnswerStyle,
    Language,
    Name,
    Openers,
    Persona,
    Severity,
    Style,
    Text,
    Trait,
    Turns,
    Weight,
)
from safetyqc.records import Intent, Record

_EXTENDS = re.compile(r"^extends\s*:", re.MULTILINE)


class TopicAddition(Record):
    """A topic, or openers for one that is there."""

    name: Name
    title: Text | None = None
    severity: Severity | None = None
    openers: Openers = Field(default_factory=dict)


class CategoryAddition(Record):
    """A category, or what is added to one that is there."""

    name: Name
    title: Text | None = None
    description: Text | None = None
    good_answer: Text | None = None
    user_limits: str | None = None
    weight: Weight | None = None
    severity: Severity | None = None
    intents: Mapping[Intent, Weight] | None = None
    styles: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    openers: Openers = Field(default_factory=dict)
    topics: tuple[TopicAddition, ...] = ()


class Addition(Record):
    """A file that begins with `extends:`."""

    extends: Text
    """`safetyqc` for the bundled taxonomy, or a file beside this one."""
    categories: tuple[CategoryAddition, ...] = ()
    ordinary: CategoryAddition | None = None
    styles: tuple[Style, ...] = ()
    answers: tuple[AnswerStyle, ...] = ()
    languages: tuple[Language, ...] = ()
    personas: tuple[Persona, ...] = ()
    situations: tuple[Trait, ...] = ()
    motives: tuple[Trait, ...] = ()
    registers: tuple[Trait, ...] = ()
    lengths: tuple[Trait, ...] = ()
    turns: tuple[Turns, ...] = ()
    follow_ups: Openers = Field(default_factory=dict)


def is_addition(path: Path) -> bool:
    """Whether a file adds to another one.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return _EXTENDS.search(path.read_text(encoding="utf-8")) is not None
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), fix="save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix="check the path") from error


def merge(base: dict[str, Any], addition: Addition) -> dict[str, Any]:
    """Put what is added to a taxonomy's values, which are changed and returned."""
    told = addition.model_dump(mode="json", exclude_unset=True)
    told.pop("extends")
    for key, added in told.items():
        if key == "categories":
            base[key] = _by_name(base[key], added, _merge_category)
        elif key == "ordinary":
            base[key] = _merge_category(base[key], added) if base.get(key) else added
        elif key == "follow_ups":
            base[key] = _merge_openers(base.get(key, {}), added)
        elif key in ("styles", "answers", "languages"):
            base[key] = _by_name(base.get(key, []), added, dict.__or__)
        elif key == "turns":
            base[key] = added
        else:
            base[key] = [*base.get(key, []), *added]
    return base


def _by_name(before: list[dict[str, Any]], added: list[dict[str, Any]], combine: Any) -> list[dict[str, Any]]:
    entries = {entry["name"]: entry for entry in before}
    for entry in added:
        name = entry["name"]
        entries[name] = combine(entries[name], entry) if name in entries else entry
    return list(entries.values())


def _merge_category(before: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    merged = before | added
    if "openers" in added:
        merged["openers"] = _merge_openers(before.get("openers", {}), added["openers"])
    if "topics" in added:
        merged["topics"] = _by_name(before.get("topics", []), added["topics"], _merge_category)
    return merged


def _merge_openers(before: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    languages = {language: dict(by_intent) for language, by_intent in before.items()}
    for language, by_intent in added.items():
        own = languages.setdefault(language, {})
        for intent, pool in by_intent.items():
            own[intent] = list(dict.fromkeys([*own.get(intent, []), *pool]))
    return languages
