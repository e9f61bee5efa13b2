"""The forms that a record may have, by name, and what is said of a record that has none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from safetyqc.formats.readers.exchanges import (
    AEGIS,
    BEAVERTAILS,
    DO_NOT_ANSWER,
    EXCHANGE,
    PROMPT_KEYS,
    WILDGUARD,
    XSTEST,
)
from safetyqc.formats.readers.form import PROMPT_FIX, TURNS, Found, RecordForm, first_key, has_keys
from safetyqc.formats.readers.lists import JSON_TEXT, TEXTS, TURN_COLUMNS, TURN_LIST, under
from safetyqc.formats.readers.pairs import PAIR, PKU
from safetyqc.formats.readers.transcripts import TRANSCRIPT
from safetyqc.formats.turns import EXPECTED, LISTS, Reading, bad_line, is_list_of_turns, json_type, structure_problem
from safetyqc.records import Conversation, Source

_OWN_KEYS = ("messages", "origin", "revision")
_MOST_KEYS = 8


def _read_own(value: dict[str, Any], source: Source, _: Reading) -> Found:
    """Read a record that safetyqc itself wrote; only its place is new."""
    problem = structure_problem(value["messages"]) if is_list_of_turns(value["messages"]) else None
    if problem:
        return bad_line(source, problem.kind, problem.what, problem.fix)
    try:
        return Conversation.model_validate({**value, "source": source})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return bad_line(
            source, "not_conversation", f"is not a record of this safetyqc: {where}: {first['msg']}", _fix()
        )


READERS: dict[str, RecordForm] = {
    "turns": TURN_LIST,
    "safetyqc": RecordForm(lambda value: has_keys(value, *_OWN_KEYS), _read_own, lambda _: {"messages": TURNS}),
    "preference pair": PAIR,
    "texts in turn": TEXTS,
    **{key: under(key) for key in LISTS},
    "turns as JSON": JSON_TEXT,
    "turns as columns": TURN_COLUMNS,
    "PKU-SafeRLHF": PKU,
    "WildGuardMix": WILDGUARD,
    "Aegis 2": AEGIS,
    "BeaverTails": BEAVERTAILS,
    "Do-Not-Answer": DO_NOT_ANSWER,
    "XSTest": XSTEST,
    "transcript": TRANSCRIPT,
    "prompt and answer": EXCHANGE,
}
"""Forms of a record by name, tried in this order; open to additions."""


def form_of(value: Any) -> tuple[str, RecordForm] | None:
    """The first form that a value has."""
    return next(((name, form) for name, form in READERS.items() if form.matches(value)), None)


def read_record(value: Any, source: Source, how: Reading) -> tuple[Sequence[Found], str | None]:
    """Read a record by the first form that it has; the name of the form comes along, None where it has none."""
    found = form_of(value)
    if found is None:
        return (bad_line(source, "not_conversation", *_foreign(value)),), None
    name, form = found
    read = form.read(value, source, how)
    return (read if isinstance(read, Sequence) else (read,)), name


def _fix() -> str:
    return f"{EXPECTED} (valid forms: {', '.join(READERS)}; see docs/formats.md)"


def _foreign(value: Any) -> tuple[str, str]:
    """Say what a record of no form holds."""
    if not isinstance(value, dict):
        return f"is a {json_type(value)}, not a conversation", _fix()
    shown = ", ".join(list(map(str, value))[:_MOST_KEYS]) or "none"
    wrong = next((k for k in LISTS if value.get(k) is not None), None)
    if wrong:
        return f"{wrong!r} is {json_type(value[wrong])}, not a list", _fix()
    if first_key(value, PROMPT_KEYS) and len(value) < 3:
        return f"has a prompt and no answer (keys: {shown})", PROMPT_FIX
    renamed = f"name its columns: --columns prompt=COLUMN,response=COLUMN; or {_fix()}"
    return f"has no messages (keys: {shown})", renamed if len(value) > 1 else _fix()
