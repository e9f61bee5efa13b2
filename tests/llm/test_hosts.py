"""A model's name leads to its base URL and key."""

from __future__ import annotations

import pytest

from safetyqc.errors import UserError
from safetyqc.llm.hosts import PROVIDERS, base_of, display_name, key_of, key_variable, own_base, wire_name


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS.values():
        for name in (provider.key_env, *provider.base_envs):
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("model", "api_base", "base"),
    [
        ("openai/gpt-4o", None, None),
        ("openrouter/x/y", None, None),
        ("anthropic/claude", None, None),
        ("ollama/qwen", None, "http://localhost:11434/v1"),
        ("hosted_vllm/org/name", None, "http://localhost:8000/v1"),
        ("anything", "http://h:1", "http://h:1/v1"),
        ("anything", "http://h:1/", "http://h:1/v1"),
        ("anything", "http://h:1/v1/", "http://h:1/v1"),
        ("anything", "https://h/api/paas/v4", "https://h/api/paas/v4"),
        ("anything", "h:1", "http://h:1/v1"),
    ],
)
def test_base_url_of_a_model(model: str, api_base: str | None, base: str | None) -> None:
    assert base_of(model, api_base) == base


def test_the_environment_names_a_base_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert base_of("openai/x", None) == "http://gateway/v1"
    assert key_of("openai/x") == key_of("org/unprefixed") == "k"


@pytest.mark.parametrize(
    ("model", "name"),
    [("openai/gpt", "gpt"), ("hosted_vllm/org/name", "org/name"), ("org/name", "org/name"), ("plain", "plain")],
)
def test_the_server_sees_its_own_name(model: str, name: str) -> None:
    assert wire_name(model) == name


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("gpt-4o", "OPENAI_API_KEY"),
        ("openrouter/x/y", "OPENROUTER_API_KEY"),
        ("hosted_vllm/x", "HOSTED_VLLM_API_KEY"),
        ("perplexity/x", "PERPLEXITYAI_API_KEY"),
    ],
)
def test_where_a_key_is_looked_for(model: str, variable: str) -> None:
    assert key_variable(model) == variable


@pytest.mark.parametrize(
    ("model", "is_meant"),
    [
        ("openai/test", True),
        ("Qwen/Qwen2.5-7B-Instruct", True),
        ("hosted_vllm/llama", True),
        ("openrouter/meta-llama/llama-3.3-70b-instruct", False),
        ("anthropic/claude", False),
        ("local", False),
        ("local:m.gguf", False),
    ],
)
def test_the_runs_base_url_is_not_for_hosted_or_embedded_models(model: str, is_meant: bool) -> None:
    assert own_base(model, "http://127.0.0.1:1/v1") == ("http://127.0.0.1:1/v1" if is_meant else None)


@pytest.mark.parametrize(
    ("model", "api_base", "name"),
    [
        ("openai/gpt-4o-mini", None, "openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", "https://api.openai.com/v1", "openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", "https://API.openai.com:443/v1/", "openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", "https://gateway.example/v1", "openai/gpt-4o-mini at gateway.example"),
        ("openai/qwen", "http://gpu1:8000/v1", "openai/qwen at gpu1:8000"),
        ("qwen", "gpu1:8000", "qwen at gpu1:8000"),
        ("qwen", "http://user:pass@gpu1:8000/v1?key=x", "qwen at gpu1:8000"),
        ("qwen", "http://[::1]:8000/v1", "qwen at [::1]:8000"),
        ("ollama/llama3", "http://localhost:11434/v1", "ollama/llama3"),
        ("ollama/llama3", "http://gpu1:11434/v1", "ollama/llama3 at gpu1:11434"),
        ("local", "http://gpu1:8000/v1", "local"),
    ],
)
def test_a_model_is_named_by_who_answers(model: str, api_base: str | None, name: str) -> None:
    assert display_name(model, api_base) == name


@pytest.mark.parametrize(
    "api_base",
    [
        *("http://[::1:8000", "http://a..b/v1", "ftp://h/v1", "http://", "http://h:99999/v1", "http://h:port/v1"),
        *("http://user:hunter2pass@h/v1", "http://h/v1?api_key=hunter2pass", "user:hunter2pass@h:1"),
    ],
)
def test_what_is_no_url_or_holds_a_secret_is_refused_without_showing_it(api_base: str) -> None:
    with pytest.raises(UserError) as caught:
        base_of("m", api_base)
    assert caught.value.fix
    assert "hunter2pass" not in str(caught.value)


@pytest.mark.parametrize("end", ["\r", "\n", " ", "\r\n"])
def test_a_line_end_is_no_part_of_a_key(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"k{end}")
    assert key_of("openai/m") == "k"
    monkeypatch.setenv("OPENAI_API_KEY", end)
    assert key_of("openai/m") is None


@pytest.mark.parametrize("odd", ["\n", "\r\n", "\x1b[0m", "\x7f"])
def test_a_key_that_no_header_may_hold_is_told_and_not_shown(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-first{odd}second")
    with pytest.raises(UserError, match="OPENAI_API_KEY: holds a line break") as raised:
        key_of("openai/m")
    assert "first" not in str(raised.value)
