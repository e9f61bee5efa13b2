"""The one file of a run: how it is made, opened, locked, and what is said when that fails. It reads no record."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import RunError
from safetyqc.formats.remote import is_url
from safetyqc.store.schema import FORMAT, SCHEMA

if TYPE_CHECKING:
    from filelock import BaseFileLock

FILE_NAME, LOCK_NAME = "run.sqlite", "lock"


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file of a run.

    Raises:
        RunError: it cannot be opened.
    """
    alone = read_only and not path.with_name(f"{path.name}-wal").exists()
    try:
        if alone and not os.access(path.parent, os.W_OK):
            return _connect(path, _UNTOUCHED)
        try:
            return _connect(path, "ro" if read_only else "rw")
        except sqlite3.OperationalError:
            if not alone:
                raise
            return _connect(path, _UNTOUCHED)  # the disk is full: there is no room for a file beside it
    except sqlite3.Error as error:
        raise explain(error, path) from error


_UNTOUCHED = "ro&immutable=1"
"""SQLite makes files beside a run that it reads, for the sake of writers; not so where nobody writes."""


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL" if mode == "rw" else "SELECT count(*) FROM sqlite_master")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def make_folder(folder: Path) -> None:
    """Make the folder of a run, if it is not there, for its owner alone: what models answered is not for everybody.

    Raises:
        RunError: it cannot be made.
    """
    if is_url(folder):
        fix = "give a folder of this machine with --run; data and verdicts may stand elsewhere"
        raise RunError("a run lies on this machine, where it can be locked", where="--run", fix=fix)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        fix = "give another folder with --run"
        raise RunError(f"cannot make a run there: {error.strerror}", where=str(folder), fix=fix) from error


def make_file(path: Path) -> None:
    """Make the database under another name and rename it, so that none is ever half-made; one that is there stays.

    It becomes a WAL database when it is opened: a log of its own under the other name could not follow a rename. The
    caller holds the run's lock, or two makers would take each other's file away.

    Raises:
        RunError: it cannot be written, such as on a full disk; nothing of it is left then.
    """
    if path.exists() and path.stat().st_size:
        return
    unfinished = path.with_suffix(".making")
    _remove(unfinished)
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL, 0o600))  # SQLite gives its log the same mode
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN; {SCHEMA} INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;")
        unfinished.replace(path)
    except OSError as error:
        raise RunError(f"cannot write to the run: {error.strerror}", where=str(path.parent), fix=_ELSEWHERE) from error
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        _remove(unfinished)


def _remove(database: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def existing(folder: str | Path) -> Path:
    """The folder as a path, if it holds a run.

    Raises:
        RunError: it does not.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise RunError(
            "no run here",
            where=str(folder),
            fix="make one with `safetyqc import FILE` or `safetyqc generate -m MODEL`, or give --run",
        )
    return folder


def lock_run(folder: Path) -> BaseFileLock:
    """Hold the run for this process: two writers would pay for the same call twice.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(
            "another safetyqc is writing this run", where=str(folder), fix="wait for it, or use another --run"
        ) from error
    except OSError as error:
        raise RunError(f"cannot write to the run: {error.strerror}", where=str(folder), fix=_ELSEWHERE) from error
    return lock


_ELSEWHERE = "copy the folder to where you may write, or give another --run"
_RESCUE = "rescue what can be read with `sqlite3 run.sqlite .recover | sqlite3 OTHER/run.sqlite`, or give another --run"


def damaged(what: str, path: Path) -> RunError:
    """Say that a run holds something that was never written so."""
    return RunError(f"the run is damaged: {what}", where=str(path), fix=_RESCUE)


def explain(error: Exception, path: Path) -> RunError:
    """Say what an error of SQLite's means for the run, and what to do."""
    text = str(error)
    if "not a database" in text or "no such table" in text:
        return RunError(f"not a safetyqc run: {text}", where=str(path), fix="give another --run")
    if "decode to UTF-8" in text:
        return damaged("a text in it is no UTF-8", path)  # SQLite's own message holds that text
    if "malformed" in text or isinstance(error, (sqlite3.InternalError, OverflowError)):
        return damaged(text, path)
    fix = "free some space and run the same command again" if "full" in text or "disk I/O" in text else None
    if "unable to open" in text:
        fix = "copy the folder to where you may write, with all its files"
    return RunError(f"the run cannot be written or read: {text}", where=str(path), fix=fix)
