"""Phrases over words, compiled into one automaton: finds every phrase of hundreds in one walk over a line of words.

From each word that can start a phrase a walk goes forward, for all cues at once, until no phrase can go on: mostly one
look-up. States are made when text first needs them (Thompson's construction, made deterministic lazily), so loading is
cheap and text of any kind costs the same. The one surprising thing: walks are kept apart by where they start. One
automaton for all starts at once would have a state for every mixture of half-read phrases, tens of thousands of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from typing import Literal

BREAK = "."
"""The word that leads every sentence, and ends the last one."""
_END = ""
"""What follows the last word; no phrase goes over it."""
_NO_PLACE = -1
MAX_WORDS = 200_000
"""Words remembered with the places they fit; text with more distinct words than this is looked up afresh."""


@dataclass(frozen=True)
class Item:
    """One step of a phrase.

    Args:
        kind: `words` (one of the choices), `optional` (one of them or nothing), `gap` (up to `most` words of a
            sentence), `start` and `end` of a sentence.
        choices: words, sequences of words with spaces, or beginnings of words with a trailing `*`.
    """

    kind: Literal["words", "optional", "gap", "start", "end"]
    choices: tuple[str, ...] = ()
    most: int = 0


class Automaton:
    """Compiled phrases of many cues.

    Args:
        phrases: pairs of a cue and one of its phrases; a phrase must not begin with a gap.
    """

    def __init__(self, phrases: Iterable[tuple[str, Sequence[Item]]]) -> None:
        self._places: list[_Place] = []
        self._by_word: dict[str, list[int]] = {}
        self._by_stem: dict[str, list[int]] = {}
        self._gaps: set[int] = set()
        begins: set[int] = set()
        for cue, phrase in phrases:
            begins |= self._add(cue, phrase)
        self._begins = frozenset(begins)
        self._longest_stem = max(map(len, self._by_stem), default=0)
        self._known: dict[frozenset[int], _State] = {}
        self._kinds: dict[frozenset[int], int] = {}
        self._fitting: list[frozenset[int]] = []
        self._starts: dict[int, _Step] = {}
        self._kind_of_word = _KindOfWord(self)
        self._break = self._kind_of_word[BREAK]
        self._starts.setdefault(self._break, (None, ()))  # sentences are counted there

    def find(self, words: Sequence[str]) -> dict[str, list[int]]:
        """Find every cue's sentences, one entry a start; a cue counts once a start however many phrases fit there.

        Args:
            words: of all sentences, each sentence led by a BREAK; one more BREAK and an empty word stand last.
        """
        found: dict[str, list[int]] = {}
        kinds = list(map(self._kind_of_word.__getitem__, words))
        starts, ends, sentence = self._starts, self._break, -1
        for place in compress(count(), map(starts.__contains__, kinds)):
            kind = kinds[place]
            if kind == ends:
                sentence += 1
            step: _Step | None = starts[kind]
            while step is not None:
                state, cues = step
                if cues:
                    for cue in cues:
                        found.setdefault(cue, []).append(sentence)
                if state is None:
                    break
                place += 1
                step = state[kinds[place]]
        return found

    def _add(self, cue: str, phrase: Sequence[Item]) -> set[int]:
        """Add a phrase from its end to its beginning; returns where it can begin."""
        rest = _Rest(frozenset(), done=True)
        for item in reversed(phrase):
            match item.kind:
                case "words":
                    rest = _Rest(self._words(cue, item.choices, rest), done=False)
                case "optional":
                    rest = _Rest(rest.places | self._words(cue, item.choices, rest), done=rest.done)
                case "gap":
                    rest = self._gap(cue, item.most, rest)
                case "start":
                    rest = _Rest(frozenset({self._place(cue, [BREAK], rest)}), done=False)
                case "end":
                    rest = _Rest(frozenset({self._place(cue, [BREAK], rest)}), done=False)
        return set(rest.places)

    def _words(self, cue: str, choices: Iterable[str], rest: _Rest) -> frozenset[int]:
        """Places of an item's choices: all single words share one, a choice of several words is a chain."""
        several = [choice.split() for choice in choices if " " in choice]
        single = [choice for choice in choices if " " not in choice]
        places = {self._place(cue, single, rest)} if single else set()
        for chain in several:
            then = rest
            for word in reversed(chain):
                then = _Rest(frozenset({self._place(cue, [word], then)}), done=False)
            places |= then.places
        return frozenset(places)

    def _gap(self, cue: str, most: int, rest: _Rest) -> _Rest:
        places = rest.places
        for _ in range(most):
            place = self._place(cue, [], _Rest(places, rest.done))
            self._gaps.add(place)
            places |= {place}
        return _Rest(places, rest.done)

    def _place(self, cue: str, words: Iterable[str], rest: _Rest) -> int:
        number = len(self._places)
        self._places.append(_Place(cue, rest.places, rest.done))
        for word in words:
            by, key = (self._by_stem, word[:-1]) if word.endswith("*") else (self._by_word, word)
            by.setdefault(key, []).append(number)
        return number

    def kind(self, word: str) -> int:
        """Number of the set of places that a word fits; words that fit the same places are one to a phrase."""
        fitting = set(self._by_word.get(word, ()))
        for length in range(1, min(len(word), self._longest_stem) + 1):
            fitting.update(self._by_stem.get(word[:length], ()))
        if word == BREAK:
            fitting.add(_NO_PLACE)  # a kind of its own even if no phrase looks at breaks
        elif word != _END:
            fitting |= self._gaps
        return self._number(frozenset(fitting))

    def _number(self, fitting: frozenset[int]) -> int:
        if fitting not in self._kinds:
            number = self._kinds[fitting] = len(self._fitting)
            self._fitting.append(fitting)
            first = self.step(self._begins, number)
            if first is not None:
                self._starts[number] = first
        return self._kinds[fitting]

    def step(self, places: frozenset[int], kind: int) -> _Step | None:
        """Where a walk at these places stands after a word of this kind, and which cues that finds; None: nowhere."""
        taken = [self._places[number] for number in places & self._fitting[kind]]
        if not taken:
            return None
        cues = {place.cue for place in taken if place.done}
        then = frozenset(number for place in taken for number in place.then if self._places[number].cue not in cues)
        return self._state(then), tuple(sorted(cues))

    def _state(self, places: frozenset[int]) -> _State | None:
        if not places:
            return None
        if places not in self._known:
            self._known[places] = _State(self, places)
        return self._known[places]


@dataclass(frozen=True)
class _Rest:
    """What remains of a phrase: places that may take the next word, and whether it may be over."""

    places: frozenset[int]
    done: bool


@dataclass(frozen=True)
class _Place:
    """One place of a phrase that takes a word: which cue it belongs to, and what may follow."""

    cue: str
    then: frozenset[int]
    done: bool


class _State(dict[int, "_Step | None"]):
    """How a walk goes on from here, by kind of word; filled as text comes."""

    __slots__ = ("automaton", "places")

    def __init__(self, automaton: Automaton, places: frozenset[int]) -> None:
        self.automaton, self.places = automaton, places

    def __missing__(self, kind: int) -> _Step | None:
        step = self[kind] = self.automaton.step(self.places, kind)
        return step


_Step = tuple[_State | None, tuple[str, ...]]


class _KindOfWord(dict[str, int]):
    """Kind of every word seen so far."""

    __slots__ = ("automaton",)

    def __init__(self, automaton: Automaton) -> None:
        self.automaton = automaton

    def __missing__(self, word: str) -> int:
        kind = self.automaton.kind(word)
        if len(self) < MAX_WORDS:
            self[word] = kind
        return kind
