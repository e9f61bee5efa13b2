"""Counts how answers begin and which phrases they share, and names what was used too often: later ones must not use it.

Written while a plan is written out. Texts come in, a short list of words goes out; it rejects nothing. Openings are
counted as reports count them, so that what is named here is what a report would call collapsed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from safetyqc.records import Conversation
from safetyqc.results.openings import refusal_opening
from safetyqc.text import CJK, normalise

OPENING_SHARE = 0.05
"""An opening of more than this share of the answers in a language is worn."""
PHRASE_SHARE = 0.15
"""A phrase (four words, or six characters where words are not written apart) in more than this share is a frame."""
FEWEST = 3
"""Fewer uses are no habit."""
NAMED = 8
"""As many are named at most: a long list of forbidden words is what a model writes next."""
_PHRASE_WORDS = 4
_PHRASE_CHARACTERS = 6
_LOOKED_AT = 400
"""Characters of each answer whose phrases are counted."""


class Worn:
    """The habits of a run so far, by language."""

    def __init__(self, conversations: Iterable[Conversation] = ()) -> None:
        self._openings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._phrases: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._answers: Counter[str] = Counter()
        for conversation in conversations:
            self.add(conversation)

    def add(self, conversation: Conversation) -> None:
        """Count a conversation's answers."""
        language = conversation.language or ""
        for answer in conversation.assistant_turns:
            self._answers[language] += 1
            self._openings[language][refusal_opening(answer)] += 1
            self._phrases[language].update(_phrases(answer[:_LOOKED_AT]))

    def named(self, language: str) -> tuple[str, ...]:
        """What answers in a language must not begin with or hold any more, the most worn first."""
        answers = self._answers[language]
        openings = _over(self._openings[language], max(FEWEST, OPENING_SHARE * answers))
        phrases = _over(self._phrases[language], max(FEWEST, PHRASE_SHARE * answers))
        named: list[str] = []
        for words in (*openings, *phrases):
            if not any(words in other or other in words for other in named):
                named.append(words)
        return tuple(named[:NAMED])


def _over(counts: Counter[str], most: float) -> list[str]:
    return [words for words, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if count > most and words]


def _phrases(text: str) -> set[str]:
    """Runs of words within a sentence, each once."""
    found: set[str] = set()
    for sentence in re.split(r"[.!?;:,。！？；：，\n]", normalise(text)):
        units: Sequence[str] = sentence.split()
        size, glue = _PHRASE_WORDS, " "
        if CJK.search(sentence):
            units, size, glue = sentence.replace(" ", ""), _PHRASE_CHARACTERS, ""
        found |= {glue.join(units[at : at + size]) for at in range(len(units) - size + 1)}
    return found
