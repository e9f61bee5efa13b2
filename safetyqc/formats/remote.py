"""A path or a URL -> where it lies: on this machine, or in a store that fsspec reaches (s3://, gs://, memory://).

Keys are never taken from a URL: it would stand in the run, in reports and in messages. They come from where the store's
own package looks for them. `file://` is a path of this machine. A URL that went through `pathlib` and lost a slash is
known all the same.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from safetyqc.errors import UserError
from safetyqc.text import shorten

T = TypeVar("T")

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)
"""Two letters at least: `C:/` is a drive."""
_ACCOUNT_AFTER_AT = ("abfs", "abfss", "wasb", "wasbs")
"""Where `container@account` is no user."""
_LONGEST = 300


@dataclass(frozen=True)
class Remote:
    """A file or folder of a file system that fsspec knows; `url` is its name."""

    files: Any
    path: str
    url: str

    def is_folder(self) -> bool:
        """Whether anything lies below it.

        Raises:
            OSError: the store cannot be asked.
        """
        return bool(_asked(lambda: self.files.isdir(self.path)))

    def below(self) -> list[Remote]:
        """The files in it and in its folders.

        Raises:
            OSError: the store cannot be asked.
        """
        paths: list[str] = _asked(lambda: self.files.find(self.path))
        return [Remote(self.files, path, self.files.unstrip_protocol(path)) for path in paths]

    def exists(self) -> bool:
        """Whether it is there.

        Raises:
            OSError: the store cannot be asked.
        """
        return bool(_asked(lambda: self.files.exists(self.path)))

    def state(self) -> str:
        """What changes when the file does: its size, its time, its hash, as far as the store tells them.

        Raises:
            OSError: it is not there, or the store cannot be asked.
        """
        return str(_asked(lambda: self.files.ukey(self.path)))

    def open(self) -> BinaryIO:
        """Open it for reading.

        Raises:
            OSError: it is not there, or may not be read.
        """
        file: BinaryIO = _asked(lambda: self.files.open(self.path, "rb"))
        return file

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Open a file that takes its place when the block ends without an error.

        Raises:
            OSError: it cannot be written.
        """
        with self.files.transaction, _asked(lambda: self.files.open(self.path, "wb")) as file:
            yield file


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, shorten(f"{type(error).__name__}: {error}", _LONGEST)) from error


def place_of(path: str | Path) -> Path | Remote:
    """Where a path or a URL lies.

    Raises:
        UserError: a URL that holds a key, of a scheme that nobody knows, or whose package is not installed.
    """
    found = _URL.match(str(path))
    if not found:
        return Path(str(path))
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return Path("/" + rest)
    _refuse_key(scheme, rest)
    url = f"{scheme}://{rest}"
    try:
        from fsspec.core import url_to_fs

        files, inner = url_to_fs(url)
    except ImportError as error:
        named = re.search(r"[Ii]nstall [\"'`]?([\w-]+)", str(error))  # fsspec's own words: "Install s3fs to access S3"
        package = named[1] if named else (error.name or "fsspec").partition(".")[0]
        fix = "pip install 'safetyqc[remote]'" if package == "fsspec" else f"pip install {package}"
        raise UserError(f"what reads {scheme}:// is not installed", where=url, fix=fix) from error
    except ValueError as error:
        fix = "give a path, or a URL of a scheme that fsspec knows, such as s3://BUCKET/FOLDER"
        raise UserError(f"nothing is known that reads {scheme}://", where=url, fix=fix) from error
    return Remote(files, inner, files.unstrip_protocol(inner))


def is_url(path: str | Path) -> bool:
    """Whether it is a URL of another machine's store."""
    found = _URL.match(str(path))
    return found is not None and found[1].lower() != "file"


def state_of(path: str | Path) -> str | None:
    """What changes when a file does; None where it is not there.

    Raises:
        OSError: its store cannot be asked.
    """
    try:
        place = place_of(path)
        if isinstance(place, Remote):
            return place.state()
        found = place.stat()
        return f"{found.st_size} {found.st_mtime_ns}"
    except FileNotFoundError:
        return None


def _refuse_key(scheme: str, rest: str) -> None:
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    has_user = bool(at) and (scheme not in _ACCOUNT_AFTER_AT or ":" in user)
    bare, has_query, _ = (path if slash else host).partition("?")
    if not has_user and not has_query:
        return
    shown = f"{scheme}://{'...@' if at else ''}{host if slash else bare}{slash}{bare if slash else ''}"
    fix = "leave it out: put keys where that store's package looks (AWS_ACCESS_KEY_ID, `gcloud auth`, fsspec's config)"
    raise UserError("a URL with a user, a key or a query is not read, since it would be kept", where=shown, fix=fix)
