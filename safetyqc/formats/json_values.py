"""Bytes of a JSON or JSON Lines file -> the values in it, one by one, each with its line, or with what is wrong there.

It knows nothing of conversations beyond telling a list of turns from a list of records. JSON Lines are read line by
line, so a large file never lies in memory as a whole; a JSON document (`.json`, or text whose first line is no complete
value) is decoded element by element from one text. A broken line is a value of its own (`Unreadable`): the caller
decides whether to stop. How long a line is and how deep a value is nested have bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safetyqc.errors import InputError
from safetyqc.formats.opened import UTF8_FIX, name_of, not_utf8, opened, read_errors, refuse_foreign
from safetyqc.results.findings import BadKind
from safetyqc.text import shorten

_BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 64 * 2**20
"""Bytes; the longest conversations have a few."""
DEEPEST = 64
"""Lists and objects inside each other."""
_BLANK = re.compile(r"[\s\ufeff]*")
_SEPARATORS = re.compile(r"[\s\ufeff,]*")


@dataclass(frozen=True)
class Value:
    """One JSON value and the line (1-based) on which it begins."""

    line: int
    value: Any
    note: str = ""
    """What was passed over to read it."""


@dataclass(frozen=True)
class Unreadable:
    """A line that is no JSON, or none that means one thing, and how to mend it."""

    line: int
    what: str
    fix: str
    kind: BadKind = "unreadable"


def read_values(path: str | Path, is_turn: Callable[[Any], bool]) -> Iterator[Value | Unreadable]:
    """Yield what a file holds, in order; a list whose first item is not a turn is a list of records and is unpacked.

    Raises:
        InputError: there is no such file, it cannot be read, is empty, or is no text in UTF-8 at all.
    """
    with opened(path) as file, read_errors(path):
        head = file.peek(4096)
        refuse_foreign(path, head)
        first, number = b"", 0
        for number, first in _lines_of(file):  # noqa: B007 (both are used after the loop)
            if first.strip(_BOM + b" \t\r\n"):
                break
        else:
            raise InputError("is empty", path=name_of(path), fix="give a file with one conversation a line")
        reader = _Reader(is_turn)
        if ".json" in Path(str(path)).suffixes or reader.begins_document(first):
            yield from reader.document(path, first + file.read(), number)
        else:
            yield from reader.line(first, number)
            for line, raw in _lines_of(file, number):
                if raw.strip():
                    yield from reader.line(raw, line)


def _lines_of(file: BinaryIO, before: int = 0) -> Iterator[tuple[int, bytes]]:
    """Number the lines; of one that is too long only the beginning comes, which is longer than allowed too."""
    number = before
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        yield number, raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 1)


class _Reader:
    """Decodes the lines of a file, or all of it as one document."""

    def __init__(self, is_turn: Callable[[Any], bool]) -> None:
        self._is_turn = is_turn
        self._twice: str | None = None
        # NaN and Infinity are no JSON, but pandas writes them for empty cells
        self._decoder = json.JSONDecoder(parse_constant=lambda _: None, object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Make an object; a key that stands twice in it is remembered, since one of the two is lost."""
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            self._twice = next(name for name in names if names.count(name) > 1)
        return made

    def begins_document(self, first: bytes) -> bool:
        """Whether what begins so goes on over several lines, rather than being a value a line."""
        text = first.removeprefix(_BOM).strip()
        if len(first) > LONGEST_LINE:
            return text.startswith(b"[")  # a whole array without a line break
        return text.endswith((b"[", b"{", b":")) or (text.endswith(b",") and not self._is_value(text[:-1]))

    def _is_value(self, text: bytes) -> bool:
        try:
            self._decoder.decode(text.decode("utf-8"))
        except (ValueError, RecursionError):
            return False
        return True

    def line(self, raw: bytes, line: int) -> Iterator[Value | Unreadable]:
        """Yield the value of a line, or the elements of the array that it is."""
        if len(raw) > LONGEST_LINE:
            what = f"is longer than {LONGEST_LINE >> 20} MB"
            yield Unreadable(line, what, "is it one conversation? write one a line")
            return
        try:
            text = raw.removeprefix(_BOM).decode("utf-8").strip()
            value, note = self._decode(text)
        except (ValueError, RecursionError) as error:
            yield _explain(error, raw, line)
            return
        found = self._checked(text, value, line, note)
        if isinstance(found, Value) and isinstance(value, list) and value and not self._is_turn(value[0]):
            yield from (Value(line, item, note) for item in value)
        else:
            yield found

    def _decode(self, text: str) -> tuple[Any, str]:
        try:
            return self._decoder.decode(text), ""
        except json.JSONDecodeError:
            bare = text.removesuffix(",")
            if bare == text:
                raise
            return self._decoder.decode(bare), COMMA

    def document(self, path: str | Path, raw: bytes, line: int) -> Iterator[Value | Unreadable]:
        """Yield the values of a text, and the elements of an array of records in it."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line += raw.count(b"\n", 0, error.start)
            raise InputError(not_utf8(error), path=name_of(path), line=line, fix=UTF8_FIX) from error
        lines = _LineCounter(text, line)
        at = _skip(_SEPARATORS, text, 0)
        while at < len(text):
            inside = self._first_record(text, at)
            try:
                if inside is None:
                    value, end = self._decoder.raw_decode(text, at)
                    yield self._checked(text[at:end], value, lines.at(at))
                else:
                    end = yield from self._elements(text, inside, lines)
            except (ValueError, RecursionError) as error:
                end = text.find("\n", at) + 1 or len(text)
                yield _explain(error, text[at:end].encode("utf-8", "replace"), lines.at(at))
            at = _skip(_SEPARATORS, text, end)

    def _elements(self, text: str, at: int, lines: _LineCounter) -> Generator[Value | Unreadable, None, int]:
        """Yield the elements of a list that begins before `at`; returns the position after its closing bracket."""
        while True:
            at = _skip(_SEPARATORS, text, at)
            if at >= len(text):
                yield Unreadable(lines.at(len(text) - 1), "the list is never closed", "add the missing ] at the end")
                return at
            if text[at] == "]":
                return at + 1
            try:
                value, end = self._decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                where = lines.at(getattr(error, "pos", at))
                yield Unreadable(where, f"{_reason(error)}; nothing after it can be read", "mend the JSON there")
                return len(text)
            yield self._checked(text[at:end], value, lines.at(at))
            at = end

    def _first_record(self, text: str, at: int) -> int | None:
        """Position inside the bracket when a list of records begins at `at`; None for anything else."""
        if text[at] != "[":
            return None
        inside = _skip(_BLANK, text, at + 1)
        try:
            value, _ = self._decoder.raw_decode(text, inside)
        except (ValueError, RecursionError):
            return inside
        finally:
            self._twice = None
        return None if self._is_turn(value) else inside

    def _checked(self, text: str, value: Any, line: int, note: str = "") -> Value | Unreadable:
        twice, self._twice = self._twice, None
        if twice is not None:
            what = f"the key {shorten(twice, 40)!r} stands twice in one object"
            return Unreadable(line, what, "keep one of the two, or rename one", "key_twice")
        if text.count("[") + text.count("{") > DEEPEST and (deep := _depth(value)) > DEEPEST:
            what = f"is nested {deep} levels deep; up to {DEEPEST} are read"
            return Unreadable(line, what, "write what is nested so deep as text, or leave it out")
        damage = _lone_surrogate(text, value)
        return Unreadable(line, *damage) if damage else Value(line, value, note)


def decode(text: str) -> Value | Unreadable:
    """The JSON value that a text is, held to the same bounds as a line."""
    reader = _Reader(lambda _: True)
    return next(reader.line(text.strip().encode("utf-8", "replace"), 0))


COMMA = "a comma behind the record"


def _depth(value: Any) -> int:
    """How many lists and objects stand inside each other."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        held, level = todo.pop()
        if isinstance(held, (list, dict)):
            deepest = max(deepest, level)
            todo += [(item, level + 1) for item in (held.values() if isinstance(held, dict) else held)]
    return deepest


class _LineCounter:
    """Line numbers of growing positions in a text; counting from the start each time would be quadratic."""

    def __init__(self, text: str, first: int) -> None:
        self._text, self._line, self._position = text, first, 0

    def at(self, position: int) -> int:
        """Line (1-based) of a position; positions never go back by more than the current value."""
        if position >= self._position:
            self._line += self._text.count("\n", self._position, position)
        else:
            self._line -= self._text.count("\n", position, self._position)
        self._position = position
        return self._line


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is not readable JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} (column {error.colno})"
    return f"is not readable JSON: {error}"


def _explain(error: Exception, raw: bytes, line: int) -> Unreadable:
    if isinstance(error, UnicodeDecodeError):
        return Unreadable(line, not_utf8(error), UTF8_FIX)
    what, text = _reason(error), raw.strip()
    if b"\0" in raw:
        return Unreadable(line, "holds NUL bytes", "the file was cut by a crash or is UTF-16: " + UTF8_FIX)
    if text.startswith((b"{'", b"[{'")):
        return Unreadable(line, what, "this is Python's own notation: write the line with json.dumps")
    if "Extra data" in what:
        return Unreadable(line, what, "put one JSON value on a line, and nothing after it")
    if "control character" in what:
        return Unreadable(line, what, r"write line breaks and tabs inside texts as \n and \t (json.dumps does)")
    if not text.startswith((b"{", b"[")):
        return Unreadable(line, what, 'a line is an object {"messages": [...]} or a list of turns [{"role": ...}, ...]')
    if not text.endswith((b"}", b"]")):
        return Unreadable(line, what, "the line is cut off: write the file again, or use --skip-bad-lines")
    return Unreadable(line, what, "mend the JSON of this line, or use --skip-bad-lines")


def _lone_surrogate(text: str, value: Any) -> tuple[str, str] | None:
    r"""Find half a surrogate pair: JSON can write one as \ud83d, but no file, terminal or tokenizer can take it."""
    if "\\ud" not in text and "\\uD" not in text:
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        return f"holds half of a character ({half} without its other half)", "cut texts by characters, not by bytes"
    return None
