"""What an export consists of, as it is written beside the files: every line, every loss, everything left out."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from safetyqc.records import Record

MANIFEST = "dataset.manifest.json"
"""What it is called in a dataset folder."""


class LeftOut(Record):
    """A conversation that is not in the files, and why."""

    conversation_id: str
    reason: str


class ExportedFile(Record):
    """One written file: `lines` counts repeated conversations as often as they stand in it."""

    path: str
    """As seen from the manifest where it is written down."""
    split: str
    lines: int
    conversations: int
    by_category: dict[str, int]
    failed: int = 0
    """Lines that hold an answer that failed, to be learnt from as such."""
    sha256: str
    bytes: int


class Mixed(Record):
    """Ordinary conversations that were mixed into the training file."""

    path: str
    """The file's name, without its folder: manifests are handed on."""
    conversations: int
    available: int
    safety_share: float
    """Of the lines of the training file."""


class Manifest(Record):
    """What an export consists of; it stands beside the files as NAME.manifest.json."""

    format: str
    source: dict[str, Any]
    """The run that it came from, as the caller describes it."""
    files: tuple[ExportedFile, ...]
    val_share: float
    seed: int
    oversample: dict[str, float]
    categories_guessed: int = 0
    """Conversations whose category, as it is counted and repeated here, is a judge's guess and in no line."""
    twins: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Pair id -> ids of a harmful request and its benign look-alike that are both in, on one side of the split."""
    mixed: Mixed | None = None
    losses: dict[str, int] = Field(default_factory=dict)
    """Conversations that have what the format has no place for, by what it is."""
    beside: tuple[str, ...] = ()
    """What else was written: the card, and what trainers are told."""
    left_out_by_reason: dict[str, int]
    left_out: tuple[LeftOut, ...]


def tell_repeats(manifest: Manifest) -> list[str]:
    """A sentence for each category that was repeated and for what was guessed: what a reader of the file must know."""
    train = next(f for f in manifest.files if f.split == "train")
    lines = [
        f"{name} repeated {factor:g} times: {train.by_category.get(name, 0):,} of {train.lines:,} lines"
        for name, factor in manifest.oversample.items()
        if factor > 1
    ]
    if manifest.categories_guessed and (manifest.oversample or manifest.val_share):
        lines.append(f"{manifest.categories_guessed:,} categories are the judge's guess")
    return lines


def tell_mixed(manifest: Manifest) -> list[str]:
    """What was mixed in, and the share of safety data that this leaves."""
    mixed = manifest.mixed
    if mixed is None:
        return []
    return [
        f"mixed with {mixed.conversations:,} of {mixed.available:,} conversations of {mixed.path}: "
        f"{mixed.safety_share:.1%} of the lines are safety data"
    ]


def tell_failed(manifest: Manifest) -> list[str]:
    """How many lines hold an answer that failed, where the form takes such."""
    failed = sum(f.failed for f in manifest.files)
    return (
        [f"{failed:,} of {sum(f.lines for f in manifest.files):,} lines hold an answer that failed"] if failed else []
    )
