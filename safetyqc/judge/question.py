"""One conversation and the criteria to ask of it, worded as the messages and the JSON schema of one model call.

Both derive from the rubric, so they cannot disagree with each other. Reading the answer is `answer.py`'s business.
The one surprising thing: an example that *is* the conversation being judged is left out of the prompt, so that testing
a rubric on its own examples is no open-book exam.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.llm.client import Schema
from safetyqc.prompts import fence, number_turns, prompt_hash, render
from safetyqc.records import Message, canonical_json, content_hash
from safetyqc.text import CJK, guess_language

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from safetyqc.records import Conversation
    from safetyqc.rubrics import Criterion, Example, RubricSet

Fact = Literal["category", "intent"]
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
    """

    rubric_set: RubricSet
    criteria: tuple[Criterion, ...]
    conversation: Conversation
    classify: tuple[Fact, ...]
    shown: tuple[Message, ...]
    with_examples: bool = True
    max_reason_chars: int | None = None

    def conditions(self, criterion: Criterion) -> tuple[str, ...]:
        """Conditions that decide whether the criterion is asked at all, each with its intent where that is open."""
        applicability = criterion.applicability(self.conversation.category, self.conversation.intent)
        if applicability == "conditional":
            return (criterion.condition(self.conversation.intent) or "",)
        if applicability == "unknown":
            pairs = [(intent, criterion.condition(intent)) for intent in criterion.applies_to.intents]
            return tuple(f"if the intent is {intent}: {text}" for intent, text in pairs if text)
        return ()

    @cached_property
    def _asked(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Criteria and conditions, by which questions differ: the schema and the messages are kept under them."""
        return tuple((c.id, self.conditions(c)) for c in self.criteria)

    @property
    def schema(self) -> Schema:
        """JSON schema of the answer: facts first, then for every criterion its reason, quote, turn and level."""
        key = (self.rubric_set.hash, self._asked, self.classify, len(self.shown), self.max_reason_chars)
        return _schema(_Keyed(key, self))

    def make_schema(self) -> Schema:
        """Derive the schema; a quarter of a millisecond, so `schema` keeps what it made."""
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
        system = _system_message(_Keyed(self._wording_key(), self))
        return ({"role": "system", "content": system}, {"role": "user", "content": self._user_message()})

    def _wording_key(self) -> tuple[Hashable, ...]:
        """All that the system message depends on: hardly any two conversations of a run differ in it."""
        key = (self.rubric_set.hash, self._asked, self.classify)
        if not self.with_examples:
            return key
        texts = tuple(m.content for m in self.conversation.messages)
        is_example = any(texts in c.example_texts for c in self.criteria)
        return (*key, guess_language(" ".join(texts)), texts if is_example else None)

    def system_message(self) -> str:
        """Word the questions; milliseconds for a long rubric, so `messages` keeps what it made."""
        asked = [Asked(c, self.conditions(c), self._examples(c)) for c in self.criteria]
        return render(
            "judge_system",
            classify=self.classify,
            categories=self.rubric_set.categories,
            intents=self.rubric_set.intents,
            criteria=asked,
            conditional=any(a.conditions for a in asked),
        )

    def _user_message(self) -> str:
        # The marker's salt is the rubric's hash: a text can know neither it nor, before it is written, its own hash
        marker, fenced = fence(number_turns(self.shown), salt=self.rubric_set.hash)
        # A category that the rubric does not know came from a file and may itself be hostile
        category = self.conversation.category if self.conversation.category in self.rubric_set.categories else None
        wanted = ", ".join([*self.classify, *(c.id for c in self.criteria)])
        key = (self.rubric_set.hash, category, self.conversation.intent, len(self.shown), wanted)
        before, after = _around(_Keyed(key, self))
        return f"{before.replace(_MARKER, marker)}{fenced}{after}"

    def words_around(self, category: str | None, turns: int, wanted: str) -> tuple[str, str]:
        """Word what stands before and after the fenced conversation, with `_MARKER` where its marker is named."""
        intent, told = self.conversation.intent, self.rubric_set
        before, _, after = render(
            "judge_user",
            intent=intent,
            intent_meaning=told.intents.get(intent, "") if intent else "",
            category=category,
            category_meaning=told.categories.get(category, "") if category else "",
            turns=turns,
            marker=_MARKER,
            fenced=_FENCED,
            wanted=wanted,
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


@lru_cache(maxsize=512)
def _system_message(keyed: _Keyed) -> str:
    return keyed.question.system_message()


@lru_cache(maxsize=512)
def _around(keyed: _Keyed) -> tuple[str, str]:
    _, category, _, turns, wanted = keyed.key
    return keyed.question.words_around(category, turns, wanted)


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


@cache
def wording_hash() -> str:
    """Hash of the judge's prompt texts (the rubric has its own hash)."""
    return content_hash([prompt_hash("judge_system"), prompt_hash("judge_user")])[:16]


def estimate_tokens(text: str) -> int:
    """Guess tokens without a tokenizer: one for a CJK character, one for 3.5 others; errs on the high side."""
    cjk = len(CJK.findall(text))
    return cjk + int((len(text) - cjk) / 3.5) + 1


def cut(messages: Sequence[Message], max_tokens: int) -> tuple[tuple[Message, ...], int]:
    """Shorten the longest turns in their middle until the whole fits.

    Returns:
        (messages with their numbers unchanged, characters left out). Every turn keeps its beginning and its end.
    """
    if sum(len(m.content) + 1 for m in messages) <= max_tokens:  # a token is at least one character
        return tuple(messages), 0
    sizes = [estimate_tokens(m.content) for m in messages]
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


def _level_off(sizes: Sequence[int], total: int) -> int:
    """The largest size to which all longer ones must be cut so that the sum fits."""
    rest, count = total, len(sizes)
    for size in sorted(sizes):
        if size * count > rest:
            break
        rest, count = rest - size, count - 1
    return max(rest // max(count, 1), 8)
