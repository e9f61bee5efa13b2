"""Kept conversations -> files that a trainer reads, with a manifest that says what is in them and what is not.

Which conversations are kept is decided elsewhere, and formats are a table of their own (exporters.py). The split is
made by group and lineage (duplicates, rewrites and variants of one parent stay on one side), so the validation share is
met as nearly as whole groups allow, and repeating a category never touches the validation file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from safetyqc.errors import InputError, OutputError, UserError, choose_from
from safetyqc.formats.encoding import Exporter
from safetyqc.formats.exporters import NANOCHAT_FILE, exporter_of
from safetyqc.formats.turns import structure_problem
from safetyqc.formats.writing import replacing
from safetyqc.records import Conversation, Record, content_hash
from safetyqc.text import normalise

MAX_FACTOR = 100


class LeftOut(Record):
    """A conversation that is not in the files, and why."""

    conversation_id: str
    reason: str


class ExportedFile(Record):
    """One written file: `lines` counts repeated conversations as often as they stand in it."""

    path: str
    split: str
    lines: int
    conversations: int
    by_category: dict[str, int]
    sha256: str
    bytes: int


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
    left_out_by_reason: dict[str, int]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Split:
    """Conversations to train on and to validate with; no group has members in both."""

    train: list[Conversation]
    val: list[Conversation]


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
    category_of = _Categories(guessed or {})
    split = split_by_group(good, groups, plan.val_share, plan.seed, category_of)
    _check_factors(plan.oversample, good, category_of)
    parts = {"train": oversample(split.train, plan.oversample, category_of)} | ({"val": split.val} if split.val else {})
    paths = _paths(plan.path or exporter.default_path(), parts)
    if not plan.force:
        _refuse_existing(paths.values())
    with ExitStack() as unfinished:  # all files take their place together, after the last byte of each is written
        files = {name: unfinished.enter_context(replacing(path)) for name, path in paths.items()}
        written = [_write(files[name], paths[name], name, part, exporter) for name, part in parts.items()]
        counted = [f.model_copy(update={"by_category": category_of.count(parts[f.split])}) for f in written]
        manifest = _manifest(plan, counted, dict(left_out or {}) | bad, guessed=sum(map(category_of.is_guess, good)))
        if "manifest" in files:
            files["manifest"].write(manifest.model_dump_json(indent=2).encode() + b"\n")
            _drop_old_validation(paths)
    return manifest


class _Categories:
    """The category of a conversation: its own, else the one that a judge guessed, else none."""

    def __init__(self, guessed: Mapping[str, str]) -> None:
        self._guessed = guessed

    def __call__(self, conversation: Conversation) -> str:
        return conversation.category or self._guessed.get(conversation.id, "")

    def is_guess(self, conversation: Conversation) -> bool:
        """Whether it is not its own."""
        return not conversation.category and conversation.id in self._guessed

    def count(self, conversations: Iterable[Conversation]) -> dict[str, int]:
        """Lines by category, the commonest first."""
        return dict(Counter(map(self, conversations)).most_common())


CategoryOf = Callable[[Conversation], str]
_OWN = _Categories({})


def split_by_group(
    conversations: Sequence[Conversation],
    groups: Iterable[Collection[str]],
    val_share: float,
    seed: int,
    category_of: CategoryOf = _OWN,
) -> Split:
    """Hold out a share of the conversations, whole groups at a time, evenly over categories.

    Kept together: a group's members, equal texts, and whatever descends from one conversation. The draw depends on the
    seed and the ids alone, so the order of the input does not matter. Both sides keep the order of the input.

    Raises:
        UserError: the share is not in 0..1, or whole groups leave one side empty.
    """
    if not 0 <= val_share < 1:
        raise UserError(f"validation share {val_share} is not in 0..1", fix="give a share such as 0.1")
    if val_share == 0:
        return Split(list(conversations), [])
    target = max(round(val_share * len(conversations)), 1)
    held: set[str] = set()
    for members in _in_drawing_order(_kinship(conversations, groups), seed, category_of):
        if len(held) + len(members) <= target and len(held) + len(members) < len(conversations):
            held |= {c.id for c in members}
    if not held:
        raise UserError(
            f"validation share {val_share}: the {len(conversations)} conversation(s) cannot be split by group",
            fix="export without a validation share, or export more conversations",
        )
    return Split([c for c in conversations if c.id not in held], [c for c in conversations if c.id in held])


def oversample(
    conversations: Sequence[Conversation], factors: Mapping[str, float], category_of: CategoryOf = _OWN
) -> list[Conversation]:
    """Repeat conversations of a category: all once in their order, then the repeats, so that copies stand far apart.

    A factor of 2.5 gives each twice and every second one a third time.
    """
    result = list(conversations)
    seen: Counter[str] = Counter()
    extra: list[list[Conversation]] = []
    for conversation in conversations:
        category = category_of(conversation)
        more = factors.get(category, 1.0) - 1
        place = seen[category]
        seen[category] += 1
        # Rounded running totals, so that a category of n gets factor * n, whatever n is
        times = math.floor((place + 1) * more + 1e-9) - math.floor(place * more + 1e-9)
        for repeat in range(times):
            if repeat == len(extra):
                extra.append([])
            extra[repeat].append(conversation)
    return result + [c for repeats in extra for c in repeats]


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


def validate_nanochat_file(path: str | Path) -> int:
    """Check every line as nanochat's CustomJSON does, and that it is ASCII; returns the number of conversations.

    Raises:
        InputError: names the first line that training would stop at.
    """
    count = 0
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                if problem := _nanochat_problem(line):
                    raise InputError(problem, path=path, line=number, fix="export again with --format nanochat")
                count += 1
    return count


def _nanochat_problem(line: str) -> str | None:
    try:
        messages = json.loads(line)
    except ValueError as error:
        return f"is not JSON: {error}"
    if not line.isascii():
        return "is not ASCII"
    if not isinstance(messages, list) or len(messages) < 2:
        return "is not a list of at least two messages"
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f"message {number} has no text"
        if message.get("role") != ("assistant", "user")[number % 2]:
            return f"message {number} has the role {message.get('role')!r}"
    return None


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


def _check_factors(
    factors: Mapping[str, float], conversations: Sequence[Conversation], category_of: CategoryOf
) -> None:
    present = {category for c in conversations if (category := category_of(c))}
    for category, factor in factors.items():
        if not 1 <= factor <= MAX_FACTOR:
            raise UserError(f"oversample {category}={factor} is not in 1..{MAX_FACTOR}", fix="give a factor such as 2")
        if category not in present:
            fix = choose_from(category, present) if present else "the conversations have no category"
            raise UserError(f"oversample {category}: no exported conversation is of this category", fix=fix)


def _kinship(conversations: Sequence[Conversation], groups: Iterable[Collection[str]]) -> list[list[Conversation]]:
    """Collect conversations that must not be parted, by union-find over ids, parents and texts."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = name = leader[above]
        return name

    for members in groups:
        names = list(members)
        for name in names[1:]:
            leader[find(name)] = find(names[0])
    for conversation in conversations:
        text = normalise("\n".join(m.content for m in conversation.messages))
        leader[find(conversation.id)] = find(f"text {content_hash(text)}")
        if conversation.parent_id:
            leader[find(conversation.id)] = find(conversation.parent_id)
    found: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        found.setdefault(find(conversation.id), []).append(conversation)
    return list(found.values())


def _in_drawing_order(
    groups: Sequence[list[Conversation]], seed: int, category_of: CategoryOf
) -> list[list[Conversation]]:
    """Order groups so that any first part of the list holds the same share of every category.

    Systematic sampling: the groups of a category stand at even distances from a start drawn for it, so that a small
    category gets its share on average rather than never.
    """
    drawn = {id(g): content_hash([seed, min(c.id for c in g)]) for g in groups}
    by_category: dict[str, list[list[Conversation]]] = {}
    for group in sorted(groups, key=lambda g: drawn[id(g)]):
        by_category.setdefault(category_of(group[0]), []).append(group)
    placed = [
        ((place + _start(seed, category)) / len(members), drawn[id(group)], group)
        for category, members in by_category.items()
        for place, group in enumerate(members)
    ]
    return [group for _, _, group in sorted(placed, key=lambda item: item[:2])]


def _start(seed: int, category: str) -> float:
    return int(content_hash([seed, category])[:8], 16) / 2**32


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
    file: BinaryIO, path: Path, split: str, conversations: Sequence[Conversation], exporter: Exporter
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
        by_category=_OWN.count(conversations),
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
