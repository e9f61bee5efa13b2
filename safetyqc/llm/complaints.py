"""Turns what a server complains of into the ModelError that says what to do: a status, an error body, headers.

Both lanes use it, so the same fault has the same outcome whichever way a request went. Statuses are not trusted alone:
gateways answer 200 with an error inside, 429 for an empty account or for one request that can never fit, 403 for a
moderated text and 500 for a schema. Codes decide before words, because the words of a rate limit also speak of billing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import FormatRefused
from safetyqc.llm.hosts import key_variable
from safetyqc.llm.secrets import redact
from safetyqc.text import mend_json, mend_text, shorten

_LONGEST_WAIT_S = 86_400.0
_LONGEST_READ = 5_000
_LONGEST_TOLD = 300
_NO_CREDIT_CODES = re.compile(
    r"(?i)insufficient_(?:quota|credit|balance|funds)|billing_(?:hard_limit|not_active)|credit_?balance|payment_required"
    r"|quota_exhausted|account_deactivated"
)
_NO_CREDIT = re.compile(
    r"(?i)insufficient (?:account )?(?:quota|credits?|balance|funds)|insufficient_(?:quota|credits?|balance|funds)"
    r"|(?:out of|no (?:more )?|used all (?:your|the) |run out of )credits?\b|credit balance is too low|arrears"
    r"|exceeded your current quota"
)
_RATE_CODES = re.compile(r"(?i)rate_?limit|resource_exhausted|too_many_requests|throttl|slow_down")
_A_DAY = re.compile(r"(?i)per_?day|PerDay|daily")
_TOO_LONG = re.compile(
    r"(?i)request (?:is )?too large|context_length_exceeded|maximum context length|context (?:length|window|size)"
    r"|prompt is too long|input is too long|too many (?:input )?tokens|must be reduced|payload too large"
    r"|string_above_max"
)
_ROOM = re.compile(r"(?i)limit:? (\d+)\b.{0,60}?requested:? (\d+)", re.DOTALL)
_MODERATED = re.compile(r"(?i)content[_ ](?:policy|filter|management)|moderation|flagged|responsible.?ai|safety system")
_NO_FORMAT = re.compile(
    r"(?i)response_format|json_schema|json_object|json mode|structured output|guided|grammar|\bschema\b"
)
_BUSY = re.compile(r"(?i)overload|capacity|busy|too many|queue|throttl")
_NO_MODEL = re.compile(
    r"(?i)model.{0,80}(?:not found|not exist|unknown|no such|not a valid|decommissioned)|model_not_found"
)
_MARKUP = re.compile(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>")
_RETRY_IN = re.compile(
    r"(?i)(?:retry|try again|available|wait|reset\w*)(?: again)?(?: in| after| for)?:? "
    r"((?:\d+(?:\.\d+)?(?:ms|s|m|h|d)(?![a-z]) ?)+|\d+(?:\.\d+)? ?(?:seconds?|minutes?|hours?))"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(milliseconds?|ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "milliseconds": 0.001, "millisecond": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class _Complaint:
    """A status with what the server said to it, mended; `body` is an object or text."""

    status: int
    body: Any
    headers: Mapping[str, str]
    key: str | None = None

    @cached_property
    def _inner(self) -> Any:
        inner = self.body.get("error", self.body) if isinstance(self.body, Mapping) else self.body
        if isinstance(self.body, list) and self.body:  # Gemini wraps its error into a list
            inner = self.body[0].get("error", self.body[0]) if isinstance(self.body[0], Mapping) else self.body[0]
        return inner

    @cached_property
    def codes(self) -> str:
        """The machine's own words: code, type and status."""
        if not isinstance(self._inner, Mapping):
            return ""
        return " ".join(str(self._inner[name])[:100] for name in ("code", "type", "status") if self._inner.get(name))

    @cached_property
    def words(self) -> str:
        """All that was said, without keys; what patterns look at."""
        inner = self._inner
        if not isinstance(inner, Mapping):
            text = str(inner)[:_LONGEST_READ]
            return redact(_MARKUP.sub(" ", text) if "<" in text[:200] else text, self.key)
        code = inner.get("code") or inner.get("type") or ""
        text = str(inner.get("message") or inner.get("detail") or inner)[:_LONGEST_READ]
        return redact(f"{text} ({str(code)[:100]})" if code and str(code) not in text else text, self.key)

    @cached_property
    def told(self) -> str:
        """The words as one line for people; cut only now, when no key can lose the end it is known by."""
        return shorten(self.words, _LONGEST_TOLD if isinstance(self._inner, Mapping) else 200)

    @property
    def details(self) -> Iterator[Mapping[str, Any]]:
        """Google's typed details of an error."""
        details = self._inner.get("details") if isinstance(self._inner, Mapping) else None
        yield from (detail for detail in details if isinstance(detail, Mapping)) if isinstance(details, list) else ()

    @cached_property
    def wait_s(self) -> float | None:
        """Seconds that the server asked to wait: in a header, in a detail, or in words."""
        wait_s = read_retry_after(self.headers)
        if wait_s is None:
            delays = (detail.get("retryDelay") for detail in self.details)
            wait_s = next((s for delay in delays if (s := read_duration(str(delay or ""))) is not None), None)
        if wait_s is None and (found := _RETRY_IN.search(self.words)):
            wait_s = read_duration(found[1])
        return None if wait_s is None else min(wait_s, _LONGEST_WAIT_S)

    @property
    def is_daily(self) -> bool:
        """Whether Google says that a quota of today is used up, whatever delay it names beside."""
        violations = [v for detail in self.details for v in detail.get("violations") or () if isinstance(v, Mapping)]
        return any(_A_DAY.search(str(violation.get("quotaId", ""))) for violation in violations)

    @property
    def has_no_credit(self) -> bool:
        """Whether the account is empty; a rate limit that speaks of plans and billing is none."""
        if self.status == 402 or _NO_CREDIT_CODES.search(self.codes):
            return True
        if self.status not in (400, 403, 429) or not _NO_CREDIT.search(self.words):
            return False
        return self.status != 429 or (self.wait_s is None and not _RATE_CODES.search(self.codes))

    @property
    def is_too_long(self) -> bool:
        """Whether this very request can never fit, however long one waits."""
        if self.status == 413:
            return True
        if self.status not in (400, 422, 429, 500) or not _TOO_LONG.search(self.words):
            return False
        room = _ROOM.search(self.words)
        return self.status != 429 or room is None or int(room[2]) > int(room[1])


def explain_error(
    status: int,
    body: Any,
    *,
    model: str,
    base: str = "",
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
) -> ModelError:
    """Turn a status and an error body (an object or text) into the ModelError that says what to do."""
    complaint = _Complaint(status, _mended(body), headers or {}, key)
    said = f"{model}: {status} {complaint.told}".rstrip()
    if fatal := _fatal(complaint, said, model, base):
        return fatal
    if status in (400, 403, 422, 451) and _MODERATED.search(complaint.words):
        return ModelError("filtered_by_provider", said, status=status)
    if complaint.is_too_long:
        return ModelError("provider_error", said, status=status, about_item=True)
    if status in (400, 415, 422, 500, 501) and _NO_FORMAT.search(complaint.words):
        return FormatRefused(said)
    if status in (408, 409, 425, 429) or status >= 500:
        wait_s = complaint.wait_s
        # A bare 503 may be a server that is gone, and must be able to break the circuit
        busy = status == 503 and (wait_s is not None or _BUSY.search(complaint.words) is not None)
        overload = status in (429, 529) or busy
        return ModelError(
            "provider_error", said, retryable=True, retry_after_s=wait_s, overload=overload, status=status
        )
    return ModelError("provider_error", said, status=status)


def _mended(body: Any) -> Any:
    try:
        return mend_json(body)
    except ValueError:
        return mend_text(repr(body)[:_LONGEST_READ])
    except RecursionError:
        return "an error nested too deeply to be read"


def _fatal(complaint: _Complaint, said: str, model: str, base: str) -> FatalModelError | None:
    at, status = f" at {base}" if base else "", complaint.status
    if complaint.has_no_credit:
        return FatalModelError(said, fix="the account has no credit: add some, or use another model with -m")
    if status == 401 or (status == 403 and not _MODERATED.search(complaint.words)):
        return FatalModelError(said, fix=f"check the API key for {model}{at}: {key_hint(model, base)}")
    if status == 429 and complaint.is_daily:
        fix = "the quota of today is used up: the same command goes on tomorrow, or use another model with -m"
        return FatalModelError(said, fix=fix)
    if status == 404 or (status == 400 and _NO_MODEL.search(complaint.words)):
        fix = f"check the model's name{at}"
        if base and not base.rstrip("/").endswith("/v1"):
            fix += ", and the base URL: most servers want it to end with /v1"
        return FatalModelError(said, fix=fix)
    if 300 <= status < 400:
        fix = f"give the URL that it leads to with --api-base, in place of {base}" if base else "check the base URL"
        return FatalModelError(
            f"{said} (a redirect, which is not followed: keys and texts stay with their host)", fix=fix
        )
    return None


def key_hint(model: str, base: str = "") -> str:
    """Say where the key of a model is looked for; `base` is the URL of a server of the user's own."""
    there = f" --api-base {shlex.quote(base)}" if base else ""
    return f"set {key_variable(model)} (`safetyqc models check -m {shlex.quote(model)}{there}` tells more)"


def status_of(error: Any) -> int:
    """The status that an error inside a 200 stands for; 500 where its code is no status."""
    code = str(error.get("code") if isinstance(error, Mapping) else "")
    return int(code) if len(code) == 3 and code.isascii() and code.isdecimal() and code >= "300" else 500


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    if (ms := read_number(headers.get("retry-after-ms"))) is not None:
        return min(ms / 1000, _LONGEST_WAIT_S)
    value = headers.get("retry-after") or headers.get("Retry-After")
    if not value:
        return None
    if (seconds := read_number(value)) is not None:
        return min(seconds, _LONGEST_WAIT_S)
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S)


def read_number(value: str | None) -> float | None:
    """A finite number of at least 0, or None."""
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def read_duration(value: str | None) -> float | None:
    """Seconds of `6m0s`, `120ms`, `17`, `20 seconds` or an ISO date."""
    if not value or len(value) > 100:
        return None
    if (seconds := read_number(value)) is not None:
        return seconds
    if parts := _DURATION.findall(value):
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return max((datetime.fromisoformat(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
