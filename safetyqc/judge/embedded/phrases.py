"""Turns text into cues: which forms of words stand in which sentence of a turn.

The forms are data (`phrases.yaml`, whose head explains the notation). Nothing here weighs a cue or knows a verdict.
The one surprising thing: English is read by an automaton over words, Chinese by regular expressions over characters.
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

from safetyqc.judge.embedded.asides import without_asides, without_verdicts
from safetyqc.judge.embedded.automaton import BREAK, MAX_WORDS, Automaton, Item
from safetyqc.text import CJK, printable

Cues = dict[str, list[int]]
"""Cue to the 0-based sentences that hold it, in order; a sentence stands there once a hit."""

_SENTENCE = re.compile(r"[^.!?\n。！？；]*(?:[.!?](?=\S)[^.!?\n。！？；]*)*[.!?。！？；\n]*[\"'”’)）」]*")
_SPACED = bytes(code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789'-\n" else 32 for code in range(256))
"""Turns bytes of a folded text into words with spaces between them; what is not ASCII counts as a space."""
_LOOSE = {
    "--": "  ", "''": "  ", "'-": "  ", "-'": "  ", " '": "  ", "' ": "  ", " -": "  ", "- ": "  ",
    "\n'": "\n ", "'\n": " \n", "\n-": "\n ", "-\n": " \n",
}  # fmt: skip
"""Apostrophes and hyphens that join nothing and what is left of them; those of two first."""
_APOSTROPHES = str.maketrans("‘’‛`´＇", "''''''")
_QUOTES = "\"'“”"
_Match = Callable[[str, int], re.Match[str] | None]
_GAP_ZH = r"[^。！？；，,\n]"


@dataclass(frozen=True)
class Text:
    """One turn, cut and folded: sentences as written, their folded words, their folded Chinese."""

    sentences: tuple[str, ...]
    line: list[str]
    """All sentences' folded words, every sentence led by a BREAK; one more BREAK and an empty word stand last."""
    chinese: str
    """Sentences joined by newlines when any of them holds Chinese, else empty."""

    @cached_property
    def tokens(self) -> list[str]:
        """The folded words of all sentences."""
        return [word for word in self.line if word > BREAK]


class Phrasebook:
    """The compiled phrases of one section of the file."""

    def __init__(self, section: dict[str, dict[str, list[str]]], classes: dict[str, list[str]]) -> None:
        self.cues = tuple(section)
        self._english = Automaton(
            (cue, _english(phrase, classes)) for cue, languages in section.items() for phrase in languages.get("en", ())
        )
        self._chinese = _ChinesePhrases({cue: languages.get("zh", []) for cue, languages in section.items()})

    def read(self, text: Text) -> Cues:
        """Find every cue's sentences."""
        found = self._english.find(text.line)
        if text.chinese:
            self._chinese.find(text.chinese, found)
            for sentences in found.values():
                sentences.sort()  # both languages may stand in one turn
        return found


class _ChinesePhrases:
    """Chinese phrases, tried only at two characters that can start one; of overlapping ones the first counts."""

    def __init__(self, phrases: dict[str, list[str]]) -> None:
        starts = [(cue, *start) for cue, written in phrases.items() for phrase in written for start in _chinese(phrase)]
        seconds: dict[str, set[str]] = {}
        for _, one, two, _ in starts:
            seconds.setdefault(one, {""}).add(two)
        self._starting: dict[str, dict[str, list[tuple[str, _Match]]]] = {
            one: {two: _matchers([(c, p) for c, a, b, p in starts if a == one and b in ("", two)]) for two in some}
            for one, some in seconds.items()
        }

    def find(self, text: str, found: Cues) -> None:
        """Add every cue's sentences to those found so far."""
        starting, free, sentence = self._starting, dict[str, int](), 0
        for place, (one, two) in enumerate(zip(text, text[1:] + "\n", strict=True)):
            if one == "\n":
                sentence += 1
            elif one in starting:
                options = starting[one]
                for cue, match in options[two] if two in options else options[""]:
                    hit = match(text, place) if place >= free.get(cue, 0) else None
                    if hit:
                        free[cue] = hit.end()
                        found.setdefault(cue, []).append(sentence)


def _matchers(patterns: list[tuple[str, str]]) -> list[tuple[str, _Match]]:
    """One matcher a cue, of all its patterns."""
    by_cue: dict[str, list[str]] = {}
    for cue, pattern in patterns:
        by_cue.setdefault(cue, []).append(pattern)
    return [(cue, _compile("|".join(found)).match) for cue, found in by_cue.items()]


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _english(phrase: str, classes: dict[str, list[str]]) -> list[Item]:
    """Parse one English phrase."""
    return [_item(written, classes) for written in phrase.split()]


def _item(written: str, classes: dict[str, list[str]]) -> Item:
    if written == "^":
        return Item("start")
    if written == "^end":
        return Item("end")
    if written.startswith("~"):
        return Item("gap", most=int(written[1:]))
    return Item("optional" if written.endswith("?") else "words", tuple(_choices(written.rstrip("?"), classes)))


def _choices(item: str, classes: dict[str, list[str]]) -> list[str]:
    out = []
    for choice in item.split("|"):
        out += classes[choice[1:]] if choice.startswith("@") else [choice.replace("_", " ")]
    return out


def _chinese(phrase: str) -> list[tuple[str, str, str]]:
    """Compile one Chinese phrase, groups of alternatives with bounded gaps inside one clause.

    Returns:
        Its first character, its second one (empty: any), and the pattern of what can start so.
    """
    opens, *items = phrase.split() if phrase.startswith("^ ") else ["", *phrase.split()]
    rest = "".join(f"{_GAP_ZH}{{0,{item[1:]}}}?" if item.startswith("~") else f"(?:{item})" for item in items[1:])
    begin = rf"(?<![^\n])[\s{_QUOTES}]*" if opens else ""
    by_start: dict[tuple[str, str], list[str]] = {}
    for choice in items[0].split("|"):
        by_start.setdefault((choice[0], choice[1:2].strip("[")), []).append(choice)
        for quote in _QUOTES if opens else "":
            by_start.setdefault((quote, ""), []).append(choice)
    return [(one, two, f"{begin}(?:{'|'.join(choices)}){rest}") for (one, two), choices in by_start.items()]


class _Folds:
    """Rewrites every listed form of words to its one spelling, longest first."""

    def __init__(self, folds: dict[str, list[str]]) -> None:
        pairs = sorted(((old, new) for new, olds in folds.items() for old in olds), key=lambda p: -len(p[0].split()))
        self._single = _Single({old: new for old, new in pairs if " " not in old})
        self._several = [(f" {old} ", f" {new} ") for old, new in _expanded(pairs, self._single)]
        self._by_word: dict[str, list[int]] = {}
        for number, (old, _) in enumerate(self._several):
            self._by_word.setdefault(max(old.split(), key=len), []).append(number)
        self._telling = frozenset(self._by_word) | {new for new in self._single.values() if " " in new}

    def __call__(self, words: list[str]) -> list[str]:
        folded = [*map(self._single.__getitem__, words), ""]
        telling = self._telling.intersection(folded)
        if any(" " in word for word in telling):  # folded to several words
            folded = " ".join(folded).split(" ")
            telling = self._telling.intersection(folded)
        before = line = " ".join(folded)
        for number in sorted([number for word in telling for number in self._by_word[word]]):
            old, new = self._several[number]
            if old in line:
                line = line.replace(old, new)
        return folded if line is before else line.split(" ")


class _Single(dict[str, str]):
    """Words to what they are folded to; any other is itself, and remembered so."""

    def __missing__(self, word: str) -> str:
        if len(self) < MAX_WORDS:
            self[word] = word
        return word


def _expanded(pairs: list[tuple[str, str]], single: _Single) -> list[tuple[str, str]]:
    """The forms of several words, as they read once the forms of one word are folded."""
    out = {}
    for old, new in pairs:
        if " " in old:
            out[" ".join([single[word] for word in old.split()])] = new
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
        shown = printable(without_verdicts(content))
        sentences = without_asides(shown, [found for part in _SENTENCE.findall(shown) if (found := part.strip())])
        joined = _fold_letters("\n".join([sentence.replace("\n", " ") for sentence in sentences]))
        return Text(sentences, self.fold(_words(joined)), "" if joined.isascii() or not CJK.search(joined) else joined)


def _words(text: str) -> list[str]:
    """Words of a folded text: letters and digits, apostrophes and hyphens between them; a BREAK leads each sentence."""
    plain = f"\n{text}\n".encode("ascii", "replace").translate(_SPACED).decode("ascii")
    for loose, gap in _LOOSE.items():
        if loose in plain:
            plain = plain.replace(loose, gap)
    return plain.replace("\n", f" {BREAK} ").split()


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
    return Language(
        fold=_Folds(data["folds"]),
        assistant=Phrasebook(data["assistant"], classes),
        user=Phrasebook(data["user"] | data["intent"], classes),
        categories=frozenset(data["user"]),
    )
