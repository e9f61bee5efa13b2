"""`patterns.yaml` -> compiled patterns; a file whose own examples are wrong is refused.

Only finds text; what a hit means is said by the filters. Examples are tested whenever a file
is read, so a pattern that a user adds is known to hit what it should and to spare what it must before it drops data.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from safetyqc.errors import choose_from
from safetyqc.formats.yaml_file import Location, Misfit, read_yaml
from safetyqc.records import Record, Role
from safetyqc.text import printable

PatternFilter = Literal["dangerous_detail", "leaked_text", "role_names"]
_WORD = re.compile(r"\{\{(\w+)\}\}")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|[!?。\n]")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_REACH = 200
"""How far from a hit its sentence may extend, in characters: hostile text may have no sentence ends at all."""


@dataclass(frozen=True)
class Hit:
    """One place that a pattern found."""

    pattern: str
    text: str
    why: str


class Pattern(Record):
    """Regular expressions that tell one kind of thing, and the examples that keep them honest."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    filter: PatternFilter
    why: str = ""
    roles: tuple[Role, ...] = ("assistant",)
    case: bool = False
    matches: tuple[str, ...] = Field(min_length=1)
    needs: tuple[str, ...] = ()
    min_digits: int = 0
    unless: tuple[str, ...] = ()
    check: Literal["luhn", "cn_id", "iban"] | None = None
    must_match: tuple[str, ...] = Field(min_length=1)
    must_not_match: tuple[str, ...] = Field(min_length=1)


class PatternFile(Record):
    """A patterns file as it is written, with every expression compiled and every example tried once."""

    extends: bool = True
    drop: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    stock_refusals: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    must_not_match: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_sound(self) -> PatternFile:
        base = _default_file() if self.extends else None
        words = {**(base.words if base else {}), **self.words}
        spared = (*self.must_not_match, *(base.must_not_match if base else ()))
        names = [p.name for p in base.patterns] if base else []
        for number, name in enumerate(self.drop):
            if name not in names:
                raise Misfit(f"no built-in pattern {name!r} to drop", at=("drop", number), fix=choose_from(name, names))
        for number, text in enumerate(self.stock_refusals):
            _compile(text, words, ("stock_refusals", number))
        for number, pattern in enumerate(self.patterns):
            _try_examples(pattern, words, spared, ("patterns", number))
        return self


@dataclass(frozen=True)
class Folded:
    """A text as patterns see it, and what tells quickly that a pattern cannot hit."""

    plain: str
    lower: str
    digits: int


@dataclass(frozen=True)
class Finder:
    """A pattern with its expressions compiled."""

    pattern: Pattern
    matches: tuple[re.Pattern[str], ...]
    unless: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, pattern: Pattern, words: Mapping[str, tuple[str, ...]], at: Location = ()) -> Finder:
        """Compile a pattern; `at` is where it stands in its file."""
        flags = 0 if pattern.case else re.IGNORECASE
        return cls(
            pattern,
            tuple(_compile(x, words, (*at, "matches", i), flags) for i, x in enumerate(pattern.matches)),
            tuple(_compile(x, words, (*at, "unless", i), flags) for i, x in enumerate(pattern.unless)),
        )

    def find(self, text: Folded) -> str | None:
        """Return the first hit in a text, or None."""
        needs = self.pattern.needs
        if text.digits < self.pattern.min_digits or (needs and not any(map(text.lower.__contains__, needs))):
            return None
        for expression in self.matches:
            for match in expression.finditer(text.plain):
                if self._counts(match):
                    return match.group()
        return None

    def _counts(self, match: re.Match[str]) -> bool:
        check = self.pattern.check
        if check and not _CHECKS[check](match.group()):
            return False
        if not self.unless:
            return True
        sentence = _sentence_around(match.string, match.start(), match.end())
        return not any(expression.search(sentence) for expression in self.unless)


class PatternSet:
    """All patterns of a run, ready to search with."""

    def __init__(self, file: PatternFile) -> None:
        base = _default_file() if file.extends else PatternFile(extends=False)
        words = {**base.words, **file.words}
        replaced = {*file.drop, *(p.name for p in file.patterns)}
        patterns = [*(p for p in base.patterns if p.name not in replaced), *file.patterns]
        self.finders = tuple(Finder.of(p, words) for p in patterns)
        self._of: dict[tuple[PatternFilter, Role], list[Finder]] = {}
        for finder in self.finders:
            for role in finder.pattern.roles:
                self._of.setdefault((finder.pattern.filter, role), []).append(finder)
        self._stock = [_compile(x, words, ()) for x in (*base.stock_refusals, *file.stock_refusals)]

    def find(self, filter_name: PatternFilter, role: Role, text: str) -> Hit | None:
        """Return the first hit of one filter's patterns in what this role says, or None."""
        folded = fold(text)
        for finder in self._of.get((filter_name, role), ()):
            if found := finder.find(folded):
                return Hit(finder.pattern.name, found, finder.pattern.why)
        return None

    def is_template(self, answer: str) -> bool:
        """Tell whether an answer is nothing but stock sentences that say no."""
        sentences = [s for part in _SENTENCE_END.split(fold(answer).plain) if (s := part.strip(" .,;:!*\"'-，、；：~"))]
        return bool(sentences) and all(any(x.fullmatch(s) for x in self._stock) for s in sentences)


def load_patterns(path: Path | None = None) -> PatternSet:
    """Read a patterns file, or the built-in one.

    Raises:
        ConfigError: it cannot be read, an expression is invalid, or an example is wrong; names line and key.
    """
    return _default_set() if path is None else PatternSet(read_yaml(path, PatternFile))


@lru_cache(maxsize=64)  # the filters look at the same messages one after the other
def fold(text: str) -> Folded:
    """Fold what patterns must not be evaded by: full-width forms, curly quotes, invisible characters. Lines stay."""
    plain = unicodedata.normalize("NFKC", printable(text)).translate(_QUOTES)
    return Folded(plain, plain.lower(), sum(map(plain.count, "0123456789")))


@cache
def _default_file() -> PatternFile:
    return read_yaml(files("safetyqc.filters") / "patterns.yaml", PatternFile)


@cache
def _default_set() -> PatternSet:
    return PatternSet(_default_file())


def _compile(
    text: str, words: Mapping[str, tuple[str, ...]], at: Location, flags: int = re.IGNORECASE
) -> re.Pattern[str]:
    """Fill in the words and compile; every word is a group of its own, so that its alternatives stay together."""

    def expand(match: re.Match[str]) -> str:
        if match.group(1) not in words:
            fix = choose_from(match.group(1), words)
            raise Misfit(f"unknown word {match.group()}", at=at, fix=fix)
        return f"(?:{'|'.join(_WORD.sub(expand, entry) for entry in words[match.group(1)])})"

    try:
        return re.compile(_WORD.sub(expand, text), flags | re.MULTILINE)
    except re.error as error:
        raise Misfit(f"invalid expression {text!r}: {error}", at=at, fix="test it with Python's re module") from error


def _try_examples(
    pattern: Pattern, words: Mapping[str, tuple[str, ...]], spared: tuple[str, ...], at: Location
) -> None:
    finder = Finder.of(pattern, words, at)
    for number, text in enumerate(pattern.must_match):
        if finder.find(fold(text)) is None:
            what = f"pattern {pattern.name!r} does not hit its example {text!r}"
            raise Misfit(what, at=(*at, "must_match", number), fix="mend the expression or the example")
    for number, text in enumerate((*pattern.must_not_match, *spared)):
        if hit := finder.find(fold(text)):
            own = number < len(pattern.must_not_match)
            what = f"pattern {pattern.name!r} hits {hit!r} in {text!r}, which it must spare"
            raise Misfit(what, at=(*at, "must_not_match", number) if own else at, fix="make the expression narrower")


def _sentence_around(text: str, start: int, end: int) -> str:
    low, high = max(start - _REACH, 0), min(end + _REACH, len(text))
    ends_before = [m.end() for m in _SENTENCE_END.finditer(text, low, start)]
    after = _SENTENCE_END.search(text, end, high)
    return text[ends_before[-1] if ends_before else low : after.start() if after else high]


def _digits(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text).upper()


def _luhn(text: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812)."""
    digits = [int(d) for d in reversed(_digits(text))]
    doubled = (sum(divmod(2 * d, 10)) for d in digits[1::2])
    return len(digits) >= 13 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _cn_id(text: str) -> bool:
    """Check character of Chinese identity numbers (GB 11643, ISO 7064 MOD 11-2)."""
    digits = _digits(text)
    total = sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(digits[:17]))
    return "10X98765432"[total % 11] == digits[17]


def _iban(text: str) -> bool:
    """Check digits of bank accounts (ISO 13616): the number, first four characters last, is 1 modulo 97."""
    plain = _digits(text)
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[str], bool]] = {"luhn": _luhn, "cn_id": _cn_id, "iban": _iban}
