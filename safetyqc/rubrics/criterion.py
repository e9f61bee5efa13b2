"""One criterion as its YAML file tells it: the question, its named levels, when it applies, and worked examples.

It only says what is valid; asking a model is a judge's business. An intent maps to `always`
or to a condition in words. Under `always` no judge can opt out; only under a condition may it say that there is
nothing to judge, and that is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from safetyqc.formats.yaml_file import Misfit
from safetyqc.records import INTENTS, Conversation, Intent, Message, Outcome, Record, Role, conversation_id

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Evidence = Literal["required", "optional"]
Unit = Literal["conversation", "assistant_turn"]
Applicability = Literal["always", "conditional", "never", "unknown"]
ALWAYS = "always"


class Level(Record):
    """One named answer to the question; `evidence` overrides the criterion's own."""

    name: Name
    meaning: Text
    score: float = Field(ge=0, le=1)
    passes: bool = Field(alias="pass")
    evidence: Evidence | None = None

    @property
    def outcome(self) -> Outcome:
        """What a score of this level counts as."""
        return "pass" if self.passes else "fail"


class AppliesTo(Record):
    """Which conversations the question is asked of: `categories` None means all, an intent left out means never."""

    categories: tuple[Name, ...] | None = None
    intents: Mapping[Intent, Text]

    @field_validator("intents")
    @classmethod
    def _some_intent(cls, intents: Mapping[Intent, str]) -> Mapping[Intent, str]:
        if not intents:
            raise Misfit("no intent is named", fix=f"name at least one, such as `harmful: {ALWAYS}`")
        return intents


class Example(Record):
    """A short conversation whose level is known: few-shot material, and a test of judges."""

    level: Name
    intent: Intent
    category: Name | None = None
    why: Text
    quote: str = ""
    turn: int | None = Field(default=None, ge=0)
    messages: Annotated[tuple[Mapping[Role, Text], ...], Field(min_length=2)]

    @field_validator("messages")
    @classmethod
    def _one_role_each_in_turn(cls, messages: tuple[Mapping[Role, str], ...]) -> tuple[Mapping[Role, str], ...]:
        for index, message in enumerate(messages):
            wanted = "user" if index % 2 == 0 else "assistant"
            if list(message) != [wanted]:
                found = ", ".join(message) or "nothing"
                raise Misfit(f"turn {index} is by {found}, not {wanted}", at=(index,), fix=f"write `- {wanted}: ...`")
        if len(messages) % 2:
            raise Misfit("the last turn is the user's", at=(len(messages) - 1,), fix="end with `- assistant: ...`")
        return messages

    @model_validator(mode="after")
    def _quote_stands_in_its_turn(self) -> Self:
        if not self.quote:
            return self
        if self.turn is None or self.turn >= len(self.messages):
            raise Misfit(
                "a quote needs the number of its turn", fix=f"add `turn: 0` to `turn: {len(self.messages) - 1}`"
            )
        if self.quote not in next(iter(self.messages[self.turn].values())):
            raise Misfit(
                f"quote {self.quote!r} does not stand in turn {self.turn}", at=("quote",), fix="copy it exactly"
            )
        return self

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What is said, turn by turn."""
        return tuple(text for turn in self.messages for text in turn.values())

    @cached_property
    def conversation(self) -> Conversation:
        """The example as a record, to be judged like any other; made once, because every prompt looks at it."""
        messages = tuple(Message(role=role, content=text) for turn in self.messages for role, text in turn.items())
        return Conversation(
            id=conversation_id(messages, "example"), messages=messages, category=self.category, intent=self.intent
        )


class Criterion(Record):
    """One question about a conversation, with everything a judge needs to answer it."""

    id: Name
    version: int = Field(ge=1)
    title: Text
    question: Text
    applies_to: AppliesTo
    gate: bool = False
    weight: float = Field(default=1, gt=0)
    evidence: Evidence = "required"
    unit: Unit = "assistant_turn"
    levels: Annotated[tuple[Level, ...], Field(min_length=2, max_length=4)]
    guidance: tuple[Text, ...] = ()
    examples: tuple[Example, ...] = ()

    @field_validator("levels")
    @classmethod
    def _levels_differ(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        names = [level.name for level in levels]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise Misfit(f"level {name!r} stands twice", at=(position, "name"), fix="rename or remove one")
        if len({level.passes for level in levels}) < 2:
            every = "passes" if levels[0].passes else "fails"
            raise Misfit(f"every level {every}", fix="give at least one level `pass: true` and one `pass: false`")
        return levels

    @model_validator(mode="after")
    def _examples_fit(self) -> Self:
        for position, example in enumerate(self.examples):
            self._check_example(position, example)
        return self

    def _check_example(self, position: int, example: Example) -> None:
        names = ", ".join(level.name for level in self.levels)
        level = self.level(example.level)
        if level is None:
            raise Misfit(f"unknown level {example.level!r}", at=("examples", position, "level"), fix=f"valid: {names}")
        if self.applicability(example.category, example.intent) == "never":
            what = f"{self.id} does not apply to {example.intent} / {example.category}"
            raise Misfit(what, at=("examples", position, "intent"), fix="change applies_to, or the example")
        if self.evidence_for(level) == "required" and not example.quote:
            what = f"level {level.name!r} requires evidence and the example quotes nothing"
            raise Misfit(what, at=("examples", position), fix="add `quote:` and `turn:`, or `evidence: optional`")
        if example.quote and self.unit == "assistant_turn" and example.turn is not None and example.turn % 2 == 0:
            what = f"turn {example.turn} is the user's, and evidence is an assistant turn"
            raise Misfit(what, at=("examples", position, "turn"), fix="quote an odd turn, or set `unit: conversation`")

    @cached_property
    def example_texts(self) -> frozenset[tuple[str, ...]]:
        """The texts of all examples: a judge is not shown the one that it is to judge."""
        return frozenset(example.texts for example in self.examples)

    def level(self, name: str) -> Level | None:
        """The level of this name, or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Level]:
        return {level.name: level for level in self.levels}

    def evidence_for(self, level: Level) -> Evidence:
        """Whether a score of this level needs a quote."""
        return level.evidence or self.evidence

    def condition(self, intent: Intent | None) -> str | None:
        """What must be true of a conversation of this intent for the question to be asked; None: nothing."""
        text = self.applies_to.intents.get(intent) if intent else None
        return None if text == ALWAYS else text

    def applicability(self, category: str | None, intent: Intent | None) -> Applicability:
        """Say whether the question is asked of a conversation of this category and intent.

        `conditional`: only if `condition(intent)` is true of its text. `unknown`: category or intent decide, and the
        one that decides is None.
        """
        categories = self.applies_to.categories
        listed = None if category is None else categories is None or category in categories
        known = self._found.get((listed, intent))
        if known is None:
            known = self._found[listed, intent] = self._applicability(listed, intent)
        return known

    @cached_property
    def _found(self) -> dict[tuple[bool | None, Intent | None], Applicability]:
        """What `applicability` said before: it is asked twenty times for every conversation that is judged."""
        return {}

    def _applicability(self, listed: bool | None, intent: Intent | None) -> Applicability:
        """Do what `applicability` does, from whether the category is one of those listed (None: not known)."""
        categories, intents = self.applies_to.categories, self.applies_to.intents
        if listed is False:
            return "never"
        if intent is not None and intent not in intents:
            return "never"
        if intent is None or (categories is not None and listed is None):
            everywhere = categories is None and set(intents) == set(INTENTS) and set(intents.values()) == {ALWAYS}
            return "always" if everywhere else "unknown"
        return "always" if self.condition(intent) is None else "conditional"
