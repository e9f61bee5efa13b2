"""Turns -> one conversation, or what is wrong with them; and what a form that a record may have is made of.

A new form is a file with a `RecordForm` and a line in `READERS` (readers.py): its `read` brings the record to turns
with `role` and `content` and hands them to `read_turns`, with whatever stood beside them. Nothing that stands there is
lost: what has no field of its own is kept in `meta`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetyqc.records import INTENTS, Conversation, Intent, Message, Source
from safetyqc.results.findings import BadKind, BadLine, StructureKind
from safetyqc.text import printable

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
LISTS = ("messages", "conversations", "conversation")
_TURN_KEYS = frozenset({"role", "content", "from", "value"})

INTENT_OF_SCENARIO_TYPE: dict[str, Intent] = {
    "harmful_refusal": "harmful",
    "jailbreak_refusal": "harmful",
    "borderline_clarify": "borderline",
    "benign_allow": "benign",
}
"""`scenario_type` of the bilingual nanochat fork -> intent."""

CATEGORY_OF_RISK: dict[str, str] = {
    "self_harm": "self_harm_support",
    "violence": "violence_or_crime",
    "extremism": "violence_or_crime",
    "fraud": "violence_or_crime",
    "cyber": "cybercrime_or_hacking",
    "hate": "hate_or_harassment",
    "sexual": "sexual_or_minors",
    "drugs": "drugs_or_weapons",
    "weapons": "drugs_or_weapons",
    "privacy": "privacy_and_personal_data",
}
"""`risk_category` of the same fork -> category; its `other` says too little and is left open."""


@dataclass(frozen=True)
class RecordForm:
    """One form of a record: whether a JSON value has it, and how it is read.

    Args:
        read: the conversation, or what is wrong with it; an id that is left empty is made from the text.
    """

    matches: Callable[[Any], bool]
    read: Callable[[Any, Source], Conversation | BadLine]


@dataclass(frozen=True)
class StructureProblem:
    """Why messages are no conversation, and how to mend it."""

    kind: StructureKind
    what: str
    fix: str


def structure_problem(messages: Sequence[Mapping[str, Any]]) -> StructureProblem | None:
    """Find the first thing that keeps messages from alternating, as non-empty texts, from user to assistant."""
    if len(messages) < 2:
        return StructureProblem(
            "too_few_messages", f"has {len(messages)} message(s)", "a conversation needs a user's turn and an answer"
        )
    for number, message in enumerate(messages, 1):
        problem = _turn_problem(message, number, messages[number - 2] if number > 1 else None)
        if problem:
            return problem
    if messages[-1]["role"] == "user":
        return StructureProblem(
            "ends_with_user",
            f"ends with the user's message {len(messages)}, which nobody answers",
            "drop the last message or add the answer",
        )
    return None


def read_turns(turns: list[Any], extra: dict[str, Any], source: Source) -> Conversation | BadLine:
    """Make a conversation of turns (`role` and `content`, or `from` and `value`) and of what stood beside them."""
    meta: dict[str, Any] = {}
    if not is_list_of_turns(turns):
        what = "holds an item that is no turn" if turns else "has 0 messages"
        return bad_line(
            source, "not_conversation" if turns else "too_few_messages", what, f"{EXPECTED} (see docs/formats.md)"
        )
    messages = [_plain_turn(turn) for turn in turns]
    if messages[0]["role"] == "system":
        meta["system"], messages, turns = messages[0]["content"], messages[1:], turns[1:]
    if problem := structure_problem(messages):
        return bad_line(source, problem.kind, problem.what, problem.fix)
    if aside := {str(i): keys for i, turn in enumerate(turns) if (keys := _extra_keys(turn))}:
        meta["message_keys"] = aside
    return _with_fields(tuple(Message(**m) for m in messages), extra, meta, source)


def _with_fields(
    messages: tuple[Message, ...], extra: dict[str, Any], meta: dict[str, Any], source: Source
) -> Conversation:
    """Sort what stands beside the messages into fields of the record; everything else goes to `meta`."""
    fields = _flatten(extra)
    own_id = fields.get("id")
    has_id = isinstance(own_id, (str, int)) and not isinstance(own_id, bool) and str(own_id).strip() != ""
    category, intent, language = fields.get("category"), _intent(fields), _language(fields)
    used = {
        "id": has_id,
        "category": isinstance(category, str),
        "intent": intent is not None,
        "kind": intent is not None and "intent" not in fields,
        "language": language is not None and fields.get("language") == language,
    }
    return Conversation(
        id=str(own_id) if has_id else "",
        messages=messages,
        category=category if isinstance(category, str) else CATEGORY_OF_RISK.get(str(fields.get("risk_category"))),
        intent=intent,
        language=language,
        source=source,
        meta={**{k: v for k, v in fields.items() if not used.get(k)}, **meta},
    )


def _flatten(extra: dict[str, Any]) -> dict[str, Any]:
    """Lift the keys of a `meta` or `metadata` object beside the others, unless one of that name is there."""
    fields = {k: v for k, v in extra.items() if k not in ("meta", "metadata")}
    for name in ("meta", "metadata"):
        inner = extra.get(name)
        if isinstance(inner, dict):
            clash = {k: v for k, v in inner.items() if k in fields}
            fields |= {k: v for k, v in inner.items() if k not in clash}
            if clash:
                fields[name] = clash
        elif inner is not None:
            fields[name] = inner
    return fields


def _intent(fields: dict[str, Any]) -> Intent | None:
    for key in ("intent", "kind"):
        value = fields.get(key)
        found = next((i for i in INTENTS if isinstance(value, str) and value.strip().casefold() == i), None)
        if found or value is not None:
            return found
    return INTENT_OF_SCENARIO_TYPE.get(str(fields.get("scenario_type")))


def _language(fields: dict[str, Any]) -> str | None:
    """Bring `language`, `lang` or `language_style` to a two-letter code where it is one; None where it is not."""
    value = next((v for k in ("language", "lang", "language_style") if isinstance(v := fields.get(k), str)), "")
    plain = value.strip().casefold()
    names = {"english": "en", "chinese": "zh", "mandarin": "zh", "中文": "zh", "英文": "en"}
    code = re.fullmatch(r"([a-z]{2,3})([-_].*)?", plain)
    return names.get(plain) or (code.group(1) if code else None)


def _plain_turn(turn: dict[str, Any]) -> dict[str, Any]:
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        content = "".join(part["text"] for part in content)
    return {"role": _ROLES.get(str(role).strip().casefold(), role), "content": content}


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "input_text", "output_text") and _has_text(part)


def _has_text(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str)


def _extra_keys(turn: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in turn.items() if k not in _TURN_KEYS and v is not None}


def _turn_problem(message: Mapping[str, Any], number: int, before: Mapping[str, Any] | None) -> StructureProblem | None:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        fix = "a system message may only come first" if role == "system" else "use the roles user and assistant"
        return StructureProblem("unknown_role", f"message {number} has the role {role!r}", fix)
    if not isinstance(content, str):
        what = f"message {number} ({role}) holds {json_type(content)}, not text"
        return StructureProblem("not_text", what, "write its text as a string; drop images and tool calls")
    if not printable(content).strip():
        return StructureProblem("empty_message", f"message {number} ({role}) is empty", "drop the record or fill it")
    if before is None and role == "assistant":
        return StructureProblem(
            "starts_with_assistant", "message 1 is the assistant's", "the first message must be the user's"
        )
    if before is not None and before["role"] == role:
        what = f"messages {number - 1} and {number} are both the {role}'s"
        return StructureProblem("no_alternation", what, "join the two, or drop one")
    return None


def is_turn(value: Any) -> bool:
    """Whether a value is one turn, rather than a record that holds some."""
    return isinstance(value, dict) and ("role" in value or "from" in value) and not value.keys() & set(LISTS)


def is_list_of_turns(value: Any) -> bool:
    """Whether a value is turns and nothing else."""
    return isinstance(value, list) and bool(value) and all(is_turn(turn) for turn in value)


EXPECTED = 'write it as {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


def json_type(value: Any) -> str:
    """Name what a JSON value is, for people."""
    names = {type(None): "null", bool: "true/false", str: "text", dict: "an object", list: "a list"}
    return names.get(type(value), "number")


def bad_line(source: Source, kind: BadKind, what: str, fix: str) -> BadLine:
    """Say what is wrong with the record at this place, and how to mend it."""
    return BadLine(path=source.path, line=source.line or 0, index=source.index, kind=kind, what=what, fix=fix)
