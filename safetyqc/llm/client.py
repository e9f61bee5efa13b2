"""What the rest of safetyqc knows of models: a Request goes in, a Reply comes out, or a ModelError is raised.

Nothing here knows a provider, a price or a network. Implementations (litellm, the direct lane, the in-process model, a
script for tests) and wrappers (ledger, limits) all are Clients, so they stack.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

from pydantic_core import PydanticSerializationError, to_json

from safetyqc.errors import ModelError
from safetyqc.llm.dialect import Dialect
from safetyqc.records import Usage
from safetyqc.text import mend_text, shorten

Format = Literal["text", "json_object", "json_schema"]
Endpoint = Literal["chat", "completions", "moderations"]
TokenChoices = tuple[str, Mapping[str, float]]
"""A token of an answer, and the log-probability of every token that the server listed for its place."""


class Schema(dict[str, Any]):
    """A JSON schema that thousands of requests share and nobody changes, so that what derives from it is made once."""

    @cached_property
    def as_json(self) -> bytes:
        """The schema as UTF-8; always the same object, which a cache finds in no time."""
        return fast_json(dict(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `as_json`, in hex."""
        return hashlib.sha256(self.as_json).hexdigest()

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Schema:
        """Take any JSON schema; one of this class as it is."""
        return schema if isinstance(schema, cls) else cls(schema)

    def __reduce__(self) -> tuple[Callable[[bytes], Schema], tuple[bytes]]:
        """Go to another process as text, which is read there only once."""
        return _read_schema, (self.as_json,)


@lru_cache(maxsize=256)
def _read_schema(as_json: bytes) -> Schema:
    return Schema(json.loads(as_json))


@dataclass(frozen=True)
class Request:
    """One answer to ask for, mostly a chat completion; everything that can change the answer is part of its key.

    Args:
        model: as litellm names it (`openai/gpt-4o`), or `local`, or `local:PATH.gguf`.
        messages: role and content, including a system message where there is one.
        schema: JSON schema of the wanted object; how it is enforced says `format`.
        repeat: 0, or the number of a repeated vote, so that votes are not answered from the ledger.
        stage: which stage asks, for the ledger's sums; not part of the key.
        endpoint: `completions` takes a whole prompt and `moderations` a text, both as the only message's content.
        top_logprobs: how many log-probabilities to ask for at each token of the answer.
        extra: further fields of the body, such as `chat_template_kwargs`, as they are.
        dialect: how this server wants it worded; the same question in another dialect has the same key.
        headers: further headers of a model's own, which may be secret; not part of the key, and never shown.
        with_key: whether `api_base` may be shown the provider's key; a URL that came with a file may not.
    """

    model: str
    messages: tuple[Mapping[str, str], ...]
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    format: Format = "text"
    api_base: str | None = None
    repeat: int = 0
    stage: str = field(default="", compare=False)
    endpoint: Endpoint = "chat"
    top_logprobs: int = 0
    extra: Mapping[str, Any] | None = None
    dialect: Dialect = field(default=Dialect(), compare=False)
    with_key: bool = field(default=True, compare=False)
    headers: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def is_plain_chat(self) -> bool:
        """Whether it is a chat completion without anything that few servers know."""
        return self.endpoint == "chat" and not self.top_logprobs and not self.extra

    @cached_property
    def key(self) -> str:
        """SHA-256 of the whole request: equal requests have equal keys, on every machine."""
        return hashlib.sha256(
            fast_json(
                {
                    "model": self.model,
                    "messages": [[m["role"], text_hash(m["content"])] for m in self.messages],
                    "temperature": float(self.temperature),
                    "max_tokens": self.max_tokens,
                    "seed": self.seed,
                    "schema": Schema.of(self.schema).digest if self.schema is not None else None,
                    "format": self.format,
                    "api_base": self.api_base,
                    "repeat": self.repeat,
                }
                | self._beyond_plain_chat()
            )
        ).hexdigest()

    def _beyond_plain_chat(self) -> dict[str, Any]:
        """Nothing for a plain chat completion, so that the keys of those stay what they were."""
        if self.is_plain_chat:
            return {}
        extra = json.dumps(self.extra or {}, sort_keys=True)
        return {"endpoint": self.endpoint, "top_logprobs": self.top_logprobs, "extra": extra}


def fast_json(value: Any) -> bytes:
    """JSON as UTF-8, in the order of the keys; ten times as fast as the json module, which a hot path can tell.

    Half a surrogate pair, which UTF-8 cannot hold, becomes a question mark.
    """
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


@lru_cache(maxsize=256)
def text_hash(text: str) -> str:
    """Hash of one message; the long ones are the same in thousands of requests."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Allowance:
    """What a server said in its headers of how much it still accepts; None where it did not say.

    Args:
        reset_requests_s: seconds until the request allowance is whole again; likewise for tokens.
    """

    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_s: float | None = None
    reset_tokens_s: float | None = None


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why the model stopped, and what it took.

    Args:
        finish_reason: as OpenAI words it: stop, length, content_filter; "" where the server said nothing.
        refusal: the API's own refusal field, where it has one.
        cost_usd: None when the price is unknown; never a guess.
        model: who answered, as the caller names models; with a fallback not always who was asked.
        reused: answered from the ledger, so nothing was paid now.
        allowance: the server's own words about its limits, for the limiter.
        logprobs: of the answer's tokens, where they were asked for and told.

    Whoever makes one (a lane, a batch, an old ledger, a client of the user's own), its text can be written and read.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    latency_s: float = 0.0
    model: str = ""
    reused: bool = False
    allowance: Allowance | None = field(default=None, compare=False, repr=False)
    logprobs: Sequence[TokenChoices] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", mend_text(self.text))
        if self.refusal:
            object.__setattr__(self, "refusal", mend_text(self.refusal))

    @property
    def is_empty(self) -> bool:
        """Whether the model said nothing, and no reason is known why."""
        return not (self.text.strip() or self.refusal or self.finish_reason in ("length", "content_filter"))

    @property
    def said_nothing(self) -> str:
        """The words for an empty answer."""
        return f"the model answered nothing: its text is empty (finish reason {shorten(self.finish_reason, 40)!r})"


class FormatRefused(ModelError):
    """The server does not support the way in which the schema was asked for; a simpler way may work.

    Args:
        suspected: it did not say so, but answers that way alone with errors.
    """

    def __init__(self, reason: str, *, suspected: bool = False) -> None:
        self.suspected = suspected
        super().__init__("provider_error", reason, retryable=suspected)


class Client(Protocol):
    """Anything that answers requests."""

    async def complete(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            ModelError: the call failed (after this client's own retries, if it has any).
            FatalModelError: every other call would fail the same way.
        """
        ...

    async def close(self) -> None:
        """Release connections; harmless when called twice."""
        ...


def check_finish(reply: Reply) -> Reply:
    """Look at why the model stopped before anything is read from the text.

    Raises:
        ModelError: `truncated`, `filtered_by_provider` or `refused_by_model`; `bad_structure` where it said nothing.
    """
    if reply.finish_reason == "length":
        raise ModelError("truncated", f"cut off after {reply.usage.completion_tokens or '?'} tokens")
    if reply.finish_reason == "content_filter":
        raise ModelError("filtered_by_provider", "the provider's content filter stopped the answer")
    if reply.refusal:
        raise ModelError("refused_by_model", reply.refusal)
    if reply.is_empty:
        raise ModelError("bad_structure", reply.said_nothing)
    return reply
