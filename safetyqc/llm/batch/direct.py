"""What a batch API can be asked for, and the way to those of servers of the user's own, over aiohttp.

One call, one attempt, one typed outcome, as in the lanes of single requests; retries and the run are the desk's
business. A server without batches says 404, as
for a wrong URL, so a 404 counts as "no batches" only when the batch was about to be made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.batch.wire import TAG, WINDOW, BatchState, NoBatches, endpoint_path, read_state
from safetyqc.llm.client import Endpoint, Request
from safetyqc.llm.complaints import explain_error
from safetyqc.llm.hosts import base_of, key_of
from safetyqc.llm.secrets import redact
from safetyqc.llm.wire import headers_with

_TRANSFER_S = 600.0
_PAGE = 100
_MOST_PAGES = 20
_NOT_THERE = (404, 405, 501)


@dataclass(frozen=True)
class Place:
    """Where a batch is: a model and its base URL, None for the provider's own, and what its requests ask for."""

    model: str
    api_base: str | None
    endpoint: Endpoint = "chat"
    with_key: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class BatchLane(Protocol):
    """What a batch API can be asked for.

    Every method raises ModelError (retryable where it may succeed later), FatalModelError, or, from `upload` and
    `create` alone, NoBatches.
    """

    async def upload(self, place: Place, name: str, lines: bytes) -> str:
        """Upload an input file; returns its id."""
        ...

    async def create(self, place: Place, file_id: str, tag: str) -> BatchState:
        """Submit the batch of an uploaded file."""
        ...

    async def retrieve(self, place: Place, batch_id: str) -> BatchState:
        """How the batch is going."""
        ...

    def newest(self, place: Place) -> AsyncIterator[BatchState]:
        """The provider's batches, the newest first, as far as it lists them."""
        ...

    async def download(self, place: Place, file_id: str) -> bytes:
        """The content of a file."""
        ...

    async def cancel(self, place: Place, batch_id: str) -> BatchState:
        """Ask to stop; what was answered is still to be collected."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class DirectBatches:
    """Batches of OpenAI-compatible servers that are named by base URL."""

    def __init__(self, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self._api_key, self._timeout_s = api_key, timeout_s
        self._session: Any = None

    async def upload(self, place: Place, name: str, lines: bytes) -> str:
        """See BatchLane."""
        from aiohttp import FormData

        form = FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", lines, filename=name, content_type="application/jsonl")
        body = await self._ask("POST", place, "/files", timeout_s=_TRANSFER_S, made=True, data=form)
        if not isinstance(body, Mapping) or not body.get("id"):
            raise ModelError("provider_error", f"{place.model}: the upload was answered without an id", retryable=True)
        return str(body["id"])

    async def create(self, place: Place, file_id: str, tag: str) -> BatchState:
        """See BatchLane."""
        endpoint = endpoint_path(place.endpoint)
        wanted = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": WINDOW, "metadata": {TAG: tag}}
        return read_state(await self._ask("POST", place, "/batches", made=True, json=wanted))

    async def retrieve(self, place: Place, batch_id: str) -> BatchState:
        """See BatchLane."""
        return read_state(await self._ask("GET", place, f"/batches/{batch_id}"))

    async def newest(self, place: Place) -> AsyncIterator[BatchState]:
        """See BatchLane."""
        after = ""
        for _ in range(_MOST_PAGES):
            body = await self._ask("GET", place, f"/batches?limit={_PAGE}" + (f"&after={after}" if after else ""))
            listed = body.get("data") if isinstance(body, Mapping) else None
            for entry in listed or []:
                state = read_state(entry)
                after = state.id
                yield state
            if not listed or not body.get("has_more"):
                return

    async def download(self, place: Place, file_id: str) -> bytes:
        """See BatchLane."""
        return bytes(await self._send("GET", place, f"/files/{file_id}/content", timeout_s=_TRANSFER_S))

    async def cancel(self, place: Place, batch_id: str) -> BatchState:
        """See BatchLane."""
        return read_state(await self._ask("POST", place, f"/batches/{batch_id}/cancel"))

    async def _ask(self, method: str, place: Place, path: str, **more: Any) -> Any:
        raw = await self._send(method, place, path, **more)
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise explain_error(502, raw.decode("utf-8", "replace"), model=place.model) from error

    async def _send(
        self, method: str, place: Place, path: str, *, timeout_s: float | None = None, made: bool = False, **more: Any
    ) -> bytes:
        """Send one request; `made`: a server that does not know the path has no batches."""
        import aiohttp

        base = _address(place)
        key = self._api_key or (key_of(place.model) if place.with_key else None)
        headers = headers_with(place.headers, key)
        timeout = aiohttp.ClientTimeout(total=timeout_s or self._timeout_s, sock_connect=20)
        try:
            async with self._open().request(
                method, base + path, headers=headers, timeout=timeout, proxy=_proxy(base), allow_redirects=False, **more
            ) as response:
                raw: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            reason = redact(f"{place.model} at {base}: {type(error).__name__}: {error}", key)
            raise ModelError("provider_error", reason, retryable=True) from error
        if response.status < 300:
            return raw
        said = raw.decode("utf-8", "replace")
        if made and response.status in _NOT_THERE:
            raise NoBatches(f"{base} has no batch API ({response.status} for {path})", place.model)
        body = _parsed(said)
        raise explain_error(response.status, body, model=place.model, base=base, headers=response.headers, key=key)

    def _open(self) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def close(self) -> None:
        """See BatchLane."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports close before the loop does
            self._session = None


def _address(place: Place) -> str:
    base = base_of(place.model, place.api_base)
    if base is None:
        raise FatalModelError(f"no base URL for {place.model}", fix="give one with --api-base URL")
    return base


def _proxy(base: str) -> str | None:
    from yarl import URL

    url = URL(base)
    return None if proxy_bypass(url.host or "") else getproxies().get(url.scheme)


def _parsed(said: str) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return said


def without_batches(status: object) -> bool:
    """Whether this status, for a request that makes a batch, means that there is no batch API."""
    return status in _NOT_THERE


def sample_request(place: Place) -> Request:
    """A request that stands for a batch's place where an error is to be explained."""
    return Request(model=place.model, messages=(), api_base=place.api_base)
