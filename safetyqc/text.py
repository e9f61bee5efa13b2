"""Makes text from outside safe to keep, to compare and to show.

Conversations hold jailbreaks and attacks by design. Keeping: `mend_text` and `mend_json` mend what no file could hold.
Comparing: `normalise` folds what typography and Unicode can vary. Showing: `printable` removes what could drive a
terminal or hide text; HTML escaping is the template's own business.
"""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "`": "'", "´": "'"}
)
_SPACE = re.compile(r"\s+")
# Control characters but tab and newline, and all that Unicode calls default-ignorable: soft hyphens, joiners,
# zero-width spaces, bidi marks, fillers, selectors, the byte-order mark, musical and shorthand controls, tags
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_SELECTORS = "\ufe00-\ufe0f"
INVISIBLE = re.compile(f"[{_UNSEEN}{_SELECTORS}]")
"""One character that is not seen, or that drives a terminal: what rules, dedup, evidence and display pass over."""
_DRAWN = "0-9#*\u00a9\u00ae\u2000-\u3300\U0001f000-\U0001fbff"
HIDDEN = re.compile(f"[{_UNSEEN}]|(?<![{_DRAWN}])[{_SELECTORS}]")
"""The same but for selectors behind an emoji, a digit or a sign: those say how it is drawn, which is seen."""
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]")
"""One character of Chinese, Japanese or Korean script."""
_SPACED_WORD = re.compile(rf"{CJK.pattern}|[^\s{CJK.pattern[1:-1]}]+")

OPENING_WORDS = 6
"""Answers that share so many first words open alike."""
DEFAULT_RUN = "safetyqc-run"
"""The folder of a run whose name nobody gave."""


def normalise(text: str) -> str:
    """Fold what two copies of one text may differ in: NFKC, case, quote marks, invisible characters, white space."""
    # Of all that is folded, ASCII holds the backtick alone
    text = text.replace("`", "'") if text.isascii() else unicodedata.normalize("NFKC", text).translate(_QUOTES)
    if not _is_plain(text):
        text = INVISIBLE.sub("", text)
    return " ".join(text.casefold().split())


def printable(text: str) -> str:
    """Remove what is `HIDDEN`, so that text cannot drive a terminal or hide itself."""
    if _is_plain(text):  # nothing in it to remove, which hardly takes a look
        return text
    return HIDDEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _is_plain(text: str) -> bool:
    """Whether nothing invisible is in a text; fillers and selectors count as printable in Python."""
    return (text.isascii() and text.isprintable()) or INVISIBLE.search(text) is None


_BROKEN = re.compile("[\x00\ud800-\udfff]")
DEEPEST_JSON = 64
"""Levels of JSON from outside; what is nested deeper is refused."""
_LARGEST = 2**63


def mend_text(text: str) -> str:
    """Make a text from outside one that every file and parser takes: half a surrogate pair and NUL become U+FFFD.

    Two halves that belong together are joined.
    """
    # Of what is mended ASCII holds NUL alone, which takes no look at each character
    if ("\0" not in text) if text.isascii() else (text.isprintable() or _BROKEN.search(text) is None):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def mend_json(value: Any, *, levels: int = DEEPEST_JSON) -> Any:
    """Do to all strings and keys of decoded JSON what `mend_text` does; numbers that no file can hold become null.

    Raises:
        ValueError: it is nested deeper than `levels`.
    """
    # Every judgment comes through here field by field: exact types, since decoded JSON holds no others, and of what is
    # mended ASCII holds NUL alone
    kind = type(value)
    if kind is str:
        return mend_text(value)
    if kind is dict or kind is list:
        if levels <= 0:
            raise ValueError("it is nested too deeply")
        if kind is list:
            return [mend_json(item, levels=levels - 1) for item in value]
        return {
            (key if type(key) is str and key.isascii() and "\0" not in key else mend_text(str(key))): (
                item
                if type(item) is str and item.isascii() and "\0" not in item
                else mend_json(item, levels=levels - 1)
            )
            for key, item in value.items()
        }
    if kind is int:
        return value if -_LARGEST < value < _LARGEST else None
    return None if kind is float and not math.isfinite(value) else value


def shorten(text: str, width: int) -> str:
    """One printable line of at most `width` characters, cut with an ellipsis."""
    line = _SPACE.sub(" ", printable(text)).strip()
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


def first_words(text: str, count: int) -> str:
    """The first `count` normalised words; a CJK character counts as a word."""
    words = _SPACED_WORD.finditer(normalise(text))
    return " ".join(word.group() for word in islice(words, count))


def guess_language(text: str) -> str:
    """`zh` when CJK characters outnumber Latin words, else `en`: enough to choose a sample, not a language detector."""
    if text.isascii():
        return "en"
    return "zh" if len(CJK.findall(text)) > len(re.findall(r"[A-Za-z]+", text)) else "en"


_GUESSED_FROM = 160


def guess_language_of(texts: Iterable[str]) -> str:
    """The same from how each message begins; whole texts would take most of a report's time.

    How often it is right: `safetyqc.results.guesses`.
    """
    return guess_language(" ".join(text[:_GUESSED_FROM] for text in texts))


_ASCII = str.maketrans(
    {
        **{
            "‘": "'",
            "’": "'",
            "‚": "'",
            "‛": "'",
            "′": "'",
            "´": "'",
            "“": '"',
            "”": '"',
            "„": '"',
            "‟": '"',
            "″": '"',
        },
        **{
            "«": '"',
            "»": '"',
            "‹": "'",
            "›": "'",
            "‐": "-",
            "‑": "-",
            "‒": "-",
            "–": "-",
            "—": "-",
            "―": "-",
            "−": "-",
        },
        **{"…": "...", "•": "-", "·": "-", "→": "->", "←": "<-", "×": "x", "⁄": "/", "\u2028": "\n", "\u2029": "\n"},
        **{"，": ", ", "。": ". ", "、": ", ", "！": "! ", "？": "? ", "：": ": ", "；": "; "},
        **{"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"},
    }
)
_COMBINING = re.compile("[\u0300-\u036f]")


def fold_to_ascii(text: str) -> str:
    """Write typography, accents and full-width forms in ASCII; what has no plain form (CJK, emoji) stays as it is."""
    if text.isascii():
        return text
    folded = "".join(_fold_character(c) for c in printable(unicodedata.normalize("NFC", text)).translate(_ASCII))
    return "\n".join(line.rstrip() for line in folded.split("\n"))


def _fold_character(character: str) -> str:
    if character.isascii():
        return character
    plain = _COMBINING.sub("", unicodedata.normalize("NFKD", character)).translate(_ASCII)
    return plain if plain.isascii() else character


_MASKABLE = re.compile(r"\w")


def mask(text: str, words: int = 3) -> str:
    """Blot out all but the first words, so that harmful text can be pointed at without being shown.

    Length and punctuation stay; where words are not written apart, a character counts as one.
    """
    spans = list(_SPACED_WORD.finditer(text))
    start = spans[words - 1].end() if 0 < words <= len(spans) else len(text) if words else 0
    return text[:start] + _MASKABLE.sub("▒", text[start:])


def reveal(text: str) -> str:
    """Show each character that `printable` would remove as its code, such as ⟨U+202E⟩: harmless, but not hidden."""
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n").replace("\r", "\n"))


def counted(n: int, noun: str) -> str:
    """`1 group`, `2,345 groups`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def run_flag(run: Path) -> str:
    """The `--run` flag, with a space before it, that a command for this run needs: nothing for the default run."""
    return "" if str(run) == DEFAULT_RUN else f" --run {shlex.quote(str(run))}"
