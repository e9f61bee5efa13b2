"""A record that holds its turns in a list: as objects, as texts in alternation, as columns, or as JSON in a text.

An object that is no record but holds one list of records (`{"data": [...]}`, the rows of a viewer) is unpacked before
its records are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from safetyqc.formats.json_values import Unreadable, decode
from safetyqc.formats.readers.form import PROMPT_FIX, TURNS, Found, RecordForm, without
from safetyqc.formats.turns import LISTS, Reading, bad_line, is_list_of_turns, is_turn, read_turns
from safetyqc.records import Source

_TEXT_LISTS = (*LISTS, "data", "dialog", "dialogue", "utterances", "chat")  # "turns" are requests alone in benchmarks


def under(key: str) -> RecordForm:
    """An object that holds its turns under this key; an empty list is passed over for a filled one."""

    def matches(value: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            return False
        return bool(value[key]) or not any(value.get(other) for other in LISTS)

    def read(value: Any, source: Source, how: Reading) -> Found:
        passed_over = [other for other in LISTS if not value.get(other)]
        return read_turns(value[key], without(value, key, *passed_over), source, how)

    return RecordForm(matches, read, lambda _: {key: TURNS})


TURN_LIST = RecordForm(
    lambda value: isinstance(value, list), lambda value, source, how: read_turns(value, {}, source, how)
)


def _are_texts(told: Any) -> bool:
    """Whether a list is texts, or pairs of a request and an answer, and nothing else."""
    return isinstance(told, list) and len(told) > 0 and (all(map(_is_text, told)) or all(map(_is_exchange, told)))


def _is_text(item: Any) -> bool:
    return isinstance(item, str)


def _is_exchange(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(map(_is_text, item))


def _text_key(value: Any) -> str | None:
    return next((k for k in _TEXT_LISTS if _are_texts(value.get(k))), None) if isinstance(value, dict) else None


def _read_texts(value: Any, source: Source, how: Reading) -> Found:
    key = _text_key(value)
    told = value[key] if key else value
    texts = [text for pair in told for text in pair] if isinstance(told[0], list) else told
    if len(texts) == 1:
        return bad_line(source, "ends_with_user", "has a prompt and no answer", PROMPT_FIX)
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    return read_turns(turns, without(value, key) if key else {}, source, how)


TEXTS = RecordForm(
    lambda value: _text_key(value) is not None, _read_texts, lambda value: {_text_key(value) or "": TURNS}
)
"""UltraChat: what is said in turn, the user first."""


def _held_as(kind: Callable[[Any], bool]) -> Callable[[Any], str | None]:
    """Find the key under which a record holds its turns in some other way."""

    def find(value: Any) -> str | None:
        return next((k for k in LISTS if kind(value.get(k))), None) if isinstance(value, dict) else None

    return find


_json_key = _held_as(lambda held: isinstance(held, str) and held.lstrip()[:1] in ("[", "{"))
_column_key = _held_as(lambda held: isinstance(held, Mapping) and len(_columns(held)) > 1)


def _columns(held: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: column for name, column in held.items() if isinstance(column, list)}


def _read_json(value: dict[str, Any], source: Source, how: Reading) -> Found:
    """Read turns that were written as JSON into a text, as tables do."""
    key = _json_key(value) or ""
    found = decode(value[key])
    if isinstance(found, Unreadable):
        return bad_line(source, found.kind, f"{key!r} {found.what}", found.fix)
    turns = found.value
    if isinstance(turns, dict):
        turns = next((turns[name] for name in LISTS if isinstance(turns.get(name), list)), [turns])
    return read_turns(turns, without(value, key), source, how)


def _read_columns(value: dict[str, Any], source: Source, how: Reading) -> Found:
    """Read roles and texts that were written as a list each."""
    key = _column_key(value) or ""
    columns = _columns(value[key])
    longest = max(map(len, columns.values()))
    turns = [{name: held[n] if n < len(held) else None for name, held in columns.items()} for n in range(longest)]
    return read_turns(turns, without(value, key), source, how)


JSON_TEXT = RecordForm(lambda value: _json_key(value) is not None, _read_json, lambda v: {_json_key(v) or "": TURNS})
TURN_COLUMNS = RecordForm(
    lambda value: _column_key(value) is not None, _read_columns, lambda v: {_column_key(v) or "": TURNS}
)


def records_in(value: Any, is_record: Callable[[Any], bool]) -> list[Any] | None:
    """The records of an object that is none itself but holds one list of them; None for any other value."""
    if not isinstance(value, dict) or is_turn(value) or is_record(value):
        return None
    told = without(value, "history")  # of a prompt, and no records
    lists = [held for held in told.values() if isinstance(held, list) and held and isinstance(held[0], (dict, list))]
    if len(lists) != 1 or is_list_of_turns(lists[0]):
        return None
    records = [_row(item) for item in lists[0]]
    return records if is_record(records[0]) else None


def _row(item: Any) -> Any:
    """The record of a viewer's row."""
    return item["row"] if isinstance(item, dict) and isinstance(item.get("row"), dict) else item
