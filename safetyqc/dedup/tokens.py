"""Turns text into the features that similarity is measured on: words and pairs of neighbouring words.

A word is a run of letters, digits, combining marks and underscores of the normalised text; where a script is written
without spaces (Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer) every character is a word of its own, so that one
corpus of mixed languages is comparable and no segmenter has to agree with itself on an edited sentence.

It deliberately has no stop words and no stemming: the inverse document frequency does that work. The surprising thing:
`feature_hash` must give the same 64 bits as the compiled twin in `kernels.py`; a test holds the two together. With 64
bits, 30 million different features collide with a chance of 1 in 40,000, so a hash stands for its feature.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import Counter
from itertools import pairwise

from safetyqc.text import normalise

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
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)

MASK = (1 << 64) - 1
HASH_SEED, HASH_STEP = 0xCBF29CE484222325, 0x00000100000001B3
MIX_1, MIX_2, PAIR = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0x9E3779B97F4A7C15


def character_class(code: int) -> int:
    """Say what the character with this code point does to words (SEPARATOR, WORD, LONE or REMOVED)."""
    if code >= 0x20000:
        return LONE if code < 0x40000 else SEPARATOR  # rare Chinese characters; beyond them no letters are defined
    character = chr(code)
    if not (character == "_" or character.isalnum()):
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cn") and code < 0x10000 and normalise(f"a{character}b") == "ab":
            return REMOVED
        if category not in ("Mn", "Mc") or code in _VARIATION_SELECTORS:
            return SEPARATOR
    place = bisect_right(_LONE_RANGES, (code, 0x20000)) - 1
    return LONE if place >= 0 and code <= _LONE_RANGES[place][1] else WORD


class _Spacing(dict[int, str]):
    """A translation table that fills itself: separators become a space, lone characters get one on either side."""

    def __missing__(self, code: int) -> str:
        spaced = {SEPARATOR: " ", WORD: chr(code), LONE: f" {chr(code)} ", REMOVED: ""}[character_class(code)]
        self[code] = spaced
        return spaced


_SPACING = _Spacing()


def tokens(text: str) -> list[str]:
    """Split text into normalised words, in order; text without a letter or digit has none."""
    return normalise(text).translate(_SPACING).split()


def word_pairs(words: list[str]) -> list[str]:
    """Name the pairs of neighbouring words, in order."""
    return [f"{a} {b}" for a, b in pairwise(words)]


def features(text: str) -> Counter[str]:
    """Count the words and word pairs of one text."""
    words = tokens(text)
    return Counter(words + word_pairs(words))


def foldable(text: str) -> str:
    """Do the part of `normalise` that the compiled tokeniser leaves to Python: nothing at all for ASCII."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def word_hash(word: str) -> int:
    """Hash one normalised word to 64 bits (FNV-1a over code points, then a mixing step)."""
    value = HASH_SEED
    for character in word:
        value = ((value ^ ord(character)) * HASH_STEP) & MASK
    return _mixed(value)


def pair_hash(first: int, second: int) -> int:
    """Hash a pair of words from the hashes of its words; order counts."""
    return _mixed((first * PAIR + second) & MASK)


def feature_hash(feature: str) -> int:
    """Hash a word or a pair as `features` names them."""
    first, _, second = feature.partition(" ")
    return pair_hash(word_hash(first), word_hash(second)) if second else word_hash(first)


def _mixed(value: int) -> int:
    """Spread every bit over all 64; never 0, which marks an empty slot of a table."""
    value = ((value ^ (value >> 33)) * MIX_1) & MASK
    value = ((value ^ (value >> 33)) * MIX_2) & MASK
    return (value ^ (value >> 33)) or 1
