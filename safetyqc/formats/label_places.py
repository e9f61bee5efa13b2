"""Which conversation a labelled line is about: found by its id, its messages, or its request and answer.

White space aside, a text must be the same; an id whose conversation has another text is an error, since a label of
another data set would be a wrong label. A table may have cut its cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.label_forms import SHAPES, Fields
from safetyqc.formats.turns import is_list_of_turns
from safetyqc.records import Conversation, Message
from safetyqc.text import printable

_EXCHANGE = (("user", "request"), ("assistant", "answer"))
_ROLES = ("user", "assistant")


class Known:
    """The conversations that labels may be for, by id and by text (white space aside)."""

    def __init__(self, conversations: Iterable[Conversation]) -> None:
        self._held: dict[str, Conversation] = {}
        self._by_text: dict[Any, str] = {}
        for conversation in conversations:
            self._held[conversation.id] = conversation
            self._by_text.setdefault(_text_key(conversation.messages, conversation.system), conversation.id)

    @cached_property
    def _by_cell(self) -> dict[str, str]:
        """Ids by what a table shows of them, for where a spreadsheet made a number of an id."""
        return {_squashed(drawn(conversation)): name for name, conversation in reversed(self._held.items())}

    def id_of(self, labelled: Conversation, path: str) -> str:
        """Find the conversation that a labelled one is; its own id when there is none."""
        same_id = self._held.get(labelled.id)
        if same_id and (same_id.messages, same_id.system) == (labelled.messages, labelled.system):
            return labelled.id
        by_text = self._by_text.get(_text_key(labelled.messages, labelled.system))
        if by_text is None and same_id is not None:
            raise _other_text(labelled.id, path, labelled.source.line if labelled.source else None)
        return by_text or labelled.id

    def id_of_fields(self, fields: Fields, path: str, line: int | None) -> str:
        """Find the conversation that a line without a conversation of its own is about.

        Raises:
            InputError: it has neither id nor text, or the id of another text.
        """
        name = str(fields["id"]) if "id" in fields else None
        messages = _messages_of(fields)
        if name is None and messages is None and "conversation" not in fields:
            what = "names no conversation: neither an id nor a request with its answer"
            raise InputError(what, path=path, line=line, fix=SHAPES)
        by_text = self._by_text.get(_text_key(messages, None)) if messages else None
        if by_text is None and name not in self._held and isinstance(cell := fields.get("conversation"), str):
            by_text = self._by_cell.get(_squashed(cell))
        held = self._held.get(name) if name else None
        if held and not (_may_be(held.messages, messages or ()) and _begins(held, fields.get("conversation"))):
            raise _other_text(str(name), path, line)
        return name if held and name else by_text or name or "no id"


def _text_key(messages: Iterable[Message], system: str | None) -> Any:
    return system, tuple((m.role, _squashed(m.content)) for m in messages)


def _messages_of(fields: Fields) -> tuple[Message, ...] | None:
    turns: Any = fields.get("messages")
    if not is_list_of_turns(turns):
        turns = [{"role": role, "content": fields.get(key)} for role, key in _EXCHANGE]
    if all(isinstance(t.get("content"), str) and t["content"] and t.get("role") in _ROLES for t in turns):
        return tuple(Message(role=t["role"], content=t["content"]) for t in turns)
    return None


def _may_be(held: tuple[Message, ...], told: tuple[Message, ...]) -> bool:
    """Whether what is told, perhaps cut, stands in a conversation: a table may tell its first and last turn alone."""
    texts = [_squashed(m.content) for m in held]
    return all(any(text.startswith(_squashed(m.content)) for text in texts) for m in told)


def drawn(conversation: Conversation) -> str:
    """A conversation as a table's cell shows it."""
    turns = [("system", conversation.system)] if conversation.system else []
    turns += [(m.role, m.content) for m in conversation.messages]
    return "\n\n".join(f"{role}: {text}" for role, text in turns)


def _begins(held: Conversation, cell: Any) -> bool:
    """Whether a table's cell, perhaps cut, shows this conversation."""
    return not isinstance(cell, str) or _squashed(drawn(held)).startswith(_squashed(cell))


def _squashed(text: str) -> str:
    return " ".join(printable(text).split())


def _other_text(name: str, path: str, line: int | None) -> InputError:
    fix = "give the labels of this very data, or leave out the id"
    return InputError(
        f"labels {name!r}, but the conversation of that id has another text", path=path, line=line, fix=fix
    )
