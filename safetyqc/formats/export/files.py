"""Kept conversations -> files that a trainer reads, with a manifest that says what is in them and what is not.

Which conversations are kept is decided elsewhere, the formats are a table of their own (table.py), and who is held out
or repeated is decided in split.py. All files take their place together, or none does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from safetyqc.errors import OutputError, UserError
from safetyqc.formats.export.encoding import Example, Exporter, Takes
from safetyqc.formats.export.losses import count_losses
from safetyqc.formats.export.manifest import MANIFEST, ExportedFile, LeftOut, Manifest, Mixed
from safetyqc.formats.export.mixing import Mix, mix_in
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
        folder: a dataset folder to write in place of single files: README.md, data/, what trainers need to be told.
        val_share: share of conversations to hold out, 0..1.
        oversample: category -> how often its conversations stand in the training file; 1.5 repeats every second one.
        force: replace files that are there.
        mix: ordinary conversations for the training file; formats of kept conversations alone.
        source: what the manifest says of the origin.
    """

    format: str = "nanochat"
    path: Path | None = None
    folder: Path | None = None
    val_share: float = 0.0
    seed: int = 0
    oversample: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    mix: Mix | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


def export_conversations(
    conversations: Iterable[Conversation | Example],
    plan: ExportPlan,
    *,
    groups: Iterable[Collection[str]] = (),
    left_out: Mapping[str, str] | None = None,
    guessed: Mapping[str, str] | None = None,
    card: Callable[[Manifest], str] | None = None,
) -> Manifest:
    """Write the files of a plan; all of them, or none when anything goes wrong.

    Args:
        conversations: those to export, in order; as examples where the format takes pairs or verdicts. One of bad
            structure is left out and named in the manifest.
        groups: ids that must stay on one side of the split, such as duplicate groups.
        left_out: id -> reason of what the caller kept back, for the manifest.
        guessed: id -> category of those that neither plan nor file gave one: they are split, repeated and counted by
            it, but it is written into no line.
        card: the text of the dataset card, once it is known what it is about.

    Raises:
        UserError: unknown format, a share or factor out of range, an unknown category, nothing to export.
        OutputError: a file is there already and must not be replaced, or cannot be written.
    """
    exporter = exporter_of(plan.format)
    good, bad = _by_structure(conversations)
    if not good:
        raise _nothing(exporter.takes, Counter((left_out or {}).values()))
    categories = Categories(guessed or {})
    parts, mixed = _mixed(_parts(good, plan, groups, categories), plan, exporter)
    paths = _paths(plan, exporter, parts, with_card=card is not None)
    if not plan.force:
        _refuse_existing(paths.values())
    with ExitStack() as unfinished:  # all files take their place together, after the last byte of each is written
        files = {name: unfinished.enter_context(replacing(path)) for name, path in paths.items()}
        written = [_write(files[name], paths[name], name, part, exporter, categories) for name, part in parts.items()]
        beside = tuple(str(path) for name, path in paths.items() if name not in (*parts, "manifest"))
        manifest = _manifest(plan, written, dict(left_out or {}) | bad, good, categories)
        manifest = manifest.model_copy(update={"mixed": mixed, "beside": beside})
        if "manifest" in files:
            seen = _as_seen_from(paths["manifest"].parent, manifest)
            files["manifest"].write(seen.model_dump_json(indent=2).encode() + b"\n")
            if card:
                files["card"].write(card(seen).encode("utf-8"))
            for name, snippet in exporter.snippets.items():
                if name in files:
                    files[name].write(snippet({SPLITS[f.split]: f.path for f in seen.files}).encode())
            _drop_old(paths)
    return manifest


SPLITS = {"train": "train", "val": "validation"}
"""How datasets call the two parts."""
_NOTHING: dict[Takes, tuple[str, str]] = {
    "kept": ("nothing to export: no conversation is kept", "see `safetyqc report` for what was dropped"),
    "pairs": (
        "nothing to export: no kept conversation has a failed one with the same request beside it",
        "`safetyqc rewrite -m MODEL` makes pairs of what failed; or export another --format",
    ),
    "verdicts": ("nothing to export: no conversation was kept or failed", "`safetyqc judge` first"),
}
_UNDECIDED = {
    "unjudged": "`safetyqc judge` first",
    "unscored": "let a judge decide that scores what was left open: `safetyqc judge -m MODEL --decide`",
}
"""What to do about conversations that nobody passed or failed."""


def _nothing(takes: Takes, left_out: Counter[str]) -> UserError:
    what, fix = _NOTHING[takes]
    if takes == "kept" and left_out:
        counts = left_out.most_common()
        what += f" ({', '.join(f'{reason} {n:,}' for reason, n in counts)})"
        fix = _UNDECIDED.get(counts[0][0], fix)
    return UserError(what, fix=fix)


def _parts(
    examples: Sequence[Example], plan: ExportPlan, groups: Iterable[Collection[str]], categories: Categories
) -> dict[str, Sequence[Example]]:
    """What stands in which file; conversations are split, and their examples go with them."""
    conversations = list({e.conversation.id: e.conversation for e in examples}.values())
    split = split_by_group(conversations, groups, plan.val_share, plan.seed, categories)
    check_factors(plan.oversample, conversations, categories)
    held = {c.id for c in split.val}
    train = [e for e in examples if e.conversation.id not in held]
    val = [e for e in examples if e.conversation.id in held]
    repeated = oversample(train, plan.oversample, lambda e: categories(e.conversation))
    return {"train": repeated, "val": val} if val else {"train": repeated}


def _mixed(
    parts: dict[str, Sequence[Example]], plan: ExportPlan, exporter: Exporter
) -> tuple[dict[str, Sequence[Example]], Mixed | None]:
    """The parts with ordinary conversations among those to train on, where the plan has some."""
    if plan.mix is None:
        return parts, None
    if exporter.takes != "kept":
        fix = "leave --mix out, or choose a format of whole conversations, such as openai"
        raise UserError(f"ordinary conversations have no place among {exporter.takes}", where="--mix", fix=fix)
    train, mixed = mix_in(parts["train"], parts.get("val", ()), plan.mix, plan.seed)
    return parts | {"train": train}, mixed


def _by_structure(conversations: Iterable[Conversation | Example]) -> tuple[list[Example], dict[str, str]]:
    good: list[Example] = []
    bad: dict[str, str] = {}
    for given in conversations:
        example = Example(given) if isinstance(given, Conversation) else given
        for conversation in filter(None, (example.conversation, example.rejected)):
            if problem := structure_problem(conversation.as_messages()):
                bad[conversation.id] = f"bad structure: {problem.what}"
                break
        else:
            good.append(example)
    return good, bad


# ---- where to ---------------------------------------------------------------------------------------------------


def _paths(
    plan: ExportPlan, exporter: Exporter, parts: Mapping[str, Sequence[Example]], *, with_card: bool
) -> dict[str, Path]:
    """Where each part goes; a target that is no regular file (a pipe, /dev/stdout) gets the training part alone."""
    if plan.folder is not None:
        return _in_folder(plan, plan.folder, exporter, parts)
    path = plan.path or exporter.default_path()
    if path.is_dir():
        fix = f"give a file: {path / exporter.file_name}, or make it a dataset folder: --folder {path}"
        raise OutputError("is a folder", where=str(path), fix=fix)
    if path.exists() and not path.is_file():
        if "val" in parts:
            raise OutputError("cannot hold two files", where=str(path), fix="give a path, or no validation share")
        return {"train": path}
    beside = {"val": path.with_name(f"{path.stem}.val{path.suffix}")} if "val" in parts else {}
    card = {"card": path.with_suffix(".card.md")} if with_card else {}
    return {"train": path} | beside | {"manifest": path.with_name(f"{path.stem}.manifest.json")} | card


def _in_folder(
    plan: ExportPlan, folder: Path, exporter: Exporter, parts: Mapping[str, Sequence[Example]]
) -> dict[str, Path]:
    if plan.path is not None:
        raise UserError(f"a file and a folder to write: {plan.path} and {folder}", fix="leave one of them out")
    if not exporter.is_table:
        fix = "give another --format, such as openai or parquet"
        raise UserError(f"lines of {plan.format} have no columns, as a dataset folder needs", where="--folder", fix=fix)
    suffix = Path(exporter.file_name).suffix
    data = {name: folder / "data" / f"{SPLITS[name]}{suffix}" for name in parts}
    fixed = {"manifest": folder / MANIFEST, "card": folder / "README.md"}
    return data | fixed | {name: folder / name for name in exporter.snippets}


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _as_seen_from(base: Path, manifest: Manifest) -> Manifest:
    """The manifest as it is written: folders can be moved, and equal exports are equal wherever they lie."""
    files = tuple(f.model_copy(update={"path": _name(Path(f.path), base)}) for f in manifest.files)
    return manifest.model_copy(update={"files": files, "beside": tuple(_name(Path(p), base) for p in manifest.beside)})


def _drop_old(paths: Mapping[str, Path]) -> None:
    """Remove what an earlier export into the same place wrote and this one does not: a validation file's texts may now
    be trained on."""
    if not paths["manifest"].is_file():
        return
    try:
        before = Manifest.model_validate_json(paths["manifest"].read_bytes())
    except ValidationError:
        return  # some other program's file: not ours to judge by
    base = paths["manifest"].parent.resolve()
    now = {path.resolve() for path in paths.values()}
    for name in (*(f.path for f in before.files), *before.beside):
        # Earlier versions wrote whole paths, of files that may have been moved since, manifest and all
        old = (base / (Path(name).name if Path(name).is_absolute() else name)).resolve()
        if old not in now and old.is_relative_to(base) and old.is_file():
            old.unlink()


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            raise OutputError("is there already", where=str(path), fix="give another path, or --force to replace it")


# ---- what is in it ----------------------------------------------------------------------------------------------


def _write(
    file: BinaryIO,
    path: Path,
    split: str,
    examples: Sequence[Example],
    exporter: Exporter,
    categories: Categories,
) -> ExportedFile:
    digest, size = hashlib.sha256(), 0
    for chunk in exporter.encode(examples):
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return ExportedFile(
        path=str(path),
        split=split,
        lines=len(examples),
        conversations=len({e.conversation.id for e in examples}),
        by_category=categories.count(e.conversation for e in examples),
        failed=sum(e.failed for e in examples),
        sha256=digest.hexdigest(),
        bytes=size,
    )


def _manifest(
    plan: ExportPlan,
    files: Sequence[ExportedFile],
    out: Mapping[str, str],
    examples: Sequence[Example],
    categories: Categories,
) -> Manifest:
    conversations = {e.conversation.id: e.conversation for e in examples}.values()
    return Manifest(
        format=plan.format,
        source=dict(plan.source),
        files=tuple(files),
        val_share=plan.val_share,
        seed=plan.seed,
        oversample=dict(plan.oversample),
        categories_guessed=sum(map(categories.is_guess, conversations)),
        twins=_whole_pairs(conversations),
        losses=count_losses(exporter_of(plan.format), examples),
        left_out_by_reason=dict(Counter(out.values()).most_common()),
        left_out=tuple(LeftOut(conversation_id=i, reason=reason) for i, reason in out.items()),
    )


def _whole_pairs(conversations: Iterable[Conversation]) -> dict[str, tuple[str, ...]]:
    members: dict[str, dict[str, str]] = {}
    for conversation in conversations:
        if (scenario := conversation.scenario) and scenario.pair:
            members.setdefault(scenario.pair, {})[scenario.intent] = conversation.id
    return {pair: (of["harmful"], of["benign"]) for pair, of in members.items() if {"harmful", "benign"} <= of.keys()}
