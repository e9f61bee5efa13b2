"""Writes files whole or not at all: a temporary file beside the target, flushed to disk, then renamed over it.

Every writer of files goes through here, so a full disk, a crash or Ctrl-C in the middle leaves the old file as it was.
It does not know what it writes. A target that is no regular file (`/dev/stdout`, a named
pipe) cannot be renamed over, so that alone is written directly.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetyqc.errors import OutputError
from safetyqc.formats.remote import Remote, place_of

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FAILED_WRITE = (*_NO_SPACE, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: str | Path, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without an error.

    Folders on the way are made. A link is followed, so that what it points to is replaced. The permissions of a file
    that was there are kept.

    Raises:
        OutputError: `path` is there and `force` is False; the folder cannot be written; the disk is full. In each of
            these cases, and when the block raises, `path` is what it was before.
    """
    place = place_of(path)
    if isinstance(place, Remote):
        with _explained(place.url):
            if not force and place.exists():
                raise OutputError("is there already", where=place.url, fix=_FORCE)
            with place.replacing() as file:
                yield file
        return
    path = place
    if not force and os.path.lexists(path):
        raise OutputError("is there already", where=str(path), fix=_FORCE)
    with _explained(path):
        target = _followed(path)
        special = target.exists() and not target.is_file()
        file, unfinished = (target.open("wb"), None) if special else _open_beside(target)
    try:
        with file:
            yield file
            with _explained(path):
                file.flush()
                if unfinished:
                    os.fsync(file.fileno())
        if unfinished:
            with _explained(path):
                unfinished.replace(target)
                _sync_folder(target.parent)
    except BaseException as error:
        if unfinished:
            unfinished.unlink(missing_ok=True)
        # A failed write has no file name; an error of the block's own input has one, or another number
        if isinstance(error, OSError) and error.filename is None and error.errno in _FAILED_WRITE:
            raise _explain(error, path) from error
        raise


_FORCE = "give another path, or --force to replace it"


def _followed(path: Path) -> Path:
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            what = "is a link that leads back to itself"
            raise OutputError(what, where=str(path), fix="give another path") from error
    return path.resolve()


def _open_beside(target: Path) -> tuple[BinaryIO, Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:60]}.", suffix=".part", dir=target.parent)
    Path(name).chmod(_permissions(target))
    return os.fdopen(handle, "wb"), Path(name)


@contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def write_lines(path: str | Path, lines: Iterable[str], *, force: bool = True) -> int:
    """Write texts as UTF-8 lines ended by a newline each; returns how many. Lines may come from a generator.

    Raises:
        OutputError: see `replacing`.
    """
    count = 0
    with replacing(path, force=force) as file:
        for line in lines:
            file.write(line.encode("utf-8") + b"\n")
            count += 1
    return count


def write_text(path: str | Path, text: str, *, force: bool = True) -> None:
    """Write one text as UTF-8, without touching its line ends.

    Raises:
        OutputError: see `replacing`.
    """
    with replacing(path, force=force) as file:
        file.write(text.encode("utf-8"))


def _permissions(target: Path) -> int:
    """Those of the file to be replaced, else what an ordinary new file would get (mkstemp's 0600 hides results)."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; some file systems cannot, which is no reason to fail."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _explain(error: OSError, path: Path | str) -> OutputError:
    if error.errno in _NO_SPACE:
        return OutputError(
            "the disk is full; nothing was changed", where=str(path), fix="free some space, or give another path"
        )
    if isinstance(error, IsADirectoryError):
        return OutputError("is a folder", where=str(path), fix="give the path of a file")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return OutputError("part of the path is a file, not a folder", where=str(path), fix="give another path")
    return OutputError(f"cannot be written: {error.strerror}", where=str(path), fix="give a path that you may write to")
