"""Any conversation file -> Conversations, in input order, each with its own id and its place in the file.

Which files a path stands for is `sources`' business, which forms a record may have `table`'s; docs/formats.md has both.
It judges nothing and repairs nothing that it was not asked to: what is broken becomes a BadLine with a fix.
`Source.index` counts broken records too, so that it always points at the n-th record, also when bad lines are skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable
from safetyqc.formats.opened import name_of
from safetyqc.formats.readers.lists import records_in
from safetyqc.formats.readers.table import READERS, form_of, read_record
from safetyqc.formats.sources import read_sources
from safetyqc.formats.spooled import Part, Records
from safetyqc.formats.turns import AS_IT_IS, Reading, bad_line, is_turn
from safetyqc.records import INTENTS, Conversation, Label, Message, Source, conversation_id
from safetyqc.results.findings import BadLine, HowRead

_NOTED = frozenset({"message_keys", "arranged", "recorded", "side"})
"""Keys of `meta` that are told in words of their own."""
_HELD = 50_000
"""Conversations that are kept in memory, where they take some seven kilobytes each."""
_MOST_SKIPPED = 100_000
"""Bad lines from which a file is none of conversations."""


@dataclass
class Account:
    """What is noted of how a file is read, while it is."""

    files: list[str] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    columns: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """Conversations by file."""

    def add(self, form: str | None, value: Any) -> None:
        """Note which form a record has, and which of its keys are read as what."""
        if form is None:
            return
        self.forms[form] += 1
        self.columns |= READERS[form].columns(value)


@dataclass(frozen=True)
class ReadResult:
    """What one file held: conversations and skipped records, each in input order."""

    path: str
    conversations: Sequence[Conversation]
    """In memory, or, where they are very many, in a temporary file and read at each look."""
    skipped: tuple[BadLine, ...] = ()
    labels: tuple[Label, ...] = ()
    """What people say of them, where it stands beside the messages and was asked for."""
    account: Account = field(default_factory=Account)
    is_apart: bool = False
    """Whether ids are unique in each file of a folder, and not in all of them."""

    def by_file(self) -> list[ReadResult]:
        """What was read of each file, without labels: looked at where it lies."""
        found, start = list[ReadResult](), 0
        for path in self.account.files:
            end = start + self.account.counts[path]
            found.append(ReadResult(path, Part(self.conversations, range(start, end))))
            start = end
        return found

    @property
    def notes(self) -> dict[str, int]:
        """What was passed over, or kept aside in `meta` rather than used, as a sentence, and how often."""
        counts: Counter[str] = Counter(self.account.notes)
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

    @property
    def how(self) -> HowRead:
        """How it was read: files, forms, columns, and what was kept aside."""
        aside, verdicts = Counter[str](), Counter[str]()
        for conversation in self.conversations:
            recorded = conversation.meta.get("recorded")
            verdicts.update(map(str, recorded) if isinstance(recorded, dict) else ())
            aside.update(key for key in conversation.meta if key not in _NOTED)
        account = self.account
        return HowRead(
            files=tuple(account.files),
            forms=dict(account.forms.most_common()),
            columns=account.columns,
            system_messages=sum(c.system is not None for c in self.conversations),
            aside=dict(aside.most_common()),
            verdicts=dict(verdicts.most_common()),
        )


def read_conversations(
    path: str | Path,
    *,
    skip_bad_lines: bool = False,
    strict: bool = True,
    how: Reading = AS_IT_IS,
    only_files: Collection[str] | None = None,
) -> ReadResult:
    """Read a whole file, or a folder of them; `-` is standard input.

    Args:
        skip_bad_lines: collect every broken record in `skipped` instead of stopping at the first.
        strict: stop at conversations of bad structure too. With False they are always collected, which is what
            `check` wants; unreadable lines still stop it unless they are skipped.
        how: what is chosen where a file leaves a choice.
        only_files: of a folder, by the names that `sources.files_of` gives. Ids are then unique in each file, and not
            in all: what one file is given must not depend on which others are read.

    Raises:
        InputError: the file cannot be read or holds no record, or a record is broken and not to be skipped.
    """
    account = Account()
    records = (record for record, _ in _read(path, how, account, only_files))
    read = collect(records, name_of(path), skip_bad=skip_bad_lines, strict=strict, account=account)
    return read if only_files is None else replace(read, is_apart=True)


def collect(
    records: Iterable[Conversation | BadLine],
    name: str,
    *,
    skip_bad: bool = False,
    strict: bool = True,
    account: Account | None = None,
) -> ReadResult:
    """Gather records that were read from `name`; arguments and errors are those of `read_conversations`."""
    conversations, skipped, account = Records[Conversation](_HELD), list[BadLine](), account or Account()
    for record in records:
        if isinstance(record, Conversation):
            conversations.add(record)
            account.counts[record.source.path if record.source else name] += 1
        elif skip_bad or (record.is_structure and not strict):
            skipped.append(record)
            if len(skipped) > _MOST_SKIPPED and len(skipped) > len(conversations):
                what = f"more than {_MOST_SKIPPED:,} records are broken, such as: {record.what}"
                raise InputError(what, path=record.path, line=record.line, fix="is it a file of conversations?")
        else:
            raise record.error()
    if not conversations and not skipped:
        raise InputError("holds no conversation", path=name, fix="give a file with one conversation a line")
    return ReadResult(name, conversations.held, tuple(skipped), account=account)


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
    return _read(path, how, Account())


def from_values(
    values: Iterable[Any | Unreadable], name: str, how: Reading = AS_IT_IS, account: Account | None = None
) -> Iterator[Conversation | BadLine]:
    """Read JSON values that are in memory already, as `iter_conversations` reads those of a file; they have no line."""
    ids, account = _Ids(), account or Account()
    for index, value in enumerate(values):
        yield from _records(value, Source(path=name, index=index), how, ids, account)


def _read(
    path: str | Path, how: Reading, account: Account, only_files: Collection[str] | None = None
) -> Iterator[tuple[Conversation | BadLine, Any]]:
    ids = _Ids()
    for name, values in read_sources(path, is_turn, only_files):
        account.files.append(name)
        ids = ids if only_files is None else _Ids()
        index = 0
        for found in values:
            if isinstance(found, Unreadable):
                yield from ((bad, None) for bad in _records(found, _at(name, found.line, index), how, ids, account))
                index += 1
                continue
            account.notes.update([found.note] if found.note else ())
            for value in records_in(found.value, _is_record) or (found.value,):
                for record in _records(value, _at(name, found.line, index), how, ids, account):
                    yield record, value
                index += 1


def _at(name: str, line: int, index: int) -> Source:
    return Source(path=name, line=line, index=index)


def _is_record(value: Any) -> bool:
    return form_of(value) is not None


def _records(
    value: Any | Unreadable, source: Source, how: Reading, ids: _Ids, account: Account
) -> Iterator[Conversation | BadLine]:
    """The conversations of one value, or what is wrong with it."""
    if isinstance(value, Unreadable):
        yield bad_line(source, value.kind, value.what, value.fix)
        return
    named = _renamed(value, source, how)
    if isinstance(named, BadLine):
        yield named
        return
    found, form = read_record(named, source, how)
    account.add(form, named)
    if how.side != "both" and any(isinstance(c, Conversation) and "side" in c.meta for c in found):
        account.notes[f"only the {how.side} side of a preference pair was read (--side both reads both)"] += 1
    for record in found:
        yield ids.settle(record) if isinstance(record, Conversation) else record


def _renamed(value: Any, source: Source, how: Reading) -> Any | BadLine:
    """The record with its columns called as was said; what they were called before is kept under another name."""
    if not how.columns:
        return value
    if not isinstance(value, dict):
        return bad_line(source, "not_conversation", "has no columns that --columns could name", "leave --columns out")
    if gone := [column for column in how.columns.values() if column not in value]:
        name = next(name for name, column in how.columns.items() if column == gone[0])
        fix = f"--columns {name}=NAME; it has: {', '.join(value)}"
        return bad_line(source, "not_conversation", f"has no column {gone[0]!r}", fix)
    named = {name: value[column] for name, column in how.columns.items()}
    beside = {key: held for key, held in value.items() if key not in how.columns.values()}
    return {**named, **{f"{key} (column)" if key in named else key: held for key, held in beside.items()}}


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


def _message_keys(meta: dict[str, Any]) -> list[dict[str, Any]]:
    held = meta.get("message_keys")
    return [keys for keys in held.values() if isinstance(keys, dict)] if isinstance(held, dict) else []


def _is_ours(done: Any) -> bool:
    return isinstance(done, dict) and all(isinstance(count, int) for count in done.values())
