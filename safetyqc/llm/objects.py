"""Finds the object of a schema in what a model wrote: text in, a checked object or the reason why there is none out.

Packaging is taken off (thoughts, fences, a key around the whole, marks and capitals of a word that the schema lists,
numbers in quotes); what is said is not changed. Two objects that fit and differ, or one key with two values, are no
answer: which of them was meant is not ours to guess. It asks nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from safetyqc.llm.client import Schema
from safetyqc.text import DEEPEST_JSON, mend_json, normalise, shorten

_LONGEST_SCAN = 200_000
"""Characters of a reply that are searched for an object: a runaway answer must not stall the loop."""
_MOST_STARTS = 200
_LONGEST_REPAIR = 20_000
_MOST_WRAPPERS = 3
_LONG_NUMBER = 19
"""Whole numbers of so many digits may be larger than a file can hold."""
_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning|thought)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THINKING_END = re.compile(r"</(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_UNFINISHED_THINKING = re.compile(r"\A\s*<(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_MARKS = " \t\n*_`'\"“”‘’«»「」.,:;()[]"
_WHOLE = re.compile(r"[+-]?\d{1,9}(?:\.0*)?")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Contradiction:
    """Stands where an answer says two things; no schema accepts it."""

    said: tuple[Any, ...]

    def __str__(self) -> str:
        return " and ".join(shorten(str(one), 60) for one in self.said)


@dataclass(frozen=True)
class NotFound:
    """Why no object of the schema was found, and the last object of another shape, if there was one.

    Where objects contradicted each other, `nearest` holds what they agree on, and a Contradiction for the rest.
    """

    error: str
    nearest: dict[str, Any] | None = None


def find_object(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | NotFound:
    """Return the object in the text that the schema accepts, mended by json-repair when nothing else is there."""
    check = _checker(Schema.of(schema).as_json)
    if len(text) > _LONGEST_SCAN:
        return NotFound(f"the answer has {len(text):,} characters; only {_LONGEST_SCAN:,} are read")
    found: list[dict[str, Any]] = []
    missing = NotFound("there is no JSON object in the answer")
    for value in _objects(text, schema):
        fitted, error = _fit(value, schema, check)
        if error is None:
            found += [fitted] if fitted not in found else []
        else:
            missing = NotFound(error, fitted)
    if len(found) > 1:
        return _contradicting(found)
    if found:
        return found[0]
    # A mender would choose between two values; and what it makes of an object that is whole is no other object
    if _twice(missing.nearest) or (repaired := _repair(text)) is None:
        return missing
    fitted, error = _fit(repaired, schema, check)
    return fitted if error is None else NotFound(missing.error if missing.nearest else error, missing.nearest or fitted)


def _contradicting(found: list[dict[str, Any]]) -> NotFound:
    first, *others = found
    merged = {
        key: value if all(other.get(key) == value for other in others) else Contradiction((value, others[-1].get(key)))
        for key, value in first.items()
    }
    differ = [key for key, value in merged.items() if isinstance(value, Contradiction)]
    return NotFound(
        f"the answer holds {len(found)} objects that contradict each other about {', '.join(differ)}", merged
    )


def _fit(
    value: dict[str, Any], schema: Mapping[str, Any], check: Callable[[Any], str | None]
) -> tuple[dict[str, Any], str | None]:
    """The object as the schema words it, and what is wrong with it; as it is where it fits already."""
    error = check(value)
    if error is None:
        return value, None
    for _ in range(_MOST_WRAPPERS):
        worded = reword(value, schema)
        if (error := check(worded)) is None:
            return worded, None
        if (inner := _unwrapped(value, schema)) is None:
            return worded, _twice(worded) or error
        value = inner
    return value, error


def _unwrapped(value: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """What stands under the only key of an object, where the schema knows no such key."""
    if len(value) != 1:
        return None
    [(key, inner)] = value.items()
    if key in schema.get("properties", {}):
        return None
    if isinstance(inner, str):
        inner = decode(inner.strip())
    if isinstance(inner, list) and len(inner) == 1:
        [inner] = inner
    return inner if isinstance(inner, dict) else None


def reword(value: Any, schema: Mapping[str, Any]) -> Any:
    """Write a value as the schema words it: `"Refuses"` as `refuses`, `"1"` and `1.0` as 1; what fits none stays."""
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(value, dict) and isinstance(properties, Mapping):
        names = {_folded(name): name for name in properties}
        known = {key: key if key in properties else names.get(_folded(key), key) for key in value}
        if len(set(known.values())) < len(known):
            known = {key: key for key in value}  # two keys of one name are nobody's packaging
        return {known[key]: reword(inner, properties.get(known[key], {})) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(items, Mapping):
        return [reword(item, items) for item in value]
    return _reworded_word(value, schema)


def _reworded_word(value: Any, schema: Mapping[str, Any]) -> Any:
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if "integer" in kinds and isinstance(value, (str, float)):
        whole = as_whole(value)
        return value if whole is None else whole
    if isinstance(value, str) and "enum" in schema and value not in schema["enum"]:
        meant = [word for word in schema["enum"] if isinstance(word, str) and _folded(word) == _folded(value)]
        return meant[0] if len(meant) == 1 else value
    if "boolean" in kinds and isinstance(value, str):
        return _BOOLEANS.get(value.strip(_MARKS).casefold(), value)
    return value


def as_whole(value: object) -> int | None:
    """The whole number that a value is, also in quotes or with a zero behind the point; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = value.strip(" \t\n'\"") if isinstance(value, str) else ""
    return int(float(text)) if text.isascii() and _WHOLE.fullmatch(text) else None


def _folded(word: str) -> str:
    return re.sub(r"[\s\-]+", "_", normalise(word).strip(_MARKS))


def _twice(value: Any) -> str | None:
    """Say which key was given twice with different values, if one was."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, Contradiction):
                return f"{key!r} is given twice, as {inner}"
            if (found := _twice(inner)) is not None:
                return found
    return None


def _objects(text: str, schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every outermost JSON object of the text, in order; NaN and infinities are not JSON."""
    # Looked at first because strings inside may hold anything, think tags and fences included
    whole = decode(text.strip())
    if isinstance(whole, dict):
        yield whole
        return
    text = without_thoughts(text)
    properties = schema.get("properties", {})
    if len(properties) == 1 and isinstance(bare := decode(text.strip()), list):
        [(name, only)] = properties.items()
        if only.get("type") == "array":
            yield {name: bare}
            return
    start, tries = text.find("{"), 0
    while start >= 0 and tries < _MOST_STARTS:
        decoded = _decode_at(text, start)
        if decoded is not None and isinstance(decoded[0], dict):
            yield decoded[0]
        start = text.find("{", decoded[1] if decoded else start + 1)
        tries += 1


def without_thoughts(text: str) -> str:
    """Remove what a model thinks aloud, also when its chat template swallowed the opening tag, and code fences."""
    stripped = _THINKING.sub("", text)
    if (
        stripped == text
        and (ends := list(_THINKING_END.finditer(text)))
        and re.search(r"[{\[]", text[ends[-1].end() :])
    ):
        stripped = text[ends[-1].end() :]
    if _UNFINISHED_THINKING.match(stripped):
        return ""
    return _FENCE.sub("", stripped)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _gather(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs; a key that comes twice with different values holds a Contradiction."""
    value = dict(pairs)
    if len(value) < len(pairs):
        for key in value:
            said = [inner for name, inner in pairs if name == key]
            if any(inner != said[0] for inner in said):
                value[key] = Contradiction(tuple(said))
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=lambda digits: int(digits) if len(digits) < _LONG_NUMBER else mend_json(int(digits)),
    parse_float=lambda digits: mend_json(float(digits)),
    object_pairs_hook=_gather,
)


def decode(text: str) -> Any:
    """The JSON that a whole text is, mended; None where it is none."""
    if not text.startswith(("{", "[")):
        return None
    decoded = _decode_at(text, 0)
    return decoded[0] if decoded is not None and decoded[1] == len(text) else None


def _decode_at(text: str, start: int) -> tuple[Any, int] | None:
    try:
        value, end = _DECODER.raw_decode(text, start)
        return (value if _is_sound(text) else mend_json(value)), end
    except (ValueError, RecursionError):
        return None


def _is_sound(text: str) -> bool:
    """Whether no string that JSON text can hold needs mending, and its depth none; strict JSON holds no bare NUL."""
    return text.isascii() and "\\u" not in text and text.count("{") + text.count("[") <= DEEPEST_JSON


def _repair(text: str) -> dict[str, Any] | None:
    from json_repair import loads

    text = without_thoughts(text)
    start = text.find("{")
    if start < 0 or len(text) - start > _LONGEST_REPAIR:
        return None
    try:
        value = loads(text[start:], skip_json_loads=True)
        if isinstance(value, list):
            value = next((v for v in reversed(value) if isinstance(v, dict)), None)
        # A repaired NaN comes back as a float or a word; what JSON cannot say is refused here as above
        return mend_json(json.loads(json.dumps(value, allow_nan=False))) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _checker(schema: bytes) -> Callable[[Any], str | None]:
    """Compile a schema once (milliseconds) into a check that takes microseconds and returns the error, if any."""
    from fastjsonschema import JsonSchemaValueException, compile

    validate = compile(json.loads(schema), use_default=False)

    def check(value: Any) -> str | None:
        try:
            validate(value)
        except JsonSchemaValueException as error:
            place, _, problem = str(error.message).partition(" ")
            return shorten(f"{place.removeprefix('data').lstrip('.') or 'the object'} {problem}", 300)
        return None

    return check
