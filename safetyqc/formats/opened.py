"""A path -> its bytes, unzipped where they are gzipped; `-` is standard input.

What cannot be opened or read is said with what can be done, also a file that is no text at all. What a gzipped file
unpacks to has a bound: a few kilobytes may hold gigabytes.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, cast

from safetyqc.errors import InputError
from safetyqc.formats.remote import Remote, is_url, place_of

STDIN = "-"
_FOREIGN = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow file",
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}


def name_of(path: str | Path) -> str:
    """The path as messages show it."""
    if str(path) == STDIN:
        return "stdin"
    place = place_of(path)
    return place.url if isinstance(place, Remote) else str(place) if str(path).startswith("file:") else str(path)


def read_text(path: str | Path) -> str:
    """Read a whole file of text, unzipped where it is gzipped.

    Raises:
        InputError: there is no such file, it cannot be read, or is no text in UTF-8.
    """
    with opened(path) as file, read_errors(path):
        refuse_foreign(path, file.peek(4096))
        raw = file.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise InputError(not_utf8(error), path=name_of(path), line=line, fix=UTF8_FIX) from error


UTF8_FIX = "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW (ENCODING is often GB18030 or WINDOWS-1252)"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is none of UTF-8."""
    return f"is not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1}"


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedReader]:
    """Open a file, or standard input.

    Raises:
        InputError: there is no such file, or it may not be read; names the nearest one.
    """
    if str(path) == STDIN:
        yield _unzipped(sys.stdin.buffer)
        return
    place = place_of(path)
    try:
        file = place.open() if isinstance(place, Remote) else place.open("rb")
    except OSError as error:
        what, fix = f"cannot be read: {error.strerror or error}", _nearest(place, error)
        raise InputError(what, path=name_of(path), fix=fix) from error
    with file:
        yield _unzipped(file)


def _unzipped(file: BinaryIO) -> io.BufferedReader:
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))
    if buffered.peek(2)[:2] != b"\x1f\x8b":
        return buffered
    return io.BufferedReader(_Unpacked(buffered))


class _Unpacked(io.RawIOBase):
    """What a gzipped file holds, as long as that is in some proportion to its size."""

    _FREE, _MOST_TIMES = 256 * 2**20, 200

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = _Counted(packed)
        self._file = gzip.GzipFile(fileobj=cast("BinaryIO", self._packed))
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        self._bytes += len(data)
        if self._bytes > max(self._FREE, self._MOST_TIMES * self._packed.bytes):
            packed, unpacked = (f"{size / 2**20:,.1f} MB" for size in (self._packed.bytes, self._bytes))
            raise OSError(f"{packed} of it unpack to more than {unpacked}, as no text does")
        buffer[: len(data)] = data
        return len(data)


class _Counted:
    """Counts what is read of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.bytes = file, 0

    def read(self, size: int = -1) -> bytes:
        """Read, and count."""
        data = self._file.read(size)
        self.bytes += len(data)
        return data


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Say of a file that cannot be read to its end that it cannot."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        what, fix = f"cannot be read to its end: {error}", "is the file damaged? copy or make it again"
        if is_url(path):
            what, fix = f"cannot be read: {error}", "does the store answer, and does its package find your keys?"
        raise InputError(what, path=name_of(path), fix=fix) from error


def _nearest(path: Path | Remote, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "may you read it? see its permissions"
    if isinstance(path, Remote):
        return "check the URL, and that this machine has what opens it"
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.name != path.name] if folder.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"


def refuse_foreign(path: str | Path, head: bytes) -> None:
    """Name what begins like a file of another kind, or of UTF-16, and say how it becomes text."""
    kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
    if kind:
        fix = "unpack or convert it to JSON Lines first, one conversation a line"
        raise InputError(f"is {kind}, not JSON", path=name_of(path), fix=fix)
    sample = head[:200]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(sample) > 4 and sample.count(0) * 3 > len(sample)):
        fix = f"convert it: iconv -f UTF-16 -t UTF-8 {path} > NEW (PowerShell writes UTF-16 unless told -Encoding utf8)"
        raise InputError("is UTF-16 text; safetyqc reads UTF-8", path=name_of(path), fix=fix)
