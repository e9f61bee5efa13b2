"""Where each model of a command is asked: at one base URL for many, or by what single models have of their own.

A base URL that is given for a command is for the servers that people run themselves. An entry of a model's own goes
before it, and so does OpenAI for its own models where one of such a server is named beside them. Nothing is asked here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from safetyqc.formats.yaml_file import Misfit
from safetyqc.llm.client import Request
from safetyqc.llm.hosts import (
    NANOCHAT,
    PROVIDERS,
    base_of,
    display_name,
    host_of,
    is_in_process,
    is_nanochat,
    key_variable,
    own_base,
    provider_of,
    wire_name,
)
from safetyqc.llm.prices import listed
from safetyqc.records import Record

_OURS = ("model", "messages", "prompt", "input", "stream", "n", "response_format", "logprobs", "top_logprobs")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUR_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "accept-encoding"})

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _check_header(value: object) -> object:
    """Refuse what no header can hold, without showing it: it may be a key."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or not text.isascii():
        raise Misfit("a header's value is one line of ASCII text (not shown here)", fix="put it in quotes")
    return value


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name in headers:
        if not _HEADER.fullmatch(name) or name.lower() in _OUR_HEADERS:
            raise Misfit(f"no header to set: {name!r}", at=(name,), fix="give names such as Authorization or X-Team")
    return headers


def _check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    for name in _OURS:
        if name in parameters:
            raise Misfit(f"{name!r} is safetyqc's own to set", at=(name,), fix="leave it out: answers are read by it")
    return parameters


class Own(Record):
    """What one model has of its own; headers' values are never shown."""

    api_base: str | None = None
    headers: Annotated[
        dict[str, Annotated[SecretStr, BeforeValidator(_check_header)]], AfterValidator(_check_headers)
    ] = Field(default_factory=dict)
    parameters: Annotated[dict[str, Any], AfterValidator(_check_parameters)] = Field(default_factory=dict)
    """Further fields of every request's body, such as `chat_template_kwargs`."""
    prices: tuple[Usd, Usd] | None = None
    """USD per million (prompt, completion) tokens."""


def check_own(by_name: dict[str, Own]) -> dict[str, Own]:
    """Refuse entries that could never be followed.

    Raises:
        Misfit: a base URL for a hosted provider's model, or more than prices for a model in this process.
    """
    for model, own in by_name.items():
        provider = provider_of(model)
        if own.api_base is not None and provider is not None and provider.is_hosted:
            fix = f"name the model openai/{model.partition('/')[2]}, here and in commands, to ask it there"
            raise Misfit(f"{model!r} is asked at its provider's own URL", at=(model, "api_base"), fix=fix)
        if is_in_process(model) and (own.api_base or own.headers or own.parameters):
            raise Misfit(f"{model!r} runs in this process: no request is sent", at=(model,), fix="leave the entry out")
    return by_name


@dataclass(frozen=True)
class Places:
    """See the module.

    Args:
        api_base: for every model that no other rule is about.
        elsewhere: models that `api_base` is not for.
        fills_in: whether requests without a base URL go to `api_base`; not where each already says where it goes.
        unvouched: base URLs that a run's folder names, and that get a key only if a flag or the environment names them.
        shows_key: whether `api_base` is shown the provider's key.
    """

    api_base: str | None = None
    by_name: Mapping[str, Own] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    fills_in: bool = True
    unvouched: frozenset[str] = frozenset()
    shows_key: bool = True
    _found: dict[tuple[str, bool], tuple[str | None, bool]] = field(default_factory=dict, compare=False, repr=False)

    def own(self, model: str) -> Own | None:
        """The entry of a model, under its name with or without the prefix of a server."""
        return (self.by_name.get(model) or self.by_name.get(wire_name(model))) if self.by_name else None

    def given(self, model: str) -> str | None:
        """The base URL that settings name for this model, as they do; None: what `base_of` makes of that."""
        own = self.own(model)
        if own is not None and own.api_base is not None and not is_in_process(model):
            return own.api_base
        return None if model in self.elsewhere else own_base(model, self.api_base)

    def base(self, model: str) -> str | None:
        """The base URL that a model is asked at; None at a provider's own."""
        return base_of(model, self.given(model))

    def headers(self, model: str) -> dict[str, str]:
        """The headers of a model's own, which may be secret."""
        own = self.own(model)
        return {name: value.get_secret_value() for name, value in own.headers.items()} if own else {}

    def dress(self, request: Request) -> Request:
        """The request with its model's own headers and parameters; what a request asks for itself goes before."""
        own = self.own(request.model)
        if own is None or not (own.headers or own.parameters):
            return request
        return replace(
            request,
            headers=self.headers(request.model) or None,
            extra=(own.parameters | dict(request.extra or {})) or None,
        )

    def place(self, request: Request) -> Request:
        """The request with the base URL that it will be sent to, and with what is its model's own."""
        if request.headers is None:
            request = self.dress(request)
        base = request.api_base
        if base not in (None, self.api_base) or is_in_process(request.model):
            return request if self._is_vouched(request) else replace(request, with_key=False)
        fills_in = base is not None or self.fills_in
        if (request.model, fills_in) not in self._found:
            places = self if fills_in else Places(None, self.by_name)
            given = places.given(request.model)
            self._found[request.model, fills_in] = given, self.may_show_key(request.model, given)
        given, with_key = self._found[request.model, fills_in]
        same = (given, with_key) == (request.api_base, request.with_key)
        return request if same else replace(request, api_base=given, with_key=with_key)

    def _is_vouched(self, request: Request) -> bool:
        return request.api_base not in self.unvouched or self.may_show_key(request.model, request.api_base)

    def may_show_key(self, model: str, api_base: str | None) -> bool:
        """Whether a server that a file names is the provider's own, or one that a flag or the environment names too."""
        given = self.api_base if self.shows_key else None
        known = {base_of(model, base) for base in (given, None) if base is not None or base_of(model, None)}
        asked = base_of(model, api_base)
        return api_base is None or asked in known or (asked is not None and is_providers_own(model, asked))

    def for_fallback(self, request: Request, fallback: str) -> Request:
        """The same question without what the first model has of its own: base URL, headers, parameters."""
        own = self.own(request.model)
        extra = {n: v for n, v in (request.extra or {}).items() if own is None or own.parameters.get(n) != v}
        placed = request.api_base == self.given(request.model)
        base = None if placed else _base_for(fallback, request)
        return replace(request, model=fallback, api_base=base, headers=None, extra=extra or None)


def _base_for(fallback: str, request: Request) -> str | None:
    """A fallback of the same kind lives at the same base URL; another provider has its own."""
    return request.api_base if host_of(fallback) is host_of(request.model) and not is_in_process(fallback) else None


def not_at_base(models: Sequence[str]) -> frozenset[str]:
    """OpenAI's own models, where a model of another kind of server is named beside them.

    `-m ollama/llama3 --judge openai/gpt-4o-mini --api-base URL` means the URL for the first: the same name on a server
    of one's own would be another model, and nobody is to take its verdicts for OpenAI's.
    """
    if not any(host_of(model) and not model.startswith("openai/") for model in models):
        return frozenset()
    return frozenset(model for model in models if _is_openais(model))


def _is_openais(model: str) -> bool:
    name = model.removeprefix("openai/")
    return "/" not in name and not is_in_process(model) and (listed(name) or {}).get("litellm_provider") == "openai"


def is_providers_own(model: str, base: str) -> bool:
    """Whether a base URL is the one at which the model's own provider answers, safe from listeners."""
    named = model if "/" in model else f"openai/{model}"
    return base.startswith("https://") and display_name(named, base) == named


def told_place(request: Request, *, has_key: bool) -> str:
    """Say where a model is asked, and with which key: its variable, never the key.

    Args:
        has_key: one was given otherwise than by the environment.
    """
    base = base_of(request.model, request.api_base)
    if is_nanochat(request.model):
        return f"{request.model.removeprefix(NANOCHAT)} is asked as a nanochat server, without a key"
    variable = (host_of(request.model) or PROVIDERS["openai"]).key_env if base else key_variable(request.model)
    found = has_key or os.environ.get(variable)
    provider = provider_of(request.model)
    prefix = request.model.partition("/")[0] if "/" in request.model else "openai"
    host = re.split(r"[/?#]", base.partition("://")[2], maxsplit=1)[0] if base else None
    at = host or (provider.host if provider and provider.host else f"{prefix}'s own URL")
    if base is None and prefix == "openai":
        at = "api.openai.com"
    key = f"with the key in {variable}" if found and request.with_key else "without a key"
    headers = f" and the headers {', '.join(request.headers)}" if request.headers else ""
    return f"{request.model} is asked at {at}, {key}{headers}"
