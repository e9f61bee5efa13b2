"""A conversation and a guard in, the requests to send out: one for every judged answer and question.

Nothing is asked here. The conversation is hostile text: whatever could end the guard's template early, or begin another
turn in it, is broken up before it is put in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetyqc.judge.guards.file import CONVERSATION
from safetyqc.judge.question import cut
from safetyqc.llm import Request
from safetyqc.records import Message

if TYPE_CHECKING:
    from safetyqc.errors import ModelError
    from safetyqc.judge.guards.file import Guard, Says
    from safetyqc.judge.guards.reading import Answer
    from safetyqc.rubrics import Criterion

_CONTROL = re.compile(r"<\|(?=[^|<>\s]{1,40}\|>)")
"""Begins a control token of most chat templates, such as <|im_end|>."""
_NAMED = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True)
class Asking:
    """One question: what it is about, and what its answer says of which criteria.

    Args:
        values: for the templates.
        says: by criterion.
    """

    values: Mapping[str, str]
    says: Mapping[str, Says]


@dataclass(frozen=True)
class Ask:
    """One request, and the 0-based message index of the answer that it is about (None: the whole conversation)."""

    asking: Asking
    turn: int | None
    request: Request


def askings(guard: Guard, criteria: Sequence[Criterion]) -> list[Asking]:
    """What a guard is asked about each judged answer, for these criteria."""
    if guard.policy is not None:
        return [Asking(_policy(criterion), {criterion.id: guard.policy}) for criterion in criteria]
    says = {c.id: guard.says[c.id] for c in criteria if c.id in guard.says}
    if not says:
        return []
    return [Asking(question.values, says) for question in guard.questions] or [Asking({}, says)]


def _policy(criterion: Criterion) -> dict[str, str]:
    """A criterion in the words of its rubric, as a policy needs them."""
    passes, fails = (
        "\n".join(f"- {level.meaning}" for level in criterion.levels if level.passes is good) for good in (True, False)
    )
    guidance = "\n".join(f"- {line}" for line in criterion.guidance) or "- none"
    return {"question": criterion.question, "passes": passes, "fails": fails, "guidance": guidance}


@dataclass(frozen=True)
class Asks:
    """All requests about one conversation, and how much of its text they leave out or break up."""

    asks: tuple[Ask, ...]
    left_out_chars: int = 0
    broken_markers: int = 0


def build_asks(
    guard: Guard, model: str, messages: Sequence[Message], questions: Sequence[Asking], api_base: str | None, stage: str
) -> Asks:
    """Cut the conversation after each of the assistant's turns, and put every question about each cut."""
    asks: list[Ask] = []
    left_out = broken = 0
    last = len(messages) - 1
    ends = [n for n, m in enumerate(messages) if m.role == "assistant"] if guard.unit == "last_turn" else [last]
    for end in ends:
        start = 0 if guard.turns == "all" else max(end - 1, 0)
        shown, gone = cut(messages[start : end + 1], guard.max_shown_tokens)
        safe = [_defuse(message, guard) for message in shown]
        left_out += gone
        broken += sum(count for _, count in safe)
        turns = [message for message, _ in safe]
        turn = end if guard.unit == "last_turn" else None
        asks += [Ask(asking, turn, _request(guard, model, turns, asking, api_base, stage)) for asking in questions]
    return Asks(tuple(asks), left_out, broken)


def _defuse(message: Message, guard: Guard) -> tuple[Message, int]:
    content, count = _CONTROL.subn("< |", message.content)
    for marker in guard.markers:
        count += content.count(marker)
        content = content.replace(marker, f"{marker[0]} {marker[1:]}")
    return (Message(role=message.role, content=content) if count else message), count


def _request(
    guard: Guard, model: str, turns: Sequence[Message], asking: Asking, api_base: str | None, stage: str
) -> Request:
    values = {**asking.values, **_shown(guard, turns)}
    messages: list[Mapping[str, str]] = []
    for entry in guard.messages:
        if entry == CONVERSATION:
            messages += [{"role": message.role, "content": message.content} for message in turns]
        elif isinstance(entry, Mapping):
            messages += [{"role": role, "content": _fill(template, values)} for role, template in entry.items()]
    return Request(
        model=model,
        messages=tuple(messages),
        max_tokens=guard.max_tokens,
        api_base=api_base,
        stage=stage,
        endpoint=guard.endpoint,
        top_logprobs=guard.top_logprobs,
        extra=_fill_all(guard.extra, values) or None,
    )


def _shown(guard: Guard, turns: Sequence[Message]) -> dict[str, str]:
    said = {role: [m.content for m in turns if m.role == role] for role in ("user", "assistant")}
    transcript = "\n".join(f"{guard.speakers[m.role]}: {m.content}" for m in turns)
    return {
        "user": said["user"][-1] if said["user"] else "",
        "assistant": said["assistant"][-1] if said["assistant"] else "",
        "transcript": transcript,
    }


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in, once: braces inside a value, or around no name of one, stay what they are."""
    return _NAMED.sub(lambda found: values.get(found[1], found[0]), template)


def _fill_all(told: Any, values: Mapping[str, str]) -> Any:
    if isinstance(told, str):
        return _fill(told, values)
    if isinstance(told, Mapping):
        return {key: _fill_all(value, values) for key, value in told.items()}
    return [_fill_all(value, values) for value in told] if isinstance(told, (list, tuple)) else told


@dataclass(frozen=True)
class Heard:
    """One question and what came back: an answer, or why there is none; `text` is what was said, usable or not.

    `turn` is the 0-based message index of the answer that was judged, None for the whole conversation.
    """

    asking: Asking
    turn: int | None
    answer: Answer | ModelError
    text: str = ""
