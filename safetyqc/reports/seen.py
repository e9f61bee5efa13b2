"""What a report holds of a run's conversations and verdicts while it counts: everything but their texts.

Two short turns and their verdict take some seven thousand bytes as records, and two with this, counting included. The
few texts that are shown are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from sys import intern
from typing import NamedTuple

from safetyqc.formats.labels import recorded_beside
from safetyqc.records import Conversation, FailureKind, Judgment, Outcome
from safetyqc.results.openings import refusal_opening, refuses
from safetyqc.text import OPENING_WORDS, first_words, guess_language_of


@dataclass(frozen=True, slots=True)
class Place:
    """What a report asks of the plan's scenario: its index, the pair's name or "", its intent and way to answer."""

    index: int
    pair: str
    intent: str
    answer: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One conversation without its texts.

    Args:
        language: as plan or file name it; `spoken` is that or else a guess from how the messages begin.
        asked: characters of each of the user's messages; `answered` of each of the assistant's.
        opening: the first words of the first answer.
        refusal: how the first answer begins, if it refuses.
        declines: whether any answer begins by refusing.
        recorded: verdicts that stand beside it, as (judge, criterion, outcome).
        flaws: of a planted one, the criteria that a good judge must fail.
    """

    id: str
    origin: str
    parent_id: str | None
    category: str | None
    intent: str | None
    language: str | None
    author: str | None
    file: str | None
    scenario: Place | None
    spoken: str
    asked: tuple[int, ...]
    answered: tuple[int, ...]
    opening: str
    refusal: str | None
    declines: bool
    recorded: tuple[tuple[str, str, str], ...]
    flaws: frozenset[str] | None

    @classmethod
    def of(cls, c: Conversation) -> Seen:
        """Look at a conversation once."""
        answers, scenario = c.assistant_turns, c.scenario
        first = answers[0] if answers else ""
        refused = bool(answers) and refuses(first)
        return cls(
            id=c.id,
            origin=c.origin,
            parent_id=c.parent_id,
            category=c.category,
            intent=c.intent,
            language=told_language(c),
            author=c.author,
            file=c.file and intern(c.file),
            scenario=Place(scenario.index, scenario.pair, scenario.intent, scenario.answer) if scenario else None,
            spoken=seen_language(c),
            asked=tuple(map(len, c.user_turns)),
            answered=tuple(map(len, answers)),
            # 20 characters a word is more than six words need, and folding whole answers would take most of the time
            opening=intern(first_words(first[: 20 * OPENING_WORDS], OPENING_WORDS)),
            refusal=intern(refusal_opening(first)) if refused else None,
            declines=refused or any(map(refuses, answers[1:])),
            recorded=tuple(_recorded(c)) if "recorded" in c.meta else (),
            flaws=frozenset(c.meta["fails"]) if c.origin == "canary" and "fails" in c.meta else None,
        )


def _recorded(conversation: Conversation) -> Iterator[tuple[str, str, str]]:
    for judgment in recorded_beside((conversation,)):
        for score in judgment.scores:
            if score.outcome in ("pass", "fail"):
                yield judgment.judge, score.criterion, score.outcome


class Cell(NamedTuple):
    """What one judge says on one criterion; its words only where they are told, of what failed."""

    criterion: str
    outcome: Outcome
    level: str | None
    turn: int | None
    unscored_reason: FailureKind | None
    reason: str = ""
    quote: str = ""


class Said(NamedTuple):
    """One judgment without its reply, and without most of its words."""

    conversation_id: str
    passed: bool | None
    category: str | None
    intent: str | None
    cost_usd: float | None
    scores: tuple[Cell, ...]

    @classmethod
    def of(cls, judgment: Judgment, known: dict[tuple[Cell, ...], tuple[Cell, ...]], *, words: bool) -> Said:
        """Look at a judgment once.

        Args:
            known: the cells of those before: most judgments say what others say, and share them.
            words: keep the words of what failed.
        """
        cells = tuple(
            [
                Cell(s.criterion, s.outcome, s.level, s.turn, s.unscored_reason, s.reason, s.quote)
                if words and s.outcome == "fail"
                else Cell(s.criterion, s.outcome, s.level, s.turn, s.unscored_reason)
                for s in judgment.scores
            ]
        )
        said = known.setdefault(cells, cells) if not any(cell.reason for cell in cells) else cells
        return cls(
            judgment.conversation_id, judgment.passed, judgment.category, judgment.intent, judgment.cost_usd, said
        )

    def score(self, criterion: str) -> Cell | None:
        """The cell of one criterion, or None when this judge was not asked for it."""
        return next((s for s in self.scores if s.criterion == criterion), None)


def told_language(conversation: Conversation) -> str | None:
    """The language that the plan or the file names."""
    return conversation.language or (conversation.scenario.language if conversation.scenario else None)


def seen_language(conversation: Conversation) -> str:
    """The plan's or the file's language, else a guess from how the messages begin."""
    return told_language(conversation) or guess_language_of(m.content for m in conversation.messages)
