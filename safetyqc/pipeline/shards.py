"""Verdicts beside a folder of shards: a file of them for each file that was read, and a manifest of all.

Every file is written whole or not at all, and the same run gives the same bytes. The manifest comes last: where it
stands, all are there. What is finished is remembered by the run, with the states of both files and what the verdicts
depend on: as long as none of these changes, a later command neither opens nor judges that file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.errors import OutputError
from safetyqc.formats.opened import name_of, read_errors
from safetyqc.formats.remote import is_url, state_of
from safetyqc.formats.sources import files_of, is_folder
from safetyqc.formats.verdict_table import write_table
from safetyqc.formats.writing import write_lines, write_text
from safetyqc.records import content_hash

if TYPE_CHECKING:
    from safetyqc.store import Store

Form = Literal["jsonl", "parquet"]
MANIFEST = "manifest.json"
_FORMAT = 1
_NAMES = {True: "passed", False: "failed", None: "open"}
Entry = dict[str, Any]
"""What the manifest says of one file."""


@dataclass(frozen=True)
class Shards:
    """A folder of data, the folder of its verdicts, and their form. Both may be URLs."""

    data: str
    out: str
    form: Form = "jsonl"

    @property
    def files(self) -> list[str]:
        """The files of the data, as they are read.

        Raises:
            InputError: there is none.
        """
        return files_of(self.data)

    def relative(self, file: str) -> str:
        """A file's name in its folder."""
        folder = name_of(self.data).rstrip("/")
        return file.removeprefix(f"{folder}/") if is_url(file) else Path(os.path.relpath(file, folder)).as_posix()

    def target(self, file: str) -> str:
        """Where the verdicts of a file are written."""
        return f"{self.out.rstrip('/')}/{self.relative(file)}.verdicts.{self.form}"

    def write(self, file: str, lines: Iterable[dict[str, Any]]) -> Entry:
        """Write the verdicts of one file; returns what the manifest says of it.

        Raises:
            OutputError: it cannot be written.
        """
        target, told = self.target(file), _Told()
        if self.form == "parquet":
            write_table(target, told.through(lines))
        else:
            write_lines(target, map(told.add, lines))
        return {
            "data": self.relative(file),
            "verdicts": f"{self.relative(file)}.verdicts.{self.form}",
            "conversations": told.verdicts.total(),
            **{verdict: told.verdicts[verdict] for verdict in _NAMES.values()},
            "sha256": told.digest.hexdigest(),
        }

    def write_manifest(self, entries: Iterable[Entry]) -> Entry:
        """Write what is told of all files, and of them together; returns it.

        Raises:
            OutputError: it cannot be written.
        """
        shards = list(entries)
        total = {name: sum(shard[name] for shard in shards) for name in ("conversations", *_NAMES.values())}
        manifest = {"format": _FORMAT, "data": name_of(self.data), "shards": shards, **total}
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        write_text(f"{self.out.rstrip('/')}/{MANIFEST}", text)
        return manifest


@dataclass
class _Told:
    """What is told of a file while its lines go by."""

    verdicts: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, line: dict[str, Any]) -> str:
        """Count a line; returns it as text."""
        text = json.dumps(line, ensure_ascii=False)
        self.verdicts[_NAMES[line["passed"]]] += 1
        self.digest.update(text.encode("utf-8") + b"\n")
        return text

    def through(self, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The lines, counted."""
        for line in lines:
            self.add(line)
            yield line


def is_sharded(data: str | None, out: str | Path) -> bool:
    """Whether verdicts go into a folder: where the data is one, and the output is one or has no ending of a file."""
    if data is None or str(out) == "-" or not is_folder(data):
        return False
    return not Path(str(out)).suffix or is_folder(out)


def refuse_nested(data: str, out: str | Path) -> None:
    """Refuse a folder that would be read as data the next time.

    Raises:
        OutputError: it lies in the folder of the data.
    """
    if is_url(data) or is_url(out):
        nested = f"{name_of(out)}/".startswith(f"{name_of(data).rstrip('/')}/")
    else:
        nested = Path(name_of(out)).resolve().is_relative_to(Path(name_of(data)).resolve())
    if nested:
        fix = "give a folder beside it: what lies in it is read as conversations the next time"
        raise OutputError("lies in the folder that is read", where=name_of(out), fix=fix)


class Finished:
    """Which files of a folder are finished, as a run remembers it.

    Args:
        settings: all that the verdicts depend on beside the data; other settings, and nothing is finished.
    """

    def __init__(self, shards: Shards, settings: Any) -> None:
        self._shards, self._settings = shards, content_hash(settings)
        where = [name_of(p) if is_url(p) else str(Path(name_of(p)).resolve()) for p in (shards.data, shards.out)]
        self._key = f"shards {content_hash([*where, shards.form])}"
        self._held: dict[str, tuple[str, str, Entry]] = {}

    def read(self, store: Store) -> dict[str, Entry]:
        """What is finished: its entries, by the files' names.

        Raises:
            InputError: the states of files cannot be asked for.
        """
        known = store.meta(self._key) or {}
        held = known.get("files", {}) if known.get("settings") == self._settings else {}
        for file in self._shards.files if held else ():
            found = held.get(self._shards.relative(file))
            if found and tuple(found[:2]) == self._states(file):
                self._held[file] = (found[0], found[1], found[2])
        return {file: entry for file, (_, _, entry) in self._held.items()}

    def add(self, store: Store, entries: dict[str, Entry]) -> None:
        """Remember that these files are finished.

        Raises:
            InputError: the states of files cannot be asked for.
        """
        for file, entry in entries.items():
            self._held[file] = (*self._states(file), entry)
        files = {self._shards.relative(file): list(held) for file, held in self._held.items()}
        store.set_meta(self._key, {"settings": self._settings, "files": files})

    def _states(self, file: str) -> tuple[str, str]:
        target = self._shards.target(file)
        with read_errors(file):
            return state_of(file) or "", state_of(target) or ""
