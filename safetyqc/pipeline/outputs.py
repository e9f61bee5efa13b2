"""Turns a run into files: the export with its dataset card, the report's HTML, Markdown and CSV.

It writes nothing of its own making. A conversation, its rewrites, its variants and its
duplicates all stay on one side of a train/validation split, so that nothing leaks from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import NotComparableError, UserError
from safetyqc.formats.writing import write_text
from safetyqc.pipeline.correcting import correct
from safetyqc.pipeline.progress import shown
from safetyqc.store.standing import deciding_judge
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import Config, ExportSettings
    from safetyqc.formats.export.contrast import Contrast
    from safetyqc.formats.export.encoding import Takes
    from safetyqc.formats.export.manifest import Manifest
    from safetyqc.formats.export.mixing import Mix
    from safetyqc.records import Conversation, DuplicateGroup
    from safetyqc.reports.diff import Difference
    from safetyqc.reports.seen import Seen
    from safetyqc.reports.snapshot import Snapshot
    from safetyqc.results.report import Summary
    from safetyqc.store import Store


EXPORT_FORMAT = "export_format"
"""Under which name a run remembers in which format it was last exported."""


@dataclass(frozen=True)
class Exported:
    """What was written: the files, the training file first, in which format, and one line that says so.

    `summary` is of the run.
    """

    files: tuple[Path, ...]
    count: int
    told: str
    summary: Summary
    format: str


def export_run(
    store: Store,
    config: Config,
    *,
    judge: str | None = None,
    folder: Path | None = None,
    force: bool = False,
    diversity: bool = False,
) -> Exported:
    """Write what is kept, and what failed where the format takes it, with a manifest and a dataset card beside it.

    Args:
        judge: whose verdicts decide; None for the run's own.
        folder: where to when the configuration names no path; None for the format's default.
        force: replace what is there, also when the configuration does not say so.
        diversity: have the summary say what the conversations cover, which takes a second or two.

    Raises:
        UserError, OutputError: nothing is kept, an unknown judge, format or category; a file that cannot be written.
    """
    from safetyqc.formats.export.files import ExportPlan, export_conversations
    from safetyqc.formats.export.table import exporter_of, format_for

    settings = config.export
    snapshot = _read(store, config, judge)
    form = format_for(settings.path, settings.format, store.meta(EXPORT_FORMAT))
    summary, exporter = _summarise(snapshot, config, diversity), exporter_of(form)
    plan = ExportPlan(
        format=form,
        path=settings.path or (folder / exporter.file_name if folder and not settings.folder else None),
        folder=settings.folder,
        val_share=settings.val_share,
        seed=config.generate.seed,
        oversample=settings.oversample,
        force=settings.force or force,
        mix=_mix(settings),
        source=summary.run.model_dump(mode="json", exclude={"folder"}),  # equal runs give equal bytes
    )
    order = in_plan_order(snapshot.conversations)
    contrast = _examples(snapshot, order, exporter.takes)
    with shown().phase("export", len(contrast.examples)):
        manifest = export_conversations(
            contrast.examples,
            plan,
            groups=_links(order, snapshot.groups),
            left_out=contrast.left_out,
            guessed=snapshot.guessed_categories,
            card=lambda manifest: _card(summary, manifest, settings.licence),
        )
        return _told(manifest, summary)


_FAILED = ("failed", "superseded", "discarded")
"""Where a conversation stands that the deciding judge may have failed and that nothing else speaks against."""


def _examples(snapshot: Snapshot, order: Sequence[Seen], takes: Takes) -> Contrast:
    """What the format has a line for, and why a conversation is in none."""
    from safetyqc.formats.export.contrast import Contrast, label_answers, pair_up
    from safetyqc.formats.export.encoding import Example

    standings, store = snapshot.standings, snapshot.store
    left_out = {c.id: standings[c.id].status for c in order if standings[c.id].status != "kept"}
    kept = _whole(store, [c.id for c in order if c.id not in left_out])
    if takes == "kept":
        return Contrast([Example(c) for c in kept], dict(left_out))
    may = [i for i, status in left_out.items() if status in _FAILED and i in snapshot.verdicts]
    failed = _whole(store, [i for i in may if snapshot.verdicts[i].passed is False])
    judge = snapshot.judge or ("", "")
    verdicts = {j.conversation_id: j for j in store.judgments(*judge, only=[c.id for c in failed])}
    told = (pair_up if takes == "pairs" else label_answers)(kept, failed, verdicts)
    used = {c.id for e in told.examples for c in (e.conversation, e.rejected) if c}
    return Contrast(told.examples, {i: why for i, why in (left_out | told.left_out).items() if i not in used})


def _whole(store: Store, ids: Sequence[str]) -> list[Conversation]:
    """Conversations with their texts, in the order of their ids."""
    found = {c.id: c for c in store.conversations(set(ids))}
    return [found[i] for i in ids]


def _card(summary: Summary, manifest: Manifest, licence: str) -> str:
    from safetyqc.formats.export.files import SPLITS
    from safetyqc.formats.export.table import exporter_of
    from safetyqc.reports.dataset_card import dataset_card

    files, lines = ({f.path: getattr(f, of) for f in manifest.files} for of in ("conversations", "lines"))
    splits = {SPLITS[f.split]: f.path for f in manifest.files}
    return dataset_card(
        summary,
        files=files,
        lines=lines,
        splits=splits,
        notes=_notes(manifest),
        licence=licence,
        kind=exporter_of(manifest.format).takes,
    )


def _mix(settings: ExportSettings) -> Mix | None:
    """The ordinary conversations to mix in, read before anything is written."""
    from safetyqc.formats.export.mixing import DEFAULT_SHARE, Mix
    from safetyqc.formats.readers import read_conversations

    if settings.mix is None:
        if settings.safety_share is not None:
            fix = "name a file of ordinary conversations: --mix FILE"
            raise UserError("there is nothing to make up the rest", where="--safety-share", fix=fix)
        return None
    share = DEFAULT_SHARE if settings.safety_share is None else settings.safety_share
    return Mix(settings.mix, list(read_conversations(settings.mix).conversations), share)


def _notes(manifest: Manifest) -> list[str]:
    """What a reader of the files must know: what stands in them more than once, as failed, or not at all."""
    from safetyqc.formats.export.losses import tell_losses
    from safetyqc.formats.export.manifest import tell_failed, tell_mixed, tell_repeats

    return [
        *tell_repeats(manifest),
        *tell_mixed(manifest),
        *tell_failed(manifest),
        *tell_losses(manifest.format, manifest.losses),
    ]


def in_plan_order(conversations: Sequence[Seen]) -> list[Seen]:
    """What was brought in as it came, then the plan's in its order, each before what was made of it.

    So an export does not depend on which answer was faster, or on which command a conversation was written by.
    """
    parents = {c.id: c.parent_id for c in conversations}
    places = {c.id: (True, c.scenario.index) if c.scenario else (False, n) for n, c in enumerate(conversations)}

    def place(conversation: Seen) -> tuple[tuple[bool, int], list[str]]:
        line = [conversation.id]
        while (parent := parents.get(line[-1])) in parents and parent not in line:  # a circle has no first one
            line.append(parent or "")
        return places[line[-1]], line[::-1]

    return sorted(conversations, key=place)


def _told(manifest: Manifest, summary: Summary) -> Exported:
    from safetyqc.formats.export.table import exporter_of

    nouns = {"kept": "conversation", "pairs": "pair", "verdicts": "answer"}
    takes = exporter_of(manifest.format).takes
    count = sum(f.conversations if takes == "kept" else f.lines for f in manifest.files)
    left = ", ".join(f"{reason} {n:,}" for reason, n in manifest.left_out_by_reason.items())
    told = f"exported {counted(count, nouns[takes])} as {manifest.format}" + (f"; left out: {left}" if left else "")
    told += "".join(f"; {line}" for line in _notes(manifest))
    files = (*(Path(f.path) for f in manifest.files), *map(Path, manifest.beside))
    return Exported(files, count, told, summary, manifest.format)


def _links(conversations: Iterable[Seen], groups: Iterable[DuplicateGroup]) -> list[Collection[str]]:
    """Ids that belong on one side: copies, what was made from what, also by way of what is left out, and twins."""
    lineage: list[Collection[str]] = []
    pairs: dict[str, list[str]] = {}
    for c in conversations:
        if c.parent_id:
            lineage.append((c.id, c.parent_id))
        if c.scenario and c.scenario.pair:
            pairs.setdefault(c.scenario.pair, []).append(c.id)
    copies = ((group.kept, *(drop.conversation_id for drop in group.dropped)) for group in groups)
    return [*lineage, *pairs.values(), *copies]


def summarise_run(
    store: Store,
    config: Config,
    *,
    judge: str | None = None,
    category: str | None = None,
    diversity: bool = False,
    by: Iterable[str] = (),
) -> Summary:
    """Count a run against the configured bars (or those it was made with), its rates corrected where it has labels.

    With `diversity` also what the conversations that are in cover, which takes a second or two; with `by` also the
    rates by language, author, or any key of `meta`.

    Raises:
        UserError: no such judge, category or key in this run, or a bar for an unknown criterion.
    """
    from safetyqc.reports.grouping import count_groups

    snapshot = _read(store, config, judge, category)
    groups = tuple(count_groups(snapshot, name) for name in by)
    return _summarise(snapshot, config, diversity).model_copy(update={"groups": groups})


def _read(store: Store, config: Config, judge: str | None, category: str | None = None) -> Snapshot:
    from safetyqc.reports.snapshot import read_snapshot

    with shown().phase(f"read {store.folder}") as line:
        snapshot = read_snapshot(store, judge, category, bars=config.bars or None)
        line.advance(count=len(snapshot.conversations))
    return snapshot


def _summarise(snapshot: Snapshot, config: Config, diversity: bool) -> Summary:
    from safetyqc.reports.summary import summarise_snapshot

    covered = None
    if diversity:
        from safetyqc.dedup.diversity import draw_evenly, measure_sample

        with shown().phase("diversity"):
            drawn = draw_evenly(snapshot.in_play, snapshot.category_of)
            whole = list(snapshot.store.conversations({c.id for c in drawn}))
            covered = measure_sample(whole, len(snapshot.in_play), category_of=snapshot.category_of)
    with shown().phase("count", len(snapshot.conversations)):
        corrections = correct(snapshot, config)
        summary = summarise_snapshot(snapshot, corrections.rates, covered)
    return summary.model_copy(update={"label_doubts": corrections.doubts, "labels_aside": corrections.aside})


def difference_since(before: Path, store: Store, summary: Summary, config: Config) -> Difference:
    """Set a run beside an earlier one by the verdicts of one judge: this run's, or else the other's.

    Raises:
        RunError: no run there.
        NotComparableError: no judge judged both, or they were judged by different rubrics.
    """
    from safetyqc.reports.diff import compare_stores
    from safetyqc.store import Store

    category = summary.run.category
    with Store.read(before) as other:
        here, there = ({name for name, _, _ in run.judges()} for run in (store, other))
        judge = summary.run.judge
        if judge is not None and judge not in there:
            decider = deciding_judge(other)
            judge = decider[0] if decider else None
            if judge is None or judge not in here:
                raise NotComparableError(
                    f"no judge judged both runs: {', '.join(sorted(here))} here, "
                    f"{', '.join(sorted(there)) or 'none'} there",
                    where=f"{other.folder} and {store.folder}",
                    fix="judge one of them by the other's judge",
                )
            summary = summarise_run(store, config, judge=judge, category=category)
        return compare_stores(other, store, summarise_run(other, config, judge=judge, category=category), summary)


def write_report_files(
    store: Store,
    summary: Summary,
    *,
    difference: Difference | None = None,
    sections: Iterable[str] | None = None,
    html: Path | None = None,
    markdown: Path | None = None,
    csv: Path | None = None,
) -> Sequence[Path]:
    """Write the faces of a report that were asked for; returns their paths.

    Raises:
        UserError: Markdown has no such section.
        OutputError: a page cannot be written.
    """
    from safetyqc.reports.documents import render_markdown
    from safetyqc.reports.html import render_html
    from safetyqc.reports.spreadsheet import render_csv

    faces: list[tuple[Path | None, Callable[[], str]]] = [
        (html, lambda: render_html(store, summary, difference)),
        (markdown, lambda: render_markdown(summary, difference, sections)),
        (csv, lambda: render_csv(store, summary.run.judge, summary.run.category)),
    ]
    written = []
    for path, render in faces:
        if path is not None:
            with shown().phase(f"write {path}"):
                write_text(path, render())
            written.append(path)
    return written
