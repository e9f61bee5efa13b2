"""What a server complains of becomes the error that says what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm import FormatRefused
from safetyqc.llm.complaints import explain_error, read_duration, read_retry_after, status_of


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "bad key"}}, "fatal"),
        (403, {"error": {"message": "not allowed in your country"}}, "fatal"),
        (402, {"error": {"message": "pay"}}, "fatal"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "fatal"),
        (404, "404 page not found", "fatal"),
        (400, {"error": {"message": "The model `x` does not exist"}}, "fatal"),
        (403, {"error": {"message": "input was flagged by moderation"}}, "filtered_by_provider"),
        (400, {"error": {"message": "blocked", "code": "content_filter"}}, "filtered_by_provider"),
        (400, {"error": {"message": "response_format is not supported"}}, "format"),
        (422, {"detail": "json_schema: extra field"}, "format"),
        (400, {"error": {"message": "context length exceeded"}}, "provider_error"),
        (429, {"error": {"message": "slow down"}}, "overload"),
        (529, {"error": {"message": "overloaded"}}, "overload"),
        (503, "", "retry"),
        (503, {"error": {"message": "model is overloaded"}}, "overload"),
        (500, {"error": {"message": "oops"}}, "retry"),
        (502, "<html><h1>Bad gateway</h1></html>", "retry"),
        (408, "", "retry"),
    ],
)
def test_every_status_has_an_outcome(status: int, body: Any, kind: str) -> None:
    error = explain_error(status, body, model="m", base="http://h/v1")
    seen = (
        "fatal"
        if isinstance(error, FatalModelError)
        else "format"
        if isinstance(error, FormatRefused)
        else "overload"
        if error.overload
        else "retry"
        if error.retryable
        else error.kind
    )
    assert seen == kind
    assert str(status) in error.reason
    assert "<h1>" not in error.reason
    if isinstance(error, FatalModelError):
        assert error.fix


def test_a_missing_v1_is_named() -> None:
    error = explain_error(404, "not found", model="m", base="http://h/api")
    assert isinstance(error, FatalModelError)
    assert "/v1" in (error.fix or "")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "999999"}, 86_400.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_and_bounded(headers: dict[str, str], wait_s: float | None) -> None:
    assert read_retry_after(headers) == wait_s


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (read_retry_after({"retry-after": date}) or 0) <= 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("6m0s", 360), ("120ms", 0.12), ("17", 17), ("1h2m3s", 3723), ("", None), ("never", None)]
)
def test_durations_of_rate_headers(text: str, seconds: float | None) -> None:
    assert read_duration(text) == seconds


def said(message: str, code: object = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **more}}


PER_MINUTE = said(
    "You exceeded your current quota, please check your plan and billing details. Please retry in 34.5s.",
    429,
    status="RESOURCE_EXHAUSTED",
    details=[{"violations": [{"quotaId": "RequestsPerMinutePerModel"}]}, {"retryDelay": "34s"}],
)
PER_DAY = said(
    "You exceeded your current quota.",
    429,
    status="RESOURCE_EXHAUSTED",
    details=[{"violations": [{"quotaId": "RequestsPerDayPerModel"}]}, {"retryDelay": "34s"}],
)


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        (
            said("Limit 3, Used 3, Requested 1. Please try again in 1.5s. Add billing details.", "rate_limit_exceeded"),
            1.5,
        ),
        (said("Rate limit reached. Please try again in 7m12s.", "rate_limit_exceeded"), 432.0),
        (said("Please retry after 26 seconds.", "429"), 26.0),
        (said("You have used all credits of this minute, buy credits for more", "rate_limit_exceeded"), None),
        (PER_MINUTE, 34.0),
        ([PER_MINUTE], 34.0),
        ("Too many requests, see your billing page", None),
    ],
)
def test_a_rate_limit_that_speaks_of_money_is_waited_for(body: Any, wait_s: float | None) -> None:
    error = explain_error(429, body, model="m")
    assert (type(error), error.overload, error.retry_after_s) == (ModelError, True, wait_s)


@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        (429, said("You exceeded your current quota", "insufficient_quota"), "no credit"),
        (429, said("Insufficient credits to go on"), "no credit"),
        (400, said("Your credit balance is too low to access the API", "invalid_request_error"), "no credit"),
        (429, PER_DAY, "tomorrow"),
        (302, "", "redirect"),
    ],
)
def test_what_ends_a_run_says_how_to_go_on(status: int, body: Any, fix: str) -> None:
    error = explain_error(status, body, model="m", base="http://h/v1")
    assert isinstance(error, FatalModelError)
    assert fix in str(error)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 34211."),
        (429, "The input or output tokens must be reduced in order to run successfully."),
        (413, "Payload Too Large"),
        (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
        (500, "the request exceeds the available context size, try increasing it"),
    ],
)
def test_a_request_that_can_never_fit_is_told_of_at_once_and_is_no_fault_of_others(status: int, message: str) -> None:
    error = explain_error(status, said(message, "rate_limit_exceeded"), model="m")
    assert (error.retryable, error.about_item) == (False, True)
    assert message[:40] in error.reason


def test_a_limit_that_is_only_used_up_is_waited_for() -> None:
    text = "Request too large? Limit 30000, Used 29000, Requested 2000. Please try again in 2s."
    assert explain_error(429, said(text, "rate_limit_exceeded"), model="m").retryable


@pytest.mark.parametrize("code", ["²", "9" * 5000, None, [], {"x": 1}, True, -4, "200", "１００"])
def test_a_code_that_is_no_status_is_a_500(code: object) -> None:
    assert status_of({"code": code}) == 500


@pytest.mark.parametrize(
    "body", ["half \ud83d", {"error": "half \ud83d\0"}, {"error": {"message": ["\udc00"]}}, [[]], None]
)
def test_an_error_body_of_any_kind_is_text_that_can_be_written(body: Any) -> None:
    reason = explain_error(400, body, model="m").reason
    reason.encode()
    assert "\0" not in reason


def test_a_key_is_taken_out_before_the_text_is_cut() -> None:
    key = "0123456789abcdef" * 4
    for room in range(200, 310, 7):
        assert key[:16] not in explain_error(400, said("x" * room + key), model="m", key=key).reason
