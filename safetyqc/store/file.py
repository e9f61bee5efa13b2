"""The one file of a run: its tables, and how it is made, opened, locked, and what is said when that fails.

It reads and writes no record. The one surprising thing: a new file is made under another name and renamed, so that a
half-made run never exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from safetyqc.errors import RunError

FILE_NAME = "run.sqlite"
FORMAT = 2
"""Of the tables below; a run of another one is refused."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE conversations (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, origin TEXT NOT NULL,
    scenario_index INTEGER, parent_id TEXT, body TEXT NOT NULL);
CREATE INDEX conversations_by_scenario ON conversations (scenario_index);
CREATE TABLE judgments (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, judge TEXT NOT NULL,
    rubric_hash TEXT NOT NULL, version TEXT NOT NULL, unscored TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (conversation_id, judge, rubric_hash));
CREATE INDEX judgments_by_judge ON judgments (judge, rubric_hash, conversation_id, version, unscored);
CREATE TABLE failures (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, record_id TEXT NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL);
CREATE TABLE rejections (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, filter TEXT NOT NULL,
    body TEXT NOT NULL, UNIQUE (conversation_id, filter));
CREATE TABLE labels (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, criterion TEXT NOT NULL,
    annotator TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (conversation_id, criterion, annotator));
CREATE TABLE duplicates (dropped_id TEXT PRIMARY KEY, kept_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE rewrites (seq INTEGER PRIMARY KEY, parent_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, UNIQUE (parent_id, revision));
CREATE TABLE calls (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, stage TEXT NOT NULL, model TEXT NOT NULL,
    good INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL,
    history TEXT NOT NULL, at REAL NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE INDEX calls_by_key ON calls (key) WHERE good;
CREATE TABLE timings (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, at REAL NOT NULL, wall_s REAL NOT NULL,
    items INTEGER NOT NULL);
CREATE TABLE matches (conversation_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE arrays (name TEXT NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (name, part));
CREATE TABLE batches (tag TEXT PRIMARY KEY, status TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE batch_requests (tag TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL,
    request TEXT NOT NULL, outcome TEXT, UNIQUE (tag, key));
CREATE INDEX batch_requests_by_key ON batch_requests (key);
"""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file of a run.

    Raises:
        RunError: it cannot be opened.
    """
    mode = "ro" if read_only else "rw"
    if read_only and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        mode = "ro&immutable=1"  # SQLite would make a file beside it, which it cannot there; and nobody else writes
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            if not read_only:
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explain(error, path) from error
    return connection


def make_file(path: Path) -> None:
    """Make the database under another name and rename it, so that a half-made run never exists.

    It becomes a WAL database when it is opened: a log of its own under the other name could not follow a rename.

    Raises:
        RunError: it cannot be written, such as on a full disk; nothing of it is left then.
    """
    unfinished = path.with_suffix(".making")
    _remove(unfinished)
    try:
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;")
        unfinished.rename(path)
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
            fix="make one with `safetyqc import FILE` or `safetyqc generate`, or give --run",
        )
    return folder


def lock_run(folder: Path) -> Any:
    """Hold the run for this process: two writers would pay for the same call twice.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    try:
        handle = (folder / "lock").open("a")
    except OSError as error:
        fix = "copy the folder to where you may write, or give another --run"
        raise RunError(f"cannot write to the run: {error.strerror}", where=str(folder), fix=fix) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise RunError(
            "another safetyqc is writing this run", where=str(folder), fix="wait for it, or use another --run"
        ) from error
    return handle


def explain(error: Exception, path: Path) -> RunError:
    """Say what an error of SQLite's means for the run, and what to do."""
    text = str(error)
    if "not a database" in text or "no such table" in text:
        return RunError(f"not a safetyqc run: {text}", where=str(path), fix="give another --run")
    if "malformed" in text:
        return RunError(f"the run is damaged: {text}", where=str(path), fix="give another --run")
    fix = "free some space and run the same command again" if "full" in text or "disk I/O" in text else None
    if "unable to open" in text:
        fix = "copy the folder to where you may write, with all its files"
    return RunError(f"the run cannot be written or read: {text}", where=str(path), fix=fix)
