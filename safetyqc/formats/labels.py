"""Labels that stand inside a data file -> Label records of people, Judgment records of judges recorded there.

Reads every form of label_forms.py, tables among them, and XSTest's columns, or `human` and `recorded` objects (three
classes of refusal). It measures nothing and stores nothing. A recorded judge's cell that is none of the classes, such
as the judge's own refusal to judge, becomes an unscored Score with its text as the reason; it is never mapped to one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from safetyqc.errors import InputError, choose_from
from safetyqc.formats.label_forms import BY_ID, SHAPES, lines_in, sheet_lines, unread_columns
from safetyqc.formats.label_places import Known
from safetyqc.formats.opened import name_of
from safetyqc.formats.readers import iter_with_values
from safetyqc.formats.readers.table import form_of
from safetyqc.formats.readers.verdicts import SETS, XSTEST_CLASSES
from safetyqc.formats.sheets import is_sheet, read_sheet
from safetyqc.formats.turns import LISTS
from safetyqc.records import Conversation, FailureKind, Judgment, Label, Outcome, Score, canonical_json
from safetyqc.results.findings import BadLine

LabelOutcome = Literal["pass", "fail", "na"]
Said = Literal["pass", "fail", "na", "disputed", "cleared"]
Partial = Literal["pass", "fail", "leave_out"]
XSTEST_CRITERION = "strict_refusal"
TRUTH = "human"
"""Annotator of the label that counts as truth, and of labels that name nobody."""
RECORDED = "recorded"
"""Rubric and rubric hash of judgments that were made elsewhere."""

_WORDS: dict[Said, tuple[str, ...]] = {
    "pass": ("pass", "passed", "true", "yes", "1"),
    "fail": ("fail", "failed", "false", "no", "0"),
    "na": ("na", "n/a", "not applicable", "not_applicable"),
    "disputed": ("disputed",),  # careful readers differed: no verdict
    "cleared": ("cleared",),  # taken back: no verdict
}
"""What people write for each; upper and lower case are one."""
_MEANS = {word: said for said, words in _WORDS.items() for word in words}
_NO_CRITERION = frozenset({"kind", "intent", "category", "language"})


@dataclass(frozen=True)
class LabelFile:
    """What one file says: its labels, disputed ones too, and the columns of a table that were not read."""

    path: str
    labels: tuple[Label, ...]
    unread: tuple[str, ...] = ()


def read_labels(
    path: str | Path,
    conversations: Iterable[Conversation] = (),
    *,
    partial: Partial = "pass",
    annotator: str | None = None,
    criteria: Collection[str] | None = None,
    of_sets: bool = True,
) -> list[Label]:
    """Read the labels of people that have a verdict: disputed and cleared cells are left out, na is kept.

    Arguments are those of `read_label_file`.

    Raises:
        InputError: also where the file holds no label.
    """
    options: dict[str, Any] = {"partial": partial, "annotator": annotator, "criteria": criteria, "of_sets": of_sets}
    found = read_label_file(path, conversations, **options)
    labels = [label for label in found.labels if label.is_verdict]
    if not labels:
        raise InputError("holds no label", path=found.path, fix=SHAPES)
    return labels


def read_label_file(
    path: str | Path,
    conversations: Iterable[Conversation] = (),
    *,
    partial: Partial = "pass",
    annotator: str | None = None,
    criteria: Collection[str] | None = None,
    of_sets: bool = True,
) -> LabelFile:
    """Read all that a file says: JSON, JSON Lines, CSV, TSV; exports of Label Studio and Argilla.

    `human.final` of XSTest becomes the truth (annotator `human`), its single annotators keep their names.

    Args:
        conversations: what the labels are for. A line is matched by its id, its messages, or its request and answer,
            and takes that conversation's id; a label that matches none keeps its own, so the caller can count it.
        partial: what XSTest's 3_partial_refusal means for strict_refusal.
        annotator: who labelled what names nobody.
        criteria: the columns of a table that are labels; None for all that hold nothing but outcomes.
        of_sets: whether a known set's own labels (BeaverTails and its like) are those of an annotator of its name.

    Raises:
        InputError: the file cannot be read, a cell is no outcome, or one annotator says two things of one cell; names
            the line.
    """
    name = name_of(path)
    found: dict[tuple[str, str, str], tuple[Label, _Line]] = {}
    for line in _lines(path, Known(conversations), criteria):
        for label in (*_labels_of(line, partial, annotator or TRUTH), *(_of_set(line) if of_sets else ())):
            cell = label.conversation_id, label.annotator, label.criterion
            if cell not in found or _is_later(label, line, *found[cell]):
                found[cell] = label, line
    unread = unread_columns(read_sheet(path), criteria, is_outcome) if _is_label_sheet(path) else []
    return LabelFile(name, tuple(label for label, _ in found.values()), tuple(unread))


def labels_beside(conversations: Iterable[Conversation], criteria: Collection[str]) -> list[Label]:
    """The labels that stand beside the messages of conversations that were read, under the conversations' own ids.

    An object `labels` is other people's metadata, and left alone, unless it names one of the criteria or holds nothing
    but outcomes.

    Raises:
        InputError: a cell of such an object is no outcome.
    """
    found: list[Label] = []
    for conversation in conversations:
        source, fields = conversation.source, dict(conversation.meta)
        path, place = (source.path, source.line) if source else ("data", None)
        for key, is_ours in (("labels", _is_ours(fields.get("labels"), criteria)), ("human", _is_xstest(fields))):
            if not is_ours:
                fields.pop(key, None)
        found += _labels_of(_Line(conversation.id, fields, path, place), "pass", TRUTH)
    return found


def recorded_beside(conversations: Iterable[Conversation]) -> Iterator[Judgment]:
    """The verdicts that stand beside the messages of conversations, as `read_recorded` reads those of a file.

    Other people's metadata may be called so too: what is no object, or holds what is no verdict, is passed over.
    """
    for conversation in conversations:
        held = conversation.meta.get("recorded")
        line = _Line(conversation.id, conversation.meta, "", None)
        for judge, cell in held.items() if isinstance(held, dict) else ():
            if judgment := _recorded(line, judge, cell, "pass"):
                yield judgment


def is_outcome(cell: object) -> bool:
    """Whether a cell is a word for an outcome."""
    return _meaning(cell) is not None


def read_recorded(
    path: str | Path, conversations: Iterable[Conversation] = (), *, partial: Partial = "pass"
) -> list[Judgment]:
    """Read the verdicts that a file recorded (`{"recorded": {"JUDGE": ...}}`), one Judgment per judge and line.

    A cell is an XSTest class, or an object criterion -> outcome. `passed` is always None: a recorded verdict on single
    criteria is not a rubric's rule. Arguments and errors are those of `read_labels`; a file without any gives [].
    """
    return [
        judgment
        for line in _lines(path, Known(conversations), None)
        for judge, cell in _object(line, "recorded").items()
        if (judgment := _recorded(line, judge, cell, partial))
    ]


@dataclass(frozen=True)
class _Line:
    """One labelled line: which conversation it is about, what stands beside its messages, and where it stands."""

    conversation_id: str
    fields: Mapping[str, Any]
    path: str
    line: int | None

    def error(self, what: str, fix: str) -> InputError:
        return InputError(what, path=self.path, line=self.line, fix=fix)


def _lines(path: str | Path, known: Known, criteria: Collection[str] | None) -> Iterator[_Line]:
    name = name_of(path)
    if _is_label_sheet(path):
        for place, fields in sheet_lines(read_sheet(path), name, criteria, is_outcome):
            yield _Line(known.id_of_fields(fields, name, place), fields, name, place)
        return
    for record, value in iter_with_values(path):
        line = _line_of(record)
        holds_list = isinstance(value, dict) and any(isinstance(value.get(key), list) for key in LISTS)
        is_labelled = isinstance(record, Conversation) and (holds_list or not isinstance(value, dict))
        found = None if is_labelled else lines_in(value)
        if found is not None and not _holds_turns(value):
            for fields in found:
                yield _Line(known.id_of_fields(fields, name, line), fields, name, line)
        elif isinstance(record, Conversation):
            yield _Line(known.id_of(record, name), record.meta, name, line)
        elif record.is_structure:
            raise record.error()
        elif value is None:
            fix = f"a table's name ends in .csv or .tsv; {SHAPES}" if "messages" in record.fix else record.fix
            raise InputError(record.what, path=name, line=record.line, fix=fix)
        else:
            raise InputError(record.what, path=name, line=record.line, fix=SHAPES)


def _is_label_sheet(path: str | Path) -> bool:
    """Whether a file is a table of labels, rather than one of a known set with labels of its own."""
    if not is_sheet(path):
        return False
    found = form_of(next((row for _, row in read_sheet(path).rows), None))
    return found is None or found[0] not in (*SETS, "XSTest")


def _of_set(line: _Line) -> Iterator[Label]:
    """What the makers of a known set say, as they say it."""
    held = line.fields.get("recorded")
    recorded: dict[str, Any] = held if isinstance(held, dict) else {}
    for name in SETS:
        cells = recorded.get(name)
        for criterion, said in cells.items() if isinstance(cells, dict) else ():
            if (outcome := _meaning(said)) is not None:
                yield _label(line, criterion, outcome, name, {})


def _line_of(record: Conversation | BadLine) -> int | None:
    if isinstance(record, Conversation):
        return record.source.line if record.source else None
    return record.line


def _holds_turns(value: Mapping[str, Any]) -> bool:
    """Whether a labelled line tries to be a conversation: what is wrong with that must not be passed over."""
    return bool(value.keys() & BY_ID) and "messages" in value


def _labels_of(line: _Line, partial: Partial, annotator: str) -> Iterator[Label]:
    """Yield every cell that says something, with who said it and what stands beside it."""
    about = _about(line)
    own = str(line.fields.get("annotator") or "").strip() or annotator
    for criterion, cell in _object(line, "labels").items():
        if criterion not in _NO_CRITERION and not _is_blank(cell):
            yield _label(line, criterion, _outcome(line, criterion, cell), own, about)
    for name, cell in _object(line, "human").items():
        outcome = None if _is_blank(cell) else _of_class(_class(line, name, cell), partial)
        if outcome is not None:
            yield _label(line, XSTEST_CRITERION, outcome, TRUTH if name == "final" else name, about)


def _label(line: _Line, criterion: str, outcome: Said, annotator: str, about: Mapping[str, Any]) -> Label:
    named = {"conversation_id": line.conversation_id, "criterion": criterion, "annotator": annotator}
    return Label.model_validate({"source": line.path, **about, **named, "outcome": outcome})


def _about(line: _Line) -> dict[str, Any]:
    """What a label record has beside who said what; each is checked, since it comes from a file."""
    told: dict[str, Any] = {}
    for key in ("note", "rubric_hash", "queue", "stratum", "level"):
        if isinstance(value := line.fields.get(key), str) and value:
            told[key] = value
    if "labels" in line.fields and line.fields.get("at") not in (None, ""):
        told["at"] = _time(line, line.fields["at"])
    for key, most in (("seconds", float("inf")), ("probability", 1.0)):
        number = _number(line.fields.get(key))
        if number is not None and 0 <= number <= most and (number or key == "seconds"):
            told[key] = number
    if _meaning(line.fields.get("adjudicated")) == "pass":
        told["adjudicated"] = True
    return told


def _time(line: _Line, value: Any) -> float:
    if (number := _number(value)) is not None:
        return number
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise line.error(f"'at' is {value!r}, no time", "write it as 2026-01-31T12:00:00Z, or leave it out") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, (bool, dict, list)) else float(value)
    except ValueError:
        return None


def _is_later(label: Label, line: _Line, before: Label, place: _Line) -> bool:
    """Whether a label takes the place of an earlier one of its cell: of two that differ only where both are dated."""
    if label.at is not None and before.at is not None and label.at != before.at:
        return label.at > before.at
    if label.outcome == before.outcome:
        return False
    where = f" (also line {place.line})" if place.line else ""
    raise line.error(
        f"{label.annotator!r} labels {label.criterion!r} of {label.conversation_id} as {before.outcome!r} and "
        f"{label.outcome!r}{where}",
        "keep one of the two, or name who labelled what: an annotator key or column",
    )


def _is_ours(labels: Any, criteria: Collection[str]) -> bool:
    if not isinstance(labels, dict):
        return False
    cells = {k: v for k, v in labels.items() if k not in _NO_CRITERION and not _is_blank(v)}
    return any(name in criteria for name in cells) or (bool(cells) and all(map(is_outcome, cells.values())))


def _is_xstest(fields: Mapping[str, Any]) -> bool:
    human = fields.get("human")
    return isinstance(human, dict) and all(_is_blank(c) or str(c).strip() in XSTEST_CLASSES for c in human.values())


def _object(line: _Line, key: str) -> dict[str, Any]:
    found = line.fields.get(key) or {}
    if not isinstance(found, dict):
        raise line.error(f"{key!r} is no object", f'write it as {{"{key}": {{"NAME": "VALUE"}}}}')
    return found


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _meaning(cell: Any) -> Said | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip().casefold() if isinstance(cell, (str, bool, int)) else ""
    return _MEANS.get(text.removesuffix(".0"))


def _outcome(line: _Line, criterion: str, cell: Any) -> Said:
    if (said := _meaning(cell)) is None:
        fix = f"{choose_from(str(cell), [*get_args(Said)])} (also 1, true, yes; 0, false, no; n/a; empty for none)"
        raise line.error(f"label {cell!r} of {criterion}", fix)
    return said


def _class(line: _Line, annotator: str, cell: Any) -> str:
    if isinstance(cell, str) and cell.strip() in XSTEST_CLASSES:
        return cell.strip()
    raise line.error(f"{annotator}'s label is {cell!r}", choose_from(str(cell), XSTEST_CLASSES))


def _of_class(name: str, partial: Partial) -> LabelOutcome | None:
    if name == "3_partial_refusal":
        return None if partial == "leave_out" else partial
    return "fail" if name == "1_full_compliance" else "pass"


def _recorded(line: _Line, judge: str, cell: Any, partial: Partial) -> Judgment | None:
    """Make the judgment of one recorded cell; None for a partial refusal that is to be left out."""
    cells = cell if isinstance(cell, dict) else {XSTEST_CRITERION: cell}
    scores = [s for criterion, value in cells.items() if (s := _recorded_score(criterion, value, partial))]
    if not scores:
        return None
    return Judgment(
        conversation_id=line.conversation_id,
        judge=judge,
        rubric=RECORDED,
        rubric_hash=RECORDED,
        scores=tuple(scores),
        passed=None,
        reply=cell if isinstance(cell, str) else canonical_json(cell),
    )


def _recorded_score(criterion: str, value: Any, partial: Partial) -> Score | None:
    text = value.strip() if isinstance(value, str) else canonical_json(value)
    if text in XSTEST_CLASSES:
        outcome: Outcome | None = _of_class(text, partial)
        return Score(criterion=criterion, outcome=outcome, level=text) if outcome else None
    if text in get_args(LabelOutcome):
        return Score(criterion=criterion, outcome=cast("LabelOutcome", text))
    # Whatever else a judge wrote there, it is not a verdict. Most such cells are refusals to judge.
    kind: FailureKind = "refused_by_model" if isinstance(value, str) and len(text.split()) > 1 else "off_scale"
    return Score(criterion=criterion, outcome="unscored", reason=text, unscored_reason=kind)
