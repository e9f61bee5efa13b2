"""What a user hands in -> conversations in an open run, with everybody told what was left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from safetyqc.errors import InputError
from safetyqc.formats.opened import name_of
from safetyqc.formats.readers import ReadResult, read_conversations
from safetyqc.formats.rows import read_rows
from safetyqc.formats.turns import AS_IT_IS, Reading
from safetyqc.pipeline.progress import shown

if TYPE_CHECKING:
    from safetyqc.pipeline.loop import Listener
    from safetyqc.pipeline.session import Session

Data = str | os.PathLike[str] | Iterable[Any]
"""A path (`-` is standard input); or rows: a list, a DataFrame, a Dataset."""


def read_data(
    data: Data,
    listener: Listener,
    *,
    skip_bad: bool = False,
    how: Reading = AS_IT_IS,
    only_files: Collection[str] | None = None,
) -> ReadResult:
    """Read a file or rows, and tell what was left out, chosen or kept aside.

    Raises:
        InputError: a record that is no conversation and is not to be skipped, or nothing is left.
    """
    read = read_any(data, skip_bad=skip_bad, how=how, only_files=only_files)
    if read.skipped:
        listener.skipped(read)
    for told, count in read.notes.items():
        listener.note(f"{read.path}: {told}: {count:,}")
    if read.skipped and not read.conversations:
        raise InputError(
            "nothing is left of it: every line was skipped", path=read.path, fix="mend the lines named above"
        )
    return read


def read_any(
    data: Data,
    *,
    skip_bad: bool = False,
    strict: bool = True,
    how: Reading = AS_IT_IS,
    only_files: Collection[str] | None = None,
) -> ReadResult:
    """Read a file or rows; arguments and errors are those of `read_conversations`."""
    if isinstance(data, (str, os.PathLike)):
        with shown().phase(f"read {name_of(os.fspath(data))}") as line:
            read = read_conversations(
                os.fspath(data), skip_bad_lines=skip_bad, strict=strict, how=how, only_files=only_files
            )
            line.advance(count=len(read.conversations) + len(read.skipped))
        return read
    return read_rows(data, skip_bad=skip_bad, strict=strict, how=how)


def bring_in(session: Session, read: ReadResult, listener: Listener) -> list[str]:
    """Add what was read to the run; the ids under which the run knows it, in input order."""
    from safetyqc.pipeline.importing import import_conversations

    tally, ids = import_conversations(session, read.path, read)
    listener.tell(tally)
    return ids
