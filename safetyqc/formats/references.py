"""A reference set -> References: what a run's conversations must not repeat, each with its place in its file.

A reference is a single prompt or a whole conversation. Benchmarks come as CSV with a column of prompts, as one prompt a
line, or as JSON Lines; data that is already in a training mix comes as conversations. It reads all of these and
compares nothing. The one surprising thing: a record that is no conversation because nobody answers it is a prompt here,
while `readers` refuses it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.json_values import STDIN, name_of, read_text
from safetyqc.formats.readers import iter_with_values
from safetyqc.records import Conversation
from safetyqc.results.findings import BadLine

PROMPT_KEYS = (
    "prompt",
    "behavior",  # HarmBench
    "goal",  # AdvBench, JailbreakBench
    "question",
    "instruction",
    "request",
    "query",
    "text",
    "input",
    "content",
)
"""Under which key or column a prompt is looked for, in this order; case does not matter."""
_TURN_LISTS = ("messages", "conversations", "prompt")
_TABLES = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Reference:
    """One record of a reference set: a prompt or a whole conversation, and where it stands (`line` is 1-based)."""

    content: str | Conversation
    path: str = ""
    line: int | None = None


def read_references(path: str | Path) -> list[Reference]:
    """Read a file of prompts or conversations: .csv, .tsv, .jsonl, .json, or text with a prompt a line; also gzipped.

    Raises:
        InputError: the file cannot be read, holds nothing, or a record that is neither a prompt nor a conversation.
    """
    suffixes = PurePath(str(path)).suffixes
    table = next((suffix for suffix in suffixes if suffix.lower() in _TABLES), None)
    if table:
        found = list(_from_table(path, _TABLES[table.lower()]))
    elif str(path) == STDIN or any(suffix in (".json", ".jsonl") for suffix in suffixes) or _looks_like_json(path):
        found = list(_from_json(path))
    else:
        found = list(_from_lines(path))
    if not found:
        raise InputError("holds no prompt and no conversation", path=name_of(path), fix="give a file with one a line")
    return found


def _looks_like_json(path: str | Path) -> bool:
    return read_text(path).lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"')


def _from_lines(path: str | Path) -> Iterator[Reference]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if prompt := text.strip("\ufeff \t"):
            yield Reference(prompt, name_of(path), line)


def _from_table(path: str | Path, delimiter: str) -> Iterator[Reference]:
    text = read_text(path).removeprefix("\ufeff")
    head = text.partition("\n")[0]
    if delimiter == "," and "," not in head and ";" in head:
        delimiter = ";"  # what spreadsheets write where the comma is the decimal point
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    column, line = None, 1
    try:
        for row in rows:
            if column is None:
                column = _prompt_column(row, path)
            elif len(row) > column and row[column].strip():
                yield Reference(row[column].strip(), name_of(path), line)
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(f"is no table: {error}", path=name_of(path), line=line, fix="mend that row") from error


def _prompt_column(header: Sequence[str], path: str | Path) -> int:
    names = [name.strip().casefold() for name in header]
    known = [names.index(key) for key in PROMPT_KEYS if key in names]
    if not known and len(names) > 1:
        what = f"has no column of prompts (columns: {', '.join(header)})"
        raise InputError(what, path=name_of(path), line=1, fix=f"name one {', '.join(PROMPT_KEYS)}")
    return known[0] if known else 0


def _from_json(path: str | Path) -> Iterator[Reference]:
    for record, value in iter_with_values(path):
        if isinstance(record, Conversation):
            yield Reference(record, name_of(path), record.source.line if record.source else None)
            continue
        prompts = _prompts(value)
        if not prompts:
            raise _no_reference(record)
        for prompt in prompts:
            yield Reference(prompt, name_of(path), record.line)


def _prompts(value: Any) -> list[str]:
    """The prompts of a record that is no conversation; none when it has none either."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return _user_texts(value)
    if not isinstance(value, Mapping) or value.keys() >= {"chosen", "rejected"}:
        return []
    for key in _TURN_LISTS:
        if isinstance(value.get(key), list):
            return _user_texts(value[key])
    by_name = {str(key).casefold(): content for key, content in value.items()}
    texts = [by_name[key] for key in PROMPT_KEYS if isinstance(by_name.get(key), str) and by_name[key].strip()]
    return texts[:1]


def _user_texts(turns: Sequence[Any]) -> list[str]:
    said = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in turns if _is(turn)]
    return [text for role, text in said if role in ("user", "human") and isinstance(text, str) and text.strip()]


def _is(turn: Any) -> bool:
    return isinstance(turn, Mapping)


def _no_reference(bad: BadLine) -> InputError:
    if bad.kind == "unreadable":
        return bad.error()
    fix = f"give conversations (docs/formats.md), or prompts under one of the keys {', '.join(PROMPT_KEYS)}"
    return InputError(bad.what, path=bad.path, line=bad.line, fix=fix)
