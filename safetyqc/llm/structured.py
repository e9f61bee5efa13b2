"""Turns a request with a JSON schema into a checked value, from any model, at two to three calls in the worst case.

The finish reason is looked at before the text; the last schema-valid object of the text counts, because models think
aloud and correct themselves. It retries nothing that the network caused: that is the door's business. The one
surprising thing: how a schema is asked for (strict schema, JSON mode, words) is learnt from a server's first refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Client, Format, FormatRefused, Reply, Request, Schema, check_finish
from safetyqc.prompts import render
from safetyqc.text import shorten

T = TypeVar("T")

LADDER: tuple[Format, ...] = ("json_schema", "json_object", "text")
"""How a schema can be asked for, the strictest way first."""

_LONGEST_SCAN = 200_000
"""Characters of a reply that are searched for an object: a runaway answer must not stall the loop."""
_MOST_STARTS = 200
_LONGEST_REPAIR = 20_000
_LONGEST_ECHO = 4_000
_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning|thought)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THINKING_END = re.compile(r"</(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_UNFINISHED_THINKING = re.compile(r"\A\s*<(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m (?:really |very )?sorry|sorry|i (?:can(?:['’]?t|not)|won['’]?t|am (?:unable|not able))"
    r"|i['’]m (?:unable|not able)|as an ai|抱歉|很抱歉|对不起|我(?:无法|不能))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answered(Generic[T]):
    """A checked value and every reply that it took, the last one being the one that counts."""

    value: T
    replies: tuple[Reply, ...]


class Unusable(ModelError):
    """The model answered, but never usably; `replies` holds what it said, for the record."""

    def __init__(self, error: ModelError, replies: tuple[Reply, ...]) -> None:
        super().__init__(error.kind, error.reason, retryable=error.retryable)
        self.replies = replies


class Capabilities:
    """What each model at each base URL was found to support; known facts may be given at the start."""

    def __init__(self, known: Mapping[str, Format] | None = None) -> None:
        self._formats: dict[str, Format] = dict(known or {})

    def name_of(self, request: Request) -> str:
        """What is learnt from this request counts for all of this name."""
        return f"{request.model} {request.api_base or ''}".strip()

    def format_for(self, request: Request) -> Format:
        """The strictest way to ask for a schema that this model has not refused."""
        return self._formats.get(self.name_of(request), LADDER[0])

    def learn(self, request: Request, best: Format) -> None:
        """Remember the strictest way that works."""
        self._formats[self.name_of(request)] = best

    def as_dict(self) -> dict[str, Format]:
        """Everything known, ready for JSON."""
        return dict(self._formats)


async def ask_json(client: Client, request: Request, parse: Callable[[dict[str, Any]], T]) -> Answered[T]:
    """Ask for one object of `request.schema` and return what `parse` makes of it.

    Costs one call; two when the answer was cut off (asked again with twice the room), one more when it was not usable
    (asked again with the reason). `parse` may raise ValueError (becomes `bad_structure`) or a ModelError, whose kind
    is kept.

    Raises:
        Unusable: a ModelError with the replies: `truncated`, `refused_by_model`, `filtered_by_provider`, `bad_json`,
            or what `parse` said.
        ModelError: the client's own, passed on.
    """
    if request.schema is None:
        raise ValueError("ask_json needs a request with a schema")
    replies: list[Reply] = []
    capabilities = _known_by(client)
    try:
        request = await _send(client, request, capabilities, replies)
        try:
            value = _read(replies[-1], request.schema or {}, parse)
        except ModelError as error:
            if error.kind in ("truncated", "filtered_by_provider") or replies[-1].refusal:
                raise
            await _send(client, _extend(request, replies[-1], error), capabilities, replies)
            value = _read(replies[-1], request.schema or {}, parse)
    except (FatalModelError, Unusable):
        raise
    except ModelError as error:
        if not replies:
            raise
        raise Unusable(error, tuple(replies)) from error
    return Answered(value, tuple(replies))


def _known_by(client: Client) -> Capabilities:
    """What the client remembers over calls and runs; a client that remembers nothing learns anew every time."""
    known = getattr(client, "capabilities", None)
    return known if isinstance(known, Capabilities) else Capabilities()


async def _send(client: Client, request: Request, capabilities: Capabilities, replies: list[Reply]) -> Request:
    """Send in the strictest format the model supports, once more with twice the room when the answer was cut off."""
    reply = await _descend(client, request, capabilities)
    replies.append(reply)
    if reply.finish_reason == "length":
        request = replace(request, max_tokens=2 * request.max_tokens)
        replies.append(await _descend(client, request, capabilities))
    return request


async def _descend(client: Client, request: Request, capabilities: Capabilities) -> Reply:
    suspected: FormatRefused | None = None
    for form in LADDER[LADDER.index(capabilities.format_for(request)) :]:
        try:
            reply = await client.complete(in_format(request, form))
        except FormatRefused as error:
            if form == LADDER[-1]:
                raise
            suspected = error if error.suspected else suspected
            if not error.suspected:
                _step_down(request, capabilities, LADDER[LADDER.index(form) + 1])
        except ModelError as error:
            raise suspected or error from error  # the format was not at fault: the server is in trouble
        else:
            if suspected is not None:
                _step_down(request, capabilities, form)
            return reply
    raise AssertionError("unreachable: the last rung returns or raises")


def _step_down(request: Request, capabilities: Capabilities, form: Format) -> None:
    """Remember a simpler way; calls that were in flight together are all refused, so the memory only moves down."""
    if LADDER.index(capabilities.format_for(request)) < LADDER.index(form):
        capabilities.learn(request, form)


def in_format(request: Request, form: Format) -> Request:
    """Word the request for one rung of the ladder: below the strict schema, the prompt itself must carry the schema."""
    if form == "json_schema":
        return request if request.format == form else replace(request, format=form)
    # Not canonical JSON: the order of the keys is the order in which a judge is to think
    words = render("answer_in_json", schema=json.dumps(request.schema, ensure_ascii=False))
    first = request.messages[0]
    if first["role"] == "system":
        messages = ({**first, "content": f"{first['content']}\n\n{words}"}, *request.messages[1:])
    else:
        messages = ({"role": "system", "content": words}, *request.messages)
    return replace(request, format=form, messages=messages)


def _extend(request: Request, reply: Reply, error: ModelError) -> Request:
    """Continue the conversation with the bad answer and what was wrong with it."""
    bad = {"role": "assistant", "content": reply.text[:_LONGEST_ECHO].strip() or "(no text)"}
    again = {"role": "user", "content": render("answer_again", error=error.reason)}
    return replace(request, messages=(*request.messages, bad, again))


def _read(reply: Reply, schema: Mapping[str, Any], parse: Callable[[dict[str, Any]], T]) -> T:
    if reply.is_empty:
        raise ModelError("bad_json", reply.said_nothing)
    found = find_object(check_finish(reply).text, schema)
    if isinstance(found, dict):
        return _parse(found, parse)
    if found.nearest is not None:
        # Off-scale levels break the schema's enum too, and `parse` has the sharper word for them
        try:
            _parse(found.nearest, parse)
        except ModelError as error:
            if error.kind != "bad_structure":
                raise
        except (KeyError, TypeError, AttributeError):
            pass  # it was promised an object of the schema, and this is none: the schema's error stands
    elif looks_refused(reply.text):
        raise ModelError("refused_by_model", shorten(reply.text, 200))
    raise ModelError("bad_json", found.error)


def _parse(value: dict[str, Any], parse: Callable[[dict[str, Any]], T]) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ModelError("bad_structure", shorten(str(error), 300)) from error


def looks_refused(text: str) -> bool:
    """Whether an answer of another form than asked for begins like a refusal to answer."""
    return _REFUSAL.match(text) is not None


@dataclass(frozen=True)
class NotFound:
    """Why no object of the schema was found, and the last object of another shape, if there was one."""

    error: str
    nearest: dict[str, Any] | None = None


def find_object(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | NotFound:
    """Return the last object in the text that the schema accepts, mended by json-repair when nothing else is there."""
    check = _checker(Schema.of(schema).as_json)
    if len(text) > _LONGEST_SCAN:
        return NotFound(f"the answer has {len(text):,} characters; only {_LONGEST_SCAN:,} are read")
    found: dict[str, Any] | None = None
    missing = NotFound("there is no JSON object in the answer")
    for value in _objects(text):
        error = check(value)
        if error is None:
            found = value
        else:
            missing = NotFound(error, value)
    if found is not None:
        return found
    repaired = _repair(text)
    if repaired is None:
        return missing
    error = check(repaired)
    return repaired if error is None else NotFound(error, missing.nearest or repaired)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every outermost JSON object of the text, in order; NaN and infinities are not JSON."""
    # Looked at first because strings inside may hold anything, think tags and fences included
    whole = _decode_whole(text.strip())
    if whole is not None:
        yield whole
        return
    text = _strip(text)
    start, tries = text.find("{"), 0
    while start >= 0 and tries < _MOST_STARTS:
        decoded = _decode(text, start)
        if decoded is not None:
            yield decoded[0]
        start = text.find("{", decoded[1] if decoded else start + 1)
        tries += 1


def _strip(text: str) -> str:
    """Remove what a model thinks aloud, also when its chat template swallowed the opening tag, and code fences."""
    stripped = _THINKING.sub("", text)
    if stripped == text and (ends := list(_THINKING_END.finditer(text))) and "{" in text[ends[-1].end() :]:
        stripped = text[ends[-1].end() :]
    if _UNFINISHED_THINKING.match(stripped):
        return ""
    return _FENCE.sub("", stripped)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _decode_whole(text: str) -> dict[str, Any] | None:
    """The object that a text is; nearly every answer is one, and the fast parser takes nearly every one."""
    if not text.startswith("{"):
        return None
    try:
        value: dict[str, Any] = from_json(text, allow_inf_nan=False)
    except ValueError:  # half a surrogate pair, which the json module takes, or no JSON
        decoded = _decode(text, 0)
        return decoded[0] if decoded is not None and decoded[1] == len(text) else None
    return value


def _decode(text: str, start: int) -> tuple[dict[str, Any], int] | None:
    if not text.startswith("{", start):
        return None
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value, end


def _repair(text: str) -> dict[str, Any] | None:
    from json_repair import loads

    text = _strip(text)
    start = text.find("{")
    if start < 0 or len(text) - start > _LONGEST_REPAIR:
        return None
    try:
        value = loads(text[start:], skip_json_loads=True)
        if isinstance(value, list):
            value = next((v for v in reversed(value) if isinstance(v, dict)), None)
        # A repaired NaN comes back as a float or a word; what JSON cannot say is refused here as above
        return json.loads(json.dumps(value, allow_nan=False)) if isinstance(value, dict) else None
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
