"""Turns text into cues: which forms of words stand in which sentence of a turn.

The forms are data (`phrases.yaml`, whose head explains the notation). Nothing here weighs a cue or knows a verdict.
Each form becomes a regular expression that is tried only where its first word (in Chinese: its first character)
stands, and no gap crosses a sentence, so the time grows with the length of a text and never with its square.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate, compress
from typing import Any

import yaml

from safetyqc.judge.embedded.asides import without_asides, without_verdicts
from safetyqc.text import CJK, printable

Cues = dict[str, list[int]]
"""Cue to the 0-based sentences that hold it, in order; a sentence stands there once a hit."""
Start = tuple[str, str, str]
"""How a phrase can start, its cue, and the pattern of what can start so."""
_Match = Callable[[str, int], re.Match[str] | None]

BREAK = "."
"""The word that leads every sentence, and ends the last one."""
MAX_WORDS = 200_000
"""Words remembered with the phrases that they can start; text with more distinct words is looked up afresh."""
_SENTENCE = re.compile(r"[^.!?\n。！？；]*(?:[.!?](?=\S)[^.!?\n。！？；]*)*[.!?。！？；]*[\"'”’)）」]*\n?")
_SPACED = bytes(code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789'-\n" else 32 for code in range(256))
"""Turns bytes of a folded text into words with spaces between them; what is not ASCII counts as a space."""
_APOSTROPHES = str.maketrans("‘’‛`´＇", "''''''")
_QUOTES = "\"'“”"
_GAP_ZH = r"[^。！？；，,\n]"


@dataclass(frozen=True)
class Text:
    """One turn, cut and folded.

    Args:
        sentences: as written.
        words: folded; every sentence is led by a BREAK, and one more BREAK stands last.
        chinese: folded sentences joined by newlines when any of them holds Chinese, else empty.
    """

    sentences: tuple[str, ...]
    words: list[str]
    chinese: str


class Phrasebook:
    """The compiled phrases of one section of the file."""

    def __init__(self, section: dict[str, dict[str, list[str]]], classes: dict[str, list[str]]) -> None:
        each = [(cue, book.get("en", ()), book.get("zh", ())) for cue, book in section.items()]
        self._english = _Starts(s for cue, en, _ in each for phrase in en for s in _english(cue, phrase, classes))
        self._chinese = _Starts(s for cue, _, zh in each for phrase in zh for s in _chinese(cue, phrase))

    def read(self, text: Text) -> Cues:
        """Find every cue's sentences."""
        found: Cues = {}
        _find(self._english, " ".join(text.words), text.words, BREAK, found, -1)
        if text.chinese:
            _find(self._chinese, text.chinese, text.chinese, "\n", found, 0)
            for sentences in found.values():
                sentences.sort()  # both languages may stand in one turn
        return found


class _Starts(dict[str, tuple[tuple[str, _Match], ...]]):
    """For a word: each cue with the matcher of its phrases that can start there; filled as text comes."""

    def __init__(self, starts: Iterable[Start]) -> None:
        self._whole: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        for start, cue, pattern in starts:
            by = self._stems if start.endswith("*") else self._whole
            by.setdefault(start.rstrip("*"), {}).setdefault(cue, []).append(pattern)
        self._lengths = sorted({len(stem) for stem in self._stems})

    def __missing__(self, word: str) -> tuple[tuple[str, _Match], ...]:
        cues: dict[str, list[str]] = {}
        stems = [self._stems.get(word[:length], {}) for length in self._lengths if length <= len(word)]
        for some in (self._whole.get(word, {}), *stems):
            for cue, patterns in some.items():
                cues.setdefault(cue, []).extend(patterns)
        found = tuple((cue, _matcher("|".join(patterns))) for cue, patterns in cues.items())
        if len(self) < MAX_WORDS:
            self[word] = found
        return found


def _find(starts: _Starts, text: str, parts: Sequence[str], ends: str, found: Cues, sentence: int) -> None:
    """Add every cue's sentences; of overlapping phrases of a cue the first counts."""
    step, free = int(ends == BREAK), dict[str, int]()
    options = list(map(starts.__getitem__, parts))
    places = list(accumulate([len(part) + step for part in parts], initial=0))
    breaks = [number for number, part in enumerate(parts) if part == ends]
    for number in compress(range(len(parts)), options):  # most words can start no phrase
        place = places[number]
        for cue, match in options[number]:
            hit = match(text, place) if place >= free.get(cue, 0) else None
            if hit:
                free[cue] = hit.end()
                found.setdefault(cue, []).append(sentence + bisect_right(breaks, number))


@lru_cache(maxsize=8192)
def _matcher(pattern: str) -> _Match:
    return re.compile(pattern).match


def _english(cue: str, phrase: str, classes: dict[str, list[str]]) -> list[Start]:
    """Compile one English phrase over words with single spaces between them; its first item may not be missing."""
    first, *rest = [_item(written, classes) for written in phrase.split()]
    pattern = f"{first[0]}{''.join(pattern for pattern, _ in rest)}(?= |$)".removeprefix(" ")
    return [(start, cue, pattern) for start in dict.fromkeys(first[1])]


def _item(written: str, classes: dict[str, list[str]]) -> tuple[str, list[str]]:
    """One item of a phrase: its pattern, with the space before it, and the words that it can start with."""
    if written in ("^", "^end"):
        return r" \.", [BREAK]
    if written.startswith("~"):
        return rf"(?: [^ .]\S*){{0,{written[1:]}}}?", []
    choices: list[str] = []
    for choice in written.rstrip("?").split("|"):
        choices += classes[choice[1:]] if choice.startswith("@") else [choice.replace("_", " ")]
    either = "|".join(choice[:-1] + r"\S*" if choice.endswith("*") else choice for choice in choices)
    starts = [choice.split()[0] for choice in choices]
    return (f"(?: (?:{either}))?" if written.endswith("?") else f" (?:{either})"), starts


def _chinese(cue: str, phrase: str) -> list[Start]:
    """Compile one Chinese phrase, groups of alternatives with bounded gaps inside one clause."""
    opens, *items = phrase.split() if phrase.startswith("^ ") else ["", *phrase.split()]
    rest = "".join(f"{_GAP_ZH}{{0,{item[1:]}}}?" if item.startswith("~") else f"(?:{item})" for item in items[1:])
    begin = rf"(?<![^\n])[\s{_QUOTES}]{{0,3}}" if opens else ""
    by_start: dict[str, list[str]] = {}
    for choice in items[0].split("|"):
        for one in (choice[0], *(_QUOTES if opens else "")):
            by_start.setdefault(one, []).append(choice)
    return [(one, cue, f"{begin}(?:{'|'.join(choices)}){rest}") for one, choices in by_start.items()]


class _Folds:
    """Rewrites every listed form of words to its one spelling, the longest form first."""

    def __init__(self, folds: dict[str, list[str]]) -> None:
        pairs = [(old, new) for new, olds in folds.items() for old in olds]
        self._one = {old: new.split() for old, new in pairs if " " not in old}
        self._several: dict[str, list[tuple[list[str], str]]] = {}
        for old, new in sorted(pairs, key=lambda pair: -len(pair[0].split())):
            if " " in old:
                words = self._singly(old.split())
                self._several.setdefault(words[0], []).append((words, new))

    def _singly(self, words: Iterable[str]) -> list[str]:
        return [new for word in words for new in self._one.get(word, (word,))]

    def __call__(self, words: list[str]) -> list[str]:
        single, out, done = self._singly(words), list[str](), 0
        for place in [n for n, word in enumerate(single) if word in self._several]:
            if place < done:
                continue
            for old, new in self._several[single[place]]:
                if single[place : place + len(old)] == old:
                    out += single[done:place]
                    out += new.split()
                    done = place + len(old)
                    break
        return out + single[done:]


@dataclass(frozen=True)
class Language:
    """Everything the file holds: how to fold, and a phrasebook a section."""

    fold: _Folds
    assistant: Phrasebook
    user: Phrasebook

    def cut(self, content: str) -> Text:
        """Cut a turn into sentences and fold them."""
        shown = printable(without_verdicts(content))
        sentences = without_asides(shown, [found for part in _SENTENCE.findall(shown) if (found := part.strip())])
        joined = _fold_letters("\n".join([sentence.replace("\n", " ") for sentence in sentences]))
        return Text(sentences, self.fold(_words(joined)), "" if joined.isascii() or not CJK.search(joined) else joined)


def _words(text: str) -> list[str]:
    """Words of a folded text: letters and digits, apostrophes and hyphens between them; a BREAK leads each sentence."""
    plain = f"\n{text}\n".encode("ascii", "replace").translate(_SPACED).decode("ascii")
    words = [word.strip("'-") for word in plain.replace("\n", f" {BREAK} ").split()]
    return [word for word in words if word]


def _fold_letters(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    return text.lower()


def phrases_text() -> str:
    """The phrases as they are written."""
    return files("safetyqc.judge.embedded").joinpath("phrases.yaml").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def load_language() -> Language:
    """Read and compile the phrases; takes some tens of milliseconds, once."""
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every scalar stays text: `no` and `988` are words
    data = yaml.load(phrases_text(), Loader=loader)
    classes = data["classes"]
    return Language(_Folds(data["folds"]), Phrasebook(data["assistant"], classes), Phrasebook(data["user"], classes))
