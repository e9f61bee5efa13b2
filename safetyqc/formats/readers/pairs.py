"""Preference pairs -> conversations of one side or both: TRL, LLaMA-Factory, hh-rlhf, PKU-SafeRLHF.

Which side is read is the reader's choice, the chosen one unless they say otherwise. What comes before the two answers
may stand in columns of its own, or be how both sides begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safetyqc.formats.readers import verdicts
from safetyqc.formats.readers.exchanges import PROMPT_KEYS, requested
from safetyqc.formats.readers.form import (
    PROMPT,
    TURNS,
    Columns,
    Found,
    RecordForm,
    first_key,
    has_keys,
    turns_of,
    without,
)
from safetyqc.formats.readers.transcripts import split_transcript
from safetyqc.formats.turns import LISTS, Reading, bad_line, is_list_of_turns, read_turns
from safetyqc.records import Source

_SIDES = ("chosen", "rejected")
_PKU = ("response_0", "response_1")


def _asked(how: Reading) -> tuple[str, ...]:
    return _SIDES if how.side == "both" else (how.side,)


def _before(value: Mapping[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The turns that come before either answer, and the keys that hold them."""
    prompt = first_key(value, (*LISTS, *PROMPT_KEYS))
    more = first_key(value, ("input",)) if prompt == "instruction" else None
    if prompt is None:
        return [], ()
    if isinstance(value[prompt], str) and (turns := split_transcript(value[prompt])):
        return turns, (prompt,)
    return requested(value, prompt, more), tuple(key for key in (prompt, more) if key)


def _side(value: Mapping[str, Any], side: str, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All turns of one side: its own beginning where it has one, else what comes before."""
    said = value[side]
    whole = split_transcript(said) if isinstance(said, str) else said if is_list_of_turns(said) else None
    if whole and str(whole[0].get("role", whole[0].get("from"))).casefold() in ("user", "human", "system", "developer"):
        return list(whole)
    return [*before, *(whole or turns_of(said, "assistant"))]


def _read(value: dict[str, Any], source: Source, how: Reading) -> Sequence[Found]:
    before, keys = _before(value)
    beside = without(value, *_SIDES, *keys)
    found: list[Found] = []
    for side in _asked(how):
        turns = _side(value, side, before)
        if len(turns) == 1 and not before:
            what, fix = (
                f"has an answer under {side!r} and no prompt before it",
                "name its column: --columns prompt=COLUMN",
            )
            found.append(bad_line(source, "not_conversation", what, fix))
        else:
            found.append(read_turns(turns, {**beside, "side": side}, source, how))
    return found


def _columns(value: Mapping[str, Any]) -> Columns:
    return {**dict.fromkeys(_before(value)[1], PROMPT), **dict.fromkeys(_SIDES, TURNS)}


PAIR = RecordForm(lambda value: has_keys(value, *_SIDES), _read, _columns)


def _is_pku(value: Any) -> bool:
    return has_keys(value, "prompt", *_PKU)


def _read_pku(value: dict[str, Any], source: Source, how: Reading) -> Sequence[Found]:
    """Read the safer answer as the chosen one, the better one where neither is named safer."""
    named = (value.get(key) for key in ("safer_response_id", "better_response_id"))
    first = next((number for number in named if number in (0, 1, "0", "1")), None)
    if first is None and how.side != "both":
        what = "does not say which answer is the safer or the better one"
        return [bad_line(source, "not_conversation", what, "--side both reads both")]
    chosen = int(first or 0)
    found = []
    for side in _asked(how):
        number = chosen if side == "chosen" else 1 - chosen
        beside = {**without(value, "prompt", *_PKU), "side": side, "response": number}
        beside |= verdicts.recorded("PKU-SafeRLHF", verdicts.of_safety(value.get(f"is_response_{number}_safe")), beside)
        turns = [*turns_of(value["prompt"], "user"), *turns_of(value[_PKU[number]], "assistant")]
        found.append(read_turns(turns, beside, source, how))
    return found


PKU = RecordForm(_is_pku, _read_pku, lambda _: {"prompt": PROMPT, **dict.fromkeys(_PKU, TURNS)})
