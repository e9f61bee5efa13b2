"""Asks an OpenAI-compatible server which models it serves; one GET, nothing is generated and nothing is paid.

The names that come back are a server's own words: whoever shows them makes them harmless. aiohttp is imported when it
is asked.
"""

from __future__ import annotations

import json
from typing import Any

from safetyqc.errors import FatalModelError
from safetyqc.llm.hosts import base_of, key_of
from safetyqc.llm.secrets import redact
from safetyqc.text import shorten

_LONGEST_BODY = 4_000_000


async def list_models(server: str, api_base: str | None, *, timeout_s: float = 20.0) -> tuple[str, list[str]]:
    """Ask for the names.

    Args:
        server: a prefix of model names (`ollama`, `openai`), which has its own URL and key where `api_base` is None.

    Returns:
        The base URL that was asked, and the names as `-m` takes them behind `PREFIX/`, in the server's order.

    Raises:
        UserError: the URL is none.
        FatalModelError: nobody answers there, or not with a list of models.
    """
    import aiohttp

    base = base_of(f"{server}/", api_base)
    if base is None:
        raise FatalModelError(f"where {server} lists its models is not known", fix="name the server: --api-base URL")
    key = key_of(f"{server}/")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(f"{base}/models", headers=headers, allow_redirects=False) as response,
        ):
            body, status = await response.content.read(_LONGEST_BODY), response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        fix = "is the server running there (`ollama serve`, `vllm serve MODEL`), and is the URL right?"
        raise FatalModelError(f"nobody answers at {base} ({type(error).__name__})", fix=fix) from error
    names = _names(body) if status == 200 else None
    if names is None:
        told = shorten(redact(body.decode("utf-8", "replace"), key), 120)
        fix = "give the base URL that ends in /v1" if status != 401 else "set its key in the environment"
        raise FatalModelError(f"{base}/models answers {status} without a list of models: {told}", fix=fix)
    return base, names


def _names(body: bytes) -> list[str] | None:
    """The names of an OpenAI list, or of Ollama's own; None where it is neither."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return None
    listed = told.get("data", told.get("models")) if isinstance(told, dict) else told
    if not isinstance(listed, list):
        return None
    names = [one.get("id") or one.get("name") for one in listed if isinstance(one, dict)]
    return [name for name in names if isinstance(name, str)]
