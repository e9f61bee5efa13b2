"""The batch desk of the fault server: files and batches over real HTTP, that go wrong as told.

It answers the lines of a batch as the server answers single requests, so that both ways give the same verdicts.
`reset_after_create` makes the batch and then breaks the connection, which tempts a client to submit, and pay for, the
same batch twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from safetyqc.errors import UserError, choose_from
from safetyqc.testing.faults import error_response

BATCH_FAULTS: dict[str, str] = {
    "no_batches": "404 for files and batches: the server has none",
    "upload_500": "the first upload gets 500",
    "bad_batch_key": "401 for everything about batches",
    "rate_limited_batch": "429 with Retry-After for the first attempt to create the batch",
    "reset_before_create": "the connection breaks before the batch is made",
    "reset_after_create": "the batch is made, then the connection breaks",
    "no_list": "404 for the list of batches",
    "batch_fails": "the provider finds the file invalid: nothing is answered",
    "batch_expires": "half is answered, the rest expires",
    "line_errors": "every third request ends with an error of its own: 500, 400 or a content filter",
    "format_refused": "every request is refused for its response format, other than text",
    "cut_off_answers": "every answer ends with finish reason length",
    "wrong_ids": "every third answer names a request that nobody made",
    "repeated_lines": "every answer stands there twice, every second one first as an error",
    "cut_output": "the first download of the answers ends in the middle of a line",
    "missing_lines": "every third request has no line at all",
    "forgotten": "404 for the batch once it was made",
}
"""Every fault of batches by its name; each is given for a whole server."""


@dataclass
class _Batch:
    id: str
    created_at: float
    input_file_id: str
    metadata: dict[str, str]
    lines: list[dict[str, Any]]
    status: str = "in_progress"
    output_file_id: str | None = None
    error_file_id: str | None = None
    done: int = 0
    failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """As OpenAI words it."""
        counts = {"total": len(self.lines), "completed": self.done, "failed": self.failed}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": int(self.created_at),
            "request_counts": counts,
            "metadata": self.metadata,
        }


Answer = Callable[[dict[str, Any]], dict[str, Any]]


class BatchDesk:
    """Files and batches of one server.

    Args:
        answer: turns the body of a request into a completion, and counts it.
        faults: names of `BATCH_FAULTS`.
        batch_s: seconds until a batch has ended.
    """

    def __init__(self, answer: Answer, faults: Iterable[str] = (), batch_s: float = 0.0) -> None:
        self.answer, self.faults, self.batch_s = answer, frozenset(faults), batch_s
        for name in self.faults:
            if name not in BATCH_FAULTS:
                raise UserError(f"no batch fault {name!r}", fix=choose_from(name, BATCH_FAULTS))
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, _Batch] = {}
        self._met: set[str] = set()

    def add_routes(self, app: web.Application) -> None:
        """Serve under /v1."""
        app.router.add_post("/v1/files", self._guard(self._upload))
        app.router.add_get("/v1/files/{id}/content", self._guard(self._content))
        app.router.add_post("/v1/batches", self._guard(self._create))
        app.router.add_get("/v1/batches", self._guard(self._list))
        app.router.add_get("/v1/batches/{id}", self._guard(self._retrieve))
        app.router.add_post("/v1/batches/{id}/cancel", self._guard(self._cancel))

    def _guard(self, handle: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def guarded(http: web.Request) -> web.StreamResponse:
            if "no_batches" in self.faults:
                return web.Response(status=404, text="404 page not found")
            if "bad_batch_key" in self.faults:
                return error_response(401, "Incorrect API key provided: sk-abcdefghijklmnop", "invalid_api_key")
            response: web.StreamResponse = await handle(http)
            return response

        return guarded

    def _first(self, fault: str) -> bool:
        """Whether this fault is due, for the first time."""
        due = fault in self.faults and fault not in self._met
        self._met.add(fault)
        return due

    async def _upload(self, http: web.Request) -> web.StreamResponse:
        form = await http.post()
        if self._first("upload_500"):
            return error_response(500, "internal error", "server_error")
        file = form["file"]
        if form.get("purpose") != "batch" or not isinstance(file, web.FileField):
            return error_response(400, "purpose must be batch, and a file is needed", "invalid_request_error")
        name = f"file-{len(self.files) + 1}"
        self.files[name] = file.file.read()
        body = {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": int(time.time())}
        return web.json_response({**body, "filename": file.filename, "purpose": "batch", "status": "processed"})

    async def _content(self, http: web.Request) -> web.StreamResponse:
        content = self.files.get(http.match_info["id"])
        if content is None:
            return error_response(404, "No such File object", "not_found")
        if self._first("cut_output"):
            content = content[: len(content) * 2 // 3]
        return web.Response(body=content, content_type="application/octet-stream")

    async def _create(self, http: web.Request) -> web.StreamResponse:
        wanted = await http.json()
        raw = self.files.get(wanted.get("input_file_id"))
        if raw is None:
            return error_response(400, "No such File object", "invalid_request_error")
        if self._first("rate_limited_batch"):
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.01"})
        if self._first("reset_before_create"):
            return _reset(http)
        lines = [json.loads(line) for line in raw.splitlines()]
        name = f"batch_{len(self.batches) + 1}"
        metadata = wanted.get("metadata") or {}
        self.batches[name] = _Batch(name, time.time(), wanted["input_file_id"], metadata, lines)
        if self._first("reset_after_create"):
            return _reset(http)
        return web.json_response(self.batches[name].body())

    async def _list(self, http: web.Request) -> web.StreamResponse:
        if "no_list" in self.faults:
            return web.Response(status=404, text="404 page not found")
        newest = list(reversed(self.batches))
        after, limit = http.query.get("after"), int(http.query.get("limit", 20))
        start = newest.index(after) + 1 if after in newest else 0
        data = [self.batches[name].body() for name in newest[start : start + limit]]
        return web.json_response({"object": "list", "data": data, "has_more": len(newest) > start + limit})

    async def _retrieve(self, http: web.Request) -> web.StreamResponse:
        batch = self._known(http)
        if batch is None:
            return error_response(404, "No batch found with that id", "not_found")
        if batch.status == "in_progress" and time.time() - batch.created_at >= self.batch_s:
            await asyncio.to_thread(self._finish, batch)
        return web.json_response(batch.body())

    async def _cancel(self, http: web.Request) -> web.StreamResponse:
        batch = self._known(http)
        if batch is None:
            return error_response(404, "No batch found with that id", "not_found")
        self._finish(batch, answered=len(batch.lines) // 2, status="cancelled")
        return web.json_response(batch.body())

    def _known(self, http: web.Request) -> _Batch | None:
        return None if "forgotten" in self.faults else self.batches.get(http.match_info["id"])

    def _finish(self, batch: _Batch, answered: int | None = None, status: str = "completed") -> None:
        """Answer the lines, all or the first ones, and end the batch."""
        if "batch_fails" in self.faults:
            batch.status, batch.errors = "failed", [{"code": "token_limit", "message": "Enqueued token limit reached"}]
            return
        if "batch_expires" in self.faults:
            answered, status = len(batch.lines) // 2, "expired"
        output: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for number, line in enumerate(batch.lines):
            if answered is not None and number >= answered:
                error = {"code": f"batch_{status}", "message": f"This request was not answered: {status}."}
                errors.append({"custom_id": line["custom_id"], "response": None, "error": error})
            else:
                output += self._answer(number, line)
        good = [one for one in output if (one["response"] or {}).get("status_code") == 200]
        batch.done, batch.failed = len(good), len(output) + len(errors) - len(good)
        batch.output_file_id = self._keep(batch.id, "output", output)
        batch.error_file_id = self._keep(batch.id, "errors", errors)
        batch.status = status

    def _keep(self, batch: str, kind: str, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        name = f"file-{batch}-{kind}"
        self.files[name] = b"".join(to_json(line) + b"\n" for line in lines)
        return name

    def _answer(self, number: int, line: dict[str, Any]) -> list[dict[str, Any]]:
        """The lines that one request gets: one, as a rule."""
        name, third = line["custom_id"], number % 3 == 0
        form = (line["body"].get("response_format") or {}).get("type", "text")
        if "format_refused" in self.faults and form != "text":
            return [_line(name, 400, {"error": {"message": f"response_format {form!r} is not supported"}})]
        if "line_errors" in self.faults and third:
            return [_line(name, *_ERRORS[number // 3 % len(_ERRORS)])]
        if "missing_lines" in self.faults and third:
            return []
        body = self.answer(line["body"])
        if "cut_off_answers" in self.faults:
            body["choices"][0]["finish_reason"] = "length"
        good = _line("nobody-asked" if "wrong_ids" in self.faults and third else name, 200, body)
        if "repeated_lines" in self.faults:
            return [_line(name, 500, {"error": {"message": "internal error"}}) if number % 2 else good, good]
        return [good]


_ERRORS = (
    (500, {"error": {"message": "internal error", "code": "server_error"}}),
    (400, {"error": {"message": "messages: invalid value", "code": "invalid_request"}}),
    (400, {"error": {"message": "flagged by our content policy", "code": "content_policy_violation"}}),
)


def _line(name: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "req", "body": body}
    return {"id": f"batch_req_{name[:8]}", "custom_id": name, "response": response, "error": None}


def _reset(http: web.Request) -> web.Response:
    if http.transport is not None:
        http.transport.abort()
    return web.Response()
