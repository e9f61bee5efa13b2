"""Any conversation file -> Conversations, in input order, each with its own id and its place in the file.

Reads nanochat lists, `{"messages": ...}` with or without metadata, ShareGPT, safetyqc's own records and any other form
of `READERS`, as JSON Lines, one JSON document, gzipped or from standard input; docs/formats.md has the tables. It
judges nothing and repairs nothing: what is broken becomes a BadLine with a fix. `Source.index` counts broken records
too, so that it always points at the n-th record of the file, also when bad lines are skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable, name_of, read_values
from safetyqc.formats.turns import (
    AS_IT_IS,
    EXPECTED,
    LISTS,
    Reading,
    bad_line,
    is_list_of_turns,
    is_turn,
    json_type,
    read_turns,
    structure_problem,
)
from safetyqc.records import INTENTS, Conversation, Label, Message, Source, conversation_id
from safetyqc.results.findings import BadLine

_OWN_KEYS = frozenset({"messages", "origin", "revision"})


@dataclass(frozen=True)
class RecordForm:
    """One form of a record: whether a JSON value has it, and how it is read.

    Args:
        read: the conversation, or what is wrong with it; an id that is left empty is made from the text.
    """

    matches: Callable[[Any], bool]
    read: Callable[[Any, Source, Reading], Conversation | BadLine]


@dataclass(frozen=True)
class ReadResult:
    """What one file held: conversations and skipped records, each in input order."""

    path: str
    conversations: tuple[Conversation, ...]
    skipped: tuple[BadLine, ...] = ()
    labels: tuple[Label, ...] = ()
    """What people say of them, where it stands beside the messages and was asked for."""

    @property
    def notes(self) -> dict[str, int]:
        """What was kept aside in `meta` rather than used, as a sentence, and how often."""
        counts: Counter[str] = Counter()
        for conversation in self.conversations:
            meta = conversation.meta
            if isinstance(meta.get("system"), str) and conversation.system:
                counts["a second system text beside the messages: kept in meta.system, not used"] += 1
            for key in {key for keys in _message_keys(meta) for key in keys}:
                counts[f"{key!r} of messages: kept beside them (meta.message_keys)"] += 1
            for done, times in (meta.get("arranged") or {}).items() if _is_ours(meta.get("arranged")) else ():
                counts[f"messages {done}"] += times
            if conversation.intent is None and isinstance(meta.get("intent"), str):
                known = ", ".join(INTENTS)
                counts[f"intent {meta['intent']!r} is not one of {known}: kept in meta.intent, not used"] += 1
        return {note: count for note, count in counts.items() if count}


def read_conversations(
    path: str | Path, *, skip_bad_lines: bool = False, strict: bool = True, how: Reading = AS_IT_IS
) -> ReadResult:
    """Read a whole file; `-` is standard input.

    Args:
        skip_bad_lines: collect every broken record in `skipped` instead of stopping at the first.
        strict: stop at conversations of bad structure too. With False they are always collected, which is what
            `check` wants; unreadable lines still stop it unless they are skipped.

    Raises:
        InputError: the file cannot be read or holds no record, or a record is broken and not to be skipped.
    """
    return collect(iter_conversations(path, how), name_of(path), skip_bad=skip_bad_lines, strict=strict)


def collect(
    records: Iterable[Conversation | BadLine], name: str, *, skip_bad: bool = False, strict: bool = True
) -> ReadResult:
    """Gather records that were read from `name`; arguments and errors are those of `read_conversations`."""
    conversations, skipped = [], []
    for record in records:
        if isinstance(record, Conversation):
            conversations.append(record)
        elif skip_bad or (record.is_structure and not strict):
            skipped.append(record)
        else:
            raise record.error()
    if not conversations and not skipped:
        raise InputError("holds no conversation", path=name, fix="give a file with one conversation a line")
    return ReadResult(name, tuple(conversations), tuple(skipped))


def iter_conversations(path: str | Path, how: Reading = AS_IT_IS) -> Iterator[Conversation | BadLine]:
    """Yield every record of a file, one at a time: a conversation, or what is wrong with it.

    Ids: the file's own when it has one that came for the first time, else made from the text; the second and further
    copies of a text get an id that counts them, so that no two records of a file share one. Memory grows only with ids.

    Raises:
        InputError: the file cannot be read at all.
    """
    return (record for record, _ in iter_with_values(path, how))


def iter_with_values(path: str | Path, how: Reading = AS_IT_IS) -> Iterator[tuple[Conversation | BadLine, Any]]:
    """Yield what `iter_conversations` does, each with the JSON value that it was read from (None if unreadable)."""
    name, ids = name_of(path), _Ids()
    for index, found in enumerate(read_values(path, is_turn)):
        source = Source(path=name, line=found.line, index=index)
        if isinstance(found, Unreadable):
            yield bad_line(source, "unreadable", found.what, found.fix), None
            continue
        record = _read_record(found.value, source, how)
        yield (ids.settle(record) if isinstance(record, Conversation) else record), found.value


def from_values(
    values: Iterable[Any | Unreadable], name: str, how: Reading = AS_IT_IS
) -> Iterator[Conversation | BadLine]:
    """Read JSON values that are in memory already, as `iter_conversations` reads those of a file; they have no line."""
    ids = _Ids()
    for index, value in enumerate(values):
        source = Source(path=name, index=index)
        if isinstance(value, Unreadable):
            yield bad_line(source, "unreadable", value.what, value.fix)
            continue
        record = _read_record(value, source, how)
        yield ids.settle(record) if isinstance(record, Conversation) else record


class _Ids:
    """Hands out ids within one file: the record's own if new, else one from its text and how often that came."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._copies: Counter[str] = Counter()

    def settle(self, conversation: Conversation) -> Conversation:
        own, meta, system = conversation.id, conversation.meta, conversation.system
        if own and own not in self._used:
            self._used.add(own)
            return conversation
        if own:
            meta = {"id": own, **meta}
        made = self._made(conversation.messages, system)
        return conversation.model_copy(update={"id": made, "meta": meta})

    def _made(self, messages: tuple[Message, ...], system: str | None) -> str:
        plain = conversation_id(messages, system=system)
        made = plain
        while made in self._used:
            self._copies[plain] += 1
            made = conversation_id(messages, salt=f"copy {self._copies[plain]}", system=system)
        self._used.add(made)
        return made


def _read_record(value: Any, source: Source, how: Reading) -> Conversation | BadLine:
    for form in READERS.values():
        if form.matches(value):
            return form.read(value, source, how)
    return bad_line(source, "not_conversation", *_foreign(value))


def _read_own(value: dict[str, Any], source: Source, _: Reading) -> Conversation | BadLine:
    """Read a record that safetyqc itself wrote; only its place is new."""
    problem = structure_problem(value["messages"]) if is_list_of_turns(value["messages"]) else None
    if problem:
        return bad_line(source, problem.kind, problem.what, problem.fix)
    try:
        return Conversation.model_validate({**value, "source": source})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return bad_line(
            source, "not_conversation", f"is not a record of this safetyqc: {where}: {first['msg']}", _fix()
        )


def _under(key: str) -> RecordForm:
    """An object that holds its turns under this key; an empty list is passed over for a filled one."""

    def matches(value: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            return False
        return bool(value[key]) or not any(value.get(other) for other in LISTS)

    def read(value: Any, source: Source, how: Reading) -> Conversation | BadLine:
        passed_over = {other for other in LISTS if not value.get(other)}
        return read_turns(
            value[key], {k: v for k, v in value.items() if k != key and k not in passed_over}, source, how
        )

    return RecordForm(matches, read)


def _message_keys(meta: dict[str, Any]) -> list[dict[str, Any]]:
    held = meta.get("message_keys")
    return [keys for keys in held.values() if isinstance(keys, dict)] if isinstance(held, dict) else []


def _is_ours(done: Any) -> bool:
    return isinstance(done, dict) and all(isinstance(count, int) for count in done.values())


READERS: dict[str, RecordForm] = {
    "turns": RecordForm(
        lambda value: isinstance(value, list), lambda value, source, how: read_turns(value, {}, source, how)
    ),
    "safetyqc": RecordForm(lambda value: isinstance(value, dict) and value.keys() >= _OWN_KEYS, _read_own),
    **{key: _under(key) for key in LISTS},
}
"""Forms of a record by name, tried in this order; open to additions. turns.py says what one is made of."""


def _fix() -> str:
    return f"{EXPECTED} (valid forms: {', '.join(READERS)}; see docs/formats.md)"


def _foreign(value: Any) -> tuple[str, str]:
    """Name the form that a record seems to have, since people do try these."""
    if not isinstance(value, dict):
        return f"is a {json_type(value)}, not a conversation", _fix()
    keys = value.keys()
    if keys >= {"chosen", "rejected"}:
        return "is a preference pair (chosen, rejected), not one conversation", f"choose one side and {_fix()}"
    if keys & {"instruction", "prompt", "question"}:
        return f"has the keys {', '.join(keys)} but no messages", f"make two turns of question and answer: {_fix()}"
    shown = ", ".join(list(keys)[:8]) or "none"
    wrong = next((k for k in LISTS if k in keys), None)
    what = f"{wrong!r} is {json_type(value[wrong])}, not a list" if wrong else f"has no messages (keys: {shown})"
    return what, _fix()
