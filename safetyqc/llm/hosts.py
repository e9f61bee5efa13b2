"""Knows where OpenAI-compatible servers of the user's own are found: from a model's name to a base URL and a key.

It opens no connection. The one surprising thing: a bare host and port is completed with `/v1`, the commonest slip.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

EMBEDDED = "local"
"""What needs no server and no key: as an author the small model in llama.cpp, as a judge the embedded classifier.
With a path behind it (`local:PATH.gguf`) a model of the user's own, run in this process."""


@dataclass(frozen=True)
class Host:
    """Where a prefix of model names is served, and where its key is looked for."""

    key_env: str
    base_envs: tuple[str, ...]
    default_base: str | None = None


HOSTS: dict[str, Host] = {
    "openai": Host("OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "hosted_vllm": Host("HOSTED_VLLM_API_KEY", ("HOSTED_VLLM_API_BASE",), "http://localhost:8000/v1"),
    "vllm": Host("HOSTED_VLLM_API_KEY", ("HOSTED_VLLM_API_BASE",), "http://localhost:8000/v1"),
    "ollama": Host("OLLAMA_API_KEY", ("OLLAMA_API_BASE", "OLLAMA_HOST"), "http://localhost:11434/v1"),
    "ollama_chat": Host("OLLAMA_API_KEY", ("OLLAMA_API_BASE", "OLLAMA_HOST"), "http://localhost:11434/v1"),
    "lm_studio": Host("LM_STUDIO_API_KEY", ("LM_STUDIO_API_BASE",), "http://localhost:1234/v1"),
    "llamafile": Host("LLAMAFILE_API_KEY", ("LLAMAFILE_API_BASE",), "http://localhost:8080/v1"),
}
"""Prefixes of model names that mean an OpenAI-compatible server of the user's own."""


HOSTED = frozenset(
    (
        *("anthropic", "azure", "azure_ai", "bedrock", "cohere", "cohere_chat", "dashscope", "deepinfra", "deepseek"),
        *("fireworks_ai", "gemini", "groq", "mistral", "moonshot", "nvidia_nim", "openrouter", "perplexity"),
        *("replicate", "sagemaker", "together_ai", "vertex_ai", "watsonx", "xai", "zai"),
    )
)
"""Prefixes that mean a provider with an endpoint of its own, so that a run's base URL is not for its models."""

OWN_HOSTS = {
    "anthropic": "api.anthropic.com",
    "deepseek": "api.deepseek.com",
    "gemini": "generativelanguage.googleapis.com",
    "groq": "api.groq.com",
    "mistral": "api.mistral.ai",
    "openai": "api.openai.com",
    "openrouter": "openrouter.ai",
    "together_ai": "api.together.xyz",
    "xai": "api.x.ai",
}
"""Where a provider itself answers: a model that is asked there needs no address beside its name."""


def is_in_process(model: str) -> bool:
    """Whether a model runs in this process: `local` or `local:PATH`."""
    return model == EMBEDDED or model.startswith(EMBEDDED + ":")


def host_of(model: str) -> Host | None:
    """The entry of HOSTS that a model's prefix names."""
    prefix, slash, _ = model.partition("/")
    return HOSTS.get(prefix) if slash else None


def own_base(model: str, api_base: str | None) -> str | None:
    """The run's base URL where it is meant for this model: not in this process, not at a hosted provider."""
    prefix, slash, _ = model.partition("/")
    is_elsewhere = is_in_process(model) or (bool(slash) and prefix in HOSTED)
    return None if is_elsewhere else api_base


def base_of(model: str, api_base: str | None) -> str | None:
    """Base URL that a model is served at; None when it is not an endpoint of the user's own."""
    host = host_of(model)
    if api_base is None and host is not None:
        api_base = next((os.environ[name] for name in host.base_envs if os.environ.get(name)), host.default_base)
    if api_base is None:
        return None
    if "://" not in api_base:
        api_base = f"http://{api_base}"
    # Servers live under /v1; a bare host and port is the commonest slip
    return api_base.rstrip("/") + ("/v1" if urlsplit(api_base).path in ("", "/") else "")


def key_variable(model: str) -> str:
    """The environment variable that holds the key for a model."""
    prefix, slash, _ = model.partition("/")
    host = HOSTS.get(prefix if slash else "openai")
    return host.key_env if host else f"{prefix.upper().replace('-', '_')}_API_KEY"


def key_of(model: str) -> str | None:
    """The API key for an endpoint of the user's own, from its environment variable; OpenAI's where none is known."""
    host = host_of(model) or HOSTS["openai"]
    return os.environ.get(host.key_env)


def wire_name(model: str) -> str:
    """The model's name as the server knows it: without a prefix of HOSTS."""
    return model.partition("/")[2] if host_of(model) else model


def display_name(model: str, api_base: str | None) -> str:
    """Name a model by who answers: `MODEL at HOST:PORT`, or MODEL alone where it is asked at its provider's own URL.

    Args:
        api_base: the URL that was asked; None for the provider's own. The environment is not looked at, so the name
            of what an old run asked does not depend on who opens it.
    """
    if api_base is None or is_in_process(model):
        return model
    asked, host = _address(api_base), host_of(model)
    own = {_address(host.default_base)} if host and host.default_base else set()
    prefix, slash, _ = model.partition("/")
    if slash and prefix in OWN_HOSTS:
        own.add(OWN_HOSTS[prefix])
    return model if asked in own else f"{model} at {asked}"


def _address(url: str) -> str:
    """HOST:PORT of a URL, without a login, and without a port that its scheme implies."""
    scheme, _, rest = url.rpartition("://")
    address = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
    return address.removesuffix(":443" if scheme.lower() == "https" else ":80")
