"""Speaks OpenAI's batch dialect: requests become lines of a file, and lines of an answer file become outcomes.

It sends and stores nothing; both batch lanes use it. A request is named by its ledger key, so an answer finds its
request whatever the order of the lines. A line that cannot be read is no failure of a request
but a sign that the file was cut off, because then the answers that are missing exist, and are paid for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Endpoint, FormatRefused, Reply, Request, fast_json
from safetyqc.llm.complaints import explain_error
from safetyqc.llm.endpoints import PATHS
from safetyqc.llm.secrets import known, redact
from safetyqc.llm.wire import body_of, read_reply
from safetyqc.records import Usage
from safetyqc.text import shorten

WINDOW = "24h"
TAG = "safetyqc"
"""Name of the metadata entry that says which of our batches one is."""
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class NoBatches(ModelError):
    """This server has no batch API; its models are asked call by call."""

    def __init__(self, reason: str, model: str) -> None:
        self.model = model
        super().__init__("provider_error", reason)


@dataclass(frozen=True)
class BatchState:
    """A batch as its provider tells of it.

    Args:
        done, failed, total: requests, as far as the provider counts them.
        errors: why the batch as a whole failed.
    """

    id: str
    status: str
    tag: str = ""
    input_file_id: str = ""
    files: tuple[str, ...] = ()
    """Ids of the files with answers and errors, as far as there are any."""
    total: int = 0
    done: int = 0
    failed: int = 0
    errors: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in _ENDED


def write_lines(requests: Iterable[Request]) -> bytes:
    """The input file of a batch."""
    lines = (
        fast_json({"custom_id": r.key, "method": "POST", "url": endpoint_path(r.endpoint), "body": body_of(r)})
        for r in requests
    )
    return b"".join(line + b"\n" for line in lines)


def endpoint_path(endpoint: Endpoint) -> str:
    """The path of an endpoint as batches name it."""
    return f"/v1{PATHS[endpoint]}"


def read_state(body: Any) -> BatchState:
    """Read a batch object.

    Raises:
        ModelError: retryable, when it is none.
    """
    if not isinstance(body, Mapping) or not body.get("id") or not body.get("status"):
        raise ModelError("provider_error", f"not a batch: {shorten(repr(body), 80)}", retryable=True)
    counts = _mapping(body.get("request_counts"))
    errors = _mapping(body.get("errors")).get("data")
    return BatchState(
        id=str(body["id"]),
        status=str(body["status"]),
        tag=str(_mapping(body.get("metadata")).get(TAG) or ""),
        input_file_id=str(body.get("input_file_id") or ""),
        files=tuple(str(body[name]) for name in ("output_file_id", "error_file_id") if body.get(name)),
        total=_count(counts.get("total")),
        done=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        errors=tuple(_said(error) for error in errors) if isinstance(errors, list) else (),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _said(error: Any) -> str:
    return shorten(redact(str(_mapping(error).get("message") or error)[:5_000]), 200)


Asked = tuple[str, Endpoint]
"""Which model a request is for, and where it asks."""


@dataclass
class Lines:
    """What stood in the answer files of one batch.

    Args:
        outcomes: by request; a good answer wins over an error for the same request.
        lines: readable ones.
        unknown: lines of requests that are not in this batch; repeated: further lines for the same request.
        broken: lines that cannot be read.
    """

    outcomes: dict[str, Reply | ModelError] = field(default_factory=dict)
    lines: int = 0
    unknown: int = 0
    repeated: int = 0
    broken: int = 0
    answered_by: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Lines by the model that was asked and the one that the answer names."""

    def read(self, lines: Iterable[bytes], asked: Mapping[str, Asked | None]) -> None:
        """Add the lines of one file; `asked` holds the keys of all requests, None for one whose outcome is known."""
        for line in lines:
            if not line.strip():
                continue
            named = _open_line(line)
            if named is None:
                self.broken += 1
                continue
            self.lines += 1
            key, body = named
            if key not in asked:
                self.unknown += 1
                continue
            if (by := asked[key]) is not None:
                self._add(key, _outcome(body, *by))
                self.answered_by[by[0], _answering(body)] += 1

    def _add(self, key: str, outcome: Reply | ModelError) -> None:
        known = self.outcomes.get(key)
        self.repeated += known is not None
        if known is None or (isinstance(known, ModelError) and isinstance(outcome, Reply)):
            self.outcomes[key] = outcome


def _open_line(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return (str(body.get("custom_id")), body) if isinstance(body, Mapping) else None


def _answering(line: Mapping[str, Any]) -> str:
    """The model that an answer says it is by; "" where it says nothing."""
    return shorten(str(_mapping(_mapping(line.get("response")).get("body")).get("model") or ""), 200)


def _outcome(line: Mapping[str, Any], model: str, endpoint: Endpoint) -> Reply | ModelError:
    """What became of one request: an answer, or the error that the same answer would have been over HTTP."""
    response = line.get("response")
    if not isinstance(response, Mapping):
        error = _mapping(line.get("error"))
        said = f"{model}: {_said(line.get('error'))}" + (f" ({error['code']})" if error.get("code") else "")
        return ModelError("provider_error", said, retryable=True)
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and status >= 300:
        return explain_error(status, line.get("error") if body is None else body, model=model)
    try:
        return read_reply(body, model=model, latency_s=0.0, wants_object=True, secrets=known(), endpoint=endpoint)
    except ModelError as error:
        return error


# ---- outcomes as the run keeps them ---------------------------------------------------------------------------------

_ERRORS: Mapping[str, type[ModelError]] = {e.__name__: e for e in (ModelError, FatalModelError, FormatRefused)}


def pack_outcome(outcome: Reply | ModelError, *, good: bool = False) -> dict[str, Any]:
    """An outcome as JSON: a good answer is in the ledger and only marked here, any other one is kept whole."""
    if isinstance(outcome, ModelError):
        kept = {name: getattr(outcome, name, None) for name in ("kind", "reason", "retryable", "fix")}
        return {"error": {"type": type(outcome).__name__, **kept}}
    if good:
        return {"good": True}
    usage = outcome.usage.model_dump()
    return {"reply": {"text": outcome.text, "finish_reason": outcome.finish_reason, "refusal": outcome.refusal} | usage}


def unpack_outcome(kept: Mapping[str, Any], model: str) -> Reply | ModelError | None:
    """What `pack_outcome` kept; None for a good answer, which the ledger has."""
    if "error" in kept:
        told = kept["error"]
        kind = _ERRORS.get(told["type"], ModelError)
        if kind is FatalModelError:
            return FatalModelError(told["reason"], fix=told["fix"])
        if kind is FormatRefused:
            return FormatRefused(told["reason"])
        return ModelError(told["kind"], told["reason"], retryable=told["retryable"])
    if "reply" not in kept:
        return None
    told = dict(kept["reply"])
    usage = Usage(prompt_tokens=told.pop("prompt_tokens", None), completion_tokens=told.pop("completion_tokens", None))
    return Reply(**told, usage=usage, model=model, reused=True)
