"""The shapes in which labels come -> one: an object with the conversation's `id`, an `annotator` and `labels`.

Each form is a line of `LABEL_FORMS`: one label an object (what `label export` writes), labels by id, exports of Label
Studio and of Argilla. Tables have a way of their own, `sheet_lines`. What a cell means is decided in labels.py; texts
(`messages`, or `request` and `answer`) go along where a form has them, for the sake of those without an id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.sheets import Sheet

Fields = dict[str, Any]
BY_ID = frozenset({"labels", "human", "recorded"})
IDS = ("conversation_id", "id")
"""Keys of the id; the first goes before, since other programs write numbers of their own into `id`."""
_TEXTS = {
    "messages": ("messages", "chat"),
    "request": ("request", "prompt", "question", "instruction"),
    "answer": ("answer", "response", "completion", "output"),
}
_ABOUT = ("note", "at", "seconds", "rubric_hash", "source", "queue", "stratum", "probability", "adjudicated", "level")
"""What may stand beside a label, as records.Label names it."""
_OUTCOMES = ("outcome", "label")
_FACTS = frozenset({*IDS, *_ABOUT, *_OUTCOMES, *(k for keys in _TEXTS.values() for k in keys)}) | {
    *("annotator", "criterion", "category", "intent", "kind", "language", "origin", "conversation", "system", "status"),
    *("annotation_id", "created_at", "updated_at", "lead_time", "turns", "model"),
}
"""Columns that are never a criterion."""
SHAPES = (
    'a line is {"id": "...", "labels": {"CRITERION": "pass"}}, with "annotator" where there are several; a table has a '
    "column id and one for each criterion (see docs/labels.md)"
)


@dataclass(frozen=True)
class LabelForm:
    """How to know a JSON value of this form, and what labelled lines it holds."""

    matches: Callable[[Mapping[str, Any]], bool]
    lines: Callable[[Mapping[str, Any]], Iterator[Fields]]


def lines_in(value: Any) -> Iterator[Fields] | None:
    """The labelled lines of a JSON value, or None where it is of no form."""
    if not isinstance(value, dict):
        return None
    return next((form.lines(value) for form in LABEL_FORMS.values() if form.matches(value)), None)


def _one_label(value: Mapping[str, Any]) -> Iterator[Fields]:
    outcome = next((value[key] for key in _OUTCOMES if key in value), None)
    yield {**_about(value), "labels": {str(value["criterion"]): outcome}}


def _by_id(value: Mapping[str, Any]) -> Iterator[Fields]:
    yield {**value, **_about(value)}


def _about(value: Mapping[str, Any], *, ids: tuple[str, ...] = IDS) -> Fields:
    """The id, the texts, who labelled, and what stands beside it."""
    found: Fields = {key: value[key] for key in ("annotator", *_ABOUT) if value.get(key) not in (None, "")}
    told = {"id": ids, **_TEXTS, "conversation": ("conversation",)}
    for name, keys in told.items():
        held = next((value[key] for key in keys if value.get(key) not in (None, "")), None)
        if held is not None:
            found[name] = held
    return found


# ---- Label Studio ---------------------------------------------------------------------------------------------------


def _label_studio(value: Mapping[str, Any]) -> Iterator[Fields]:
    """A task of its JSON export, with any number of annotations; one that was skipped or cancelled says nothing."""
    told = _about(value["data"])
    for annotation in value["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        labels, note = _results(annotation.get("result") or [])
        yield {
            **told,
            "annotator": _person(annotation.get("completed_by")),
            "labels": labels,
            "note": note,
            "at": annotation.get("completed_at") or annotation.get("updated_at") or annotation.get("created_at"),
            "seconds": annotation.get("lead_time"),
        }


def _results(results: list[Any]) -> tuple[Fields, str]:
    labels: Fields = {}
    notes = []
    for result in results:
        name, cell = str(result.get("from_name")), result.get("value") or {}
        if "text" in cell:
            notes += cell["text"] if isinstance(cell["text"], list) else [cell["text"]]
            continue
        chosen = cell.get("choices", cell.get("rating"))
        labels[name] = chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else chosen
    return labels, " / ".join(map(str, notes))


def _label_studio_flat(value: Mapping[str, Any]) -> Iterator[Fields]:
    """A line of its JSON-MIN export, where `id` is a number of its own."""
    told = _about(value, ids=IDS[:1])
    told["annotator"] = _person(value.get("annotator"))
    told["at"] = value.get("updated_at") or value.get("created_at")
    told["seconds"] = value.get("lead_time")
    yield {**told, "labels": {key: cell for key, cell in value.items() if key not in _FACTS and _is_cell(cell)}}


def _person(who: Any) -> str | None:
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    return None if who in (None, "") else str(who)


def _is_cell(cell: Any) -> bool:
    return cell is None or isinstance(cell, (str, bool, int))


# ---- Argilla --------------------------------------------------------------------------------------------------------


def _argilla(value: Mapping[str, Any]) -> Iterator[Fields]:
    """A record of Argilla 2 (responses by question) or 1 (by user); drafts and discarded ones say nothing."""
    told = _argilla_about(value)
    responses = value["responses"]
    answers = _by_question(responses) if isinstance(responses, dict) else _by_user(responses or [])
    yield from _by_annotator(told, answers)


def _by_question(responses: Mapping[str, Any]) -> Iterator[tuple[Any, str, Any, Any]]:
    for question, given in responses.items():
        for answer in given or []:
            yield answer.get("user_id"), question, answer.get("value"), answer.get("status")


def _by_user(responses: list[Any]) -> Iterator[tuple[Any, str, Any, Any]]:
    for response in responses:
        for question, answer in (response.get("values") or {}).items():
            yield response.get("user_id"), question, answer.get("value"), response.get("status")


def _argilla_flat(value: Mapping[str, Any]) -> Iterator[Fields]:
    """A record of Argilla 2 that was flattened: `QUESTION.responses`, `.responses.users` and `.responses.status`."""
    answers = []
    for key, given in value.items():
        question, mark, rest = key.partition(".responses")
        if mark and not rest:
            count = len(given or [])
            users = value.get(f"{key}.users") or [None] * count
            states = value.get(f"{key}.status") or [None] * count
            answers += list(zip(users, [question] * count, given or [], states, strict=False))
    yield from _by_annotator(_argilla_about(value), iter(answers))


def _argilla_about(value: Mapping[str, Any]) -> Fields:
    fields, metadata = value.get("fields"), value.get("metadata")
    held = {**(metadata if isinstance(metadata, dict) else {}), **(fields if isinstance(fields, dict) else {})}
    own = next((held[key] for key in IDS if held.get(key)), None) or value.get("external_id") or value.get("id")
    return {**_about({**value, **held}), "id": own} if own else _about({**value, **held})


def _by_annotator(told: Fields, answers: Iterator[tuple[Any, str, Any, Any]]) -> Iterator[Fields]:
    by_user: dict[str | None, Fields] = {}
    for user, question, outcome, status in answers:
        if status in (None, "submitted"):
            by_user.setdefault(_person(user), {})[question] = outcome
    for user, labels in by_user.items():
        yield {**told, "annotator": user, "labels": labels}


LABEL_FORMS: dict[str, LabelForm] = {
    "one label": LabelForm(
        lambda v: "criterion" in v and any(k in v for k in _OUTCOMES) and any(k in v for k in IDS), _one_label
    ),
    "Label Studio": LabelForm(
        lambda v: isinstance(v.get("annotations"), list) and isinstance(v.get("data"), dict), _label_studio
    ),
    "Label Studio, JSON-MIN": LabelForm(lambda v: "annotation_id" in v, _label_studio_flat),
    "Argilla": LabelForm(lambda v: "responses" in v and ("fields" in v or "metadata" in v), _argilla),
    "Argilla, flattened": LabelForm(lambda v: any(k.endswith(".responses") for k in v), _argilla_flat),
    "labels by id": LabelForm(lambda v: any(k in v for k in IDS) and bool(v.keys() & BY_ID), _by_id),
}
"""Forms of labels by name, tried in this order; open to additions."""


# ---- tables ---------------------------------------------------------------------------------------------------------


def sheet_lines(
    sheet: Sheet, path: str, criteria: Collection[str] | None, is_outcome: Callable[[str], bool]
) -> Iterator[tuple[int, Fields]]:
    """The labelled lines of a table, each with its place: a column for each criterion, or one label a row.

    Args:
        criteria: the columns that are labels; None for all that hold nothing but outcomes.

    Raises:
        InputError: no column of labels, or one whose name is nearly that of a criterion.
    """
    names = {column: column.casefold().replace(" ", "_") for column in sheet.columns}
    given = set(names.values())
    is_long = "criterion" in given and not given.isdisjoint(_OUTCOMES)
    wide = {} if is_long else _criteria_columns(sheet, names, path, criteria, is_outcome)
    if not is_long and not wide:
        known = f" (criteria: {', '.join(sorted(criteria))})" if criteria else ""
        what = f"has no column of labels (columns: {', '.join(sheet.columns)})"
        raise InputError(what, path=path, line=1, fix=SHAPES + known)
    for line, row in sheet.rows:
        told = {names[column]: cell.strip() for column, cell in row.items()}
        if is_long:
            yield line, next(_one_label(told))
            continue
        about = _about(told, ids=IDS[:1] if "annotation_id" in given else IDS)
        yield line, {**about, "labels": {name: told.get(names[column], "") for column, name in wide.items()}}


def unread_columns(sheet: Sheet, criteria: Collection[str] | None, is_outcome: Callable[[str], bool]) -> list[str]:
    """Columns of a table that are neither labels nor known: what a reader may have meant to be labels."""
    names = {column: column.casefold().replace(" ", "_") for column in sheet.columns}
    if "criterion" in names.values():
        return []
    return [c for c in sheet.columns if names[c] not in _FACTS and not _is_criterion(c, sheet, criteria, is_outcome)]


def _criteria_columns(
    sheet: Sheet,
    names: Mapping[str, str],
    path: str,
    criteria: Collection[str] | None,
    is_outcome: Callable[[str], bool],
) -> dict[str, str]:
    found = {}
    for column, name in names.items():
        if name in _FACTS:
            continue
        if _is_criterion(column, sheet, criteria, is_outcome):
            found[column] = name if criteria and name in criteria else column
            continue
        near = get_close_matches(name, [c for c in criteria or () if c not in names.values()], n=1, cutoff=0.8)
        if near:
            what, fix = f"column {column!r} is no criterion", f"did you mean {near[0]!r}? rename or remove the column"
            raise InputError(what, path=path, line=1, fix=fix)
    return found


def _is_criterion(
    column: str, sheet: Sheet, criteria: Collection[str] | None, is_outcome: Callable[[str], bool]
) -> bool:
    if criteria is not None:
        return column in criteria or column.casefold().replace(" ", "_") in criteria
    cells = [cell for _, row in sheet.rows if (cell := row.get(column, "").strip())]
    return bool(cells) and all(map(is_outcome, cells))
