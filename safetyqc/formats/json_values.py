"""Bytes of a JSON or JSON Lines file -> the values in it, one by one, each with its line, or with what is wrong there.

It knows nothing of conversations beyond telling a list of turns from a list of records. `.gz` is recognised by its
first bytes, `-` is standard input. JSON Lines are read line by line, so a large file never lies in memory as a whole;
a JSON document (`.json`, or text whose first line is no complete value) is decoded element by element from one text.
A broken line is a value of its own (`Unreadable`): the caller decides whether to stop.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, cast

from safetyqc.errors import InputError

STDIN = "-"
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}
# NaN and Infinity are no JSON, but pandas writes them for empty cells
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
_BLANK = re.compile(r"[\s\ufeff]*")
_SEPARATORS = re.compile(r"[\s\ufeff,]*")


@dataclass(frozen=True)
class Value:
    """One JSON value and the line (1-based) on which it begins."""

    line: int
    value: Any


@dataclass(frozen=True)
class Unreadable:
    """A line that is no JSON, and how to mend it."""

    line: int
    what: str
    fix: str


def name_of(path: str | Path) -> str:
    """The path as messages show it."""
    return "stdin" if str(path) == STDIN else str(path)


def read_values(path: str | Path, is_turn: Callable[[Any], bool]) -> Iterator[Value | Unreadable]:
    """Yield what a file holds, in order; a list whose first item is not a turn is a list of records and is unpacked.

    Raises:
        InputError: there is no such file, it cannot be read, is empty, or is no text in UTF-8 at all.
    """
    with _opened(path) as file, _read_errors(path):
        head = file.peek(4096)
        _refuse_foreign(path, head)
        first = b""
        for number, first in enumerate(file, start=1):  # noqa: B007 (both are used after the loop)
            if first.strip(_BOM + b" \t\r\n"):
                break
        else:
            raise InputError("is empty", path=name_of(path), fix="give a file with one conversation a line")
        if ".json" in Path(str(path)).suffixes or first.rstrip().endswith((b"[", b"{", b",", b":")):
            yield from _read_document(path, first + file.read(), number, is_turn)
        else:
            yield from _read_lines(file, first, number, is_turn)


def read_text(path: str | Path) -> str:
    """Read a whole file of text, unzipped where it is gzipped.

    Raises:
        InputError: there is no such file, it cannot be read, or is no text in UTF-8.
    """
    with _opened(path) as file, _read_errors(path):
        _refuse_foreign(path, file.peek(4096))
        raw = file.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise InputError(_not_utf8(error), path=name_of(path), line=line, fix=_UTF8_FIX) from error


def _read_lines(
    file: BinaryIO, first: bytes, number: int, is_turn: Callable[[Any], bool]
) -> Iterator[Value | Unreadable]:
    yield from _read_line(first, number, is_turn)
    for line, raw in enumerate(file, start=number + 1):
        if raw.strip():
            yield from _read_line(raw, line, is_turn)


def _read_line(raw: bytes, line: int, is_turn: Callable[[Any], bool]) -> Iterator[Value | Unreadable]:
    try:
        text = raw.removeprefix(_BOM).decode("utf-8").strip()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        yield _explain(error, raw, line)
        return
    if damage := _lone_surrogate(text, value):
        yield Unreadable(line, *damage)
    elif isinstance(value, list) and value and not is_turn(value[0]):
        yield from (Value(line, item) for item in value)
    else:
        yield Value(line, value)


def _read_document(
    path: str | Path, raw: bytes, line: int, is_turn: Callable[[Any], bool]
) -> Iterator[Value | Unreadable]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise InputError(_not_utf8(error), path=name_of(path), line=line, fix=_UTF8_FIX) from error
    lines = _LineCounter(text, line)
    at = _skip(_BLANK, text, 0)
    while at < len(text):
        inside = _first_record(text, at, is_turn)
        try:
            if inside is None:
                value, end = _DECODER.raw_decode(text, at)
                yield _checked(text[at:end], value, lines.at(at))
            else:
                end = yield from _read_elements(text, inside, lines)
        except (ValueError, RecursionError) as error:
            end = text.find("\n", at) + 1 or len(text)
            yield _explain(error, text[at:end].encode("utf-8", "replace"), lines.at(at))
        at = _skip(_BLANK, text, end)


def _read_elements(text: str, at: int, lines: _LineCounter) -> Generator[Value | Unreadable, None, int]:
    """Yield the elements of a list that begins before `at`; returns the position after its closing bracket."""
    while True:
        at = _skip(_SEPARATORS, text, at)
        if at >= len(text):
            yield Unreadable(lines.at(len(text) - 1), "the list is never closed", "add the missing ] at the end")
            return at
        if text[at] == "]":
            return at + 1
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where = lines.at(getattr(error, "pos", at))
            yield Unreadable(where, f"{_reason(error)}; nothing after it can be read", "mend the JSON there")
            return len(text)
        yield _checked(text[at:end], value, lines.at(at))
        at = end


def _first_record(text: str, at: int, is_turn: Callable[[Any], bool]) -> int | None:
    """Position inside the bracket when a list of records begins at `at`; None for one conversation or one object."""
    if text[at] != "[":
        return None
    inside = _skip(_BLANK, text, at + 1)
    try:
        value, _ = _DECODER.raw_decode(text, inside)
    except (ValueError, RecursionError):
        return inside
    return None if is_turn(value) else inside


def _checked(text: str, value: Any, line: int) -> Value | Unreadable:
    damage = _lone_surrogate(text, value)
    return Unreadable(line, *damage) if damage else Value(line, value)


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


_UTF8_FIX = "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW (ENCODING is often GB18030 or WINDOWS-1252)"


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1}"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is not readable JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} (column {error.colno})"
    return f"is not readable JSON: {error}"


def _explain(error: Exception, raw: bytes, line: int) -> Unreadable:
    if isinstance(error, UnicodeDecodeError):
        return Unreadable(line, _not_utf8(error), _UTF8_FIX)
    what, text = _reason(error), raw.strip()
    if b"\0" in raw:
        return Unreadable(line, "holds NUL bytes", "the file was cut by a crash or is UTF-16: " + _UTF8_FIX)
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


@contextmanager
def _opened(path: str | Path) -> Iterator[io.BufferedReader]:
    if str(path) == STDIN:
        yield _unzipped(sys.stdin.buffer)
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", path=name_of(path), fix=_nearest(Path(path), error)
        ) from error
    with file:
        yield _unzipped(file)


def _unzipped(file: BinaryIO) -> io.BufferedReader:
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))
    if buffered.peek(2)[:2] != b"\x1f\x8b":
        return buffered
    return io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=buffered)))


@contextmanager
def _read_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be read to its end: {error}"
        raise InputError(what, path=name_of(path), fix="is the file damaged? copy or make it again") from error


def _nearest(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "may you read it? see its permissions"
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.name != path.name] if folder.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"


def _refuse_foreign(path: str | Path, head: bytes) -> None:
    kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
    if kind:
        fix = "unpack or convert it to JSON Lines first, one conversation a line"
        raise InputError(f"is {kind}, not JSON", path=name_of(path), fix=fix)
    sample = head[:200]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(sample) > 4 and sample.count(0) * 3 > len(sample)):
        fix = f"convert it: iconv -f UTF-16 -t UTF-8 {path} > NEW (PowerShell writes UTF-16 unless told -Encoding utf8)"
        raise InputError("is UTF-16 text; safetyqc reads UTF-8", path=name_of(path), fix=fix)
