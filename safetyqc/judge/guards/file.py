"""A guard as its YAML file tells it: what it is sent, how its answer is read, and what that says of our criteria.

The files lie beside this module, one a guard; nothing here asks or reads anything. A template's `{user}`,
`{assistant}` and `{transcript}` are the judged conversation, `{setting}` its system message, every other `{name}` is
one of its question's values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from safetyqc.errors import UserError, choose_from
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.llm.client import Endpoint
from safetyqc.records import Record, Role, content_hash

Hazard = Literal[
    "violent_crimes",
    "nonviolent_crimes",
    "sex_related_crimes",
    "child_sexual_exploitation",
    "indiscriminate_weapons",
    "suicide_and_self_harm",
    "hate",
    "privacy",
    "intellectual_property",
    "defamation",
    "sexual_content",
    "specialized_advice",
]
"""Hazards of MLCommons AILuminate 1.0."""
Saying = Literal["pass", "fail", "controversial", "unsure", "skip"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
CONVERSATION = "conversation"
"""Stands among a guard's messages for the turns of the judged conversation."""


class Category(Record):
    """One of the guard's own categories, in our words and in those of AILuminate; None where there is no equal."""

    name: Text
    ours: Name | None = None
    ailuminate: Hazard | None = None


class Rule(Record):
    """What an answer with these fields says; the first rule that fits counts.

    `skip`: this turn says nothing about the criterion. `one_exchange`: only of a conversation that has no other.
    """

    when: Mapping[Name, Text] = Field(default_factory=dict)
    one_exchange: bool = False
    then: Saying


class Certainty(Record):
    """Which field's first token tells the probability of pass, and what its words mean."""

    field: Name
    passes: Annotated[tuple[Text, ...], Field(min_length=1, alias="pass")]
    fails: Annotated[tuple[Text, ...], Field(min_length=1, alias="fail")]


class Says(Record):
    """What answers say of a criterion.

    `knows_request`: the rules look at whether harm was asked for, so the intent need not be known from elsewhere.
    `worst_decides`: one failing turn fails; otherwise turns that contradict each other leave it open, except on a gate.
    """

    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    certainty: Certainty | None = None
    knows_request: bool = False
    worst_decides: bool = True


class Question(Record):
    """One of several calls about the same turn, by the values that it puts into templates and `extra`."""

    id: Name
    values: Mapping[Name, Text]


class Probe(Record):
    """A conversation of one exchange whose verdict is beyond doubt."""

    user: Text
    assistant: Text
    expect: Annotated[Mapping[Name, Literal["pass", "fail"]], Field(min_length=1)]


def _speakers() -> Mapping[Role, str]:
    return {"user": "User", "assistant": "Agent"}


class Guard(Record):
    """One guard.

    Args:
        models: names under which it is known, the first for people to look up.
        usual: the model that `guard:NAME` asks.
        licence, sources, checked: whose format this is, where it was read, and when.
        unverified: what of this file could not be read at its source.
        setting: how a conversation's `{system}` message is told, where the guard has a place for one.
        turns: how much of a conversation the guard sees: `all` up to the judged answer, or the `last` exchange. With
            `unit: conversation` it judges the whole at once, else each of the assistant's turns.
        markers: parts of the template that no conversation may contain: they are broken up in its text.
        reads: what whole answers look like; named groups are fields, the first that fits counts.
        prompt_only: what an answer about the request alone looks like, to name that fault.
        policy: our criteria are the questions, one call each, and `verdict` says what the answers mean.
    """

    id: Name
    title: Text
    models: Annotated[tuple[Text, ...], Field(min_length=1)]
    usual: Text
    licence: Text
    sources: Annotated[tuple[Text, ...], Field(min_length=1)]
    checked: Text
    unverified: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()
    endpoint: Endpoint = "chat"
    unit: Literal["last_turn", "conversation"] = "last_turn"
    turns: Literal["all", "last"] = "all"
    speakers: Mapping[Role, Text] = Field(default_factory=_speakers)
    messages: Annotated[tuple[Literal["conversation"] | Mapping[str, Text], ...], Field(min_length=1)]
    markers: tuple[Text, ...] = ()
    setting: str = ""
    questions: tuple[Question, ...] = ()
    max_tokens: int = Field(default=64, ge=1)
    top_logprobs: int = Field(default=0, ge=0, le=20)
    extra: Mapping[str, Any] = Field(default_factory=dict)
    max_shown_tokens: int = Field(default=6_000, ge=100)
    reads: Annotated[tuple[Text, ...], Field(min_length=1)]
    prompt_only: str | None = None
    says: Mapping[Name, Says] = Field(default_factory=dict)
    policy: Says | None = None
    categories: Mapping[str, Category] = Field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    hints: Mapping[Literal["judges_user", "always", "never", "other_format", "prompt_only"], Text] = Field(
        default_factory=dict
    )

    @field_validator("reads")
    @classmethod
    def _patterns_compile(cls, reads: tuple[str, ...]) -> tuple[str, ...]:
        for position, pattern in enumerate(reads):
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise Misfit(f"is no regular expression: {error}", at=(position,), fix="check it") from error
            if not groups:
                raise Misfit("names no field", at=(position,), fix="write (?P<field>...)")
        return reads

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if bool(self.says) == bool(self.policy):
            raise Misfit("needs either `says` or `policy`", at=(), fix="say what its answers mean")
        fields = {name for pattern in self.reads for name in re.compile(pattern).groupindex}
        for criterion, says in self.meanings.items():
            for name in [n for rule in says.rules for n in rule.when] + (
                [says.certainty.field] if says.certainty else []
            ):
                if name not in fields:
                    at = ("says", criterion) if self.says else ("policy",)
                    raise Misfit(f"field {name!r} is read nowhere", at=at, fix=choose_from(name, fields))
        if not any("{assistant}" in t or "{transcript}" in t or t == CONVERSATION for t in self._templates):
            raise Misfit("shows no answer", at=("messages",), fix="add `conversation`, {assistant} or {transcript}")
        if self.endpoint != "chat" and (len(self.messages) != 1 or CONVERSATION in self.messages):
            raise Misfit(f"{self.endpoint} takes one text", at=("messages",), fix="write one `- user: ...`")
        return self

    @property
    def _templates(self) -> list[str]:
        return [t for m in self.messages for t in ([m] if isinstance(m, str) else m.values())]

    @property
    def meanings(self) -> Mapping[str, Says]:
        """What answers say, by criterion; under the empty name for any criterion that is asked as a policy."""
        return self.says if self.policy is None else {"": self.policy}

    @property
    def has_middle(self) -> bool:
        """Whether it has a level between safe and unsafe, which strict and loose decide."""
        return any(rule.then == "controversial" for says in self.meanings.values() for rule in says.rules)

    @property
    def hash(self) -> str:
        """16 hex digits over everything that can change a verdict."""
        told = {"title", "models", "usual", "licence", "sources", "checked", "unverified", "notes", "hints"}
        told |= {"setting"} if not self.setting else set()  # as before there was one
        return content_hash(self.model_dump(mode="json", exclude=told, by_alias=True))[:16]

    def says_of(self, criterion: str) -> Says | None:
        """What its answers say of this criterion; None when it has no opinion."""
        return self.policy or self.says.get(criterion)


def guard_names() -> list[str]:
    """All guards, by the name behind `guard:`."""
    listed = (entry.name for entry in files("safetyqc.judge.guards").iterdir())
    return sorted(name.removesuffix(".yaml") for name in listed if name.endswith(".yaml"))


@cache
def load_guard(name: str) -> Guard:
    """Read a guard's file.

    Raises:
        UserError: there is none of this name; says which is nearest.
    """
    if name not in guard_names():
        fix = f"{choose_from(name, guard_names())} (`safetyqc judge guards` tells more)"
        raise UserError(f"no guard {name!r}", fix=fix)
    return read_yaml(files("safetyqc.judge.guards") / f"{name}.yaml", Guard)
