"""Cleans what a model wrote for one turn, and says why a text cannot be that turn.

Deterministic and pure. It mends only what is plainly packaging (role names, chat-template tokens, quotation marks
around the whole, a remark before the text); wording is never touched. Whether a conversation is any good is for
filters and judges to say. A text that goes on to write the other side's turn is cut there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from safetyqc.generate.dialogue import declines_to_write, read_messages
from safetyqc.generate.entries import Language
from safetyqc.records import Message, Role
from safetyqc.text import CJK, fold_to_ascii, guess_language, normalise, printable, shorten

LONGEST_USER_TURN = 1200
"""Characters; longer ones are a model that writes on and on."""
_TOLD_APART = ("en", "zh")
"""The languages that a text's script tells; of any other one, what was written is taken as it comes."""
_SHORTEST_REPETITION = 20
"""Characters from which a user turn counts as repeated when it stands inside an earlier message."""

_LABEL = (
    r"(?:\*\*|__|\[|#+\s*)?(?:{names})(?:\s*\d+)?(?:'s (?:next |first )?message)?(?:\*\*|__|\])?\s*[:：]\s*(?:\*\*|__)?"
)
_USER_NAMES = "user|human|person|customer|me|用户|使用者|人类"
_ASSISTANT_NAMES = "ai assistant|assistant|ai|bot|chatbot|model|助手|助理|机器人"
_OWN_LABEL = {
    "user": re.compile(rf"\A\s*{_LABEL.format(names=_USER_NAMES)}", re.IGNORECASE),
    "assistant": re.compile(rf"\A\s*{_LABEL.format(names=_ASSISTANT_NAMES)}", re.IGNORECASE),
}
_ANY_LABEL_LINE = re.compile(
    rf"^\s*{_LABEL.format(names='user|human|assistant|ai assistant|用户|助手')}", re.IGNORECASE | re.MULTILINE
)
_TEMPLATE_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
)
_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_REMARK_BEFORE = re.compile(
    r"\A(?:sure|of course|certainly|okay|ok|here)\b[^\n:]{0,80}"
    r"\b(?:message|question|reply|response|request|turn)\b[^\n:]{0,40}:\s*",
    re.IGNORECASE,
)
_REMARK_LINE = re.compile(
    r"^\s*(?:\((?:note|ooc|the user)[^)\n]*\)|\[(?:note|ooc)[^\]\n]*\])\s*$", re.IGNORECASE | re.MULTILINE
)
_QUOTED = ('"', '"'), ("“", "”"), ("'", "'"), ("「", "」"), ("‘", "’"), ("`", "`")
_AS_ASSISTANT = re.compile(
    r"\bas an ai\b|\bi'?m (?:just )?an ai\b|\bhow (?:can|may) i (?:help|assist) you\b"
    r"|\A\W*i'?m (?:really |very |so )?sorry,? (?:but|to hear)"
    r"|\A\W*i (?:can(?:no|')t|won't) (?:help|assist|provide|support)"
    r"|\A\W*i understand (?:that you|your|how you)|\A\W*i'?m here to (?:help|listen|support)"
    r"|\A\W*it'?s (?:important|understandable) (?:to|that)"
    r"|作为(?:一个|一名)?(?:AI|人工智能)|有什么(?:可以|能)帮(?:助)?(?:你|您)|\A\W*(?:很抱歉|抱歉|对不起)，?我(?:无法|不能)",
    re.IGNORECASE,
)
_ABOUT_THE_TASK = re.compile(
    r"\b(?:training data|fine[- ]?tun\w+|the scenario|the user (?:will|would|wants|is|asks)|the next message)\b",
    re.IGNORECASE,
)


def clean(text: str, role: Role, language: Language) -> str:
    """Take the packaging off one turn; may come out empty."""
    text = _THINKING.sub("", printable(text)).strip()
    if token := _TEMPLATE_TOKEN.search(text):
        # A leading token opens the turn, any other one ends it
        text = _TEMPLATE_TOKEN.sub("", text) if token.start() == 0 else text[: token.start()]
    text = _OWN_LABEL[role].sub("", _REMARK_BEFORE.sub("", text.strip()) if role == "user" else text.strip())
    if other := _ANY_LABEL_LINE.search(text):
        text = text[: other.start()]
    text = _unquote(_REMARK_LINE.sub("", text).strip())
    return (fold_to_ascii(text) if language.ascii else text).strip()


def _unquote(text: str) -> str:
    for opening, closing in _QUOTED:
        inner = text[1:-1]
        if len(text) > 2 and text[0] == opening and text[-1] == closing and not {opening, closing} & set(inner):
            return inner.strip()
    return text


def why_not_a_user_turn(text: str, before: Sequence[Message], language: Language) -> str | None:
    """Say why a cleaned text cannot be what the user says next, or None when it can."""
    plain = text.replace("’", "'")
    if not text:
        return "empty"
    if declines_to_write(plain):
        return "the author refused to write it"
    if len(text) > LONGEST_USER_TURN:
        return f"{len(text)} characters long"
    if hit := _AS_ASSISTANT.search(plain) or _ABOUT_THE_TASK.search(plain):
        return f"not the user's voice: {shorten(hit.group(), 40)!r}"
    expected = language.name.split("-")[0]
    if expected in _TOLD_APART and guess_language(text) != expected and _has_letters(text):
        return f"not in {language.name}"
    if any(_repeats(text, message.content) for message in before):
        return "repeats an earlier message"
    if before and _echoes(text, before[-1].content):
        return "echoes the assistant's answer"
    return None


def why_not_an_answer(text: str, prompt: str) -> str | None:
    """Say why a cleaned text cannot be what the assistant says, or None when it can."""
    if not text:
        return "it has no text"
    if _echoes(text, prompt):
        return f"it recites the prompt: {shorten(text, 80)!r}"
    return None


def _repeats(text: str, earlier: str) -> bool:
    said, before = normalise(text).rstrip(".!?。！？"), normalise(earlier)
    return said == before.rstrip(".!?。！？") or (len(said) > _SHORTEST_REPETITION and said in before)


def _has_letters(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]", text) or CJK.search(text))


def _echoes(text: str, answer: str, most: float = 0.6, run: int = 4) -> bool:
    """Whether most runs of four words (characters in CJK text) of a text stand in the answer before it."""
    words, heard = _units(text), _units(answer)
    runs = [tuple(words[i : i + run]) for i in range(len(words) - run + 1)]
    known = {tuple(heard[i : i + run]) for i in range(len(heard) - run + 1)}
    return len(runs) >= run and sum(piece in known for piece in runs) > most * len(runs)


def _units(text: str) -> list[str]:
    return re.findall(rf"{CJK.pattern}|\w+", normalise(text))


def read_conversation(value: dict[str, Any], language: Language, prompt: str) -> tuple[Message, ...]:
    """Turn `{"messages": [...]}` into cleaned messages; has the errors of `dialogue.read_messages`.

    Raises:
        ValueError: also when the assistant recites the prompt.
    """
    turns = [{**turn, "content": clean(turn["content"], turn["role"], language)} for turn in value["messages"]]
    messages = read_messages({"messages": turns})
    for index, message in enumerate(messages):
        if message.role == "assistant" and (why := why_not_an_answer(message.content, prompt)):
            raise ValueError(f"messages[{index}]: {why}")
    return messages
