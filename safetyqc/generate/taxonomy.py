"""Reads a taxonomy: the categories, intents, openers, styles, personas, languages and turns that plans are drawn from.

It checks that the entries fit together, so that drawing a scenario can never fail half-way through a paid run. It
draws nothing itself. Whether a language is complete (openers for every category and intent)
is asked by `check_languages`, since a taxonomy may name a language that only some runs use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from safetyqc.errors import ConfigError, choose_from
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.records import INTENTS, Intent, Record

Severity = Annotated[int, Field(strict=True, ge=1, le=3)]
Weight = Annotated[int, Field(strict=True, ge=0, le=1000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Openers = Mapping[str, Mapping[Intent, tuple[Text, ...]]]


def _later(default: Any) -> Any:
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
    severity: Severity = _later(2)
    intents: Mapping[Intent, Weight]
    styles: tuple[str, ...] | None = None
    """The styles that suit this category; None for all."""
    answers: tuple[str, ...] | None = _later(None)
    """The answer styles that suit it; None for all."""
    openers: Openers = Field(default_factory=dict)
    """Of no topic."""
    topics: tuple[Topic, ...] = _later(())

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
        _check_unique_names(topics)
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
    look_alike: str = _later("")
    """How the benign twin of a harmful request goes about it, in the same form; without it twins ask directly."""
    steps: tuple[Text, ...] = _later(())
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


N = TypeVar("N", Category, Style, AnswerStyle, Language)
TRAITS = ("situations", "motives", "registers", "lengths")
ORDINARY = "ordinary"


class Taxonomy(Record):
    """Everything that a plan is drawn from."""

    categories: Annotated[tuple[Category, ...], Field(min_length=1)]
    styles: Annotated[tuple[Style, ...], Field(min_length=1)]
    personas: Annotated[tuple[Persona, ...], Field(min_length=1)] = (Persona(text=""),)
    languages: Annotated[tuple[Language, ...], Field(min_length=1)]
    turns: Annotated[tuple[Turns, ...], Field(min_length=1)]
    follow_ups: Openers = Field(default_factory=dict)
    ordinary: Category | None = _later(None)
    """Requests that touch no risk; dealt only where a plan's shares name them."""
    situations: tuple[Trait, ...] = _later(())
    motives: tuple[Trait, ...] = _later(())
    registers: tuple[Trait, ...] = _later(())
    lengths: tuple[Trait, ...] = _later(())
    answers: tuple[AnswerStyle, ...] = _later(())

    @field_validator("categories", "styles", "personas", "turns")
    @classmethod
    def _some_weight(cls, entries: tuple[Category | Style | Persona | Turns, ...]) -> tuple[object, ...]:
        if not any(entry.weight for entry in entries):
            raise Misfit("no entry has a weight above 0", fix="give at least one entry a weight of 1 or more")
        return entries

    @field_validator("categories", "styles", "languages", "answers")
    @classmethod
    def _unique_names(cls, entries: tuple[Category | Style | Language, ...]) -> tuple[object, ...]:
        _check_unique_names(entries)
        return entries

    @field_validator("ordinary")
    @classmethod
    def _is_ordinary(cls, category: Category | None) -> Category | None:
        if category and (category.name != ORDINARY or category.active_intents != ("benign",)):
            raise Misfit("not an ordinary category", fix=f"name it {ORDINARY} and give it `intents: {{benign: 1}}`")
        return category

    @model_validator(mode="after")
    def _entries_fit(self) -> Self:
        languages = {language.name for language in self.languages}
        _check_names(self.follow_ups, languages, ("follow_ups",), "language")
        for position, category in enumerate(self.categories):
            self._check_category(category, ("categories", position), languages)
        if self.ordinary:
            self._check_category(self.ordinary, ("ordinary",), languages)
        return self

    def _check_category(self, category: Category, at: tuple[int | str, ...], languages: set[str]) -> None:
        for place, openers in [
            ((*at, "openers"), category.openers),
            *(((*at, "topics", n, "openers"), topic.openers) for n, topic in enumerate(category.topics)),
        ]:
            _check_names(openers, languages, place, "language")
        _check_unique_openers(category, at)
        _check_names(category.styles or (), {style.name for style in self.styles}, (*at, "styles"), "style")
        _check_names(category.answers or (), {a.name for a in self.answers}, (*at, "answers"), "answer style")
        for intent in category.active_intents:
            if not self.styles_for(category, intent, turns=1):
                raise Misfit(
                    f"no style of weight above 0 suits intent {intent!r} of {category.name!r}",
                    at=(*at, "styles" if category.styles is not None else "intents"),
                    fix=f"add a style without steps whose intents hold {intent}, or set that intent's weight to 0",
                )

    def category(self, name: str) -> Category:
        """Look a category up by name.

        Raises:
            ConfigError: no such category; names the nearest and all valid ones.
        """
        return _named((*self.categories, *([self.ordinary] if self.ordinary else [])), "category", name)

    def style(self, name: str) -> Style:
        """Look a style up by name, with the errors of `category`."""
        return _named(self.styles, "style", name)

    def language(self, name: str) -> Language:
        """Look a language up by name, with the errors of `category`."""
        return _named(self.languages, "language", name)

    def answer(self, name: str) -> AnswerStyle:
        """Look an answer style up by name, with the errors of `category`."""
        return _named(self.answers, "answer style", name)

    def styles_for(self, category: Category, intent: Intent, turns: int | None = None) -> tuple[Style, ...]:
        """Styles of weight above 0 that suit a category, an intent and, where it is told, a number of turns."""
        allowed = None if category.styles is None else set(category.styles)
        return tuple(
            s
            for s in self.styles
            if s.weight
            and intent in s.intents
            and (allowed is None or s.name in allowed)
            and not (s.steps and turns is not None and turns < 2)
        )

    def answers_for(self, category: Category, topic: str, intent: Intent) -> tuple[AnswerStyle, ...]:
        """Answer styles of weight above 0 that suit an intent and how bad the harm would be."""
        severity = next((t.severity for t in category.topics if t.name == topic), None) or category.severity
        return tuple(
            a
            for a in self.answers
            if a.weight
            and intent in a.intents
            and (category.answers is None or a.name in category.answers)
            and (intent in ("benign", "distress") or severity in a.severities)
        )

    def check_languages(self, languages: Iterable[str], categories: Iterable[str] | None = None) -> None:
        """Make sure that every category in use has openers for its intents in these languages.

        Raises:
            ConfigError: an unknown language or category, or one without openers.
        """
        chosen = [self.category(name) for name in categories] if categories is not None else self.categories
        for language in languages:
            self.language(language)
            for category in chosen:
                for intent in category.active_intents if category.weight or categories is not None else ():
                    if not category.pool(language, intent):
                        raise ConfigError(
                            f"category {category.name!r} has no {intent} openers in language {language!r}",
                            where="taxonomy",
                            fix=f"add openers.{language}.{intent} to it or a topic, or set that intent's weight to 0",
                        )


EARLIER = Path(__file__).with_name("taxonomy_1.yaml")
"""The bundled taxonomy before this one: runs that were planned by it go on by it."""


def load_taxonomy(path: str | Path | None = None) -> Taxonomy:
    """Read a taxonomy file, or the bundled one.

    Raises:
        ConfigError: names file, line, key and a fix.
    """
    source = Path(path) if path is not None else files("safetyqc.generate") / "taxonomy.yaml"
    return read_yaml(source, Taxonomy)


def _named(entries: tuple[N, ...], kind: str, name: str) -> N:
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        raise ConfigError(f"no {kind} {name!r}", where="taxonomy", fix=choose_from(name, (e.name for e in entries)))
    return found


def _check_names(used: Iterable[str], known: set[str], at: tuple[int | str, ...], kind: str) -> None:
    for position, name in enumerate(used):
        if name not in known:
            step = position if at[-1] == "styles" else name
            raise Misfit(f"unknown {kind} {name!r}", at=(*at, step), fix=choose_from(name, known))


def _check_unique_names(entries: Iterable[Category | Style | Language | Topic | AnswerStyle]) -> None:
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        if entry.name in seen:
            raise Misfit(f"name {entry.name!r} stands twice", at=(position, "name"), fix="rename or remove one")
        seen.add(entry.name)


def _check_unique_openers(category: Category, at: tuple[int | str, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    places = [((*at, "openers"), category.openers)]
    places += [((*at, "topics", n, "openers"), topic.openers) for n, topic in enumerate(category.topics)]
    for place, openers in places:
        for language, by_intent in openers.items():
            for intent, pool in by_intent.items():
                for position, opener in enumerate(pool):
                    if (language, opener) in seen:
                        where = (*place, language, intent, position)
                        raise Misfit(f"opener {opener!r} stands twice", at=where, fix="remove one of the two")
                    seen.add((language, opener))
