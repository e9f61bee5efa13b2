"""Takes keys and passwords out of texts that come from outside: errors, answers, addresses.

Known ones (the environment's, those that were given) are found whole, cut or encoded, in any text. What only looks like
a key is taken out of error texts alone: an answer may speak of such things. It knows nothing of providers: whatever
the environment calls a key, token, secret or password counts.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from urllib.parse import quote, unquote

_NAMES = re.compile(r"(?:API_?KEY|_KEY|TOKEN|SECRET|PASSWORD|PASSWD|_PAT|CREDENTIALS?)(?:_ID)?$", re.IGNORECASE)
_SHORTEST = 8
_RECOGNISED = 12
"""Characters of a long key's beginning or end that give it away where it was cut."""
_MASK = "[key]"
_TAIL = r"[A-Za-z0-9_\-.+/=*…]{0,200}"
_LOGIN = re.compile(
    r"(?<=//)[^/\s@]{1,300}@|(?<![\w/])[^\s/:@'\"(]{1,100}:[^\s/@'\"]{1,200}@(?=[\w.\-\[\]]+(?::\d|/|$))"
)
_QUERY = re.compile(r"(?i)([?&][\w-]*(?:key|token|secret|sig|signature|password|code)=)[^&\s\"'#]+")
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|key|gsk|xai|hf|AIza|fw|pplx|nvapi|r8|ghp|gho|ghs|github_pat|glpat|xox[bpas]|AKIA|ASIA|ya29|dop_v1"
    r"|tgp_v1|csk|esecret)[-_.]?[A-Za-z0-9_*.\-]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|(?<=bearer )\S+|(?<=basic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=key[:=] )\S{12,}|(?<=provided: )\S{12,}"
    r"|\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b",
    re.IGNORECASE,
)

_GIVEN: set[str] = set()
"""Secrets that this process was given otherwise than by its environment: a flag, a file, a login in a URL."""


def remember(secret: str | None) -> None:
    """Know a secret from now on."""
    if secret and (secret := secret.strip()):
        _GIVEN.add(secret)


class Secrets:
    """Some secrets, ready to be found in many texts."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({value for value in values if _is_secret(value)}, key=len, reverse=True)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """What a text holds if it holds any of them, so that nearly every text is only glanced at."""
        return tuple({form[:_RECOGNISED] for value in self._values for form in _forms(value)}) + tuple(
            value[-_RECOGNISED:] for value in self._values if len(value) >= 2 * _RECOGNISED
        )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = []
        for value in self._values:
            parts += [re.escape(form) for form in _forms(value)]
            if len(value) >= _RECOGNISED + 4:
                parts.append(re.escape(value[:_RECOGNISED]) + _TAIL)
            if len(value) >= 2 * _RECOGNISED:
                parts.append(_TAIL + re.escape(value[-_RECOGNISED:]))
        return re.compile("|".join(parts))

    def hide(self, text: str) -> str:
        """The text without any of them."""
        if not any(mark in text for mark in self._marks):
            return text
        return self._pattern.sub(_MASK, text)


def _is_secret(value: str) -> bool:
    """Placeholders (`none`, `EMPTY`, `lm-studio`) are no secrets, and would punch holes into answers."""
    if len(value) < _SHORTEST or value.isspace():
        return False
    return len(value) >= 2 * _SHORTEST or not (value.isalpha() and (value.islower() or value.isupper()))


def _forms(value: str) -> Iterator[str]:
    """A secret as it may be written: as it is, in a URL, in hexadecimal, in base64 at each of its three offsets."""
    yield value
    raw = value.encode("utf-8", "replace")
    if (quoted := quote(value, safe="")) != value:
        yield quoted
    yield raw.hex()
    for offset in range(3):
        # The first and the last group of four also encode what stands beside the secret
        coded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        yield coded[(0, 2, 3)[offset] : -1 if (offset + len(raw)) % 3 else None]


def known(*more: str | None) -> Secrets:
    """All secrets that this process knows now, and these."""
    found = {value.strip() for name, value in os.environ.items() if _NAMES.search(name)}
    for name, value in os.environ.items():
        if "@" in value and ("proxy" in name.lower() or "://" in value):
            found |= set(_passwords(value))
    return _secrets(frozenset(found | _GIVEN | {value.strip() for value in more if value}))


_secrets = lru_cache(maxsize=8)(Secrets)


def _passwords(address: str) -> Iterator[str]:
    """What stands before the @ of an address, and the password in it, as written and decoded."""
    login = address.rpartition("@")[0].rpartition("//")[2]
    for part in {login, login.partition(":")[2]}:
        yield part
        yield unquote(part)


def redact(text: str, *more: str | None) -> str:
    """Remove whatever is, or looks like, a key or a login from a text that people will see."""
    text = _QUERY.sub(rf"\1{_MASK}", _LOGIN.sub("[login]@", text))
    # Shapes first: a known key that is a part of a longer one would leave the rest of it
    return known(*more).hide(_SHAPES.sub(_MASK, text))
