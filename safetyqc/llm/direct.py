"""The small lane: one aiohttp session to OpenAI-compatible endpoints that the user hosts or names by base URL.

One request, one attempt, one typed outcome: no retries, limits, prices or ledger, which are the door's business. It is
imported only when a request takes this lane, so aiohttp may stand at the top. A body is unpacked here and read to a
limit: a server that streams gigabytes, or packs them into a few kilobytes, would otherwise take the process down.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic_core import from_json
from yarl import URL

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Endpoint, Reply, Request
from safetyqc.llm.complaints import explain_error
from safetyqc.llm.endpoints import PATHS
from safetyqc.llm.hosts import base_of, key_of
from safetyqc.llm.secrets import Secrets, known, redact
from safetyqc.llm.transport import LONGEST_BODY
from safetyqc.llm.wire import encode_body, headers_with, read_allowance, read_reply
from safetyqc.records import Usage
from safetyqc.text import shorten

_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_CODINGS = dict.fromkeys(_PACKED, zlib.MAX_WBITS | 32) | {"": 0, "identity": 0}
"""The codings that are offered, with zlib's window: 32 tells gzip and zlib apart by their headers."""


@dataclass(frozen=True)
class _Endpoint:
    """Where and how a model's requests are sent."""

    base: str
    url: URL
    key: str | None
    headers: dict[str, str]
    proxy: str | None
    secrets: Secrets


class DirectClient:
    """Answers requests whose model lives at a base URL."""

    def __init__(self, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self._api_key, self._timeout_s = api_key, timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._endpoints: dict[tuple[str, str | None, Endpoint], _Endpoint] = {}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The limiter bounds what is in flight; a second bound here would only hide waiting time in the timeout
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
            timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(self._timeout_s, 20))
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "gzip, deflate"},
            )
        return self._session

    def _endpoint(self, request: Request) -> _Endpoint:
        known = self._endpoints.get((request.model, request.api_base, request.endpoint))
        if known is None:
            known = _find_endpoint(request, self._api_key)
            self._endpoints[request.model, request.api_base, request.endpoint] = known
        return known

    async def complete(self, request: Request) -> Reply:
        """Send one request once.

        Raises:
            ModelError: with `retryable` set where the same request may succeed later.
            FatalModelError: wrong key, wrong URL, no such model, no credit.
        """
        to = self._endpoint(request)
        started = time.monotonic()
        try:
            async with self._open().post(
                to.url, data=encode_body(request), headers=to.headers, proxy=to.proxy, allow_redirects=False
            ) as response:
                raw = await _read_body(response)
        except TimeoutError as error:
            reason = f"{request.model}: no whole answer within {self._timeout_s:g} s"
            raise ModelError("provider_error", reason, retryable=True) from error
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            reason = shorten(redact(f"{request.model} at {to.base}: {type(error).__name__}: {error}", to.key), 400)
            unreachable = isinstance(error, aiohttp.ClientConnectorError)
            raise ModelError("provider_error", reason, retryable=True, unreachable=unreachable) from error
        body = _parse(raw)
        if response.status >= 300 or body is None:
            status = response.status if response.status >= 300 else 502
            said = raw.decode("utf-8", "replace") if body is None or body == {} else body
            headers = response.headers
            explained = explain_error(status, said, model=request.model, base=to.base, headers=headers, key=to.key)
            if status == 401 and not request.with_key:
                fix = (
                    f"no key was sent, because this URL stands in a file alone: add --api-base {to.base} to send yours"
                )
                raise FatalModelError(explained.reason, fix=fix)
            raise explained
        latency_s = time.monotonic() - started
        return read_reply(
            body,
            model=request.model,
            latency_s=latency_s,
            allowance=read_allowance(response.headers),
            endpoint=request.endpoint,
            wants_object=request.schema is not None,
            secrets=to.secrets,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports close before the loop does
            self._session = None


def _find_endpoint(request: Request, api_key: str | None) -> _Endpoint:
    base = base_of(request.model, request.api_base)
    if base is None:
        raise FatalModelError(f"no base URL for {request.model}", fix="give one with --api-base URL")
    try:
        url = URL(f"{base}{PATHS[request.endpoint]}")
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise FatalModelError(f"not a URL: {base!r}", fix="give --api-base like http://host:8000/v1")
    key = api_key or (key_of(request.model) if request.with_key else None)
    headers = {"Content-Type": "application/json"} | headers_with(request.headers, key)
    # aiohttp's own look-up of proxies starts a thread for every request
    proxy = None if proxy_bypass(url.host) else getproxies().get(url.scheme)
    return _Endpoint(base, url, key, headers, proxy, known(api_key))


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read and unpack an answer, no further than to the limit."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODINGS:
        raise ModelError("provider_error", f"the answer is packed as {shorten(coding, 40)!r}, which was not offered")
    unpacker = zlib.decompressobj(_CODINGS[coding]) if coding in _PACKED else None
    if unpacker is None and 0 <= (response.content_length or -1) <= LONGEST_BODY:
        return await response.read()  # no more than the server has announced is ever read of it
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += unpacker.decompress(chunk, LONGEST_BODY + 1 - len(raw)) if unpacker else chunk
        if len(raw) > LONGEST_BODY or (unpacker and unpacker.unconsumed_tail):
            response.close()  # the rest of it would be read into the next answer's time
            raise ModelError("bad_json", f"the answer is longer than {LONGEST_BODY:,} bytes", usage=Usage())
    return bytes(raw)


def _parse(raw: bytes) -> Any:
    try:
        return from_json(raw)
    except ValueError:
        pass  # half a surrogate pair, or another encoding, which the json module takes; or no JSON
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
