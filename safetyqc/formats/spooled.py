"""Texts or records one after another: in memory, or, where they would take more than is allowed, in a temporary file.

So that whoever reads conversations reads them once, however little memory there is. What is in a file is read back when
it is looked at.
"""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

from safetyqc.errors import OutputError

T = TypeVar("T")

_CHARACTER_BYTES = 2
"""Of a text in memory: one where all are Latin-1, two for most others."""


class Records(Sequence[T]):
    """Takes records until there are more than `most`, and then goes on in a file, where each look makes one anew.

    They are pickled, into a file that has no name and that nobody else can write.
    """

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most
        self._held: list[T] = []
        self._file: IO[bytes] | None = None
        self._ends = array("q", [0])

    def add(self, record: T) -> None:
        """Put one record behind the others.

        Raises:
            OutputError: no room for a temporary file.
        """
        if self._file is None and len(self._held) < self._most:
            self._held.append(record)
            return
        waiting, self._held = [*self._held, record], []
        with explained():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="safetyqc-")  # noqa: SIM115 - closed with the records
            for one in waiting:
                self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(one, pickle.HIGHEST_PROTOCOL)))

    @property
    def held(self) -> Sequence[T]:
        """The records as a tuple, or, where they are in a file, these themselves."""
        return tuple(self._held) if self._file is None else self

    def __len__(self) -> int:
        return len(self._held) if self._file is None else len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        if self._file is None:
            return self._held[place]
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        start, end = self._ends[place], self._ends[place + 1]
        if self._file.tell() != start:
            self._file.seek(start)
        return pickle.loads(self._file.read(end - start))

    def __del__(self) -> None:
        if self._file:
            self._file.close()


class Part(Sequence[T]):
    """Some of the records that stand beside each other, which are looked at where they are."""

    def __init__(self, records: Sequence[T], places: range) -> None:
        self._records, self._places = records, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Part(self._records, self._places[place])
        return self._records[self._places[place]]


class Texts(Sequence[str]):
    """Takes texts until `limit_bytes` are full, and then goes on in a file."""

    def __init__(self, limit_bytes: float = float("inf")) -> None:
        self._room = limit_bytes / _CHARACTER_BYTES
        self._held: list[str] = []
        self._file: IO[bytes] | None = None
        self._ends = array("q", [0])

    def add(self, text: str) -> None:
        """Put one text behind the others.

        Raises:
            OutputError: no room for a temporary file.
        """
        if self._file is None:
            self._held.append(text)
            self._room -= len(text)
            if self._room < 0:
                with explained():
                    self._file = tempfile.TemporaryFile(prefix="safetyqc-")  # noqa: SIM115 - closed with the texts
                self._write(self._held)
                self._held = []
        else:
            self._write([text])

    def __enter__(self) -> Texts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def held(self) -> Sequence[str]:
        """The texts as a list, or, where they are in a file, these themselves."""
        return self._held if self._file is None else self

    def _write(self, texts: Iterable[str]) -> None:
        if self._file is None:
            raise ValueError("there is no file")
        with explained():
            for text in texts:
                data = text.encode("utf-8", "surrogatepass")
                self._file.write(data)
                self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._held) if self._file is None else len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        if self._file is None:
            return self._held[place]
        start, end = self._ends[place], self._ends[place + 1]
        if self._file.tell() != start:
            self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")


@contextmanager
def explained() -> Iterator[None]:
    """Name the folder of temporary files where one has no room."""
    try:
        yield
    except OSError as error:
        what = f"no room for a temporary file: {error.strerror}"
        fix = "free some space, set TMPDIR to another folder, or allow more --memory"
        raise OutputError(what, where=tempfile.tempdir, fix=fix) from error
