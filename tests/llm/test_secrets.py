"""Keys and passwords reach no text that people will see."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from safetyqc.llm.secrets import known, redact


@pytest.mark.parametrize(
    "text", ["key sk-abcdefghijklmnopqrst is wrong", "Authorization: Bearer abc.def", "the key tr0ub4dor is wrong"]
)
def test_keys_never_reach_a_message(text: str) -> None:
    shown = redact(text, "tr0ub4dor")
    assert "[key]" in shown
    assert not any(secret in shown for secret in ("sk-abc", "abc.def", "tr0ub4dor"))


KEY = "Zq8-0123456789abcdefXYZ"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"cut {KEY[:15]}",
        KEY.encode().hex(),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        quote(f"{KEY}/+", safe=""),
    ],
)
@pytest.mark.parametrize("variable", ["DEEPSEEK_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"])
def test_every_secret_of_the_environment_is_found_whole_cut_and_encoded(
    text: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, KEY + "/+" if "%2F" in text else KEY)
    hidden = known().hide(f"a {text} b")
    assert "[key]" in hidden
    assert text not in hidden


@pytest.mark.parametrize("value", ["none", "EMPTY", "ollama", "password"])
def test_placeholders_are_no_secrets(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    assert known().hide(f"his {value} is here") == f"his {value} is here"


@pytest.mark.parametrize(
    "text",
    [
        "at http://user:hunter2pass@h:1/v1",
        "InvalidURL: pu:hunter2pass@proxy:3128",
        "http://h/v1?api_key=hunter2pass&x=1",
        "ghp_0123456789abcdefhunter2pass",
        "AKIAIOSFODNN7hunter2pass",
        "Incorrect API key provided: abcdefhunter2pass",
        "eyJhbGciOiJIUzI1NiJ9.hunter2pass.sig",
        "Authorization: Basic aHVudGVyMnBhc3M=hunter2pass",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_errors(text: str) -> None:
    assert "hunter2pass" not in redact(text)


@pytest.mark.parametrize("text", ["http://h:8000/v1 refused", "429 too many requests", "user: hi, assistant: ho"])
def test_plain_words_stay(text: str) -> None:
    assert redact(text) == text


def test_a_known_key_that_is_part_of_another_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "0123456789abcdef")
    assert "hunter2pass" not in redact("ghp_0123456789abcdefhunter2pass")
