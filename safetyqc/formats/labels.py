"""Labels that stand inside a data file -> Label records of people, Judgment records of judges recorded there.

Reads `labels` objects (criterion -> outcome), and XSTest's `human` and `recorded` objects (three classes of refusal).
It measures nothing. The one surprising thing: a recorded judge's cell that is none of the classes, such as the
judge's own refusal to judge, becomes an unscored Score with its text as the reason; it is never mapped to a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from safetyqc.errors import InputError, choose_from
from safetyqc.formats.json_values import name_of
from safetyqc.formats.readers import iter_with_values
from safetyqc.records import Conversation, FailureKind, Judgment, Label, Message, Outcome, Score, canonical_json

LabelOutcome = Literal["pass", "fail", "na"]
Partial = Literal["pass", "fail", "leave_out"]
XSTEST_CRITERION = "strict_refusal"
XSTEST_CLASSES = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")
DISPUTED = "disputed"
"""A cell on which careful readers differed: it counts as no label."""
TRUTH = "human"
"""Annotator of the label that counts as truth."""
RECORDED = "recorded"
"""Rubric and rubric hash of judgments that were made elsewhere."""

_NO_CRITERION = frozenset({"kind", "intent", "category"})
_LABEL_KEYS = frozenset({"labels", "human", "recorded"})


def read_labels(
    path: str | Path, conversations: Iterable[Conversation] = (), *, partial: Partial = "pass"
) -> list[Label]:
    """Read the labels of people from a file: lines with messages, or `{"id": ..., "labels": {...}}` alone.

    Disputed cells are left out, na is kept. `human.final` of XSTest becomes the truth (annotator `human`), its single
    annotators keep their names.

    Args:
        conversations: what the labels are for. A line is matched by its messages, else by its id, and takes that
            conversation's id; a label that matches none keeps its own, so the caller can count it.
        partial: what XSTest's 3_partial_refusal means for strict_refusal.

    Raises:
        InputError: the file cannot be read, holds no label, or a cell is no outcome; names the line.
    """
    labels = [
        Label(conversation_id=line.conversation_id, criterion=criterion, outcome=outcome, annotator=annotator)
        for line in _labelled(path, conversations)
        for annotator, criterion, outcome in _labels_of(line, partial)
    ]
    if not labels:
        fix = 'a labelled line holds {"labels": {"CRITERION": "pass"}} beside its messages or its id'
        raise InputError("holds no label", path=name_of(path), fix=fix)
    return labels


def read_recorded(
    path: str | Path, conversations: Iterable[Conversation] = (), *, partial: Partial = "pass"
) -> list[Judgment]:
    """Read the verdicts that a file recorded (`{"recorded": {"JUDGE": ...}}`), one Judgment per judge and line.

    A cell is an XSTest class, or an object criterion -> outcome. `passed` is always None: a recorded verdict on single
    criteria is not a rubric's rule. Arguments and errors are those of `read_labels`; a file without any gives [].
    """
    return [
        judgment
        for line in _labelled(path, conversations)
        for judge, cell in _object(line, "recorded").items()
        if (judgment := _recorded(line, judge, cell, partial))
    ]


@dataclass(frozen=True)
class _Line:
    """One labelled line: which conversation it is about, what stands beside its messages, and where it stands."""

    conversation_id: str
    fields: dict[str, Any]
    path: str
    line: int | None

    def error(self, what: str, fix: str) -> InputError:
        return InputError(what, path=self.path, line=self.line, fix=fix)


def _labelled(path: str | Path, conversations: Iterable[Conversation]) -> Iterator[_Line]:
    known = _Known(conversations)
    for record, value in iter_with_values(path):
        if isinstance(record, Conversation):
            line = record.source.line if record.source else None
            yield _Line(known.id_of(record, name_of(path)), record.meta, name_of(path), line)
        elif isinstance(value, dict) and "id" in value and value.keys() & _LABEL_KEYS:
            yield _Line(str(value["id"]), value, record.path, record.line)
        else:
            raise record.error()


class _Known:
    """The conversations that labels may be for, by id and by text."""

    def __init__(self, conversations: Iterable[Conversation]) -> None:
        self._messages: dict[str, tuple[Message, ...]] = {}
        self._by_text: dict[tuple[Message, ...], str] = {}
        for conversation in conversations:
            self._messages[conversation.id] = conversation.messages
            self._by_text.setdefault(conversation.messages, conversation.id)

    def id_of(self, labelled: Conversation, path: str) -> str:
        """Find the conversation that a labelled one is; its own id when there is none."""
        same_id = self._messages.get(labelled.id)
        if same_id == labelled.messages:
            return labelled.id
        by_text = self._by_text.get(labelled.messages)
        if by_text is None and same_id is not None:
            raise InputError(
                f"labels {labelled.id!r}, but the conversation of that id has another text",
                path=path,
                line=labelled.source.line if labelled.source else None,
                fix="give the labels of this very data, or leave out the id",
            )
        return by_text or labelled.id


def _labels_of(line: _Line, partial: Partial) -> Iterator[tuple[str, str, LabelOutcome]]:
    """Yield (annotator, criterion, outcome) of every cell that is a label."""
    for criterion, cell in _object(line, "labels").items():
        if criterion not in _NO_CRITERION and cell != DISPUTED:
            yield TRUTH, criterion, _outcome(line, criterion, cell)
    for annotator, cell in _object(line, "human").items():
        outcome = _of_class(_class(line, annotator, cell), partial)
        if outcome is not None:
            yield (TRUTH if annotator == "final" else annotator), XSTEST_CRITERION, outcome


def _object(line: _Line, key: str) -> dict[str, Any]:
    found = line.fields.get(key, {})
    if not isinstance(found, dict):
        raise line.error(f"{key!r} is no object", f'write it as {{"{key}": {{"NAME": "VALUE"}}}}')
    return found


def _outcome(line: _Line, criterion: str, cell: Any) -> LabelOutcome:
    for outcome in get_args(LabelOutcome):
        if cell == outcome:
            return outcome  # type: ignore[no-any-return]
    raise line.error(f"label {cell!r} of {criterion}", choose_from(str(cell), [*get_args(LabelOutcome), DISPUTED]))


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
