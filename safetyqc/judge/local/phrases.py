"""Turns text into cues: which forms of words stand in which sentence of a turn.

The forms are data (`phrases.yaml`, whose head explains the notation). Nothing here weighs a cue or knows a verdict.
The one surprising thing: English phrases are tried only at words that can start one (a dictionary look-up a word),
which is what makes thousands of conversations a second possible in plain Python.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import yaml

from safetyqc.text import CJK, printable

Cues = dict[str, list[int]]
"""Cue to the 0-based sentences that hold it, in order; a sentence stands there once a hit."""

_SENTENCE = re.compile(r"[^.!?\n。！？；]*(?:[.!?](?=\S)[^.!?\n。！？；]*)*[.!?。！？；\n]*[\"'”’)）」]*")
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|\n")
_APOSTROPHES = str.maketrans("‘’‛`´＇", "''''''")
_Match = Callable[[str, int], re.Match[str] | None]
_GAP_ZH = r"[^。！？；，,\n]"


@dataclass(frozen=True)
class Text:
    """One turn, cut and folded: sentences as written, their folded words, their folded Chinese."""

    sentences: tuple[str, ...]
    words: str
    """All sentences' words in one line, every sentence led by a newline token: `"\\n i cannot help \\n "`."""
    chinese: str
    """Sentences joined by newlines when any of them holds Chinese, else empty."""

    @cached_property
    def tokens(self) -> list[str]:
        """The folded words of all sentences."""
        return self.words.split()


class Phrasebook:
    """The compiled phrases of one section of the file."""

    def __init__(self, section: dict[str, dict[str, list[str]]], classes: dict[str, list[str]]) -> None:
        self.cues = tuple(section)
        self._anchored: dict[str, list[tuple[str, _Match]]] = {}
        self._chinese: list[tuple[str, re.Pattern[str]]] = []
        by_anchor: dict[str, dict[str, list[str]]] = {}
        for cue, languages in section.items():
            for phrase in languages.get("en", ()):
                pattern, anchors = _english(phrase, classes)
                for anchor in anchors:
                    by_anchor.setdefault(anchor, {}).setdefault(cue, []).append(pattern)
            if languages.get("zh"):
                self._chinese.append((cue, re.compile("|".join(map(_chinese, languages["zh"])))))
        for anchor, patterns in by_anchor.items():
            self._anchored[anchor] = [(cue, _compile("|".join(found)).match) for cue, found in patterns.items()]

    def read(self, text: Text) -> Cues:
        """Find every cue's sentences."""
        found: Cues = {}
        self._read_words(text.words, found)
        if text.chinese:
            for cue, pattern in self._chinese:
                for match in pattern.finditer(text.chinese):
                    found.setdefault(cue, []).append(text.chinese.count("\n", 0, match.start()))
        return found

    def _read_words(self, words: str, found: Cues) -> None:
        position, sentence, anchored = 0, -1, self._anchored
        for word in words.split(" "):
            if word == "\n":
                sentence += 1
            if word in anchored:
                for cue, match in anchored[word]:
                    if match(words, position):
                        if cue in found:
                            found[cue].append(sentence)
                        else:
                            found[cue] = [sentence]
            position += len(word) + 1


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _english(phrase: str, classes: dict[str, list[str]]) -> tuple[str, list[str]]:
    """Compile one English phrase; also returns the words that it can start with."""
    parts, anchors = [], list[str]()
    for item in phrase.split():
        if item == "^":
            parts.append("\n ")
            anchors = ["\n"]
            continue
        if item.startswith("~"):
            parts.append(rf"(?:[^ \n]++ ){{0,{item[1:]}}}?")
            continue
        if item.startswith("^end"):
            parts.append("(?=\n)" if item == "^end" else "")
            continue
        optional, choices = item.endswith("?"), _choices(item.rstrip("?"), classes)
        parts.append(f"(?:{'|'.join(map(_word_pattern, choices))}) " if not optional else _optional(choices))
        if not anchors:
            anchors = [choice.split()[0] for choice in choices]
    return "".join(parts), list(dict.fromkeys(anchors))


def _choices(item: str, classes: dict[str, list[str]]) -> list[str]:
    out = []
    for choice in item.split("|"):
        out += classes[choice[1:]] if choice.startswith("@") else [choice.replace("_", " ")]
    return sorted(out, key=len, reverse=True)


def _word_pattern(choice: str) -> str:
    return re.escape(choice[:-1]) + r"[^ \n]*" if choice.endswith("*") else re.escape(choice)


def _optional(choices: list[str]) -> str:
    return f"(?:(?:{'|'.join(map(_word_pattern, choices))}) )?"


def _chinese(phrase: str) -> str:
    """Compile one Chinese phrase: groups of alternatives with bounded gaps inside one clause."""
    parts = []
    for item in phrase.split():
        if item == "^":
            parts.append(r"(?<![^\n])[\s\"'“”]*")
        elif item.startswith("~"):
            parts.append(f"{_GAP_ZH}{{0,{item[1:]}}}?")
        else:
            parts.append(f"(?:{item})")
    return "".join(parts)


class _Folds:
    """Rewrites every listed form of words to its one spelling, longest first."""

    def __init__(self, folds: dict[str, list[str]]) -> None:
        pairs = sorted(((old, new) for new, olds in folds.items() for old in olds), key=lambda p: -len(p[0].split()))
        self._single = {old: new for old, new in pairs if " " not in old}
        self._several = [
            (max(old.split(), key=len), f" {old} ", f" {new} ") for old, new in _expanded(pairs, self._single)
        ]

    def __call__(self, words: list[str]) -> str:
        single = self._single
        words = [single.get(word, word) for word in words]
        line, present = " ".join(words) + " ", set(words)
        for rare, old, new in self._several:
            if rare in present and old in line:
                line = line.replace(old, new)
        return line


def _expanded(pairs: list[tuple[str, str]], single: dict[str, str]) -> list[tuple[str, str]]:
    """The forms of several words, as they read once the forms of one word are folded."""
    out = {}
    for old, new in pairs:
        if " " in old:
            out[" ".join(single.get(word, word) for word in old.split())] = new
    return sorted(out.items(), key=lambda pair: -len(pair[0].split()))


@dataclass(frozen=True)
class Language:
    """Everything the file holds: how to fold, and a phrasebook a section."""

    fold: _Folds
    assistant: Phrasebook
    user: Phrasebook
    categories: frozenset[str]
    """Cues of the user that name a category of harm."""

    def cut(self, content: str) -> Text:
        """Cut a turn into sentences and fold them."""
        sentences = tuple(found for part in _SENTENCE.findall(printable(content)) if (found := part.strip()))
        joined = _fold_letters("\n".join([sentence.replace("\n", " ") for sentence in sentences]))
        words = self.fold(_WORD.findall(f"\n{joined}\n"))
        return Text(sentences, words, "" if joined.isascii() or not CJK.search(joined) else joined)


def _fold_letters(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    return text.lower()


@lru_cache(maxsize=1)
def load_language() -> Language:
    """Read and compile the phrases; takes some tens of milliseconds, once."""
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every scalar stays text: `no` and `988` are words
    text = files("safetyqc.judge.local").joinpath("phrases.yaml").read_text(encoding="utf-8")
    data = yaml.load(text, Loader=loader)
    classes = data["classes"]
    return Language(
        fold=_Folds(data["folds"]),
        assistant=Phrasebook(data["assistant"], classes),
        user=Phrasebook(data["user"] | data["intent"], classes),
        categories=frozenset(data["user"]),
    )
