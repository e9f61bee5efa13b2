"""Turns a request with a JSON schema into a checked value, from any model, at two to three calls in the worst case.

The finish reason is looked at before the text; which object of a text counts is `objects`' business. It retries
nothing that the network caused: that is the door's. How a schema is asked for (strict schema, JSON mode, words) is
learnt from a server's first refusal, and how much room a model's thinking takes from its first answer that was cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Client, Format, FormatRefused, Reply, Request, check_finish
from safetyqc.llm.objects import find_object, without_thoughts
from safetyqc.prompts import render
from safetyqc.text import shorten

T = TypeVar("T")

LADDER: tuple[Format, ...] = ("json_schema", "json_object", "text")
"""How a schema can be asked for, the strictest way first."""

_LONGEST_ECHO = 4_000
_ROOM_TO_THINK = 8_000
_SECTIONS = frozenset({"judge", "generate"})
"""Sections of the configuration that have a `max_tokens`."""
_OPENINGS = (
    r"(?:un)?fortunately|regrettably|i['’]?m (?:really |very |so )?sorry|sorry|i apologi[sz]e|my apologies",
    r"i (?:must|have to|will|need to)\b.{0,30}\b(?:declin|refus)|i (?:decline|refuse)",
    r"i do(?: not|n['’]t) feel comfortable",
    r"i (?:can(?:['’]?t|not)|can not|won['’]?t|will not|am (?:unable|not able|not comfortable))",
    r"i['’]m (?:unable|not able|not comfortable)|as an ai|as a (?:large )?language model",
    r"lo siento|lo lamento|lamento|no puedo|me temo|désolée?|je suis désolée?|je ne (?:peux|puis)",
    r"es tut mir leid|leider|ich kann|desculpe|sinto muito|não posso|mi dispiace|non posso",
    r"извините|к сожалению|я не могу|抱歉|很抱歉|非常抱歉|对不起|我(?:无法|不能)",
    r"申し訳|すみません|ごめんなさい|죄송|미안",
)
_DECLINES = (
    r"\b(?:declin|refus)\w+ to (?:evaluat|judg|rat|assess|scor|answer|review|engag|process|assist)",
    r"\b(?:cannot|can['’]t|can not|unable to|not able to|won['’]t) (?:be )?"
    r"(?:evaluat|judg|rat(?:e|ing)|assess|scor|review|engage|process|assist|help|compl|fulfil)",
    r"\b(?:violat|against|conflicts? with|breach)\w*\b.{0,60}\b(?:polic|guideline|terms of)",
    r"\b(?:usage|content|safety) polic(?:y|ies)\b.{0,80}\b(?:violat|prohibit|block|disallow|not allow|prevent)",
    r"(?:无法|不能|拒绝|拒絕).{0,12}(?:评估|评判|评价|判断|评分|協助|协助|处理)|no puedo (?:evaluar|juzgar|ayudar)",
    r"評価(?:する(?:こと)?は|を|は)?.{0,8}(?:できません|お断り|いたしかねます)|평가할 수 없",
)
_REFUSAL = re.compile(rf"\A\W*(?:{'|'.join(_OPENINGS)})|{'|'.join(_DECLINES)}", re.IGNORECASE | re.DOTALL)
"""How models decline in prose; looked for only where an answer holds no object at all."""
_REFUSAL_WITHIN = 400


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
        self._rooms: dict[str, int] = {}

    def name_of(self, request: Request) -> str:
        """What is learnt from this request counts for all of this name."""
        return f"{request.model} {request.api_base or ''}".strip()

    def format_for(self, request: Request) -> Format:
        """The strictest way to ask for a schema that this model has not refused."""
        return self._formats.get(self.name_of(request), LADDER[0])

    def learn(self, request: Request, best: Format) -> None:
        """Remember the strictest way that works."""
        self._formats[self.name_of(request)] = best

    def room_for(self, request: Request) -> int:
        """The least room that this model's thinking was found to need; not kept over runs, where it would only change
        which request is looked for in the ledger."""
        return self._rooms.get(self.name_of(request), 0)

    def learn_room(self, request: Request, tokens: int) -> None:
        """Remember that less room went into thoughts alone."""
        self._rooms[self.name_of(request)] = max(tokens, self.room_for(request))

    def as_dict(self) -> dict[str, Format]:
        """Everything known, ready for JSON."""
        return dict(self._formats)


class Replayed(Capabilities):
    """What another knows, but for rooms.

    A question that waits for batches is asked anew by every command, and has to come to the same requests each time,
    whatever was learnt from other questions in between: an answer to any other is not found.
    """

    def __init__(self, known: Capabilities) -> None:
        self._known = known

    def name_of(self, request: Request) -> str:
        """See Capabilities."""
        return self._known.name_of(request)

    def format_for(self, request: Request) -> Format:
        """See Capabilities."""
        return self._known.format_for(request)

    def learn(self, request: Request, best: Format) -> None:
        """See Capabilities."""
        self._known.learn(request, best)

    def room_for(self, _: Request) -> int:
        """None is known beforehand."""
        return 0

    def learn_room(self, request: Request, tokens: int) -> None:
        """What one question needs is its own."""

    def as_dict(self) -> dict[str, Format]:
        """See Capabilities."""
        return self._known.as_dict()


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
        if error.kind == "truncated" and _is_thinking(replies[-1]):
            raise Unusable(_no_room(request, replies[-1]), tuple(replies)) from error
        raise Unusable(error, tuple(replies)) from error
    return Answered(value, tuple(replies))


def _known_by(client: Client) -> Capabilities:
    """What the client remembers over calls and runs; a client that remembers nothing learns anew every time."""
    known = getattr(client, "capabilities", None)
    return known if isinstance(known, Capabilities) else Capabilities()


async def _send(client: Client, request: Request, capabilities: Capabilities, replies: list[Reply]) -> Request:
    """Send in the strictest format the model supports, once more with twice the room when the answer was cut off."""
    room = max(request.max_tokens, capabilities.room_for(request))
    request = request if room == request.max_tokens else replace(request, max_tokens=room)
    reply = await _descend(client, request, capabilities)
    replies.append(reply)
    if reply.finish_reason == "length":
        room *= 2
        if _is_thinking(reply):
            room = max(2 * room, _ROOM_TO_THINK)
            capabilities.learn_room(request, room)
        request = replace(request, max_tokens=room)
        replies.append(await _descend(client, request, capabilities))
    return request


def _is_thinking(reply: Reply) -> bool:
    """Whether an answer was cut off before it began: all of its room went into thoughts."""
    return not without_thoughts(reply.text).strip()


def _no_room(request: Request, reply: Reply) -> ModelError:
    """Say that thinking took all the room, and which setting gives more."""
    used = reply.usage.completion_tokens or request.max_tokens
    section = request.stage if request.stage in _SECTIONS else "judge"
    setting = f"`{section}: {{max_tokens: {4 * request.max_tokens}}}` in safetyqc.yaml"
    return ModelError(
        "truncated", f"cut off after {used} tokens, all of them thinking: give it more room with {setting}"
    )


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
        except (KeyError, TypeError, AttributeError, IndexError):
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
    """Whether an answer of another form than asked for reads like a refusal to answer."""
    return _REFUSAL.search(text[:_REFUSAL_WITHIN]) is not None
