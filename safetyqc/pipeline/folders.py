"""A folder of shards, judged some files at a time: brought into the run, judged, and its verdicts written beside it.

All files are read before the first is judged, so a broken record is found before anything is paid or stored; they wait
in a temporary file (`formats.spooled`). What is in memory is as large as those few files, whatever the folder holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safetyqc import __version__
from safetyqc.formats.readers import ReadResult
from safetyqc.pipeline import stages
from safetyqc.pipeline.choices import judge_models
from safetyqc.pipeline.importing import There, already_holds, import_file
from safetyqc.pipeline.labelling import with_labels
from safetyqc.pipeline.order import judge_all, make_judges, named_judge, settle_rubric
from safetyqc.pipeline.shards import Entry, Finished, Shards
from safetyqc.pipeline.site import Batching, Site, in_run, staged
from safetyqc.pipeline.stages import Tally, together
from safetyqc.reports.views import Call, Verdicts
from safetyqc.store import FILE_NAME, Store

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.tasks import Judging

_TOGETHER = 20_000
"""Conversations of the files that are judged together: so many small files take few steps."""


async def judge_folder(
    site: Site, shards: Shards, *, decide: bool = False, skip_bad: bool = False, batch: Batching = False
) -> Verdicts:
    """Judge what is not finished of a folder, and write the verdicts of each file.

    Returns:
        A view of the run, whose `manifest` is what was written of all files; None where some wait for a batch.

    Raises:
        InputError: a record is broken and not to be skipped; nothing was judged then.
        OutputError: verdicts cannot be written.
    """
    finished = Finished(shards, _settings(site, skip_bad=skip_bad))
    done = _read_finished(site, finished)
    left = [file for file in shards.files if file not in done]
    read = site.read(skip_bad=skip_bad, only_files=left) if left else None
    work = _Work(site, shards, finished, done, read, decide, batch)
    (tallies, judge), cost_usd = await in_run(site, work.run)
    waiting = any(tally.waiting for tally in tallies)
    found = Verdicts(site.folder, site.call(tallies, cost_usd), None, judge)
    found.manifest = None if waiting else shards.write_manifest(done[file] for file in shards.files if file in done)
    return found


def _read_finished(site: Site, finished: Finished) -> dict[str, Entry]:
    asked_anew = site.config.models.fresh or site.config.judge.retry_unscored
    if asked_anew or not (site.folder.path / FILE_NAME).is_file():
        return {}
    with Store.read(site.folder.path) as store:
        return finished.read(store)


def _settings(site: Site, *, skip_bad: bool) -> list[object]:
    """What verdicts depend on, beside the data."""
    from safetyqc.rubrics import load_rubric_set

    config = site.config
    judge = config.judge.model_dump(mode="json", exclude={"retry_unscored"})
    base = config.base_of_role("decider")
    rubric = load_rubric_set(config.judge.rubric).hash
    return [__version__, rubric, judge_models(config), judge, base, config.reading.model_dump(mode="json"), skip_bad]


class _Work:
    """One command's work on a folder."""

    def __init__(
        self,
        site: Site,
        shards: Shards,
        finished: Finished,
        done: dict[str, Entry],
        read: ReadResult | None,
        decide: bool,
        batch: Batching,
    ) -> None:
        self._site, self._shards, self._finished, self._done = site, shards, finished, done
        self._read, self._decide, self._batch = read, decide, batch

    async def run(self, session: Session) -> tuple[list[Tally], str | None]:
        """Do it: what each judge did in all, and under which name the first one's verdicts stand."""
        judged: list[list[Tally]] = []
        if self._read:
            parts = list(_together(self._read, float("inf") if self._batch else _TOGETHER))
            imported = [Tally(f"import {self._read.path}", told=already_holds(session.store, self._read.path))]
            there, judges = There(session.store, self._read.path), await self._judges(session)
            for number, part in enumerate(parts, 1):
                brought = {file.path: self._bring_in(session, file, there, imported) for file in part}
                session.mapper.part = f" (part {number} of {len(parts):,})" if len(parts) > 1 else ""
                judged.append(await self._judge(session, judges, [name for ids in brought.values() for name in ids]))
                if not any(tally.waiting for tally in judged[-1]):
                    self._write(session, judges[0], part, brought, is_final=_is_final(judged[-1]))
            session.mapper.part = ""
            told = together(imported)
            self._site.listener.tell(told if told.done else replace(told, told=told.told[len(imported[0].told) :]))
        last = await staged(
            session, "judge", lambda: judge_all(session, [], decide=self._decide), self._site, batch=self._batch
        )
        return [together(own) for own in zip(*judged, last, strict=True)], await named_judge(session)

    async def _judges(self, session: Session) -> list[Judging]:
        base = session.config.base_of_role("decider")
        return await make_judges(session, settle_rubric(session), judge_models(session.config), base)

    def _bring_in(self, session: Session, file: ReadResult, there: There, imported: list[Tally]) -> list[str]:
        labelled = self._read is not None and self._read.labels
        tally, ids = import_file(session, file.path, with_labels(file, session.config) if labelled else file, there)
        imported.append(tally)
        return ids

    async def _judge(self, session: Session, judges: Sequence[Judging], ids: list[str]) -> list[Tally]:
        store, mapper, retry = session.store, session.mapper, session.config.judge.retry_unscored
        fresh = session.config.models.fresh and not retry

        async def work() -> list[Tally]:
            return [await stages.judge_run(store, mapper, j, only=ids, fresh=fresh, retry=retry) for j in judges]

        return await staged(session, "judge", work, self._site, batch=self._batch)

    def _write(
        self,
        session: Session,
        judge: Judging,
        part: Sequence[ReadResult],
        brought: dict[str, list[str]],
        *,
        is_final: bool,
    ) -> None:
        name, entries = judge.judge(session.mapper.context).name, {}
        for file in part:
            view = Verdicts(self._site.folder, Call(read=file), brought[file.path], name)
            entries[file.path] = self._done[file.path] = self._shards.write(file.path, view.lines())
        if is_final:
            self._finished.add(session.store, entries)


def _together(read: ReadResult, most: float) -> Iterator[list[ReadResult]]:
    """What was read, file by file: those beside each other that hold some thousands in all; a larger one is alone."""
    some: list[ReadResult] = []
    count = 0
    for file in read.by_file():
        if some and count + len(file.conversations) > most:
            yield some
            some, count = [], 0
        some.append(file)
        count += len(file.conversations)
    if some:
        yield some


def _is_final(tallies: Sequence[Tally]) -> bool:
    """Whether nothing was left unscored that a later command asks about again."""
    return not any(stages.is_asked_again(kind) for tally in tallies for kind in tally.failed)
