"""Labels that people gave -> the run, with who said it, where it came from, when and for which wording; and out again.

What a label is matched by, and what its words mean, is `formats.labels`' business; how rates are corrected by them is
the judge stage's. A label of a conversation that the run does not hold is told and not stored.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc.errors import InputError, RunError, UserError, choose_from
from safetyqc.formats.label_forms import SHAPES
from safetyqc.formats.label_places import drawn
from safetyqc.formats.labels import RECORDED, LabelFile, Partial, labels_beside, read_label_file
from safetyqc.formats.opened import name_of
from safetyqc.formats.sheets import BOM, SUFFIXES, is_sheet, write_sheet
from safetyqc.pipeline.stages import Tally
from safetyqc.results.compare import OVERALL
from safetyqc.review.agreement import Agreement, Confusion, Consistency, agreements, confusions, consistencies
from safetyqc.store.standing import deciding_judge
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.pipeline.loop import Listener
    from safetyqc.records import Conversation, Judgment, Label
    from safetyqc.rubrics import RubricSet
    from safetyqc.store import Store

_SHOWN = 3
_IN_PLAY = frozenset({"kept", "failed", "unscored", "unjudged"})


def with_labels(read: ReadResult, config: Config) -> ReadResult:
    """What was read, with the labels that stand beside its messages.

    Raises:
        InputError: a cell of them is no outcome.
    """
    if not any("labels" in c.meta or "human" in c.meta for c in read.conversations):
        return read
    return replace(read, labels=tuple(labels_beside(read.conversations, criteria_of(_rubric(config)))))


def criteria_of(rubric: RubricSet) -> frozenset[str]:
    """What a label may be about."""
    return frozenset({OVERALL, *(c.id for c in rubric.criteria)})


def _rubric(config: Config) -> RubricSet:
    from safetyqc.rubrics import load_rubric_set

    return load_rubric_set(config.judge.rubric)


def check_partial(partial: str) -> Partial:
    """What XSTest's partial refusals count as, as it was typed.

    Raises:
        UserError: it is none of the three.
    """
    ways: tuple[Partial, ...] = ("pass", "fail", "leave_out")
    for way in ways:
        if way == partial:
            return way
    raise UserError(f"unknown value {partial!r}", where="--partial", fix=choose_from(partial, ways))


def read_label_files(
    paths: Sequence[str | Path],
    conversations: Sequence[Conversation],
    config: Config,
    *,
    annotator: str | None = None,
    partial: Partial = "pass",
) -> list[LabelFile]:
    """Read label files; where they name nobody and label the same cells, each is a person, called as its file.

    Raises:
        InputError: a file cannot be read, or holds no label.
    """
    criteria = criteria_of(_rubric(config))

    def read(path: str | Path, who: str | None) -> LabelFile:
        return read_label_file(path, conversations, partial=partial, annotator=who, criteria=criteria)

    files = [read(path, annotator) for path in paths]
    cells = Counter(cell for file in files for cell in {_cell(label) for label in file.labels})
    if annotator is None and any(count > 1 for count in cells.values()):
        files = [read(path, name_of(path).replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]) for path in paths]
    for file in files:
        if not file.labels:
            raise InputError("holds no label", path=file.path, fix=SHAPES)
    return files


def import_labels(
    store: Store,
    config: Config,
    paths: Sequence[str | Path],
    *,
    annotator: str | None = None,
    partial: str = "pass",
) -> list[Tally]:
    """Store the labels of files in a run; nothing is stored when one of the files cannot be read.

    Raises:
        InputError: a file cannot be read, holds no label, or none for a conversation of this run.
    """
    way = check_partial(partial)
    conversations = [c for c in store.conversations() if c.origin != "canary"]
    files = read_label_files(paths, conversations, config, annotator=annotator, partial=way)
    held = {c.id for c in conversations}
    for file in files:
        _refuse_judges(store, file)
        strangers = [label.conversation_id for label in file.labels if label.conversation_id not in held]
        if len(strangers) == len(file.labels):
            what = f"labels none of the {counted(len(held), 'conversation')} of this run ({_named(strangers)})"
            raise InputError(what, path=file.path, fix="give the ids or the exact texts of this run's conversations")
    return [store_labels(store, config, file) for file in files]


def keep_labels(run: Path, config: Config, paths: Sequence[Path], partial: str, listener: Listener) -> None:
    """Store label files that a run is compared with, so that its report knows them too; said where it cannot be.

    Raises:
        InputError: those of `import_labels`.
    """
    from safetyqc.store import Store

    try:
        store = Store.open(run)
    except RunError as error:
        listener.note(f"the labels are used, but not stored: {error.what}")
        return
    with store:
        for tally in import_labels(store, config, paths, partial=partial):
            listener.tell(tally)


def store_labels(store: Store, config: Config, file: LabelFile) -> Tally:
    """Store what a file says about the run's conversations; what was said before of a cell stays in its history."""
    rubric = _rubric(config)
    held = store.conversation_ids()
    judge = deciding_judge(store)
    judged_by = judge[1] if judge and judge[1] != RECORDED else None
    wording = judged_by or (store.meta("rubric") or {}).get("hash") or rubric.hash
    latest = {_cell(label): label for label in store.label_history()}
    new: list[Label] = []
    changed: list[Label] = []
    for label in file.labels:
        before = latest.get(_cell(label))
        if label.conversation_id not in held or (before and _says_the_same(label, before, wording)):
            continue
        (changed if before else new).append(label)
    store.add_labels(
        label if label.rubric_hash else label.model_copy(update={"rubric_hash": wording}) for label in (*new, *changed)
    )
    here = [label for label in file.labels if label.conversation_id in held]
    told = (*_strangers(file, held), *_unread(file, rubric), *_annotators(here))
    same = len(here) - len(new) - len(changed)
    return Tally(f"labels {file.path}", same, len(new), told=told, changed=len(changed))


def meeting(labels: Iterable[Label], judgments: Sequence[Judgment]) -> list[Label]:
    """The labels of a run that say something about these judgments: of their conversations and criteria.

    What a run holds besides must not keep its report from being made; so a person called as a judge is left out too.
    """
    judges, judged = {j.judge for j in judgments}, {j.conversation_id for j in judgments}
    asked = {OVERALL, *(score.criterion for j in judgments for score in j.scores)}
    return [x for x in labels if x.conversation_id in judged and x.criterion in asked and x.annotator not in judges]


def _refuse_judges(store: Store, file: LabelFile) -> None:
    judges = {judge for judge, _, _ in store.judges()}
    for label in file.labels:
        if label.annotator in judges:
            what = f"{label.annotator!r} is a judge of this run, and cannot be a person who labels it"
            raise InputError(what, path=file.path, fix="give people names of their own: --annotator NAME")


def _cell(label: Label) -> tuple[str, str, str]:
    return label.conversation_id, label.criterion, label.annotator


def _says_the_same(label: Label, before: Label, wording: str) -> bool:
    """Whether nothing is new: a label of an older wording that is given again is one of this wording too."""
    same = (label.outcome, label.adjudicated) == (before.outcome, before.adjudicated)
    return same and before.rubric_hash in (None, label.rubric_hash or wording)


def _strangers(file: LabelFile, held: set[str]) -> Iterator[str]:
    strangers = [label.conversation_id for label in file.labels if label.conversation_id not in held]
    if strangers:
        count, of = counted(len(strangers), "label"), counted(len(set(strangers)), "conversation")
        yield f"not stored: {count} of {of} that this run does not hold ({_named(strangers)})"


def _named(ids: Iterable[str]) -> str:
    different = list(dict.fromkeys(ids))
    return ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")


def _unread(file: LabelFile, rubric: RubricSet) -> Iterator[str]:
    if file.unread:
        yield f"columns that are no criterion were not read: {', '.join(file.unread)}"
    known = criteria_of(rubric)
    for name, count in Counter(x.criterion for x in file.labels if x.criterion not in known).items():
        near = get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        yield f"{counted(count, 'label')} of {name!r}, which is no criterion of rubric {rubric.id!r}{meant}"


def _annotators(labels: Iterable[Label]) -> Iterator[str]:
    names = Counter(label.annotator for label in labels)
    if len(names) > 1:
        yield "by " + ", ".join(f"{name} {count:,}" for name, count in names.items())


# ---- what a run holds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelCounts:
    """What a run's labels come to."""

    conversations: int
    annotators: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Labels by annotator, criterion and outcome."""
    agreement: Sequence[Agreement]
    """People with each other on each criterion that two or more labelled."""
    sources: Mapping[str, int]
    other_wording: int
    """Labels that were given for another wording of the rubric than the run's."""
    replaced: int
    """Labels that a later one of the same annotator took the place of."""
    again: Sequence[Consistency] = ()
    """Each annotator on what the review page showed them twice."""
    confusions: Sequence[Confusion] = ()
    """Pairs of levels on which people keep differing."""
    adjudicated: int = 0
    """Cells on which annotators differed and somebody decided."""


def count_labels(store: Store) -> LabelCounts:
    """Count the labels that a run holds."""
    history = list(store.label_history())
    latest = {_cell(label): label for label in history}
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for label in latest.values():
        counts[label.annotator][label.criterion][label.outcome] += 1
    own = (store.meta("rubric") or {}).get("hash")
    verdicts = [label for label in latest.values() if label.is_verdict]
    return LabelCounts(
        conversations=len({label.conversation_id for label in verdicts}),
        annotators={name: {c: dict(o) for c, o in by.items()} for name, by in sorted(counts.items())},
        agreement=agreements(history),
        sources=dict(Counter(label.source or "unknown" for label in verdicts).most_common()),
        other_wording=sum(bool(own and label.rubric_hash and label.rubric_hash != own) for label in verdicts),
        replaced=len(history) - len(latest),
        again=consistencies(history),
        confusions=confusions(history),
        adjudicated=sum(label.adjudicated for label in verdicts),
    )


# ---- out again ------------------------------------------------------------------------------------------------------


def export_labels(
    store: Store,
    config: Config,
    path: Path,
    *,
    annotator: str | None = None,
    sheet: bool | None = None,
    count: int | None = None,
    history: bool = False,
) -> tuple[int, str]:
    """The labels as the text of a file, and how many rows it has; arguments are those of `api.label_export`.

    Raises:
        UserError: nobody of that name labelled anything, and no table to label in is asked for.
    """
    if not (is_sheet(path) if sheet is None else sheet):
        lines = list(label_lines(store, annotator, history=history))
        if annotator and not lines:
            names = {label.annotator for label in store.label_history()}
            raise UserError(f"no labels by {annotator!r}", where="--annotator", fix=choose_from(annotator, names))
        return len(lines), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    columns, rows = label_sheet(store, config, annotator, count=count)
    separator = SUFFIXES.get(path.suffix.lower(), ",")
    return len(rows), BOM + "".join(write_sheet(columns, rows, separator))


def label_lines(store: Store, annotator: str | None = None, *, history: bool = False) -> Iterator[dict[str, Any]]:
    """The labels as JSON objects, one each: the latest of each annotator on a cell, or with `history` all."""
    latest = {_cell(label): label for label in store.label_history()}
    for label in store.label_history() if history else latest.values():
        if annotator in (None, label.annotator):
            told = label.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            yield {"conversation_id": label.conversation_id, "annotator": label.annotator, **told}


def label_sheet(
    store: Store, config: Config, annotator: str | None = None, *, count: int | None = None
) -> tuple[list[str], list[dict[str, Any]]]:
    """A table to label in: a row for each conversation that is in and each annotator's labels of it, blank where none.

    No judge's verdict is in it: who labels must not be led.

    Args:
        annotator: whose table; None for everybody's.
        count: at most so many conversations without labels, in the order of the run's draw, or else of chance: whoever
            breaks off has labelled a sample.
    """
    from safetyqc.review.drawn import open_items
    from safetyqc.store.standing import read_standings

    standings = read_standings(store)
    cells: dict[str, dict[str, dict[str, Label]]] = defaultdict(lambda: defaultdict(dict))
    for label in store.label_history():
        if annotator in (None, label.annotator):
            cells[label.conversation_id][label.annotator][label.criterion] = label
    blank = [name for name, standing in standings.items() if standing.status in _IN_PLAY and name not in cells]
    if count is not None:
        drawn_first = dict.fromkeys(item.conversation_id for item in open_items(store, annotator or ""))
        by_chance = random.Random(config.generate.seed).sample(blank, len(blank))
        left = set(blank)
        blank = [name for name in dict.fromkeys([*drawn_first, *by_chance]) if name in left][:count]
    wanted = {name for name in cells if name in standings and standings[name].status != "canary"}.union(blank)
    criteria = _criteria(store, config, cells)
    order = {name: place for place, name in enumerate(blank)} if count is not None else {}
    rows = [
        _row(conversation, name, by)
        for conversation in sorted(store.conversations(wanted), key=lambda c: order.get(c.id, -1))
        for name, by in (cells.get(conversation.id) or {annotator or "": {}}).items()
    ]
    return ["id", "annotator", "conversation", *criteria, "note", "category", "intent"], rows


def _criteria(store: Store, config: Config, cells: Mapping[str, Mapping[str, Mapping[str, Label]]]) -> list[str]:
    of_run = [c["id"] for c in (store.meta("rubric") or {}).get("criteria", ())]
    used = (name for by_annotator in cells.values() for by in by_annotator.values() for name in by)
    return list(dict.fromkeys([*(of_run or [c.id for c in _rubric(config).criteria]), *used]))


def _row(conversation: Conversation, annotator: str, by_criterion: Mapping[str, Label]) -> dict[str, Any]:
    notes = dict.fromkeys(label.note for label in by_criterion.values() if label.note)
    return {
        "id": conversation.id,
        "annotator": annotator,
        "conversation": drawn(conversation),
        **{name: label.outcome for name, label in by_criterion.items()},
        "note": " / ".join(notes),
        "category": conversation.category,
        "intent": conversation.intent,
    }
