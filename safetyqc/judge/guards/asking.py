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
from safetyqc.judge.question import cut_with_system
from safetyqc.llm import Request
from safetyqc.records import Message

if TYPE_CHECKING:
    from safetyqc.errors import ModelError
    from safetyqc.judge.guards.file import Guard, Says
    from safetyqc.judge.guards.reading import Answer
    from safetyqc.records import Conversation
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
    guard: Guard, model: str, conversation: Conversation, questions: Sequence[Asking], api_base: str | None, stage: str
) -> Asks:
    """Cut the conversation after each of the assistant's turns, and put every question about each cut.

    A system message is shown, as the setting, to a guard that has a place for it.
    """
    asks: list[Ask] = []
    left_out = broken = 0
    messages, system = conversation.messages, conversation.system if guard.setting else None
    last = len(messages) - 1
    ends = [n for n, m in enumerate(messages) if m.role == "assistant"] if guard.unit == "last_turn" else [last]
    for end in ends:
        start = 0 if guard.turns == "all" else max(end - 1, 0)
        part = conversation.model_copy(update={"messages": messages[start : end + 1], "system": system})
        told, shown, gone = cut_with_system(part, guard.max_shown_tokens)
        (led, marked), *safe = [_defuse(text, guard) for text in (told or "", *(m.content for m in shown))]
        left_out += gone
        broken += marked + sum(count for _, count in safe)
        turns = [Message(role=m.role, content=text) for m, (text, _) in zip(shown, safe, strict=True)]
        setting = _fill(guard.setting, {"system": led}) if led else ""
        turn = end if guard.unit == "last_turn" else None
        for asking in questions:
            values = {**asking.values, **_shown(guard, turns), "setting": setting}
            asks.append(Ask(asking, turn, _request(guard, turns, values, model, api_base, stage)))
    return Asks(tuple(asks), left_out, broken)


def _defuse(text: str, guard: Guard) -> tuple[str, int]:
    """Break up what could end the template, and count it."""
    text, count = _CONTROL.subn("< |", text)
    for marker in guard.markers:
        count += text.count(marker)
        text = text.replace(marker, f"{marker[0]} {marker[1:]}")
    return text, count


def _request(
    guard: Guard, turns: Sequence[Message], values: Mapping[str, str], model: str, api_base: str | None, stage: str
) -> Request:
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
