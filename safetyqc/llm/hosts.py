"""Knows the providers of models, and where servers of the user's own are found: from a name to a base URL and a key.

It opens no connection. A bare host and port is completed with `/v1`, the commonest slip.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from safetyqc.errors import UserError
from safetyqc.llm.secrets import redact

EMBEDDED = "local"
"""What needs no server and no key: as an author the small model in llama.cpp, as a judge the embedded classifier.
With a path behind it (`local:PATH.gguf`) a model of the user's own, run in this process."""


NANOCHAT = "nanochat:"
"""Before the URL of nanochat's own web server, which is a model's whole name."""


@dataclass(frozen=True)
class Provider:
    """What a prefix of model names means; every list of providers is read from here.

    Args:
        key_env: the variable that holds its key.
        base_envs: variables that name a server of the user's own; a prefix that has some speaks OpenAI's dialect there.
        default_base: where such a server answers when no variable says so.
        host: where the provider itself answers: a model that is asked there needs no address beside its name.
        is_native: speaks no OpenAI dialect at its own base URL, so litellm translates for it.
        has_batches: its batch API is OpenAI's own.
        is_wish: whoever has set its key means to use its models; other programs use such a key too where it is not.
    """

    key_env: str
    base_envs: tuple[str, ...] = ()
    default_base: str | None = None
    host: str | None = None
    is_native: bool = False
    has_batches: bool = False
    is_wish: bool = True

    @property
    def is_hosted(self) -> bool:
        """Whether it has an endpoint of its own, so that a run's base URL is not for its models."""
        return not self.base_envs


def _server(name: str, *base_envs: str, at: str) -> Provider:
    """Declare a kind of server that people run themselves."""
    return Provider(f"{name}_API_KEY", base_envs, at, is_wish=False)


_VLLM = _server("HOSTED_VLLM", "HOSTED_VLLM_API_BASE", at="http://localhost:8000/v1")
_OLLAMA = _server("OLLAMA", "OLLAMA_API_BASE", "OLLAMA_HOST", at="http://localhost:11434/v1")
_COHERE = Provider("COHERE_API_KEY", is_native=True)

PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE"), host="api.openai.com", has_batches=True
    ),
    "openrouter": Provider("OPENROUTER_API_KEY", host="openrouter.ai"),
    "anthropic": Provider("ANTHROPIC_API_KEY", host="api.anthropic.com", is_native=True),
    "gemini": Provider("GEMINI_API_KEY", host="generativelanguage.googleapis.com", is_native=True),
    "groq": Provider("GROQ_API_KEY", host="api.groq.com"),
    "mistral": Provider("MISTRAL_API_KEY", host="api.mistral.ai"),
    "deepseek": Provider("DEEPSEEK_API_KEY", host="api.deepseek.com"),
    "together_ai": Provider("TOGETHERAI_API_KEY", host="api.together.xyz"),
    "azure": Provider("AZURE_API_KEY", is_native=True),
    "azure_ai": Provider("AZURE_AI_API_KEY", is_native=True),
    "cohere": _COHERE,
    "cohere_chat": _COHERE,
    "dashscope": Provider("DASHSCOPE_API_KEY"),
    "deepinfra": Provider("DEEPINFRA_API_KEY"),
    "fireworks_ai": Provider("FIREWORKS_AI_API_KEY"),
    "moonshot": Provider("MOONSHOT_API_KEY"),
    "nvidia_nim": Provider("NVIDIA_NIM_API_KEY"),
    "perplexity": Provider("PERPLEXITYAI_API_KEY"),
    "replicate": Provider("REPLICATE_API_KEY", is_native=True),
    "watsonx": Provider("WATSONX_API_KEY", is_native=True),
    "xai": Provider("XAI_API_KEY", host="api.x.ai"),
    "zai": Provider("ZAI_API_KEY"),
    "bedrock": Provider("AWS_ACCESS_KEY_ID", is_native=True, is_wish=False),
    "sagemaker": Provider("AWS_ACCESS_KEY_ID", is_native=True, is_wish=False),
    "vertex_ai": Provider("GOOGLE_APPLICATION_CREDENTIALS", is_native=True, is_wish=False),
    "hosted_vllm": _VLLM,
    "vllm": _VLLM,
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "lm_studio": _server("LM_STUDIO", "LM_STUDIO_API_BASE", at="http://localhost:1234/v1"),
    "llamafile": _server("LLAMAFILE", "LLAMAFILE_API_BASE", at="http://localhost:8080/v1"),
}
"""Providers by the prefix of their models' names, as litellm names them; the commonest first."""


def provider_of(model: str) -> Provider | None:
    """The provider that a model's prefix names; None for a bare name and for a prefix that nobody told of."""
    prefix, slash, _ = model.partition("/")
    return PROVIDERS.get(prefix) if slash else None


def wished_keys() -> list[str]:
    """The variables whose presence means that the user has a provider in mind."""
    return list(dict.fromkeys(p.key_env for p in PROVIDERS.values() if p.is_wish))


def is_in_process(model: str) -> bool:
    """Whether a model runs in this process: `local` or `local:PATH`."""
    return model == EMBEDDED or model.startswith(EMBEDDED + ":")


def is_nanochat(model: str) -> bool:
    """Whether a model is a nanochat server, which is asked in a way of its own."""
    return model.startswith(NANOCHAT)


def nanochat_url(model: str) -> str:
    """The address of a nanochat server, from a model's name.

    Raises:
        UserError: it is no URL.
    """
    return _completed(model.removeprefix(NANOCHAT)).removesuffix("/v1")


def host_of(model: str) -> Provider | None:
    """The provider of a model's prefix, where it means an OpenAI-compatible server that may be the user's own."""
    provider = provider_of(model)
    return provider if provider and provider.base_envs else None


def own_base(model: str, api_base: str | None) -> str | None:
    """The run's base URL where it is meant for this model: not in this process, not at a hosted provider."""
    provider = provider_of(model)
    return None if is_in_process(model) or is_nanochat(model) or (provider and provider.is_hosted) else api_base


def base_of(model: str, api_base: str | None) -> str | None:
    """Base URL that a model is served at; None when it is not an endpoint of the user's own.

    Raises:
        UserError: it is no URL, or holds a login or a key, which would stand in the ledger and in messages.
    """
    if is_nanochat(model):
        return nanochat_url(model)
    host = host_of(model)
    if api_base is None and host is not None:
        api_base = next((os.environ[name] for name in host.base_envs if os.environ.get(name)), host.default_base)
    if api_base is None:
        return None
    return _completed(api_base)


@lru_cache(maxsize=64)
def _completed(api_base: str) -> str:
    """A base URL with scheme and path: servers live under /v1, and a bare host and port is the commonest slip."""
    url = api_base.strip() if "://" in api_base else f"http://{api_base.strip()}"
    fix = "give --api-base like http://host:8000/v1"
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError as error:
        raise UserError(f"not a URL: {redact(api_base)!r} ({error})", where="base URL", fix=fix) from error
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise UserError(f"not a URL: {redact(api_base)!r}", where="base URL", fix=fix)
    if parts.username is not None or parts.query or parts.fragment:
        what = "a URL with a login, a query or a fragment is not taken: it would stand in the ledger and in messages"
        raise UserError(what, where="base URL", fix=f"{fix}, and the key in OPENAI_API_KEY")
    return url.rstrip("/") + ("/v1" if parts.path in ("", "/") else "")


def key_variable(model: str) -> str:
    """The environment variable that holds the key for a model."""
    prefix, slash, _ = model.partition("/")
    provider = PROVIDERS.get(prefix if slash else "openai")
    return provider.key_env if provider else f"{prefix.upper().replace('-', '_')}_API_KEY"


def key_of(model: str) -> str | None:
    """The API key for an endpoint of the user's own, from its environment variable; OpenAI's where none is known.

    Raises:
        UserError: it holds what no header may hold, such as a line break in its midst.
    """
    variable = (host_of(model) or PROVIDERS["openai"]).key_env
    # Files with Windows line ends leave a \r behind
    key = (os.environ.get(variable) or "").strip()
    if not key.isprintable():
        what = "holds a line break or another control character in its midst, as no key does"
        raise UserError(what, where=variable, fix="set it again, in one piece")
    return key or None


def wire_name(model: str) -> str:
    """The model's name as the server knows it: without the prefix of a server."""
    return model.partition("/")[2] if host_of(model) else model


def display_name(model: str, api_base: str | None) -> str:
    """Name a model by who answers: `MODEL at HOST:PORT`, or MODEL alone where it is asked at its provider's own URL.

    Args:
        api_base: the URL that was asked; None for the provider's own. The environment is not looked at, so the name
            of what an old run asked does not depend on who opens it.
    """
    if api_base is None or is_in_process(model) or is_nanochat(model):
        return model
    asked, provider = _address(api_base), provider_of(model)
    own = (provider.host, provider.default_base and _address(provider.default_base)) if provider else ()
    return model if asked in own else f"{model} at {asked}"


def _address(url: str) -> str:
    """HOST:PORT of a URL, without a login, and without a port that its scheme implies."""
    scheme, _, rest = url.rpartition("://")
    address = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
    return address.removesuffix(":443" if scheme.lower() == "https" else ":80")
