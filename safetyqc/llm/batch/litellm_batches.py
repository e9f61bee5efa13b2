"""Batches through litellm, for providers whose batch API is OpenAI's.

As in the lane of single requests litellm retries, prices and logs nothing. Litellm would
download every answer file a second time to price it, unless it is told that somebody else does. It opens a connection
for each of these calls and leaves closing it to the garbage collector; a command makes a handful.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

from safetyqc.errors import ModelError
from safetyqc.llm.batch.direct import Place, sample_request, without_batches
from safetyqc.llm.batch.wire import TAG, WINDOW, BatchState, NoBatches, endpoint_path, read_state
from safetyqc.llm.hosts import base_of, key_of
from safetyqc.llm.litellm_client import LitellmClient, load_litellm
from safetyqc.llm.wire import headers_with

_TRANSFER_S = 600.0
_PAGE = 100
_MOST_PAGES = 20


class LitellmBatches:
    """See BatchLane."""

    def __init__(self, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self._api_key, self._timeout_s = api_key, timeout_s
        self._errors = LitellmClient(api_key=api_key, timeout_s=timeout_s)

    async def upload(self, place: Place, name: str, lines: bytes) -> str:
        """See BatchLane."""
        file = (name, BytesIO(lines), "application/jsonl")
        made = await self._call("acreate_file", place, made=True, timeout_s=_TRANSFER_S, file=file, purpose="batch")
        return str(made.id)

    async def create(self, place: Place, file_id: str, tag: str) -> BatchState:
        """See BatchLane."""
        endpoint = endpoint_path(place.endpoint)
        wanted: dict[str, Any] = {"endpoint": endpoint, "completion_window": WINDOW, "metadata": {TAG: tag}}
        return _state(await self._call("acreate_batch", place, made=True, input_file_id=file_id, **wanted))

    async def retrieve(self, place: Place, batch_id: str) -> BatchState:
        """See BatchLane."""
        unpriced = {"batch_ignore_default_logging": True}
        return _state(await self._call("aretrieve_batch", place, batch_id=batch_id, litellm_metadata=unpriced))

    async def newest(self, place: Place) -> AsyncIterator[BatchState]:
        """See BatchLane."""
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._call("alist_batches", place, limit=_PAGE, after=after)
            for entry in page.data:
                state = _state(entry)
                after = state.id
                yield state
            if not page.data or not getattr(page, "has_more", False):
                return

    async def download(self, place: Place, file_id: str) -> bytes:
        """See BatchLane."""
        found = await self._call("afile_content", place, timeout_s=_TRANSFER_S, file_id=file_id)
        return bytes(found.content)

    async def cancel(self, place: Place, batch_id: str) -> BatchState:
        """See BatchLane."""
        return _state(await self._call("acancel_batch", place, batch_id=batch_id))

    async def _call(
        self, name: str, place: Place, *, made: bool = False, timeout_s: float | None = None, **arguments: Any
    ) -> Any:
        litellm = await asyncio.to_thread(load_litellm)
        base = base_of(place.model, place.api_base)
        own = (key_of(place.model) if place.with_key else None) or "none"
        key = self._api_key or (own if base else None)
        where = {name: value for name, value in (("api_base", base), ("api_key", key)) if value is not None}
        if place.headers:
            arguments["extra_headers"] = headers_with(place.headers, None)
        limits = {"timeout": timeout_s or self._timeout_s, "max_retries": 0, "custom_llm_provider": "openai"}
        try:
            return await getattr(litellm, name)(**arguments, **where, **limits)
        except Exception as error:  # litellm lets any exception of a provider's SDK through
            if _is_connection_error(error):
                raise ModelError("provider_error", f"{place.model}: {error}", retryable=True) from error
            if made and without_batches(getattr(error, "status_code", None)):
                raise NoBatches(f"{base or place.model} has no batch API: {error}", place.model) from error
            raise self._errors.explain(sample_request(place), error) from error

    async def close(self) -> None:
        """See BatchLane."""
        await load_litellm().close_litellm_async_clients()


def _is_connection_error(error: Exception) -> bool:
    """Whether no answer came; these calls raise the SDK's own errors, which the lane of single requests never sees."""
    from openai import APIConnectionError

    return isinstance(error, APIConnectionError)


def _state(batch: Any) -> BatchState:
    return read_state(batch.model_dump() if hasattr(batch, "model_dump") else dict(batch))
