"""An open run: its lock, one connection that reads, one thread that writes, and the values under a name.

Whatever is read comes through `_rows` and `_bodies`, which say so where the file is damaged.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import ValidationError

from safetyqc.errors import RunError
from safetyqc.records import Record
from safetyqc.store.file import (
    FILE_NAME,
    connect,
    damaged,
    existing,
    explain,
    lock_run,
    make_file,
    make_folder,
)
from safetyqc.store.schema import FORMAT, UPGRADED, statements
from safetyqc.store.upgrade import show_as_now, upgrade
from safetyqc.store.writer import Writer

R = TypeVar("R", bound=Record)

_AT_ONCE = 900
"""Values in one statement; older SQLites take 999."""


class OpenedRun:
    """What all tables of a run share. Open it with `create`, `open` or `read`; close it, or use a `with` block."""

    def __init__(self, folder: Path, *, mode: Literal["create", "write", "beside", "read"]) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        with contextlib.ExitStack() as undo:
            self._lock = lock_run(folder) if mode in ("create", "write") else None
            if self._lock:
                undo.callback(self._lock.release)
            if mode == "create":
                make_file(self.path)
            self._reader = connect(self.path, read_only=mode == "read")
            undo.callback(self._reader.close)
            with lock_run(folder) if mode == "beside" and self.meta("format") != FORMAT else contextlib.nullcontext():
                self._settle_format(read_only=mode == "read")
            self._writer = None if mode == "read" else Writer(self.path)
            undo.pop_all()

    @classmethod
    def create(cls, folder: str | Path) -> Self:
        """Open the run in `folder`, making it when it is not there.

        Raises:
            RunError: the folder holds something else, is in use by another process, or cannot be written.
        """
        folder = Path(folder)
        make_folder(folder)
        return cls(folder, mode="create")

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an existing run for writing; one of format 2 is brought to the present format.

        Raises:
            RunError: no run there, of another version, or in use by another process.
        """
        return cls(existing(folder), mode="write")

    @classmethod
    def beside(cls, folder: str | Path) -> Self:
        """Open an existing run to add labels to it while other processes may write it too.

        Nothing but labels and what belongs to them may be written so: two writers of anything else pay twice.

        Raises:
            RunError: no run there, of another version, or one that must be upgraded while somebody writes it.
        """
        opened = cls(existing(folder), mode="beside")
        opened._add_new_tables()
        return opened

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Open an existing run for reading; works while another process writes it. Nothing is written.

        Raises:
            RunError: no run there, or of another version.
        """
        return cls(existing(folder), mode="read")

    def close(self) -> None:
        """Wait until every write is durable and release the run; harmless when called twice."""
        if self._writer:
            self._writer.close()
            self._writer = None
        self._reader.close()
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle_format(self, *, read_only: bool) -> None:
        found = self.meta("format")
        if found == FORMAT:
            return
        if found != UPGRADED:
            raise RunError(
                f"run of format {found!r}, this safetyqc reads {UPGRADED} and {FORMAT}",
                where=str(self.path),
                fix="use the version of safetyqc that made it, or start a new run",
            )
        try:
            (show_as_now if read_only else upgrade)(self._reader)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _add_new_tables(self) -> None:
        """Give a run of the present format the tables that it was made without."""
        there = {name for (name,) in self._rows("SELECT name FROM sqlite_master")}
        for name, statement in statements().items():
            if name not in there:
                self._write(statement, [()]).result()

    # ---- writing ------------------------------------------------------------------------------------------------

    def _write(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> Future[int]:
        return self._open_writer().put(sql, list(rows))

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RunError("the run is open for reading only", where=str(self.path))
        return self._writer

    def set_meta(self, key: str, value: Any) -> None:
        """Remember a JSON value under a name."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value))]).result()

    # ---- reading ------------------------------------------------------------------------------------------------

    def meta(self, key: str, default: Any = None) -> Any:
        """The JSON value under a name, or the default."""
        row = self._row("SELECT value FROM meta WHERE key = ?", (key,))
        return self._json(row[0], "meta") if row else default

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
        try:
            # `yield from` would close the cursor of a reader who stops early, maybe when the run is closed already
            for row in self._reader.execute(sql, parameters):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _row(self, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        return next(self._rows(sql, parameters), None)

    def _each(self, sql: str, values: Iterable[Any], first: tuple[Any, ...] = ()) -> Iterator[Any]:
        """Ask with some of the values at a time, which stand in the statement's braces, behind what is `first`."""
        waiting = iter(values)
        while part := tuple(islice(waiting, _AT_ONCE)):
            yield from self._rows(sql.format(", ".join("?" * len(part))), first + part)

    def _bodies(self, sql: str, kind: type[R], parameters: tuple[Any, ...] = ()) -> Iterator[R]:
        for (body,) in self._rows(sql, parameters):
            yield self._record(kind, body)

    def _record(self, kind: type[R], body: Any) -> R:
        try:
            return _lightened(kind.model_validate_json(body))
        except ValidationError as error:
            raise damaged(f"a {kind.__name__} in it cannot be read", self.path) from error

    def _json(self, text: Any, table: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise damaged(f"a row of {table} cannot be read", self.path) from error


_NOT_NOTED: set[str] = set()


def _lightened(record: R) -> R:
    """Drop the sets in which pydantic remembers which fields were given: of a run's records, which give all of them,
    they take nearly half of the memory. A copy of a record gets a set of its own."""
    for one in (record, *getattr(record, "scores", ()), *getattr(record, "messages", ())):
        object.__setattr__(one, "__pydantic_fields_set__", _NOT_NOTED)
    return record
