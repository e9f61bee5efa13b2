"""How often guessed languages, intents and categories were right, where that was measured on labelled sets.

Reads `guesses.json`, which `python benchmarks/guesses.py figures DATA --write` makes; it measures nothing. A guesser or
language that is not in it was not measured, and nothing is said for it by likeness to another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from safetyqc.records import Record

Fact = Literal["language", "intent", "category"]
LETTERS = "letters"
"""The guesser of languages: it reads nothing but the letters, and tells English and Chinese apart."""


class Measured(Record):
    """Of `n` conversations of a labelled set, or in a language, how many a guesser named rightly."""

    fact: Fact
    guesser: str
    """`letters`, or the name of a judge."""
    of: str
    n: int
    right: int


@cache
def _measured() -> tuple[Measured, ...]:
    text = (files("safetyqc.results") / "guesses.json").read_text(encoding="utf-8")
    return tuple(Measured.model_validate(found) for found in json.loads(text))


def how_right(fact: str, guesser: str | None) -> tuple[Measured, ...]:
    """What was measured of a guesser, a line for each set or language; empty where nothing was."""
    return tuple(found for found in _measured() if (found.fact, found.guesser) == (fact, guesser))


def share_right(fact: str, guesser: str | None) -> float | None:
    """Share of all measured guesses that was right; None where nothing was measured."""
    found = how_right(fact, guesser)
    return sum(m.right for m in found) / sum(m.n for m in found) if found else None


def shares_right(guesses: Mapping[str, str], guesser: str) -> dict[str, float | None]:
    """The same for each of these facts, such as a line's `classified`."""
    return {fact: share_right(fact, guesser) for fact in guesses}
