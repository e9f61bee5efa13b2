"""Replays verdicts from a file, so that any outside judge (or a paper's table) can be compared on equal terms.

Reads safetyqc's own lines (`judge --jsonl`, stored judgments) as they are, and any other JSON Lines file through a map
written in YAML: which field holds which criterion's verdict, and which of its words mean pass, fail or not applicable.
It asks nobody. A cell outside the map is never guessed at; it is unscored, and as a refusal
to judge when it reads like one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import Field, ValidationError, model_validator

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable, Value, read_values
from safetyqc.formats.opened import name_of
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.judge.base import give_judgment
from safetyqc.records import FailureKind, Judgment, Outcome, Record, Score, content_hash
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.judge.guards.judge import GuardJudge
    from safetyqc.llm import Client
    from safetyqc.records import Conversation
    from safetyqc.rubrics import RubricSet

_CODES = re.compile(r"[A-Z]{1,3}\d{1,3}(?:[,;\s]+[A-Z]{1,3}\d{1,3})*")
Scalar = str | bool | int | float | None
_SETTING = ("system", "developer")
"""Roles of messages that are no turns of the conversation."""
_REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i (?:can['’]?t|cannot|am unable to|won['’]?t)|as an ai\b)|无法|不能|抱歉", re.IGNORECASE
)


class Words(Record):
    """Where a criterion's verdict stands in a line (`a.b` goes into objects), and what its words mean."""

    field: str
    passes: tuple[Scalar, ...] = Field(alias="pass", min_length=1)
    fails: tuple[Scalar, ...] = Field(alias="fail", min_length=1)
    na: tuple[Scalar, ...] = ()
    first_line: bool = False
    """Only the first line of a cell counts, whatever stands below it; codes of rules below it (`S2`) never count."""
    probability: str | None = None
    """Field of the probability of pass."""
    reason: str | None = None


class GuardAnswers(Record):
    """Whose answers a field holds, word for word: a guard's, `NAME` or `NAME+strict` as behind `guard:`."""

    name: str
    field: str


class RecordedMap(Record):
    """How to read an outside judge's file; `file` stands relative to the map.

    `match`: how a line is found for a conversation: by its `messages`, by an `id` field, or by its `index` in the file.
    """

    name: str
    file: str
    match: Literal["messages", "id", "index"] = "messages"
    id_field: str = "id"
    criteria: Mapping[str, Words] = Field(default_factory=dict)
    guard: GuardAnswers | None = None

    @model_validator(mode="after")
    def _says_what_to_read(self) -> Self:
        if bool(self.criteria) == bool(self.guard):
            raise Misfit(
                "needs either `criteria` or `guard`", fix="name fields and words, or whose answers stand where"
            )
        return self


class RecordedJudge:
    """Says what a file says.

    Args:
        path: a `.yaml` map, or a file of safetyqc's own judgments.
        name: as reports show it; None for the map's own, or the file's.

    Raises:
        InputError: the file cannot be read, or a line is no verdict; names the line.
        ConfigError: the map has a mistake.
        UserError: the map names a criterion that the rubric does not have.
    """

    version: str | None = None
    """Unknown: they were given elsewhere."""

    def __init__(self, path: str | Path, rubric_set: RubricSet, *, name: str | None = None) -> None:
        path = Path(path)
        self.rubric_set, self.rubric_hash = rubric_set, rubric_set.hash
        self._found: dict[str, tuple[tuple[Score, ...], bool | None]] = {}
        self._texts: dict[str, str] = {}
        self._guard: GuardJudge | None = None
        if path.suffix in (".yaml", ".yml"):
            told = read_yaml(path, RecordedMap)
            for criterion in told.criteria:
                rubric_set.criterion(criterion)
            if told.guard:
                self._guard = _guard_of(told.guard.name, rubric_set)
            self.name = name or told.name
            self._read_mapped(path.parent / told.file, told)
        else:
            self.name = name or path.name.removesuffix(".gz").removesuffix(".jsonl")
            self._read_own(path)

    async def judge(self, conversation: Conversation) -> Judgment:
        """Look the conversation up; free. Unscored when the file does not hold it."""
        keys = [f"id:{conversation.id}", f"text:{_text_key(conversation.as_messages())}"]
        if conversation.source:
            keys.append(f"index:{conversation.source.index}")
        scores, passed = next((self._found[key] for key in keys if key in self._found), (None, None))
        text = next((self._texts[key] for key in keys if key in self._texts), None)
        if self._guard and text is not None:
            scores, passed = self._guard.overhear(conversation, text)
        if scores is None:
            told = "the file holds no verdict on this conversation"
            silent = self._guard.not_asked if self._guard else ()
            asked = [c.id for c in self.rubric_set.criteria if c.id not in silent]
            scores = tuple(_unscored(name, "not_recorded", told) for name in asked)
        return give_judgment(
            self.name,
            self.rubric_set,
            conversation.id,
            scores,
            passed=passed,
            category=conversation.category,
            intent=conversation.intent,
            settings={"recorded": True},
        )

    def _read_own(self, path: Path) -> None:
        for line, row in _rows(path):
            try:
                if "scores" in row:
                    scores = tuple(Score.model_validate(s) for s in row["scores"])
                    key = f"id:{row['conversation_id']}"
                else:
                    scores = tuple(_own_score(c, cell) for c, cell in row["criteria"].items())
                    key = f"id:{row['id']}" if row.get("id") else f"index:{row['index']}"
            except (KeyError, TypeError, AttributeError, ValidationError) as error:
                fix = "give lines of `safetyqc judge --jsonl`, or a .yaml map for another judge's file (docs/judges.md)"
                raise InputError(f"is no judgment: {shorten(str(error), 80)}", path=path, line=line, fix=fix) from error
            self._found[key] = scores, row.get("passed")

    def _read_mapped(self, path: Path, told: RecordedMap) -> None:
        # Whether a conversation passes is known only from all that the rubric asks
        whole = set(told.criteria) == {criterion.id for criterion in self.rubric_set.criteria}
        for index, (line, row) in enumerate(_rows(path)):
            scores = tuple(_mapped_score(c, words, row) for c, words in told.criteria.items())
            if told.match == "index":
                key = f"index:{index}"
            elif told.match == "id":
                key = f"id:{_field(row, told.id_field)}"
            elif isinstance(row.get("messages"), list):
                key = f"text:{_text_key(row['messages'])}"
            else:
                fix = "set `match: id` or `match: index` in the map"
                raise InputError("has no messages to match by", path=path, line=line, fix=fix)
            if told.guard:
                self._texts[key] = str(_field(row, told.guard.field) or "")
            else:
                self._found[key] = scores, self.rubric_set.passed(scores) if whole else None


def _guard_of(name: str, rubric_set: RubricSet) -> GuardJudge:
    """A guard that is only listened to."""
    from safetyqc.judge.guards.judge import GuardJudge
    from safetyqc.judge.guards.kind import take_apart

    typed = take_apart(name)
    return GuardJudge(cast("Client", None), typed.guard, typed.model, rubric_set, mode=typed.mode)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for value in read_values(path, lambda _: False):
        if isinstance(value, Unreadable):
            raise InputError(value.what, path=name_of(path), line=value.line, fix=value.fix)
        if not isinstance(value, Value) or not isinstance(value.value, dict):
            raise InputError("is no object", path=name_of(path), line=value.line, fix="one JSON object a line")
        yield value.line, value.value


def _text_key(messages: list[dict[str, str]]) -> str:
    return content_hash([[m.get("role"), m.get("content")] for m in messages if m.get("role") not in _SETTING])


def _own_score(criterion: str, cell: dict[str, Any]) -> Score:
    kept = {name: cell[name] for name in Score.model_fields if name in cell and name != "criterion"}
    if cell["outcome"] == "unscored":
        kept.setdefault("unscored_reason", "not_recorded")
    return Score.model_validate({"criterion": criterion, **kept})


def _mapped_score(criterion: str, words: Words, row: Mapping[str, Any]) -> Score:
    cell = _field(row, words.field)
    outcome = _outcome(cell, words)
    if outcome is None:
        if cell is None or cell == "":
            return _unscored(criterion, "bad_json", f"field {words.field!r} is empty")
        refused = isinstance(cell, str) and _REFUSAL.search(cell)
        return _unscored(criterion, "refused_by_model" if refused else "off_scale", shorten(str(cell), 200))
    probability = _field(row, words.probability) if words.probability else None
    reason = _field(row, words.reason) if words.reason else None
    known = isinstance(probability, (int, float)) and 0 <= probability <= 1
    return Score(
        criterion=criterion,
        outcome=outcome,
        probability=probability if known else None,
        reason=str(reason) if reason is not None else "",
    )


def _outcome(cell: Any, words: Words) -> Outcome | None:
    named: tuple[tuple[Outcome, tuple[Scalar, ...]], ...] = (
        ("pass", words.passes),
        ("fail", words.fails),
        ("na", words.na),
    )
    if isinstance(cell, str):
        cell = _first_line(cell.strip(), always=words.first_line)
    # Compared as JSON: true is not "true", and True is not 1. Words that differ in case alone are told apart first
    for compared in (json.dumps, _in_any_case):
        told = compared(cell)
        if found := next((outcome for outcome, known in named if told in [compared(word) for word in known]), None):
            return found
    return None


def _in_any_case(cell: Any) -> str:
    return json.dumps(cell.casefold() if isinstance(cell, str) else cell)


def _first_line(cell: str, *, always: bool) -> str:
    """A cell without the codes below its first line, as Llama Guard writes them, or without all that is below it."""
    first, line_end, rest = cell.partition("\n")
    return first.strip() if line_end and (always or _CODES.fullmatch(rest.strip())) else cell


def _field(row: Mapping[str, Any], path: str) -> Any:
    found: Any = row
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _unscored(criterion: str, kind: FailureKind, reason: str) -> Score:
    return Score(criterion=criterion, outcome="unscored", reason=reason, unscored_reason=kind)
