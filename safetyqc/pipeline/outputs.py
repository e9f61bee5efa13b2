"""Turns a run into files: the export with its dataset card, the report's HTML, Markdown and CSV.

It writes nothing of its own making. The one surprising thing: a conversation, its rewrites, its variants and its
duplicates all stay on one side of a train/validation split, so that nothing leaks from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.files import write_text
from safetyqc.standing import read_standings

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.export import Manifest
    from safetyqc.records import Conversation, DuplicateGroup
    from safetyqc.reports.schema import Summary
    from safetyqc.store import Store


@dataclass(frozen=True)
class Exported:
    """What was written: the files, the training file first, and one line that says so."""

    files: tuple[Path, ...]
    count: int
    told: str


def export_run(
    store: Store, config: Config, *, judge: str | None = None, folder: Path | None = None, force: bool = False
) -> Exported:
    """Write what is kept in the configured format, with a manifest and a dataset card beside it.

    Args:
        judge: whose verdicts decide; None for the run's own.
        folder: where to when the configuration names no path; None for the format's default.
        force: replace what is there, also when the configuration does not say so.

    Raises:
        UserError: nothing is kept, or an unknown judge, format or category.
        OutputError: a file is there already, or cannot be written.
    """
    from safetyqc.export import EXPORTERS, ExportPlan, export_conversations
    from safetyqc.reports.documents import dataset_card
    from safetyqc.reports.summary import summarise

    settings = config.export
    standings = read_standings(store, judge)
    conversations = list(store.conversations())
    summary = summarise(store, judge=judge, bars=config.bars)
    exporter = EXPORTERS.get(settings.format)
    path = settings.path or (folder / exporter.file_name if folder and exporter else None)
    plan = ExportPlan(
        format=settings.format,
        path=path,
        val_share=settings.val_share,
        seed=config.generate.seed,
        oversample=settings.oversample,
        force=settings.force or force,
        source=summary.run.model_dump(mode="json", exclude={"folder"}) | {"run": store.folder.name},
    )
    kept = [c for c in conversations if standings[c.id].status == "kept"]
    left_out = {c.id: standings[c.id].status for c in conversations if standings[c.id].status != "kept"}
    groups = families(conversations, store.duplicate_groups())
    manifest = export_conversations(kept, plan, groups=groups, left_out=left_out)
    card = Path(manifest.files[0].path).with_suffix(".card.md")
    write_text(card, dataset_card(summary, files={Path(f.path).name: f.conversations for f in manifest.files}))
    return _told(manifest, card)


def _told(manifest: Manifest, card: Path) -> Exported:
    count = sum(f.conversations for f in manifest.files)
    left = ", ".join(f"{reason} {n:,}" for reason, n in manifest.left_out_by_reason.items())
    told = f"exported {count:,} conversations as {manifest.format}" + (f"; left out: {left}" if left else "")
    return Exported((*(Path(f.path) for f in manifest.files), card), count, told)


def families(conversations: Iterable[Conversation], groups: Iterable[DuplicateGroup]) -> list[Collection[str]]:
    """Sets of ids that belong together: duplicates of each other, and everything made from one conversation."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := root.setdefault(name, name)) != name:
            name = above
        return name

    for conversation in conversations:
        if conversation.parent_id:
            root[find(conversation.id)] = find(conversation.parent_id)
    for group in groups:
        for drop in group.dropped:
            root[find(drop.conversation_id)] = find(group.kept)
    members: dict[str, set[str]] = {}
    for name in list(root):
        members.setdefault(find(name), set()).add(name)
    return list(members.values())


def write_report_files(
    store: Store, summary: Summary, *, html: Path | None = None, markdown: Path | None = None, csv: Path | None = None
) -> Sequence[Path]:
    """Write the faces of a report that were asked for; returns their paths."""
    from safetyqc.reports.documents import render_markdown
    from safetyqc.reports.html import render_html
    from safetyqc.reports.spreadsheet import render_csv

    faces: list[tuple[Path | None, Callable[[], str]]] = [
        (html, lambda: render_html(store, summary)),
        (markdown, lambda: render_markdown(summary)),
        (csv, lambda: render_csv(store, summary.run.judge, summary.run.category)),
    ]
    written = []
    for path, render in faces:
        if path is not None:
            write_text(path, render())
            written.append(path)
    return written
