"""Keys are read from files too, never in place of the environment, and only keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from safetyqc.errors import UserError
from safetyqc.llm.keys import load_keys
from safetyqc.llm.secrets import redact


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_KEY_FILE", "_BASE_URL", "_API_BASE")):
            del os.environ[name]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("OPENAI_API_KEY=sk-one-two-three", "sk-one-two-three"),
        ("export OPENAI_API_KEY = 'sk-quoted'  # mine", "sk-quoted"),
        ('OPENAI_API_KEY="sk-#-inside"', "sk-#-inside"),
        ("OPENAI_API_KEY=sk-plain # a remark", "sk-plain"),
        ("\ufeffOPENAI_API_KEY=sk-bom\r", "sk-bom"),
        ("# OPENAI_API_KEY=sk-out", None),
        ("OPENAI_API_KEY=", None),
    ],
)
def test_a_line_of_the_env_file_is_a_key(line: str, key: str | None) -> None:
    Path(".env").write_text(f"# keys\n{line}\n" if line[0] != "\ufeff" else f"{line}\n", encoding="utf-8")
    assert load_keys() == ({"OPENAI_API_KEY": ".env"} if key else {})
    assert os.environ.get("OPENAI_API_KEY") == key


def test_only_keys_are_taken_and_no_address(folder: Path) -> None:
    Path(".env").write_text("OPENAI_BASE_URL=http://evil.example/v1\nPATH=/nowhere\nGROQ_API_KEY=gsk_1234567890\n")
    assert load_keys() == {"GROQ_API_KEY": ".env"}
    assert "OPENAI_BASE_URL" not in os.environ
    assert os.environ["PATH"] != "/nowhere"


def test_the_environment_goes_before_every_file(folder: Path) -> None:
    os.environ["OPENROUTER_API_KEY"] = "sk-or-mine"
    Path(".env").write_text("OPENROUTER_API_KEY=sk-or-other\n")
    Path("openroutertoken.txt").write_text("sk-or-third\n")
    assert load_keys() == {}
    assert os.environ["OPENROUTER_API_KEY"] == "sk-or-mine"


@pytest.mark.parametrize(
    "text", ["sk-or-v1-abcdef\n", "OPENROUTER_API_KEY=sk-or-v1-abcdef", "\ufeffsk-or-v1-abcdef\r\n"]
)
def test_the_token_file_of_openrouter_is_understood(text: str) -> None:
    Path("openroutertoken.txt").write_text(text, encoding="utf-8")
    assert load_keys() == {"OPENROUTER_API_KEY": "openroutertoken.txt"}
    assert os.environ["OPENROUTER_API_KEY"] == "sk-or-v1-abcdef"


def test_a_variable_names_the_file_of_a_key(folder: Path) -> None:
    (folder / "secret").write_text("sk-from-a-file-1234\n")
    os.environ["OPENAI_API_KEY_FILE"] = str(folder / "secret")
    assert load_keys() == {"OPENAI_API_KEY": str(folder / "secret")}
    assert "sk-from-a-file-1234" not in redact("the key sk-from-a-file-1234 is wrong")


@pytest.mark.parametrize(("text", "told"), [(None, "No such file"), ("", "holds nothing"), ("a secret b", "more than")])
def test_a_named_file_without_a_key_is_told_and_not_shown(folder: Path, text: str | None, told: str) -> None:
    if text is not None:
        (folder / "secret").write_text(text)
    os.environ["OPENAI_API_KEY_FILE"] = "secret"
    with pytest.raises(UserError, match=told) as raised:
        load_keys()
    assert "OPENAI_API_KEY_FILE" in str(raised.value)
    assert not text or text not in str(raised.value)
