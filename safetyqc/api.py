"""The Python door: `import safetyqc as sq`, then `sq.judge(rows)`. The command line calls the same functions.

Every function takes data or a run, does one stage with the settings of `safetyqc.yaml` (flags of the command line are
keywords here), and hands back an object that shows itself in a notebook. What asks models has an async twin with an
`a` before its name. Nothing but SafetyqcError is raised for what a user can mend. docs/python.md has examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.pipeline.asking import agenerate, ajudge, arewrite
from safetyqc.pipeline.intake import Data, read_any, read_data
from safetyqc.pipeline.loop import in_plain_session, in_session, interruptible, listener, run_here
from safetyqc.pipeline.probing import aprobe
from safetyqc.pipeline.site import (
    RunLike,
    Settings,
    configure,
    open_view,
    path_of,
    site_of,
    sync,
)
from safetyqc.reports.answers import Checked, Compared, Duplicates
from safetyqc.reports.views import Filtered, Report, Run
from safetyqc.store import Store

if TYPE_CHECKING:
    from safetyqc.pipeline.outputs import Exported
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.stages import Tally

__all__ = [
    "agenerate",
    "ajudge",
    "aprobe",
    "arewrite",
    "check",
    "compare",
    "dedup",
    "export",
    "filter",
    "generate",
    "judge",
    "label_export",
    "label_import",
    "open_run",
    "probe",
    "report",
    "rewrite",
]

judge = sync(ajudge)
generate = sync(agenerate)
rewrite = sync(arewrite)
probe = sync(aprobe)


# ---- what asks no model ---------------------------------------------------------------------------------------------


def check(data: Data | Run, *, skip_bad: bool = False, config: Settings = None, **settings: Any) -> Checked:
    """Check conversations without any model: structure, rules, copies, balance, refusals that all open the same.

    Args:
        data: as for `judge`. Conversations of bad structure are counted; other bad rows are, with `skip_bad`.
        settings: of the sections `filters` and `dedup`, such as `ascii_english=True` or `min_similarity=0.8`.

    Raises:
        InputError: a row that is no conversation at all, unless it is skipped.
    """
    from safetyqc.pipeline.checking import check_records

    configured = configure(config, ("filters", "dedup"), {}, settings)
    rows: Data = data.conversations if isinstance(data, Run) else data
    with interruptible():
        return Checked(
            check_records(configured, read_any(rows, skip_bad=skip_bad, strict=False, how=configured.reading.how))
        )


def filter(
    data: Data | Run | None = None,
    run: RunLike | None = None,
    *,
    skip_bad: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Filtered:
    """Apply the cheap rules; what they hit is not judged and not exported.

    Args:
        settings: of the section `filters`, such as `ascii_english=True` or `patterns="mine.yaml"`.

    The others, and the errors, are those of `judge`.
    """
    from safetyqc.pipeline.choices import filter_settings
    from safetyqc.pipeline.order import filter_conversations

    site = site_of(data, run, configure(config, ("filters", "models"), {}, settings))
    filter_settings(site.config)  # a mistake in the patterns is said before anything is opened
    read = site.read(skip_bad=skip_bad)

    async def work(session: Session) -> tuple[list[str] | None, Tally]:
        return site.bring_in(session, read), await filter_conversations(session)

    ids, tally = run_here(lambda: in_session(site.opening, work), site.listener.note)
    return Filtered(site.folder, site.call([tally], 0.0, read), ids)


def dedup(
    data: Data | Run | None = None,
    run: RunLike | None = None,
    *,
    skip_bad: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Duplicates:
    """Find near-duplicates by TF-IDF cosine, exactly; the best judged of a group is kept.

    Args:
        data: as for `judge`; without a run nothing is stored, and the first of a group is kept.
        settings: of the section `dedup`, such as `min_similarity=0.85` or `against=["xstest.csv"]`.

    The others, and the errors, are those of `judge`.
    """
    from safetyqc.pipeline.duplicates import dedup_conversations, dedup_run
    from safetyqc.pipeline.session import engine_without_run

    configured = configure(config, ("dedup", "models"), {}, settings)
    if data is not None and run is None and not isinstance(data, Run):
        read = read_data(data, listener(), skip_bad=skip_bad, how=configured.reading.how)
        with interruptible(), engine_without_run(configured, listener().note) as engine:
            found = dedup_conversations(configured.dedup, read.conversations, engine.spread())
        for line in found.told:
            listener().note(line)
        return Duplicates(
            found.counts,
            found.matches,
            found.facts,
            read.skipped,
            None,
            lambda: found.groups,
            lambda: read.conversations,
        )
    site = site_of(data, run, configured)
    brought = site.read(skip_bad=skip_bad)

    def work(session: Session) -> Duplicates:
        if brought:
            site.bring_in(session, brought)
        found = dedup_run(session)
        site.listener.tell(found.tally)
        skipped, view = brought.skipped if brought else (), Run(site.folder)
        return Duplicates(
            found.counts,
            found.matches,
            found.facts,
            skipped,
            site.folder,
            lambda: view.groups,
            lambda: view.conversations,
        )

    return in_plain_session(site.opening, work, site.listener.note)


# ---- looking at what there is ---------------------------------------------------------------------------------------


def open_run(path: str | os.PathLike[str]) -> Run:
    """Look at a run that is there: its verdicts, rates, failures and cost; works while it is written.

    Raises:
        RunError: no run there, or of another version.
    """
    view = open_view(path)
    Store.read(view.run).close()
    return view


def compare(
    data: str | os.PathLike[str] | Run | None = None,
    *others: Run,
    labels: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    run: RunLike | None = None,
    truth: str | None = None,
    partial: str = "pass",
    shared_only: bool = False,
    by: str | Iterable[str] = (),
    config: Settings = None,
) -> Compared:
    """Compare judges with each other and with labels: pass rates, agreement, where they differ, which to choose.

    Args:
        data: a file that holds recorded verdicts or labels; or a result of `judge`; None for the run.
        others: further results of `judge` on the same conversations.
        labels: files of labels that count as truth; the run keeps them.
        truth: whose labels are the truth.
        partial: what XSTest's partial refusals count as: `pass`, `fail` or `leave_out`.
        shared_only: leave out what not every judge judged, instead of refusing.
        by: also compare by `category`, `intent`, `language`, `model`, `source`, or keys of the rows.

    Raises:
        NotComparableError: there is nothing to compare, or it does not describe the same thing.
        InputError: a file that cannot be read.
    """
    from safetyqc.pipeline.comparing import gather
    from safetyqc.pipeline.labelling import keep_labels

    views = [view for view in (data, *others, run) if isinstance(view, Run)]
    if run is not None and not isinstance(run, Run):
        views.append(open_view(run))
    file = None if data is None or isinstance(data, Run) else str(path_of(data, "data"))
    if not all(isinstance(other, Run) for other in others):
        raise UserError("only results of judge can stand beside each other", fix="give files of labels as labels=[...]")
    if file is None and not views:
        raise UserError("there is nothing to compare", fix="give data, or the run that holds it: run='FOLDER'")
    files = [labels] if isinstance(labels, (str, os.PathLike)) else list(labels)
    paths, configured = [path_of(name, "labels") for name in files], configure(config, (), {}, {})
    for folder in {view.run: None for view in views} if paths and file is None else ():
        keep_labels(folder, configured, paths, partial, listener())
    fields = [by] if isinstance(by, str) else list(by)
    gathered = gather(configured, file, paths, views, truth=truth, partial=partial, shared_only=shared_only, by=fields)
    return Compared(gathered.comparison, gathered.disagreements)


def label_import(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    run: RunLike,
    *,
    annotator: str | None = None,
    partial: str = "pass",
    config: Settings = None,
) -> list[Tally]:
    """Store people's labels in a run: tables, JSON Lines, exports of Label Studio and Argilla (docs/labels.md).

    Args:
        annotator: who labelled what names nobody (default: human).
        partial: what XSTest's partial refusals count as: `pass`, `fail` or `leave_out`.

    Returns:
        For each file how many labels were new, changed or there already, and what was not stored.

    Raises:
        InputError: a cell is no outcome, or a file holds no label for this run; nothing is stored then.
    """
    from safetyqc.pipeline.labelling import import_labels

    names = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    paths = [path_of(name, "files") for name in names]
    site = site_of(None, run, configure(config, (), {}, {}))
    with Store.open(site.config.run) as store:
        return import_labels(store, site.config, paths, annotator=annotator, partial=partial)


def label_export(
    run: RunLike,
    path: str | os.PathLike[str],
    *,
    annotator: str | None = None,
    sheet: bool | None = None,
    count: int | None = None,
    history: bool = False,
    force: bool = False,
    config: Settings = None,
) -> int | str:
    """Write the labels of a run as JSON Lines, or a table to label in.

    Args:
        path: where to; `-` for the text itself.
        annotator: whose; None for everybody's.
        sheet: write a table; None for where `path` ends in .csv or .tsv.
        count: in a table, at most so many conversations without labels, drawn by chance.
        history: in JSON Lines, also what was replaced.

    Returns:
        How many rows were written, or the text.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    from safetyqc.formats.writing import write_text
    from safetyqc.pipeline.labelling import export_labels

    target = path_of(path, "path")
    site = site_of(None, run, configure(config, (), {}, {}))
    with Store.read(site.config.run) as store:
        rows, text = export_labels(
            store, site.config, target, annotator=annotator, sheet=sheet, count=count, history=history
        )
    if str(target) == "-":
        return text
    write_text(target, text, force=force)
    return rows


def report(
    run: RunLike,
    *,
    html: str | os.PathLike[str] | None = None,
    markdown: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    sections: Iterable[str] | None = None,
    judge: str | None = None,
    category: str | None = None,
    by: Iterable[str] = (),
    against: RunLike | None = None,
    diversity: bool = True,
    need_bars: bool = False,
    config: Settings = None,
) -> Report:
    """Count what a run holds: balance, pass rates with intervals, failures, duplicates, rewrites, cost.

    Args:
        html: where to write one self-contained page.
        markdown: where to write Markdown, for a pull request.
        csv: where to write verdicts, safe for spreadsheets.
        sections: only these in the Markdown; None for all that it has.
        judge: whose verdicts (default: the first's).
        category: only this category.
        by: also the rates by `language`, `author`, `source`, or any key of the rows' `meta`.
        against: another run, to say what moved since.
        diversity: also measure what the conversations cover, which takes a second or two.
        need_bars: refuse a run without bars, before anything is written.

    Raises:
        UserError: no such run, judge or category; or no bars, where they are needed.
        OutputError: a page cannot be written.
    """
    from safetyqc.pipeline.frozen import check_frozen
    from safetyqc.pipeline.outputs import difference_since, summarise_run, write_report_files

    site = site_of(None, run, configure(config, (), {}, {}))
    pages = {"html": html, "markdown": markdown, "csv": csv}
    paths = {name: None if path is None else path_of(path, name) for name, path in pages.items()}
    with Store.read(site.config.run) as store:
        summary = summarise_run(store, site.config, judge=judge, category=category, diversity=diversity, by=by)
        if need_bars:
            summary = summary.model_copy(update={"frozen": check_frozen(store, site.config.frozen)})
        if need_bars and not (summary.verdict.bars or summary.frozen):
            fix = "set some in safetyqc.yaml, such as `bars: {no_dangerous_steps: 0.99}`"
            raise UserError("there are no bars to check", where="--check", fix=fix)
        before = against.run if isinstance(against, Run) else None if against is None else path_of(against, "against")
        moved = difference_since(before, store, summary, site.config) if before else None
        files = write_report_files(store, summary, difference=moved, sections=sections, **paths)
    return Report(site.folder, summary, files, moved)


def export(
    run: RunLike,
    path: str | os.PathLike[str] | None = None,
    format: str | None = None,
    *,
    judge: str | None = None,
    config: Settings = None,
    **settings: Any,
) -> Exported:
    """Write what passed, and nothing else, for a fine-tuning pipeline.

    Args:
        path: where to; nanochat has a default.
        format: any of docs/export.md, such as `openai`, `dpo` or `parquet` (default: what the name of `path` tells,
            the run's last, or `nanochat`).
        judge: whose verdicts decide (default: the first's).
        settings: any other setting of the section `export`, such as `val_share=0.1`, `folder="my-set"` or `force=True`.

    Raises:
        UserError: nothing is kept, or an unknown judge, format or category.
        OutputError: a file is there already, or cannot be written.
    """
    from safetyqc.pipeline.outputs import export_run

    named = {"export.path": None if path is None else path_of(path, "path"), "export.format": format}
    site = site_of(None, run, configure(config, ("export",), named, settings))
    with Store.read(site.config.run) as store:
        return export_run(store, site.config, judge=judge)
