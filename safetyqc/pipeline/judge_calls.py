"""How often a judge asks which model about a conversation, and how long such a question is, without asking anybody.

It words the very questions that the rubric judge would put, so any rubric is estimated by its own length. Panels ask
every member; a cascade asks its first judge about all and the others about at most as many. The one surprising thing:
with one call a criterion the number of calls depends on what a conversation is about, because not every criterion
applies to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

from safetyqc.llm.hosts import EMBEDDED
from safetyqc.llm.prices import count_messages
from safetyqc.records import Conversation, Intent, Message

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.judge.question import Fact
    from safetyqc.llm.client import Client

_PANELS = ("panel", "any-fail", "mean")
_WITHOUT_MODEL = ("trained", "recorded")
_ANSWER_TOKENS = 30
_ANSWER_TOKENS_PER_CRITERION = 100
"""A reason, a quote and a level."""


class Kind(NamedTuple):
    """What a conversation is about; None where the judge has to say it."""

    category: str | None
    intent: Intent | None


@dataclass(frozen=True)
class Asked:
    """A model that a judge asks; `at_most`: about a part of the conversations, which nobody knows before."""

    model: str
    at_most: bool = False


@dataclass(frozen=True)
class AskedOf:
    """What a model is asked of one conversation in one vote: mean calls, and mean tokens of one call."""

    calls: float
    prompt_tokens: int
    answer_tokens: int


def asked_by(config: Config, spec: str) -> list[Asked]:
    """The models that a judge asks; none for the embedded judge and for recorded verdicts."""
    fallback = config.judge.fallback
    asked = _members(spec)
    return [*asked, *([Asked(fallback, at_most=True)] if fallback and asked else [])]


def _members(spec: str) -> list[Asked]:
    spec = spec.strip()
    kind, _, argument = spec.partition(":")
    if spec == EMBEDDED or kind in _WITHOUT_MODEL:
        return []
    if kind in _PANELS:
        return [asked for name in argument.split(",") for asked in _members(name)]
    if kind == "cascade":
        first, *later = argument.split(">")
        return [*_members(first), *(Asked(a.model, at_most=True) for name in later for a in _members(name))]
    return [Asked(spec)]


def judge_name(config: Config, spec: str) -> str:
    """How judgments name the judge of this spec."""
    from safetyqc.judge.table import make_judge
    from safetyqc.rubrics import load_rubric_set

    kind, _, argument = spec.partition(":")
    if kind == "cascade":
        return f"cascade({' > '.join(judge_name(config, name.strip()) for name in argument.split('>'))})"
    return make_judge(spec, load_rubric_set(config.judge.rubric), lambda: cast("Client", None)).name


def question_of(config: Config, kinds: Sequence[Kind]) -> AskedOf:
    """The mean over conversations of these kinds; at least one call each."""
    calls = [call for kind in kinds for call in _calls(config.judge.rubric, kind, config.judge.per_criterion)]
    if not calls:
        return AskedOf(1, 0, 0)
    prompts, answers = zip(*calls, strict=True)
    return AskedOf(len(calls) / len(kinds), round(sum(prompts) / len(calls)), round(sum(answers) / len(calls)))


@cache
def _calls(rubric_name: str, kind: Kind, per_criterion: bool) -> list[tuple[int, int]]:
    """(prompt tokens without the conversation, answer tokens) of every call about such a conversation."""
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(rubric_name)
    criteria = tuple(c.id for c in rubric.applicable(kind.category, kind.intent))
    facts: tuple[Fact, ...] = tuple(fact for fact in ("category", "intent") if getattr(kind, fact) is None)
    if not per_criterion:
        return [_call(rubric_name, kind, criteria, facts)] if criteria or facts else []
    classifying = [_call(rubric_name, kind, (), facts)] if facts else []
    return classifying + [_call(rubric_name, kind, (name,), ()) for name in criteria]


@cache
def _call(rubric_name: str, kind: Kind, criteria: tuple[str, ...], facts: tuple[Fact, ...]) -> tuple[int, int]:
    from safetyqc.judge.question import Question
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(rubric_name)
    messages = (Message(role="user", content="?"), Message(role="assistant", content="."))
    conversation = Conversation(
        id="any", messages=messages, origin="imported", category=kind.category, intent=kind.intent
    )
    question = Question(rubric, tuple(rubric.criterion(name) for name in criteria), conversation, facts, messages)
    prompt = count_messages(question.messages()) + len(json.dumps(question.schema)) // 4
    return prompt, _ANSWER_TOKENS + _ANSWER_TOKENS_PER_CRITERION * len(criteria)
