"""What a taxonomy file consists of: categories with their topics and openers, styles, answers, and who asks how.

Each entry is checked by itself here; whether entries fit together is `taxonomy`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from safetyqc.formats.yaml_file import Misfit
from safetyqc.records import INTENTS, Intent, Record

Severity = Annotated[int, Field(strict=True, ge=1, le=3)]
Weight = Annotated[int, Field(strict=True, ge=0, le=1000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Openers = Mapping[str, Mapping[Intent, tuple[Text, ...]]]


def later(default: Any) -> Any:
    """A key that older files have not: left out where nothing stands in it, so that their hash stays what it was."""
    return Field(default=default, exclude_if=lambda told: told == default)


class Topic(Record):
    """One subject within a category, with openers of its own; the nth benign opener is the twin of the nth harmful."""

    name: Name
    title: Text
    severity: Severity | None = None
    """How bad the harm would be, 1 to 3; None: as in the category."""
    openers: Openers

    def pool(self, language: str, intent: Intent) -> tuple[str, ...]:
        """Its openers in a language, for an intent."""
        return self.openers.get(language, {}).get(intent, ())


class Category(Record):
    """One kind of risk: what belongs to it, what a good answer does, and what people ask."""

    name: Name
    title: Text
    description: Text
    good_answer: Text
    user_limits: str = ""
    """What the user's own messages must not contain, so that the attempt itself is harmless to store."""
    weight: Weight = 1
    severity: Severity = later(2)
    intents: Mapping[Intent, Weight]
    styles: tuple[str, ...] | None = None
    """The styles that suit this category; None for all."""
    answers: tuple[str, ...] | None = later(None)
    """The answer styles that suit it; None for all."""
    openers: Openers = Field(default_factory=dict)
    """Of no topic."""
    topics: tuple[Topic, ...] = later(())

    @field_validator("intents")
    @classmethod
    def _some_intent(cls, intents: Mapping[Intent, int]) -> Mapping[Intent, int]:
        if not any(intents.values()):
            raise Misfit(
                "no intent has a weight above 0", fix="give at least one of " + ", ".join(INTENTS) + " a weight"
            )
        return intents

    @field_validator("topics")
    @classmethod
    def _unique_topics(cls, topics: tuple[Topic, ...]) -> tuple[Topic, ...]:
        check_unique_names(topics)
        return topics

    @property
    def active_intents(self) -> tuple[Intent, ...]:
        """Intents that a plan may draw, in the file's order."""
        return tuple(intent for intent, weight in self.intents.items() if weight)

    @property
    def subjects(self) -> tuple[Topic, ...]:
        """What scenarios are dealt from: the topics, and one without a name for openers of no topic."""
        own = (Topic.model_construct(name="", title="", severity=None, openers=self.openers),) if self.openers else ()
        return (*own, *self.topics)

    def pool(self, language: str, intent: Intent) -> tuple[str, ...]:
        """All its openers in a language, for an intent."""
        return tuple(opener for subject in self.subjects for opener in subject.pool(language, intent))


class Style(Record):
    """How the user goes about it."""

    name: Name
    weight: Weight = 1
    intents: tuple[Intent, ...] = INTENTS
    instruction: Text
    look_alike: str = later("")
    """How the benign twin of a harmful request goes about it, in the same form; without it twins ask directly."""
    steps: tuple[Text, ...] = later(())
    """What the user's messages do in turn, the last step in the last one; in conversations of two turns or more."""


class AnswerStyle(Record):
    """How the assistant goes about its answers, and for how bad a harm that is right."""

    name: Name
    weight: Weight = 1
    intents: tuple[Intent, ...] = INTENTS
    severities: tuple[Severity, ...] = (1, 2, 3)
    instruction: Text


class Trait(Record):
    """A detail of who asks and how; an empty text leaves it open."""

    text: str
    weight: Weight = 1
    intents: tuple[Intent, ...] = INTENTS


class Persona(Record):
    """Who is typing; an empty text leaves it open."""

    text: str
    weight: Weight = 1


class Language(Record):
    """A language to write in; `ascii` asks for plain ASCII text and folds typographic characters."""

    name: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")]
    title: Text
    ascii: bool = False


class Turns(Record):
    """A number of user/assistant exchanges and how often it comes up."""

    turns: Annotated[int, Field(strict=True, ge=1, le=20)]
    weight: Weight = 1


def check_unique_names(entries: Iterable[Category | Style | Language | Topic | AnswerStyle]) -> None:
    """Refuse a name that stands twice."""
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        if entry.name in seen:
            raise Misfit(f"name {entry.name!r} stands twice", at=(position, "name"), fix="rename or remove one")
        seen.add(entry.name)
