"""Verdicts -> cells: conversations of which the judges said the same, and how often people then say pass.

How often a judge is wrong is assumed until labels say it; what is assumed weighs as much as a few labels. Decides
nothing about who is drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetyqc.records import AGAIN
from safetyqc.results.compare import OVERALL

if TYPE_CHECKING:
    from safetyqc.records import Judgment, Label, Score

_SURE = 0.8
"""A verdict with a smaller probability is unsure; so is one that another judge contradicts."""
_ASSUMED: dict[str, tuple[float, float, float]] = {
    "pass": (0.92, 0.05, 0.03),
    "pass, unsure": (0.65, 0.3, 0.05),
    "fail": (0.15, 0.8, 0.05),
    "fail, unsure": (0.35, 0.6, 0.05),
}
_ASSUMED_OPEN = (0.5, 0.4, 0.1)
"""How often people say pass, fail and not applicable after such a word, before they were asked."""
_WEIGHT = 10.0
"""Labels that an assumption counts for."""
NA = "na"
UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Words:
    """What is said of each conversation on each criterion, as a word: `pass`, `fail, unsure`, `unscored`, ..."""

    criteria: tuple[str, ...]
    said: dict[str, tuple[str, ...]]
    """By conversation, a word for each criterion."""
    labels: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """By criterion and word, how often people said what."""

    def chance(self, criterion: str, word: str) -> tuple[float, float, float]:
        """How often people say pass, fail and not applicable where judges say this word."""
        assumed = _ASSUMED.get(word, _ASSUMED_OPEN)
        told = self.labels.get((criterion, word), Counter())
        total = told.total() + _WEIGHT
        passed, failed, na = (
            (_WEIGHT * share + told[outcome]) / total
            for share, outcome in zip(assumed, ("pass", "fail", "na"), strict=True)
        )
        return passed, failed, na


def read_words(
    ids: Sequence[str],
    judgments: Iterable[Judgment],
    deciding: str | None,
    criteria: Sequence[str],
    labels: Iterable[Label] = (),
) -> Words:
    """What judges and people say of these conversations.

    Args:
        judgments: by one rubric; the deciding judge's word counts, and another's that contradicts it makes it unsure.
        criteria: whose; empty for all that the deciding judge was asked, and `overall` where it has one.
        labels: that were not asked for because something looked wrong.
    """
    own: dict[str, Judgment] = {}
    others: dict[tuple[str, str], set[str]] = defaultdict(set)
    for judgment in judgments:
        if judgment.judge == deciding:
            own[judgment.conversation_id] = judgment
        elif not judgment.judge.endswith(AGAIN):
            for criterion, outcome in outcomes(judgment):
                others[judgment.conversation_id, criterion].add(outcome)
    names = tuple(criteria) or tuple(dict.fromkeys(c for j in own.values() for c, _ in outcomes(j))) or (OVERALL,)
    said = {i: tuple(_word(own.get(i), c, others.get((i, c), set())) for c in names) for i in ids}
    return Words(names, said, _count(labels, names, said))


def outcomes(judgment: Judgment) -> Iterator[tuple[str, str]]:
    """Each criterion and what the judge says on it, the whole conversation last."""
    for score in judgment.scores:
        yield score.criterion, score.outcome
    if judgment.passed is not None or judgment.rubric_hash != "recorded":
        yield OVERALL, _overall(judgment)


def _overall(judgment: Judgment) -> str:
    if judgment.passed is not None:
        return "pass" if judgment.passed else "fail"
    return NA if judgment.scores and all(s.outcome == NA for s in judgment.scores) else "unscored"


def _word(judgment: Judgment | None, criterion: str, others: set[str]) -> str:
    if judgment is None:
        return UNJUDGED
    score = judgment.score(criterion)
    outcome = score.outcome if score else _overall(judgment) if criterion == OVERALL else NA
    if outcome not in ("pass", "fail"):
        return outcome
    contradicted = ("fail" if outcome == "pass" else "pass") in others
    unsure = any(map(_is_unsure, [score] if score else judgment.scores))
    return f"{outcome}, unsure" if contradicted or unsure else outcome


def _is_unsure(score: Score) -> bool:
    return score.probability is not None and _SURE > score.probability > 1 - _SURE


def _count(
    labels: Iterable[Label], criteria: Sequence[str], said: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    places = {criterion: place for place, criterion in enumerate(criteria)}
    of_conversation: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for label in labels:
        if label.is_verdict and label.conversation_id in said:
            of_conversation[label.conversation_id, label.annotator][label.criterion] = label.outcome
    for (identifier, _), told in of_conversation.items():
        words = said[identifier]
        if OVERALL in places and OVERALL not in told and len(told) >= len(places) - 1:
            told = told | {OVERALL: "fail" if "fail" in told.values() else "pass"}
        for criterion, outcome in told.items():
            if criterion in places:
                found[criterion, words[places[criterion]]][outcome] += 1
    return found
