"""The way to every provider: the only module that imports litellm, and only once a request needs it.

One request, one attempt, one typed outcome: litellm's own retries, logging, telemetry and cost calculation are turned
off, because the door does them once, durably and for both lanes. Endpoints of the user's own
go through litellm's `hosted_vllm` route, which uses aiohttp without the OpenAI SDK and is twice as fast.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, wraps
from typing import Any

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Endpoint, Reply, Request
from safetyqc.llm.complaints import explain_error
from safetyqc.llm.hosts import base_of, key_of, key_variable, wire_name
from safetyqc.llm.secrets import Secrets, known, redact
from safetyqc.llm.transport import TooLongError, guarded, is_guarded, reason_of
from safetyqc.llm.wire import body_of, headers_with, read_allowance, read_reply
from safetyqc.records import Usage
from safetyqc.text import shorten

_NOT_CONNECTED = "Cannot connect to host"
"""aiohttp's words, which litellm passes on under a status of 500."""
_HEADER_PREFIX = "llm_provider-"
_CALLS = {"chat": "acompletion", "completions": "atext_completion", "moderations": "amoderation"}
_OWN_ROUTES = {"chat": "hosted_vllm", "completions": "text-completion-openai", "moderations": "openai"}
_WRAPPING = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception): |\w+Exception - )+")


@cache
def load_litellm() -> Any:
    """Import litellm (seconds of CPU) with everything off that is not needed for a call; thread-safe, once."""
    # Without this litellm fetches its price list from the network while it is imported
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    collecting = gc.isenabled()
    gc.disable()  # the import allocates a million objects that all stay: collecting among them costs a second
    try:
        import litellm
    finally:
        if collecting:
            gc.enable()
    litellm.telemetry = False
    litellm.suppress_debug_info = True  # help texts would go to stdout, which is the result
    litellm.drop_params = False  # a silently dropped schema would look like a model that cannot follow one
    litellm.num_retries = 0
    _leave_costs_to_the_door(litellm)
    return litellm


def _leave_costs_to_the_door(litellm: Any) -> None:
    """Make litellm skip its cost calculation, a quarter of a call; calls that are not ours keep it."""
    calculate = getattr(litellm, "response_cost_calculator", None)
    if calculate is None:
        return

    @wraps(calculate)
    def calculate_for_others(*args: Any, **kwargs: Any) -> Any:
        return None if is_guarded() else calculate(*args, **kwargs)

    litellm.response_cost_calculator = calculate_for_others


@cache
def _internal_call() -> ContextVar[bool] | None:
    """litellm's own mark for calls that nobody logs; private, so a release without it only makes calls slower."""
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:
        return None
    return is_internal_call if isinstance(is_internal_call, ContextVar) else None


@contextmanager
def _without_bookkeeping() -> Iterator[None]:
    """Keep litellm from pricing a call and building its logging payload: half of its time, and nobody reads it."""
    mark = _internal_call()
    if mark is None:
        yield
        return
    token = mark.set(True)
    try:
        yield
    finally:
        mark.reset(token)


class LitellmClient:
    """Answers requests through litellm."""

    def __init__(self, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self._api_key, self._timeout_s = api_key, timeout_s
        self._routes: dict[tuple[str, str | None, Endpoint], dict[str, Any]] = {}
        self._secrets = known(api_key)
        self._used = False
        self._clients: list[Any] = []

    async def complete(self, request: Request) -> Reply:
        """Send one request once.

        Raises:
            ModelError: with `retryable` set where the same request may succeed later.
            FatalModelError: wrong key, wrong URL, no such model, no credit.
        """
        litellm = await asyncio.to_thread(load_litellm) if not self._used else load_litellm()
        self._used = True
        arguments = self._arguments(litellm, request)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                with guarded(), _without_bookkeeping():
                    response = await getattr(litellm, _CALLS[request.endpoint])(**arguments)
        except TimeoutError as error:
            reason = f"{request.model}: no whole answer within {self._timeout_s:g} s"
            raise ModelError("provider_error", reason, retryable=True) from error
        except Exception as error:  # litellm lets any exception of a provider's SDK through
            raise self._explain(litellm, request, error) from error
        return _read(request, response, time.monotonic() - started, self._secrets)

    def _arguments(self, litellm: Any, request: Request) -> dict[str, Any]:
        if request.endpoint == "moderations":
            return {**self._route(litellm, request), "input": request.messages[-1]["content"]}
        body = body_of(replace(request, extra=None))
        if "messages" in body:
            body["messages"] = [dict(m) for m in body["messages"]]
        if request.extra:
            body["extra_body"] = dict(request.extra)
        if request.headers:
            # The route of endpoints of one's own reads the one name, most providers the other
            body["headers"] = body["extra_headers"] = headers_with(request.headers, None)
            self._secrets = known(self._api_key)
        own = {"timeout": self._timeout_s, "max_retries": 0, "num_retries": 0, "no-log": True}
        return {**body, **own, **self._route(litellm, request)}

    def _route(self, litellm: Any, request: Request) -> dict[str, Any]:
        """Model, base and key as litellm wants them; resolved once per model."""
        found = self._routes.get((request.model, request.api_base, request.endpoint))
        if found is not None:
            return found
        base = base_of(request.model, request.api_base)
        if base is None:
            route: dict[str, Any] = {"model": request.model}
            if self._api_key:
                route["api_key"] = self._api_key
            else:
                refuse_missing_key(request.model)
        else:
            model = f"{_OWN_ROUTES[request.endpoint]}/{wire_name(request.model)}"
            route = {"model": model, "api_base": base, "api_key": self._key(request) or "none"}
            if request.endpoint == "completions":
                route["client"] = self._own_client(base, route["api_key"])
            # Without a price litellm fails its own look-up on every call, and a price of zero makes it look for a
            # mistake on every call; its figure is never read, the door computes its own
            price = {"input_cost_per_token": 1e-15, "output_cost_per_token": 1e-15, "mode": "chat"}
            litellm.register_model({model: {**price, "litellm_provider": "hosted_vllm", "max_tokens": 1_000_000}})
        self._routes[request.model, request.api_base, request.endpoint] = route
        return route

    def _key(self, request: Request) -> str | None:
        own = next((v for n, v in (request.headers or {}).items() if n.lower() == "authorization"), None)
        if own is not None:
            # litellm writes this header itself, from a key
            scheme, _, token = own.partition(" ")
            if scheme.lower() != "bearer":
                fix = "--lane direct sends it as it is"
                raise FatalModelError(f"{request.model}: litellm sends no Authorization but a Bearer's", fix=fix)
            return token
        return self._api_key or (key_of(request.model) if request.with_key else None)

    def _own_client(self, base: str, key: str) -> Any:
        """litellm makes a client of its own for every text completion otherwise, and closes none."""
        from openai import AsyncOpenAI

        self._clients.append(AsyncOpenAI(base_url=base, api_key=key, timeout=self._timeout_s, max_retries=0))
        return self._clients[-1]

    def explain(self, request: Request, error: Exception) -> ModelError:
        """The typed outcome of an error that litellm raised about such a request."""
        return self._explain(load_litellm(), request, error)

    def _explain(self, litellm: Any, request: Request, error: Exception) -> ModelError:
        key = self._api_key or key_of(request.model)
        if (refused := reason_of(error)) is not None:
            if isinstance(refused, TooLongError):
                return ModelError("bad_json", str(refused), usage=Usage())
            return explain_error(refused.status, "", model=request.model, key=key)
        said = _said(error)
        reason = f"{request.model}: {shorten(redact(str(said)[:5_000], key), 300)}"
        if isinstance(error, litellm.UnsupportedParamsError):
            return explain_error(400, said, model=request.model, key=key)
        if isinstance(error, litellm.ContentPolicyViolationError):
            return ModelError("filtered_by_provider", reason)
        if isinstance(error, litellm.Timeout):
            reason = f"{request.model}: no whole answer within {self._timeout_s:g} s"
            return ModelError("provider_error", reason, retryable=True)
        if "LLM Provider NOT provided" in str(said):
            fix = "name the provider first, like openai/gpt-4o-mini or openrouter/..., or give --api-base URL"
            return FatalModelError(f"no provider is known for the model {request.model!r}", fix=fix)
        if _NOT_CONNECTED in str(said):
            return ModelError("provider_error", reason, retryable=True, unreachable=True)
        status = getattr(error, "status_code", None)
        if isinstance(error, litellm.APIConnectionError) or (isinstance(status, int) and status < 400):
            # A status of 200 here is an answer that litellm could not read: a proxy's page, or a broken body
            return ModelError("provider_error", reason, retryable=True)
        if not isinstance(status, int):
            return ModelError("provider_error", f"{type(error).__name__}: {reason}")
        base = base_of(request.model, request.api_base) or ""
        return explain_error(status, said, model=request.model, base=base, headers=_error_headers(error), key=key)

    async def close(self) -> None:
        """Close litellm's cached connections, which it would leak once per event loop."""
        while self._clients:
            await self._clients.pop().close()
        if self._used:
            self._used = False
            self._routes.clear()
            await load_litellm().close_litellm_async_clients()


def refuse_missing_key(model: str) -> None:
    """Stop before a call that no provider could let in; without a key some SDKs fail in ways that look retryable.

    Raises:
        FatalModelError: with the variable that holds it.
    """
    missing = load_litellm().validate_environment(model=model).get("missing_keys") or []
    if os.environ.get(key_variable(model)) == "":
        missing = [key_variable(model)]  # set to nothing, which litellm takes for a key
    # Others (AWS, Google, Azure) have further ways to log in, which litellm's list does not know
    if missing and all(name.endswith("_API_KEY") for name in missing):
        names = " or ".join(missing)
        fix = f"set {names} in the environment, or name another model"
        raise FatalModelError(f"no key for {model}: {names} is not set", fix=fix)


def _said(error: Exception) -> Any:
    """The provider's own words, parsed where they are JSON, without litellm's class names and tracebacks around."""
    text = _WRAPPING.sub("", str(getattr(error, "message", None) or error)).partition("Traceback (most")[0].strip()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _error_headers(error: Exception) -> Mapping[str, str]:
    for holder in (error, getattr(error, "response", None)):
        for name in ("litellm_response_headers", "headers"):
            headers = getattr(holder, name, None)
            if headers:
                return {str(k).lower().removeprefix(_HEADER_PREFIX): str(v) for k, v in dict(headers).items()}
    return {}


def _read(request: Request, response: Any, latency_s: float, secrets: Secrets) -> Reply:
    hidden = getattr(response, "_hidden_params", None) or {}
    headers = {
        str(k).lower().removeprefix(_HEADER_PREFIX): str(v) for k, v in (hidden.get("additional_headers") or {}).items()
    }
    told = response.model_dump() if not request.is_plain_chat else _completion(response)
    return read_reply(
        told,
        model=request.model,
        latency_s=latency_s,
        allowance=read_allowance(headers),
        endpoint=request.endpoint,
        wants_object=request.schema is not None,
        secrets=secrets,
    )


def _completion(response: Any) -> dict[str, Any]:
    """A chat completion as a server of OpenAI's dialect would have sent it."""
    usage = getattr(response, "usage", None)
    counted = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")} if usage else None
    return {"choices": [_choice(choice) for choice in getattr(response, "choices", None) or []], "usage": counted}


def _choice(choice: Any) -> dict[str, Any]:
    message = choice.message
    extra = message.get("provider_specific_fields") or {}
    calls = getattr(message, "tool_calls", None) or ()
    told = {
        "content": message.content,
        "refusal": getattr(message, "refusal", None) or extra.get("refusal"),
        "tool_calls": [{"function": {"arguments": call.function.arguments}} for call in calls],
        "reasoning_content": getattr(message, "reasoning_content", None) or extra.get("reasoning"),
    }
    return {"message": told, "finish_reason": choice.finish_reason}
