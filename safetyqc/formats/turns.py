"""Turns -> one conversation, or what is wrong with them.

Turns have `role` and `content`, or `from` and `value`; a key that is null is one that is not there. Nothing that stands
beside them is lost: what has no field of its own is kept in `meta`, keys of a message in `meta.message_keys`. Turns are
joined or cut off only where `Reading` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from safetyqc.records import INTENTS, Conversation, Intent, Message, Source
from safetyqc.results.findings import BadKind, BadLine, StructureKind
from safetyqc.text import printable

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_TOOLS = frozenset({"tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response"})
LISTS = ("messages", "conversations", "conversation")
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "text")
"""Under which of its keys a turn has what it says: the first that is not null."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message that hold a model's thoughts."""
BESIDE_SYSTEM = "system"
"""Under which name `meta.message_keys` holds the keys of a system message, beside the messages' 0-based numbers."""
Side = Literal["chosen", "rejected", "both"]
SIDES: tuple[Side, ...] = get_args(Side)
COLUMNS = (
    *("prompt", "response", "chosen", "rejected", "messages", "system", "history"),
    *("id", "category", "intent", "language"),
)
"""What a file's own columns may be said to be."""
_FACTS = frozenset({"id", "category", "intent", "language"})
"""What a table has a column for, empty where nobody knows."""

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
class Reading:
    """How files are to be read, where there is a choice.

    Args:
        side: which answer of a preference pair becomes a conversation.
        columns: what a file calls `prompt`, `response` and the like, where its own names say nothing.
        merge_turns: join neighbouring turns of one role with an empty line.
        trim: leave out answers before the first request and requests after the last answer.
    """

    side: Side = "chosen"
    columns: Mapping[str, str] = field(default_factory=dict)
    merge_turns: bool = False
    trim: bool = False


AS_IT_IS = Reading()


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
            "drop the last message (--trim does), or add the answer",
        )
    return None


def read_turns(
    turns: list[Any], extra: dict[str, Any], source: Source, how: Reading = AS_IT_IS
) -> Conversation | BadLine:
    """Make a conversation of turns and of what stood beside them; leading system messages become its own."""
    if not is_list_of_turns(turns):
        what = "holds an item that is no turn" if turns else "has 0 messages"
        return bad_line(
            source, "not_conversation" if turns else "too_few_messages", what, f"{EXPECTED} (see docs/formats.md)"
        )
    plain = [_plain_turn(turn) for turn in turns]
    first = next((i for i, turn in enumerate(plain) if turn["role"] != "system"), len(plain))
    told, messages = plain[:first], plain[first:]
    if problem := _system_problem(told):
        return bad_line(source, problem.kind, problem.what, problem.fix)
    messages, done = _arranged(messages, how)
    if problem := structure_problem(messages):
        return bad_line(source, problem.kind, problem.what, problem.fix)
    aside = {str(i): keys for i, message in enumerate(messages) if (keys := message["beside"])}
    if keys := {key: value for turn in told for key, value in turn["beside"].items()}:
        aside[BESIDE_SYSTEM] = keys
    meta = {name: value for name, value in (("message_keys", aside), ("arranged", done)) if value}
    system = "\n\n".join(turn["content"] for turn in told if turn["content"])
    if not system and isinstance(extra.get("system"), str):
        system = extra["system"].strip()
        extra = {key: value for key, value in extra.items() if key != "system"}
    spoken = tuple(Message(role=m["role"], content=m["content"]) for m in messages)
    return _with_fields(spoken, extra, meta, source).model_copy(update={"system": system or None})


def keys_beside(conversation: Conversation) -> dict[int, dict[str, Any]]:
    """What stood beside the role and the text of messages, by the message's 0-based number."""
    held = conversation.meta.get("message_keys")
    if not isinstance(held, dict):
        return {}
    return {int(at): keys for at, keys in held.items() if str(at).isdecimal() and isinstance(keys, dict)}


def _system_problem(told: Sequence[Mapping[str, Any]]) -> StructureProblem | None:
    wrong = next((turn["content"] for turn in told if not isinstance(turn["content"], (str, type(None)))), None)
    if wrong is None:
        return None
    return StructureProblem(
        "not_text", f"the system message holds {json_type(wrong)}, not text", "write it as a string"
    )


def _arranged(messages: list[dict[str, Any]], how: Reading) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Turns joined and cut off as was asked for, and how many were."""
    done: dict[str, int] = {}
    if how.trim:
        begin = next((i for i, m in enumerate(messages) if m["role"] == "user"), len(messages))
        end = max((i + 1 for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)
        done["trimmed"] = len(messages) - max(end - begin, 0)
        messages = messages[begin:end]
    if how.merge_turns:
        joined: list[dict[str, Any]] = []
        for message in messages:
            before = joined[-1] if joined else None
            if before and before["role"] == message["role"] and _are_texts(before, message):
                text = f"{before['content']}\n\n{message['content']}"
                joined[-1] = {**before, "content": text, "beside": {**before["beside"], **message["beside"]}}
            else:
                joined.append(message)
        done["merged"] = len(messages) - len(joined)
        messages = joined
    return messages, {name: count for name, count in done.items() if count}


def _are_texts(*messages: Mapping[str, Any]) -> bool:
    return all(isinstance(message["content"], str) for message in messages)


def _with_fields(
    messages: tuple[Message, ...], extra: dict[str, Any], meta: dict[str, Any], source: Source
) -> Conversation:
    """Sort what stands beside the messages into fields of the record; everything else goes to `meta`."""
    fields = {k: v for k, v in _flatten(extra).items() if not (k in _FACTS and v in (None, ""))}
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
    """A turn as role, content and what stands `beside` them; `keys` is said where it has no content."""
    role_key = next((key for key in _ROLE_KEYS if turn.get(key) is not None), _ROLE_KEYS[0])
    content_key = next((key for key in _CONTENT_KEYS if turn.get(key) is not None), None)
    content = turn.get(content_key) if content_key else None
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        content = "".join(part["text"] for part in content)
    role = turn.get(role_key)
    beside = {k: v for k, v in turn.items() if k not in (role_key, content_key) and v is not None}
    return {"role": _ROLES.get(str(role).strip().casefold(), role), "content": content, "beside": beside}


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "input_text", "output_text") and _has_text(part)


def _has_text(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str)


def _turn_problem(message: Mapping[str, Any], number: int, before: Mapping[str, Any] | None) -> StructureProblem | None:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        return StructureProblem("unknown_role", f"message {number} has the role {role!r}", _role_fix(role))
    if content is None:
        return _no_content(message, number)
    if not isinstance(content, str):
        what = f"message {number} ({role}) holds {json_type(content)}, not text"
        return StructureProblem("not_text", what, "write its text as a string; drop images")
    if not printable(content).strip():
        return StructureProblem("empty_message", f"message {number} ({role}) is empty", "drop the record or fill it")
    if before is None and role == "assistant":
        fix = "the first message must be the user's; --trim leaves out what comes before it"
        return StructureProblem("starts_with_assistant", "message 1 is the assistant's", fix)
    if before is not None and before["role"] == role:
        what = f"messages {number - 1} and {number} are both the {role}'s"
        return StructureProblem("no_alternation", what, "--merge-turns joins them; or drop one")
    return None


def _role_fix(role: Any) -> str:
    if role == "system":
        return "a system message may only come first"
    if str(role).strip().casefold() in _TOOLS:
        return "conversations that call tools are not read: leave the record out (--skip-bad-lines), or its tool turns"
    return "use the roles user and assistant"


def _no_content(message: Mapping[str, Any], number: int) -> StructureProblem:
    keys = list(message.get("beside", {}))
    if any(key in keys for key in ("tool_calls", "function_call")):
        what = f"message {number} ({message['role']}) calls a tool and says nothing"
        return StructureProblem("not_text", what, _role_fix("tool"))
    shown = f" (keys: {', '.join(['role', *keys][:8])})" if keys else ""
    fix = f"write its text under one of {', '.join(_CONTENT_KEYS)}"
    return StructureProblem("not_text", f"message {number} ({message['role']}) has no content{shown}", fix)


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
