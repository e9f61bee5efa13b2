"""One conversation and the criteria to ask of it, worded as the messages and the JSON schema of one model call.

Both derive from the rubric, so they cannot disagree with each other. Reading the answer is `answer.py`'s business.
An example that *is* the conversation being judged is left out of the prompt, so that testing
a rubric on its own examples is no open-book exam.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.judge.wordings import SHIPPED, Wording
from safetyqc.llm.client import Schema
from safetyqc.llm.prices import count_tokens
from safetyqc.prompts import fence, number_turns, render
from safetyqc.records import Message, canonical_json
from safetyqc.text import guess_language

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from safetyqc.records import Conversation
    from safetyqc.rubrics import Criterion, Example, RubricSet

Fact = Literal["category", "intent"]
CHARS_PER_TOKEN = 3.5
"""Errs on the high side: what is shown of a conversation must fit."""
_FEW = 1
"""Examples shown per level: more would crowd small contexts out."""
_MARKER, _FENCED = "\0marker", "\0conversation"
"""Stand for what differs between conversations while the rest of a prompt is worded; no rubric's text holds a NUL."""


@dataclass(frozen=True)
class Asked:
    """A criterion as one prompt shows it."""

    criterion: Criterion
    conditions: tuple[str, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What one call asks.

    Args:
        criteria: what to ask; may be empty when only facts are asked.
        classify: facts about the conversation that nobody planned and the judge must say first.
        shown: the messages, cut where they were too long; the quote check uses the conversation itself.
        max_reason_chars: enforced by the schema where a grammar decodes it (models that ramble); None to leave it out.
        wording: which of the equal ways to ask.
    """

    rubric_set: RubricSet
    criteria: tuple[Criterion, ...]
    conversation: Conversation
    classify: tuple[Fact, ...]
    shown: tuple[Message, ...]
    with_examples: bool = True
    max_reason_chars: int | None = None
    wording: Wording = SHIPPED
    system: str | None = None
    """The system message as it is shown, where there is one."""

    def conditions(self, criterion: Criterion) -> tuple[str, ...]:
        """Conditions that decide whether the criterion is asked at all, each with its intent where that is open."""
        applicability = criterion.applicability(self.conversation.category, self.conversation.intent)
        if applicability == "conditional":
            return (criterion.condition(self.conversation.intent) or "",)
        if applicability == "unknown":
            pairs = [(intent, criterion.condition(intent)) for intent in criterion.applies_to.intents]
            return tuple(f"if the intent is {intent}: {text}" for intent, text in pairs if text)
        return ()

    @property
    def schema(self) -> Schema:
        """JSON schema of the answer: facts first, then for every criterion its reason, quote, turn and level."""
        return self._wording.schema

    @cached_property
    def _wording(self) -> _Wording:
        """Found under what can change it; a category that the rubric does not know is any other such one."""
        told, known = self.conversation, self.rubric_set.categories
        category = told.category if told.category is None or told.category in known else ""
        about = (tuple(c.id for c in self.criteria), category, told.intent, self.classify, len(self.shown))
        key = (self.rubric_set.hash, about, self.max_reason_chars, self._shown_examples(), self.wording)
        return _wording(_Keyed(key, self))

    def make_wording(self) -> _Wording:
        """Word all but the conversation itself; the long system message is the same for many kinds."""
        asked = tuple((c.id, self.conditions(c)) for c in self.criteria)
        key = (self.rubric_set.hash, asked, self.classify)
        before, after = self._words_around()
        return _Wording(
            _system_message(_Keyed((*key, self._shown_examples(), self.wording), self)),
            before,
            after,
            _schema(_Keyed((*key, len(self.shown), self.max_reason_chars), self)),
        )

    def _shown_examples(self) -> Hashable:
        """What the choice of examples depends on: hardly any two conversations of a run differ in it."""
        if not self.with_examples:
            return None
        texts = tuple(m.content for m in self.conversation.messages)
        is_example = any(texts in c.example_texts for c in self.criteria)
        return guess_language(" ".join(texts)), texts if is_example else None

    def make_schema(self) -> Schema:
        """Derive the schema from the rubric; `schema` keeps what it made."""
        properties: dict[str, Any] = {}
        for fact in self.classify:
            words = self.rubric_set.categories if fact == "category" else self.rubric_set.intents
            properties[fact] = {"type": "string", "enum": list(words)}
        for criterion in self.criteria:
            properties[criterion.id] = self._entry(criterion)
        return Schema(_object(properties))

    def _entry(self, criterion: Criterion) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "string"}
        if self.max_reason_chars is not None:
            text["maxLength"] = self.max_reason_chars
        turns = [i for i in range(len(self.shown)) if criterion.unit == "conversation" or i % 2]
        applies: dict[str, Any] = {"applies": {"type": "boolean"}} if self.conditions(criterion) else {}
        return _object(
            applies
            | {
                "reason": text,
                "quote": text,
                "turn": {"type": "integer", "enum": turns},
                "level": {"type": "string", "enum": [level.name for level in criterion.levels]},
            }
        )

    def messages(self) -> tuple[dict[str, str], ...]:
        """The prompt: what does not change between conversations first, so that servers can reuse it."""
        wording = self._wording
        # The marker's salt is the rubric's hash: a text can know neither it nor, before it is written, its own hash
        marker, fenced = fence(number_turns(self.shown, self.system), salt=self.rubric_set.hash)
        user = f"{wording.before.replace(_MARKER, marker)}{fenced}{wording.after}"
        return ({"role": "system", "content": wording.system}, {"role": "user", "content": user})

    def system_message(self) -> str:
        """Word the questions; milliseconds for a long rubric, so what was made is kept."""
        asked = [Asked(self.wording.reword(c), self.conditions(c), self._examples(c)) for c in self.criteria]
        return render(
            f"{self.wording.prompt}_system",
            classify=self.classify,
            categories=self.rubric_set.categories,
            intents=self.rubric_set.intents,
            criteria=asked,
            conditional=any(a.conditions for a in asked),
        )

    def _words_around(self) -> tuple[str, str]:
        """Word what stands before and after the fenced conversation, with `_MARKER` where its marker is named."""
        intent, told = self.conversation.intent, self.rubric_set
        # A category that the rubric does not know came from a file and may itself be hostile
        category = self.conversation.category if self.conversation.category in told.categories else None
        before, _, after = render(
            f"{self.wording.prompt}_user",
            intent=intent,
            intent_meaning=told.intents.get(intent, "") if intent else "",
            category=category,
            category_meaning=told.categories.get(category, "") if category else "",
            turns=len(self.shown),
            marker=_MARKER,
            fenced=_FENCED,
            wanted=", ".join([*self.classify, *(c.id for c in self.criteria)]),
        ).partition(_FENCED)
        return before, after

    def _examples(self, criterion: Criterion) -> tuple[str, ...]:
        if not self.with_examples:
            return ()
        texts = tuple(m.content for m in self.conversation.messages)
        language = guess_language(" ".join(texts))
        others = [e for e in criterion.examples if e.texts != texts]
        chosen = []
        for level in criterion.levels:
            of_level = [e for e in others if e.level == level.name]
            of_level.sort(key=lambda e: guess_language(e.conversation.messages[0].content) != language)
            chosen.extend(of_level[:_FEW])
        return tuple(_example(e) for e in chosen)


@dataclass(frozen=True)
class _Keyed:
    """A question, equal to every other one of which the same thing is to be made."""

    key: tuple[Any, ...]
    question: Question = field(compare=False)


@dataclass(frozen=True)
class _Wording:
    """What questions have in common that differ in nothing but the conversation's text."""

    system: str
    before: str
    after: str
    schema: Schema


@lru_cache(maxsize=512)
def _wording(keyed: _Keyed) -> _Wording:
    return keyed.question.make_wording()


@lru_cache(maxsize=512)
def _system_message(keyed: _Keyed) -> str:
    return keyed.question.system_message()


@lru_cache(maxsize=512)
def _schema(keyed: _Keyed) -> Schema:
    return keyed.question.make_schema()


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _example(example: Example) -> str:
    turns = " / ".join(f"[{i}] {m.role}: {m.content}" for i, m in enumerate(example.conversation.messages))
    answer = {"reason": example.why, "quote": example.quote, "turn": example.turn or 1, "level": example.level}
    return f"- {turns}\n  -> {_spaced_json(answer)}"


def _spaced_json(value: dict[str, Any]) -> str:
    # In the schema's order, not sorted: the example must show reason before level
    return "{" + ", ".join(f"{canonical_json(key)}: {canonical_json(item)}" for key, item in value.items()) + "}"


def cut(messages: Sequence[Message], max_tokens: int) -> tuple[tuple[Message, ...], int]:
    """Shorten the longest turns in their middle until the whole fits.

    Returns:
        (messages with their numbers unchanged, characters left out). Every turn keeps its beginning and its end.
    """
    if sum(len(m.content) + 1 for m in messages) <= max_tokens:  # a token is at least one character
        return tuple(messages), 0
    sizes = [count_tokens(m.content, CHARS_PER_TOKEN) for m in messages]
    if sum(sizes) <= max_tokens:
        return tuple(messages), 0
    limit = _level_off(sizes, max_tokens)
    shortened, left_out = [], 0
    for message, size in zip(messages, sizes, strict=True):
        if size <= limit:
            shortened.append(message)
            continue
        keep = max(int(len(message.content) * limit / size), 2)
        gone = len(message.content) - keep
        left_out += gone
        head, tail = message.content[: (keep + 1) // 2], message.content[len(message.content) - keep // 2 :]
        shortened.append(Message(role=message.role, content=f"{head}\n[... {gone} characters left out ...]\n{tail}"))
    return tuple(shortened), left_out


def cut_with_system(conversation: Conversation, max_tokens: int) -> tuple[str | None, tuple[Message, ...], int]:
    """Do what `cut` does for a system message and the messages together."""
    if conversation.system is None:
        return (None, *cut(conversation.messages, max_tokens))
    led = (Message(role="user", content=conversation.system), *conversation.messages)
    (system, *shown), left_out = cut(led, max_tokens)
    return system.content, tuple(shown), left_out


def _level_off(sizes: Sequence[int], total: int) -> int:
    """The largest size to which all longer ones must be cut so that the sum fits."""
    rest, count = total, len(sizes)
    for size in sorted(sizes):
        if size * count > rest:
            break
        rest, count = rest - size, count - 1
    return max(rest // max(count, 1), 8)
