"""What a form that a record may have is made of, and what several forms share.

A form brings a record to turns with `role` and `content` and hands them to `read_turns`, with whatever stood beside
them: nothing that stands there is lost. One record may hold several conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetyqc.formats.turns import Reading, bad_line, is_list_of_turns, read_turns
from safetyqc.records import Conversation, Source
from safetyqc.results.findings import BadLine

Found = Conversation | BadLine
Columns = Mapping[str, str]
"""Which keys of a record were used, each with what for."""
PROMPT, ANSWER, TURNS, SYSTEM = "prompt", "answer", "turns", "system message"
PROMPT_FIX = "`safetyqc generate --prompts FILE -m MODEL` has it answered; --skip-bad-lines leaves it out"


def _none(_: Any) -> Columns:
    return {}


@dataclass(frozen=True)
class RecordForm:
    """One form of a record: whether a JSON value has it, and how it is read.

    Args:
        read: the conversation, or several, or what is wrong; an id that is left empty is made from the text.
        columns: which of its keys are read as what, for people.
    """

    matches: Callable[[Any], bool]
    read: Callable[[Any, Source, Reading], Found | Sequence[Found]]
    columns: Callable[[Any], Columns] = _none


def has_keys(value: Any, *keys: str) -> bool:
    """Whether a value is an object with all of these keys, null or not."""
    return isinstance(value, dict) and all(key in value for key in keys)


def first_key(value: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these keys under which there is something; case does not matter."""
    by_name = {str(key).casefold(): key for key in reversed(list(value))}
    return next((by_name[key] for key in keys if key in by_name and value[by_name[key]] not in (None, "", [])), None)


def turns_of(said: Any, role: str) -> list[dict[str, Any]]:
    """What stands in a column, as turns: turns already, one turn, or the text of one; nothing for nothing."""
    if is_list_of_turns(said):
        return list(said)
    if isinstance(said, dict) and ("role" in said or "from" in said):
        return [said]
    if said is None or (isinstance(said, str) and not said.strip()):
        return []
    return [{"role": role, "content": said}]


def read_exchange(
    turns: Sequence[Any], answer: Any, extra: dict[str, Any], source: Source, how: Reading
) -> Conversation | BadLine:
    """Make a conversation of what was said and its last answer; without one it is a prompt, and that is said."""
    last = turns_of(answer, "assistant")
    if not last and turns:
        return bad_line(source, "ends_with_user", "has a prompt and no answer", PROMPT_FIX)
    return read_turns([*turns, *last], extra, source, how)


def without(value: Mapping[str, Any], *keys: str | None) -> dict[str, Any]:
    """What a record holds beside these keys, and beside what is null."""
    return {key: held for key, held in value.items() if key not in keys and held is not None}
