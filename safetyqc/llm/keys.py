"""Finds keys that stand in files: `NAME_API_KEY_FILE`, a `.env` in the working folder, `openroutertoken.txt`.

Only the variables that hold providers' keys are taken, never an address: a file that came with somebody's data may not
say where a key is sent. What the environment holds already goes before every file. Nothing found is ever shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetyqc.errors import UserError
from safetyqc.llm.hosts import PROVIDERS

ENV_FILE, TOKEN_FILE = Path(".env"), Path("openroutertoken.txt")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
_QUOTED = re.compile(r"""(["'])(.*?)\1\s*(?:#.*)?$""")
_LONGEST = 10_000
"""Characters of a file of one key; more is another file, named by mistake."""


def load_keys() -> dict[str, str]:
    """Put keys that stand in files into the environment, where models and worker processes look for them.

    Returns:
        The variables that were set now, each with the file that it came from.

    Raises:
        UserError: a file that a variable names cannot be read, or holds no key.
    """
    found: dict[str, str] = {}
    for variable, key, file in (*_named_files(), *_of_env_file(), *_of_token_file()):
        if key and not os.environ.get(variable):
            os.environ[variable] = key
            found[variable] = file
    return found


def _variables() -> dict[str, None]:
    return dict.fromkeys(provider.key_env for provider in PROVIDERS.values())


def _named_files() -> Iterator[tuple[str, str, str]]:
    for variable in _variables():
        name = os.environ.get(f"{variable}_FILE")
        if name and not os.environ.get(variable):
            yield variable, _one_key(Path(name).expanduser(), f"{variable}_FILE"), name


def _one_key(path: Path, where: str) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")[:_LONGEST].strip()
    except (OSError, UnicodeDecodeError) as error:
        what = f"{path}: {getattr(error, 'strerror', None) or 'is no text'}"
        raise UserError(what, where=where, fix="name a file that holds the key and nothing else") from error
    if not text or len(text.split()) > 1:
        what = f"{path} holds {'nothing' if not text else 'more than one word'}"
        raise UserError(what, where=where, fix="name a file that holds the key and nothing else")
    return text


def _of_env_file() -> Iterator[tuple[str, str, str]]:
    """Lines `NAME=VALUE` of a `.env`, for providers' keys; a file that cannot be read has none."""
    known = _variables()
    for line in _lines(ENV_FILE):
        if (told := _LINE.match(line)) and told[1] in known:
            quoted = _QUOTED.match(told[2])
            yield told[1], quoted[2] if quoted else told[2].split(" #")[0].strip(), str(ENV_FILE)


def _of_token_file() -> Iterator[tuple[str, str, str]]:
    """The key of OpenRouter, alone in a file of that name."""
    words = " ".join(_lines(TOKEN_FILE)).split()
    if len(words) == 1:
        yield "OPENROUTER_API_KEY", words[0].rpartition("=")[2].strip("\"'"), str(TOKEN_FILE)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError):
        return []
