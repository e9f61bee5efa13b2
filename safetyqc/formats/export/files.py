"""Kept conversations -> files that a trainer reads, with a manifest that says what is in them and what is not.

Which conversations are kept is decided elsewhere, the formats are a table of their own (table.py), and who is held out
or repeated is decided in split.py. All files take their place together, or none does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from safetyqc.errors import OutputError, UserError
from safetyqc.formats.export.chat import NANOCHAT_FILE
from safetyqc.formats.export.encoding import Exporter
from safetyqc.formats.export.manifest import ExportedFile, LeftOut, Manifest
from safetyqc.formats.export.split import Categories, check_factors, oversample, split_by_group
from safetyqc.formats.export.table import exporter_of
from safetyqc.formats.turns import structure_problem
from safetyqc.formats.writing import replacing
from safetyqc.records import Conversation


@dataclass(frozen=True)
class ExportPlan:
    """How to export.

    Args:
        format: a name of EXPORTERS.
        path: the training file; None for the format's default. The validation file and the manifest stand beside it.
        val_share: share of conversations to hold out, 0..1.
        oversample: category -> how often its conversations stand in the training file; 1.5 repeats every second one.
        force: replace files that are there.
        source: what the manifest says of the origin.
    """

    format: str = "nanochat"
    path: Path | None = None
    val_share: float = 0.0
    seed: int = 0
    oversample: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)


def export_conversations(
    conversations: Iterable[Conversation],
    plan: ExportPlan,
    *,
    groups: Iterable[Collection[str]] = (),
    left_out: Mapping[str, str] | None = None,
    guessed: Mapping[str, str] | None = None,
) -> Manifest:
    """Write the files of a plan; all of them, or none when anything goes wrong.

    Args:
        conversations: those to export, in order. One of bad structure is left out and named in the manifest.
        groups: ids that must stay on one side of the split, such as duplicate groups.
        left_out: id -> reason of what the caller kept back, for the manifest.
        guessed: id -> category of those that neither plan nor file gave one: they are split, repeated and counted by
            it, but it is written into no line.

    Raises:
        UserError: unknown format, a share or factor out of range, an unknown category, nothing to export.
        OutputError: a file is there already and must not be replaced, or cannot be written.
    """
    exporter = exporter_of(plan.format)
    good, bad = _by_structure(conversations)
    if not good:
        raise UserError("nothing to export: no conversation is kept", fix="see `safetyqc report` for what was dropped")
    category_of = Categories(guessed or {})
    split = split_by_group(good, groups, plan.val_share, plan.seed, category_of)
    check_factors(plan.oversample, good, category_of)
    parts = {"train": oversample(split.train, plan.oversample, category_of)} | ({"val": split.val} if split.val else {})
    paths = _paths(plan.path or exporter.default_path(), parts)
    if not plan.force:
        _refuse_existing(paths.values())
    with ExitStack() as unfinished:  # all files take their place together, after the last byte of each is written
        files = {name: unfinished.enter_context(replacing(path)) for name, path in paths.items()}
        written = [_write(files[name], paths[name], name, part, exporter, category_of) for name, part in parts.items()]
        manifest = _manifest(plan, written, dict(left_out or {}) | bad, guessed=sum(map(category_of.is_guess, good)))
        if "manifest" in files:
            files["manifest"].write(manifest.model_dump_json(indent=2).encode() + b"\n")
            _drop_old_validation(paths)
    return manifest


def _by_structure(conversations: Iterable[Conversation]) -> tuple[list[Conversation], dict[str, str]]:
    good: list[Conversation] = []
    bad: dict[str, str] = {}
    for conversation in conversations:
        problem = structure_problem(conversation.as_messages())
        if problem:
            bad[conversation.id] = f"bad structure: {problem.what}"
        else:
            good.append(conversation)
    return good, bad


def _paths(path: Path, parts: Mapping[str, Sequence[Conversation]]) -> dict[str, Path]:
    """Where each part goes; a target that is no regular file (a pipe, /dev/stdout) gets the training part alone."""
    if path.is_dir():
        raise OutputError("is a folder", where=str(path), fix=f"give a file: {path / NANOCHAT_FILE}")
    if path.exists() and not path.is_file():
        if "val" in parts:
            raise OutputError("cannot hold two files", where=str(path), fix="give a path, or no validation share")
        return {"train": path}
    beside = {"val": path.with_name(f"{path.stem}.val{path.suffix}")} if "val" in parts else {}
    return {"train": path} | beside | {"manifest": path.with_name(f"{path.stem}.manifest.json")}


def _drop_old_validation(paths: Mapping[str, Path]) -> None:
    """Remove the validation file of an earlier export when this one has none: its texts may now be trained on."""
    old = paths["train"].with_name(f"{paths['train'].stem}.val{paths['train'].suffix}")
    if "val" not in paths and old.is_file() and paths["manifest"].is_file():
        try:
            listed = Manifest.model_validate_json(paths["manifest"].read_bytes()).files
        except ValidationError:
            return  # some other program's file: not ours to judge by
        if any(Path(f.path).name == old.name for f in listed):
            old.unlink()


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            raise OutputError("is there already", where=str(path), fix="give another path, or --force to replace it")


def _write(
    file: BinaryIO,
    path: Path,
    split: str,
    conversations: Sequence[Conversation],
    exporter: Exporter,
    category_of: Categories,
) -> ExportedFile:
    digest, size = hashlib.sha256(), 0
    for chunk in exporter.encode(conversations):
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return ExportedFile(
        path=str(path),
        split=split,
        lines=len(conversations),
        conversations=len({c.id for c in conversations}),
        by_category=category_of.count(conversations),
        sha256=digest.hexdigest(),
        bytes=size,
    )


def _manifest(plan: ExportPlan, files: Sequence[ExportedFile], out: Mapping[str, str], guessed: int) -> Manifest:
    return Manifest(
        format=plan.format,
        source=dict(plan.source),
        files=tuple(files),
        val_share=plan.val_share,
        seed=plan.seed,
        oversample=dict(plan.oversample),
        categories_guessed=guessed,
        left_out_by_reason=dict(Counter(out.values()).most_common()),
        left_out=tuple(LeftOut(conversation_id=i, reason=reason) for i, reason in out.items()),
    )
