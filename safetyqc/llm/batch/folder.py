"""Batches as files in a folder, for whoever runs them (`vllm run-batch`, a SLURM job), and what came back.

`requests/TAG.jsonl` holds what a batch still waits for, and no more, so that running all files there again asks nothing
that was answered. Results are every `*.jsonl` in `results/`, under any name and in any order: one belongs to the
request whose hash it names. Nothing is asked or written down here; a file that is still being written is read as far
as it goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from safetyqc.errors import InputError, OutputError
from safetyqc.formats.writing import replacing
from safetyqc.llm.batch.records import Batch
from safetyqc.llm.batch.wire import Asked, Lines, write_lines
from safetyqc.llm.hosts import wire_name
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.llm.client import Request

_LONGEST_LINE = 64_000_000
"""Bytes; a longer line is no answer, and is not taken into memory to find that out."""


@dataclass(frozen=True)
class BatchFolder:
    """See the module."""

    path: Path | str

    @property
    def results(self) -> Path:
        """Where answers are looked for."""
        return Path(self.path) / "results"

    def requests(self, tag: str) -> Path:
        """The file of one batch."""
        return Path(self.path) / "requests" / f"{tag}.jsonl"

    def make(self) -> None:
        """Make the folder.

        Raises:
            OutputError: it cannot be made or written to.
        """
        for folder in (self.requests("x").parent, self.results):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"cannot be made: {error.strerror}", where=str(folder), fix="give another DIR"
                ) from error
        if not os.access(self.requests("x").parent, os.W_OK):
            raise OutputError("cannot be written to", where=str(self.path), fix="give another DIR")

    def write(self, tag: str, requests: Sequence[Request]) -> None:
        """Write the file of a batch, and make room for its results."""
        self.make()
        with replacing(self.requests(tag)) as file:
            file.write(write_lines(requests))

    def keep(self, tag: str, rest: Sequence[Request], changed: Collection[str] = ()) -> None:
        """Bring the file of a batch to what is still to be asked; one that was taken elsewhere does not come back."""
        file = self.requests(tag)
        if not file.is_file():
            return
        if not rest:
            file.unlink()
        elif changed or _count_lines(file) != len(rest):
            self.write(tag, rest)

    def changed(self, tag: str, requests: Sequence[Request]) -> dict[str, int]:
        """Requests whose line is no longer what was written, with its number, by key."""
        file = self.requests(tag)
        if not file.is_file():
            return {}
        written = {r.key: r for r in requests}
        found: dict[str, int] = {}
        for number, line in enumerate(_lines(file), 1):
            body = _parsed(line)
            request = written.get(str(body.get("custom_id")))
            if request is not None and body != _parsed(write_lines([request])):
                found[request.key] = number
        return found


def _parsed(line: bytes) -> Mapping[str, object]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file; one that is too long for an answer comes as something that cannot be read."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    _skip_line(file)
                    line = b"{"
                yield line
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path, fix="give results that can be read") from error


def _skip_line(file: BinaryIO) -> None:
    while (more := file.readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
        continue


def _count_lines(path: Path) -> int:
    return sum(1 for line in _lines(path) if line.strip())


@dataclass
class Results:
    """What stood in all result files that were read.

    Args:
        changed: by the tag of a batch, requests whose line was changed after it was written, with its number.
        broken: readings of files that cannot be read to the end, by path.
    """

    lines: Lines = field(default_factory=Lines)
    changed: dict[str, dict[str, int]] = field(default_factory=dict)
    broken: dict[Path, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def of(self, batch: Batch) -> Mapping[str, int]:
        """The batch's requests that were changed, by key."""
        return self.changed.get(batch.tag, {})

    def remarks(self, batch: Batch, rest: int, *, first: bool) -> Iterator[str]:
        """What was odd, in words; what is about the files as a whole is said once, of the first batch."""
        folder = BatchFolder(batch.folder or "")
        if changed := self.of(batch):
            place = f"{folder.requests(batch.tag)}:{min(changed.values())}"
            yield f"{counted(len(changed), 'request')} changed after being written (the first: {place})"
            yield "what answers them is not used; the file is again as it was written"
        if rest:
            yield f"{counted(rest, 'answer')} of {batch.requests:,} to come, looked for in {folder.results}"
            if not folder.requests(batch.tag).is_file():
                file = folder.requests(batch.tag)
                yield f"{file} is gone; `batch cancel` and the same command again write the rest anew"
        if first:
            yield from self._remarks_on_files()

    def _remarks_on_files(self) -> Iterator[str]:
        for path, count in self.broken.items():
            yield f"{path}: {counted(count, 'line')} cut off or unreadable: is it still being written? collect again"
        if self.lines.unknown:
            yield f"{counted(self.lines.unknown, 'line')} about requests that this run never wrote: left out"
        if repeated := self.lines.repeated:
            yield f"{counted(repeated, 'request')} answered in more than one line; the first good answer counts"
        for (asked, answering), count in self.lines.answered_by.most_common(5):
            if answering and not _is_same(wire_name(asked), answering):
                yield f"{counted(count, 'answer')} by {answering}, where {wire_name(asked)} was asked: the right file?"


def _is_same(asked: str, answering: str) -> bool:
    """Whether a server may call the model that it was asked for so: by a path, or by the version behind a name."""
    ours, theirs = (name.rstrip("/").rpartition("/")[2].casefold() for name in (asked, answering))
    return ours.startswith(theirs) or theirs.startswith(ours)


def read_results(
    batches: Iterable[Batch],
    keys_of: Callable[[str], Collection[str]],
    waiting: Mapping[str, Sequence[Request]],
    files: Sequence[Path] = (),
) -> Results:
    """Read every result file of the folders of the batches that wait, and the files named.

    Args:
        batches: all of the run: what is about a request of a settled one is no news, but no stranger either.
        keys_of: tag -> keys of all requests of a batch.
        waiting: tag -> requests without an answer, for the batches to be collected.

    Raises:
        InputError: a file that was named is not there.
    """
    asked: dict[str, Asked | None] = {}
    folders: dict[Path, None] = {}
    found = Results()
    for batch in batches:
        asked |= {key: asked.get(key) for key in keys_of(batch.tag)}
        if batch.tag in waiting and batch.folder:
            changed = found.changed[batch.tag] = BatchFolder(batch.folder).changed(batch.tag, waiting[batch.tag])
            asked |= {r.key: None if r.key in changed else (r.model, r.endpoint) for r in waiting[batch.tag]}
            folders[BatchFolder(batch.folder).results] = None
    found.files = list(dict.fromkeys([*(p for f in folders for p in sorted(f.glob("*.jsonl"))), *files]))
    for path in found.files:
        before = found.lines.broken
        found.lines.read(_lines(path), asked)
        if broken := found.lines.broken - before:
            found.broken[path] = broken
    return found
