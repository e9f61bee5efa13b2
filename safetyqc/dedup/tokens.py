"""Turns text into the features that similarity is measured on: words and pairs of them, or runs of characters.

A word is a run of letters, digits, combining marks and underscores of the normalised text; where a script is written
without spaces (Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer) every character is a word of its own, so that one
corpus of mixed languages is comparable and no segmenter has to agree with itself on an edited sentence. The analyzer
`char` takes every run of three characters for a word instead, and two neighbouring ones, which share two characters,
make a run of four; all that follows the splitting is the same for both.

It deliberately has no stop words and no stemming: the inverse document frequency does that work. `feature_hash` must
give the same 64 bits as the compiled twin in `kernels.py`; a test holds the two together. With 64 bits, 30 million
different features collide with a chance of 1 in 40,000, so a hash stands for its feature.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from typing import get_args

from safetyqc.dedup.choices import Analyzer
from safetyqc.text import INVISIBLE, normalise

ANALYZERS: tuple[Analyzer, ...] = get_args(Analyzer)

GRAM = 3
"""Characters in the runs of the analyzer `char`; pairs of neighbouring runs have one more."""

SEPARATOR, WORD, LONE, REMOVED = range(4)
"""What a character does: ends a word, belongs to one, is one by itself, or is as good as not there."""

_LONE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x318F),  # kana, bopomofo, Korean letters
    (0x31F0, 0x31FF),  # small katakana
    (0x3400, 0x4DBF),
    (0x4E00, 0xA48F),  # Chinese characters, Yi
    (0xAC00, 0xD7FF),  # Korean syllables
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),  # historic kana
)

MASK = (1 << 64) - 1
HASH_SEED, HASH_STEP = 0xCBF29CE484222325, 0x00000100000001B3
MIX_1, MIX_2, PAIR = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0x9E3779B97F4A7C15


def character_class(code: int) -> int:
    """Say what the character with this code point does to words (SEPARATOR, WORD, LONE or REMOVED)."""
    character = chr(code)
    if INVISIBLE.match(character):
        return REMOVED
    if code >= 0x20000:
        return LONE if code < 0x40000 else SEPARATOR  # rare Chinese characters; beyond them no letters are defined
    if not (character == "_" or character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")):
        return SEPARATOR
    place = bisect_right(_LONE_RANGES, (code, 0x20000)) - 1
    return LONE if place >= 0 and code <= _LONE_RANGES[place][1] else WORD


class _Spacing(dict[int, str]):
    """A translation table that fills itself: separators become a space, lone characters what `lone` makes of them."""

    def __init__(self, lone: str) -> None:
        super().__init__()
        self._lone = lone

    def __missing__(self, code: int) -> str:
        lone = self._lone.format(chr(code))
        spaced = {SEPARATOR: " ", WORD: chr(code), LONE: lone, REMOVED: ""}[character_class(code)]
        self[code] = spaced
        return spaced


_SPACED, _CLOSE = _Spacing(" {} "), _Spacing("{}")


def tokens(text: str, analyzer: Analyzer = "word") -> list[str]:
    """Split text into normalised words (or runs of three characters), in order.

    Text without a letter or digit has none; by characters, neither has one shorter than three of them.
    """
    if analyzer == "word":  # quotes and white space, which `normalise` folds too, only end words
        return (text.lower() if text.isascii() else foldable(text)).translate(_SPACED).split()
    said = characters(text)
    return [said[start : start + GRAM] for start in range(len(said) - GRAM + 1)]


def characters(text: str) -> str:
    """What the analyzer `char` sees of a text: letters, digits and single spaces."""
    return " ".join(normalise(text).translate(_CLOSE).split())


def token_pairs(found: list[str], analyzer: Analyzer = "word") -> list[str]:
    """Name the pairs of neighbouring tokens, in order."""
    if analyzer == "word":
        return [f"{a} {b}" for a, b in pairwise(found)]
    return [a + b[-1] for a, b in pairwise(found)]


def features(text: str, analyzer: Analyzer = "word") -> Counter[str]:
    """Count the tokens of one text and the pairs of them."""
    found = tokens(text, analyzer)
    return Counter(found + token_pairs(found, analyzer))


def foldable(text: str) -> str:
    """Do the part of `normalise` that the compiled tokeniser leaves to Python: nothing at all for ASCII."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def word_hash(word: str) -> int:
    """Hash one normalised word to 64 bits (FNV-1a over code points, then a mixing step)."""
    value = HASH_SEED
    for character in word:
        value = ((value ^ ord(character)) * HASH_STEP) & MASK
    return _mixed(value)


def parts_of(feature: str, analyzer: Analyzer) -> tuple[str, str]:
    """The two tokens of a pair as `features` names it; of a token itself and nothing."""
    if analyzer == "char":
        return feature[:GRAM], feature[1:] if len(feature) > GRAM else ""
    first, _, second = feature.partition(" ")
    return first, second


def feature_hash(feature: str, analyzer: Analyzer = "word") -> int:
    """Hash a token or a pair as `features` names them."""
    first, second = parts_of(feature, analyzer)
    return _mixed((word_hash(first) * PAIR + word_hash(second)) & MASK) if second else word_hash(first)


def _mixed(value: int) -> int:
    """Spread every bit over all 64; never 0, which marks an empty slot of a table."""
    value = ((value ^ (value >> 33)) * MIX_1) & MASK
    value = ((value ^ (value >> 33)) * MIX_2) & MASK
    return (value ^ (value >> 33)) or 1
