"""The JSON in which a model writes a whole conversation, the check that it is one, and where an endless turn may end.

Reading mends nothing: a text that carries packaging (chat-template tokens, a role name in front) is refused with its
place, so that the model is asked again. A model that declines to write at all does so inside
the object it was asked for; that is told apart from an assistant that declines inside the conversation.
"""

from __future__ import annotations

import re
from typing import Any

from safetyqc.errors import ModelError
from safetyqc.records import Message, Role
from safetyqc.text import normalise, printable, shorten

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": ["user", "assistant"]},
                    "content": {"type": "string"},
                },
                "required": ["role", "content"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["messages"],
    "additionalProperties": False,
}
"""Schema of a written conversation."""

_PACKAGING = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^\s*(?:\[\d+\]\s*)?(?:user|human|assistant|用户|助手)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_WILL_NOT_WRITE = re.compile(
    r"\b(?:can(?:no|')?t|won't|will not|unable to|not able to|not comfortable|must decline to)\b[^.!?\n]{0,60}"
    r"\b(?:(?:re)?writ|creat|generat|produc|simulat|continu|rephras|play|complet|role[- ]?play)\w*\b[^.!?\n]{0,60}"
    r"\b(?:conversation|dialog(?:ue)?|scenario|role|user'?s? (?:message|turn)s?|(?:next|first|this) message)"
    r"|(?:无法|不能|不会|拒绝)[^。！？\n]{0,20}(?:生成|编写|改写|撰写|创作|扮演|续写)[^。！？\n]{0,20}(?:对话|角色|场景|消息)",
    re.IGNORECASE,
)


_SENTENCE = re.compile(r"[^.!?。！？]*[.!?。！？]+[\"'”’)]*\s*")
_LIST_NUMBER_AT_END = re.compile(r"\n\s*\d+\.\s*\Z")


def declines_to_write(text: str) -> bool:
    """Whether a model declines to write the conversation, rather than declining inside of it."""
    return bool(_WILL_NOT_WRITE.search(text[:400].replace("’", "'")))


def read_messages(value: dict[str, Any]) -> tuple[Message, ...]:
    """Turn `{"messages": [...]}` into messages that alternate from the user to a last answer.

    Raises:
        ValueError: fewer than 2 messages, an odd number, a role out of turn, an empty text, or one with packaging.
        ModelError: `refused_by_model`, when the first message declines to write a conversation.
    """
    raw = value["messages"]
    if raw and declines_to_write(raw[0]["content"]):
        raise ModelError("refused_by_model", shorten(raw[0]["content"], 200))
    if len(raw) < 2 or len(raw) % 2:
        raise ValueError(f"{len(raw)} messages; it takes an even number, 2 or more, the last by the assistant")
    return tuple(_read_message(turn, index) for index, turn in enumerate(raw))


def _read_message(turn: dict[str, str], index: int) -> Message:
    role: Role = "user" if index % 2 == 0 else "assistant"
    if turn["role"] != role:
        raise ValueError(f"messages[{index}] is by {turn['role']!r}; roles alternate, here it is the {role}'s turn")
    content = printable(turn["content"]).strip()
    if not content:
        raise ValueError(f"messages[{index}] has no text")
    if packaging := _PACKAGING.search(content):
        raise ValueError(f"messages[{index}] holds {packaging.group().strip()!r}; write the text alone")
    return Message(role=role, content=content)


def whole_sentences(text: str) -> str:
    """Keep what stands before an unfinished last sentence, and before the first sentence that was said already."""
    kept, said = "", set()
    for sentence in _SENTENCE.findall(text):
        if normalise(sentence) in said:
            break
        said.add(normalise(sentence))
        kept += sentence
    return _LIST_NUMBER_AT_END.sub("", kept).strip()
