"""Verdicts beside a folder of shards: a file of lines for each file that was read, and a manifest of them.

Every file is written whole or not at all, and the same run gives the same bytes. The manifest comes last: where it
stands, all are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc.errors import OutputError
from safetyqc.formats.writing import write_lines, write_text

if TYPE_CHECKING:
    from safetyqc.formats.readers import ReadResult

MANIFEST = "manifest.json"
_FORMAT = 1
_ENDING = ".verdicts.jsonl"
_NAMES = {True: "passed", False: "failed", None: "open"}


@dataclass
class _Shard:
    """What is told of a file while its lines go by."""

    verdicts: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)

    def noted(self, lines: Iterable[dict[str, Any]]) -> Iterator[str]:
        """The lines as text."""
        for line in lines:
            text = json.dumps(line, ensure_ascii=False)
            self.verdicts[_NAMES[line["passed"]]] += 1
            self.digest.update(text.encode("utf-8") + b"\n")
            yield text


def is_sharded(data: str | None, out: Path) -> bool:
    """Whether verdicts go into a folder: where the data is one, and the output is one or has no ending of a file."""
    return data is not None and Path(data).is_dir() and (out.is_dir() or not (out.suffix or str(out) == "-"))


def refuse_nested(data: str, out: Path) -> None:
    """Refuse a folder that would be read as data the next time.

    Raises:
        OutputError: it lies in the folder of the data.
    """
    if out.resolve().is_relative_to(Path(data).resolve()):
        fix = "give a folder beside it: what lies in it is read as conversations the next time"
        raise OutputError("lies in the folder that is read", where=f"--jsonl {out}", fix=fix)


def write_shards(out: Path, read: ReadResult, lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Write the verdicts of what was read, in its order; returns the manifest.

    Raises:
        OutputError: a file cannot be written.
    """
    shards: list[dict[str, Any]] = []
    paths = (c.source.path if c.source else read.path for c in read.conversations)
    for path, found in groupby(zip(paths, lines, strict=True), key=lambda pair: pair[0]):
        name = os.path.relpath(path, read.path)
        target, shard = out / f"{name}{_ENDING}", _Shard()
        count = write_lines(target, shard.noted(line for _, line in found))
        shards.append(
            {
                "data": Path(name).as_posix(),
                "verdicts": target.relative_to(out).as_posix(),
                "conversations": count,
                **{verdict: shard.verdicts[verdict] for verdict in _NAMES.values()},
                "sha256": shard.digest.hexdigest(),
            }
        )
    total = {name: sum(shard[name] for shard in shards) for name in ("conversations", *_NAMES.values())}
    manifest = {"format": _FORMAT, "data": read.path, "shards": shards, **total}
    write_text(out / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    return manifest
