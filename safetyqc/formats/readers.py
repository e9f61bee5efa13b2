"""Any conversation file -> Conversations, in input order, each with its own id and its place in the file.

Reads nanochat lists, `{"messages": ...}` with or without metadata, ShareGPT and safetyqc's own records, as JSON Lines,
one JSON document, gzipped or from standard input; docs/formats.md has the tables. It judges nothing and repairs
nothing: what is broken becomes a BadLine with a fix. The one surprising thing: `Source.index` counts broken records
too, so that it always points at the n-th record of the file, also when bad lines are skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable, name_of, read_values
from safetyqc.records import INTENTS, Conversation, Intent, Message, Source, conversation_id
from safetyqc.results.findings import BadKind, BadLine, StructureKind
from safetyqc.text import printable

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_LISTS = ("messages", "conversations", "conversation")
_TURN_KEYS = frozenset({"role", "content", "from", "value"})
_OWN_KEYS = frozenset({"messages", "origin", "revision"})

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
class StructureProblem:
    """Why messages are no conversation, and how to mend it."""

    kind: StructureKind
    what: str
    fix: str


@dataclass(frozen=True)
class ReadResult:
    """What one file held: conversations and skipped records, each in input order."""

    path: str
    conversations: tuple[Conversation, ...]
    skipped: tuple[BadLine, ...] = ()

    @property
    def notes(self) -> dict[str, int]:
        """What was kept aside in `meta` rather than used, as a sentence, and how often."""
        counts: Counter[str] = Counter()
        for conversation in self.conversations:
            meta = conversation.meta
            counts["system message kept in meta.system, not part of the messages"] += "system" in meta
            if conversation.intent is None and isinstance(meta.get("intent"), str):
                known = ", ".join(INTENTS)
                counts[f"intent {meta['intent']!r} is not one of {known}: kept in meta.intent, not used"] += 1
        return {note: count for note, count in counts.items() if count}


def read_conversations(path: str | Path, *, skip_bad_lines: bool = False, strict: bool = True) -> ReadResult:
    """Read a whole file; `-` is standard input.

    Args:
        skip_bad_lines: collect every broken record in `skipped` instead of stopping at the first.
        strict: stop at conversations of bad structure too. With False they are always collected, which is what
            `check` wants; unreadable lines still stop it unless they are skipped.

    Raises:
        InputError: the file cannot be read or holds no record, or a record is broken and not to be skipped.
    """
    conversations, skipped = [], []
    for record in iter_conversations(path):
        if isinstance(record, Conversation):
            conversations.append(record)
        elif skip_bad_lines or (record.is_structure and not strict):
            skipped.append(record)
        else:
            raise record.error()
    if not conversations and not skipped:
        raise InputError("holds no conversation", path=name_of(path), fix="give a file with one conversation a line")
    return ReadResult(name_of(path), tuple(conversations), tuple(skipped))


def iter_conversations(path: str | Path) -> Iterator[Conversation | BadLine]:
    """Yield every record of a file, one at a time: a conversation, or what is wrong with it.

    Ids: the file's own when it has one that came for the first time, else made from the text; the second and further
    copies of a text get an id that counts them, so that no two records of a file share one. Memory grows only with ids.

    Raises:
        InputError: the file cannot be read at all.
    """
    return (record for record, _ in iter_with_values(path))


def iter_with_values(path: str | Path) -> Iterator[tuple[Conversation | BadLine, Any]]:
    """Yield what `iter_conversations` does, each with the JSON value that it was read from (None if unreadable)."""
    name, ids = name_of(path), _Ids()
    for index, found in enumerate(read_values(path, _is_turn)):
        source = Source(path=name, line=found.line, index=index)
        if isinstance(found, Unreadable):
            yield _bad(source, "unreadable", found.what, found.fix), None
            continue
        record = _read_record(found.value, source)
        yield (ids.settle(record) if isinstance(record, Conversation) else record), found.value


def structure_problem(messages: Sequence[Mapping[str, Any]]) -> StructureProblem | None:
    """Find the first thing that keeps messages from alternating, as non-empty texts, from user to assistant."""
    if len(messages) < 2:
        return StructureProblem(
            "too_few_messages", f"has {len(messages)} message(s)", "a conversation needs a user's turn and an answer"
        )
    for number, message in enumerate(messages):
        problem = _turn_problem(message, number, messages[number - 1] if number else None)
        if problem:
            return problem
    if messages[-1]["role"] == "user":
        return StructureProblem(
            "ends_with_user",
            f"ends with the user's message {len(messages) - 1}, which nobody answers",
            "drop the last message or add the answer",
        )
    return None


class _Ids:
    """Hands out ids within one file: the record's own if new, else one from its text and how often that came."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._copies: Counter[str] = Counter()

    def settle(self, conversation: Conversation) -> Conversation:
        own, meta = conversation.id, conversation.meta
        if own and own not in self._used:
            self._used.add(own)
            return conversation
        if own:
            meta = {"id": own, **meta}
        made = self._made(conversation.messages)
        return conversation.model_copy(update={"id": made, "meta": meta})

    def _made(self, messages: tuple[Message, ...]) -> str:
        plain = conversation_id(messages)
        made = plain
        while made in self._used:
            self._copies[plain] += 1
            made = conversation_id(messages, salt=f"copy {self._copies[plain]}")
        self._used.add(made)
        return made


def _read_record(value: Any, source: Source) -> Conversation | BadLine:
    if isinstance(value, list):
        return _read_turns(value, {}, source)
    if not isinstance(value, dict):
        what = f"is a {_json_type(value)}, not a conversation"
        return _bad(source, "not_conversation", what, _EXPECTED)
    if value.keys() >= _OWN_KEYS:
        return _read_own(value, source)
    key = next((k for k in _LISTS if isinstance(value.get(k), list)), None)
    if key is None:
        return _bad(source, "not_conversation", *_foreign(value))
    return _read_turns(value[key], {k: v for k, v in value.items() if k != key}, source)


def _read_own(value: dict[str, Any], source: Source) -> Conversation | BadLine:
    """Read a record that safetyqc itself wrote; only its place is new."""
    problem = structure_problem(value["messages"]) if _is_list_of_turns(value["messages"]) else None
    if problem:
        return _bad(source, problem.kind, problem.what, problem.fix)
    try:
        return Conversation.model_validate({**value, "source": source})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return _bad(source, "not_conversation", f"is not a record of this safetyqc: {where}: {first['msg']}", _EXPECTED)


def _read_turns(turns: list[Any], extra: dict[str, Any], source: Source) -> Conversation | BadLine:
    meta: dict[str, Any] = {}
    if not _is_list_of_turns(turns):
        what = "holds an item that is no turn" if turns else "has 0 messages"
        return _bad(source, "not_conversation" if turns else "too_few_messages", what, _EXPECTED)
    messages = [_plain_turn(turn) for turn in turns]
    if messages[0]["role"] == "system":
        meta["system"], messages, turns = messages[0]["content"], messages[1:], turns[1:]
    if problem := structure_problem(messages):
        return _bad(source, problem.kind, problem.what, problem.fix)
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
        what = f"message {number} ({role}) holds {_json_type(content)}, not text"
        return StructureProblem("not_text", what, "write its text as a string; drop images and tool calls")
    if not printable(content).strip():
        return StructureProblem("empty_message", f"message {number} ({role}) is empty", "drop the record or fill it")
    if before is None and role == "assistant":
        return StructureProblem(
            "starts_with_assistant", "message 0 is the assistant's", "the first message must be the user's"
        )
    if before is not None and before["role"] == role:
        what = f"messages {number - 1} and {number} are both the {role}'s"
        return StructureProblem("no_alternation", what, "join the two, or drop one")
    return None


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value) and not value.keys() & set(_LISTS)


def _is_list_of_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) for turn in value)


_EXPECTED = (
    'write it as {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]} '
    "(other forms: docs/formats.md)"
)


def _foreign(value: dict[str, Any]) -> tuple[str, str]:
    """Name the form that a record seems to have, since people do try these."""
    keys = value.keys()
    if keys >= {"chosen", "rejected"}:
        return "is a preference pair (chosen, rejected), not one conversation", f"choose one side and {_EXPECTED}"
    if keys & {"instruction", "prompt", "question"}:
        return f"has the keys {', '.join(keys)} but no messages", f"make two turns of question and answer: {_EXPECTED}"
    shown = ", ".join(list(keys)[:8]) or "none"
    wrong = next((k for k in _LISTS if k in keys), None)
    what = f"{wrong!r} is {_json_type(value[wrong])}, not a list" if wrong else f"has no messages (keys: {shown})"
    return what, _EXPECTED


def _json_type(value: Any) -> str:
    names = {type(None): "null", bool: "true/false", str: "text", dict: "an object", list: "a list"}
    return names.get(type(value), "number")


def _bad(source: Source, kind: BadKind, what: str, fix: str) -> BadLine:
    return BadLine(path=source.path, line=source.line or 0, index=source.index, kind=kind, what=what, fix=fix)
