"""Reads a taxonomy: the categories, intents, openers, styles, personas, languages and turns that plans are drawn from.

It checks that the entries fit together, so that drawing a scenario can never fail half-way through a paid run. It
draws nothing itself. Whether a language is complete (openers for every category and intent)
is asked by `check_languages`, since a taxonomy may name a language that only some runs use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from safetyqc.errors import ConfigError, choose_from
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.records import INTENTS, Intent, Record

Weight = Annotated[int, Field(strict=True, ge=0, le=1000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Openers = Mapping[str, Mapping[Intent, tuple[Text, ...]]]


class Category(Record):
    """One kind of risk: what belongs to it, what a good answer does, and what people ask."""

    name: Name
    title: Text
    description: Text
    good_answer: Text
    user_limits: str = ""
    """What the user's own messages must not contain, so that the attempt itself is harmless to store."""
    weight: Weight = 1
    intents: Mapping[Intent, Weight]
    styles: tuple[str, ...] | None = None
    """The styles that suit this category; None for all."""
    openers: Openers

    @field_validator("intents")
    @classmethod
    def _some_intent(cls, intents: Mapping[Intent, int]) -> Mapping[Intent, int]:
        if not any(intents.values()):
            raise Misfit(
                "no intent has a weight above 0", fix="give at least one of " + ", ".join(INTENTS) + " a weight"
            )
        return intents

    @property
    def active_intents(self) -> tuple[Intent, ...]:
        """Intents that a plan may draw, in the file's order."""
        return tuple(intent for intent, weight in self.intents.items() if weight)


class Style(Record):
    """How the user goes about it."""

    name: Name
    weight: Weight = 1
    intents: tuple[Intent, ...] = INTENTS
    instruction: Text


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


N = TypeVar("N", Category, Style, Language)


class Taxonomy(Record):
    """Everything that a plan is drawn from."""

    categories: Annotated[tuple[Category, ...], Field(min_length=1)]
    styles: Annotated[tuple[Style, ...], Field(min_length=1)]
    personas: Annotated[tuple[Persona, ...], Field(min_length=1)] = (Persona(text=""),)
    languages: Annotated[tuple[Language, ...], Field(min_length=1)]
    turns: Annotated[tuple[Turns, ...], Field(min_length=1)]
    follow_ups: Openers = Field(default_factory=dict)

    @field_validator("categories", "styles", "personas", "turns")
    @classmethod
    def _some_weight(cls, entries: tuple[Category | Style | Persona | Turns, ...]) -> tuple[object, ...]:
        if not any(entry.weight for entry in entries):
            raise Misfit("no entry has a weight above 0", fix="give at least one entry a weight of 1 or more")
        return entries

    @field_validator("categories", "styles", "languages")
    @classmethod
    def _unique_names(cls, entries: tuple[Category | Style | Language, ...]) -> tuple[object, ...]:
        seen: set[str] = set()
        for position, entry in enumerate(entries):
            if entry.name in seen:
                raise Misfit(f"name {entry.name!r} stands twice", at=(position, "name"), fix="rename or remove one")
            seen.add(entry.name)
        return entries

    @model_validator(mode="after")
    def _entries_fit(self) -> Self:
        languages = {language.name for language in self.languages}
        _check_names(self.follow_ups, languages, ("follow_ups",), "language")
        for position, category in enumerate(self.categories):
            at = ("categories", position)
            _check_names(category.openers, languages, (*at, "openers"), "language")
            _check_unique_openers(category, (*at, "openers"))
            _check_names(category.styles or (), {style.name for style in self.styles}, (*at, "styles"), "style")
            for intent in category.active_intents:
                if not self.styles_for(category, intent):
                    raise Misfit(
                        f"no style of weight above 0 suits intent {intent!r} of {category.name!r}",
                        at=(*at, "styles" if category.styles is not None else "intents"),
                        fix=f"add a style whose intents hold {intent}, or set that intent's weight to 0",
                    )
        return self

    def category(self, name: str) -> Category:
        """Look a category up by name.

        Raises:
            ConfigError: no such category; names the nearest and all valid ones.
        """
        return _named(self.categories, "category", name)

    def style(self, name: str) -> Style:
        """Look a style up by name, with the errors of `category`."""
        return _named(self.styles, "style", name)

    def language(self, name: str) -> Language:
        """Look a language up by name, with the errors of `category`."""
        return _named(self.languages, "language", name)

    def styles_for(self, category: Category, intent: Intent) -> tuple[Style, ...]:
        """Styles of weight above 0 that suit a category and an intent."""
        allowed = None if category.styles is None else set(category.styles)
        return tuple(
            s for s in self.styles if s.weight and intent in s.intents and (allowed is None or s.name in allowed)
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
                    if not category.openers.get(language, {}).get(intent):
                        raise ConfigError(
                            f"category {category.name!r} has no {intent} openers in language {language!r}",
                            where="taxonomy",
                            fix=f"add openers.{language}.{intent} to it, or set that intent's weight to 0",
                        )


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


def _check_unique_openers(category: Category, at: tuple[int | str, ...]) -> None:
    for language, by_intent in category.openers.items():
        seen: Counter[str] = Counter()
        for intent, openers in by_intent.items():
            for position, opener in enumerate(openers):
                seen[opener] += 1
                if seen[opener] > 1:
                    place = (*at, language, intent, position)
                    raise Misfit(f"opener {opener!r} stands twice", at=place, fix="remove one of the two")
