"""Bounds what httpx does in litellm's calls of ours: no redirect is followed, and no answer is unpacked without end.

litellm and the SDKs below it follow redirects, which would post a conversation to whoever a server names, and read
bodies whole, so that two megabytes of a packed answer could take all memory. They take no other HTTP client in common,
so httpx's own `send` is wrapped; calls outside of `guarded` go through it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

LONGEST_BODY = 4_000_000
"""Bytes of an answer, unpacked: hundreds of times the longest that a judge or an author has to say."""
_OURS: ContextVar[bool] = ContextVar("safetyqc_own_call", default=False)


class RedirectedError(Exception):
    """The server sent the request on; `status` says how."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}, a redirect")
        self.status = status


class TooLongError(Exception):
    """The answer is longer than `LONGEST_BODY`."""


@contextmanager
def guarded() -> Iterator[None]:
    """Bound the calls of this block."""
    _wrap()
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


def is_guarded() -> bool:
    """Whether a call is made within `guarded`."""
    return _OURS.get()


def reason_of(error: BaseException) -> RedirectedError | TooLongError | None:
    """What was refused here, found behind the errors that litellm and the SDKs made of it."""
    seen: BaseException | None = error
    for _ in range(20):
        if seen is None or isinstance(seen, RedirectedError | TooLongError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


@cache
def _wrap() -> None:
    import httpx

    send = httpx.AsyncClient.send

    @wraps(send)
    async def bounded(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        if not is_guarded():
            return await send(self, request, **options)
        wants_stream = options.get("stream", False)
        response = await send(self, request, **options | {"stream": True, "follow_redirects": False})
        if response.is_redirect:
            await response.aclose()
            raise RedirectedError(response.status_code)
        if not wants_stream:
            await _read(response)
        return response

    httpx.AsyncClient.send = bounded  # type: ignore[method-assign]


async def _read(response: httpx.Response) -> None:
    """Read a body as `response.aread` does, but no further than to the limit."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LONGEST_BODY:
            await response.aclose()
            raise TooLongError(f"the answer is longer than {LONGEST_BODY:,} bytes")
        parts.append(part)
    response._content = b"".join(parts)  # what `aread` sets
