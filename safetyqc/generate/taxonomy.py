"""Reads a taxonomy: the categories, topics, openers, styles, answers, personas and languages that plans are dealt from.

It checks that the entries fit together, so that dealing a scenario can never fail half-way through a paid run. It
deals nothing itself. A file that begins with `extends:` holds only what is added to another one. Whether a language is
complete (openers for every category and intent) is asked by `check_languages`, since a taxonomy may name a language
that only some runs use.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from safetyqc.errors import ConfigError, choose_from
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.generate.additions import Addition, is_addition, merge
from safetyqc.generate.entries import (
    AnswerStyle,
    Category,
    Language,
    Openers,
    Persona,
    Style,
    Trait,
    Turns,
    check_unique_names,
    later,
)
from safetyqc.records import Intent, Record

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
    ordinary: Category | None = later(None)
    """Requests that touch no risk; dealt only where a plan's shares name them."""
    situations: tuple[Trait, ...] = later(())
    motives: tuple[Trait, ...] = later(())
    registers: tuple[Trait, ...] = later(())
    lengths: tuple[Trait, ...] = later(())
    answers: tuple[AnswerStyle, ...] = later(())

    @field_validator("categories", "styles", "personas", "turns")
    @classmethod
    def _some_weight(cls, entries: tuple[Category | Style | Persona | Turns, ...]) -> tuple[object, ...]:
        if not any(entry.weight for entry in entries):
            raise Misfit("no entry has a weight above 0", fix="give at least one entry a weight of 1 or more")
        return entries

    @field_validator("categories", "styles", "languages", "answers")
    @classmethod
    def _unique_names(cls, entries: tuple[Category | Style | Language, ...]) -> tuple[object, ...]:
        check_unique_names(entries)
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


OWN = "safetyqc"
"""What a file extends that adds to the bundled one."""
BUNDLED = Path(__file__).with_name("taxonomy.yaml")
EARLIER = Path(__file__).with_name("taxonomy_1.yaml")
"""The bundled taxonomy before this one: runs that were planned by it go on by it."""


def load_taxonomy(path: str | Path | None = None) -> Taxonomy:
    """Read a taxonomy file, with those that it extends, or the bundled one.

    Raises:
        ConfigError: names file, line, key and a fix.
    """
    return _load(Path(path) if path is not None else BUNDLED, ())


def _load(path: Path, above: tuple[Path, ...]) -> Taxonomy:
    if path.resolve() in above:
        raise ConfigError("extends itself", where=str(path), fix=f"name another file, or {OWN}, behind `extends:`")
    if not is_addition(path):
        return read_yaml(path, Taxonomy)
    addition = read_yaml(path, Addition)
    base = BUNDLED if addition.extends == OWN else path.parent / addition.extends
    merged = merge(_load(base, (*above, path.resolve())).model_dump(mode="json", exclude_unset=True), addition)
    try:
        return Taxonomy.model_validate(merged)
    except ValidationError as error:
        raise _misfit(error, path) from error


def _misfit(error: ValidationError, path: Path) -> ConfigError:
    """Say where in the whole taxonomy what was added does not fit: its lines stand in two files."""
    first = error.errors(include_url=False)[0]
    inner = first.get("ctx", {}).get("error")
    at = (*first["loc"], *inner.at) if isinstance(inner, Misfit) else first["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    if isinstance(inner, Misfit):
        return ConfigError(inner.what, where=f"{path} ({place}, with what it extends)", fix=inner.fix)
    message = first["msg"]
    fix = f"add `{at[-1]}:` there" if first["type"] == "missing" else None
    return ConfigError(f"{message[0].lower()}{message[1:]}", where=f"{path} ({place}, with what it extends)", fix=fix)


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
