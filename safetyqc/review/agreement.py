"""Labels of several people, and of one person asked twice -> how far they agree, and on what they keep differing.

Nothing here decides who is right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from safetyqc.records import Label
from safetyqc.results.statistics import cohen_kappa, share

ADJUDICATED = "adjudicated"
"""Under this name decisions between annotators are stored, so that what each of them said stays theirs."""
AGAIN = "review, again"
"""Source of a label that was given when an annotator was shown a conversation a second time."""
_OFTEN, _MOST = 3, 0.5
"""From so many differences on, and from such a share of a criterion's, one pair of levels is called a pattern."""

Cell = tuple[str, str]
"""Conversation and criterion."""


@dataclass(frozen=True)
class Consistency:
    """One annotator on cells that they were shown twice."""

    annotator: str
    cells: int
    same: float | None
    kappa: float | None


@dataclass(frozen=True)
class Pair:
    """Two people on the cells of one criterion that both of them labelled."""

    annotators: tuple[str, str]
    cells: int
    same: float | None
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """People with each other on one criterion: `cells` were labelled by two or more; kappa is for two people."""

    criterion: str
    annotators: int
    cells: int
    same: float | None
    kappa: float | None
    alpha: float | None
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Confusion:
    """Two levels of one criterion that people take for each other, and how often of all their differences on it."""

    criterion: str
    levels: tuple[str, str]
    times: int
    differences: int


def latest_by_cell(history: Iterable[Label]) -> dict[Cell, dict[str, Label]]:
    """What each annotator last said of each cell, verdicts alone."""
    cells: dict[Cell, dict[str, Label]] = defaultdict(dict)
    for label in history:
        cells[label.conversation_id, label.criterion][label.annotator] = label
    return {cell: said for cell, by in cells.items() if (said := {n: x for n, x in by.items() if x.is_verdict})}


def disputes(history: Iterable[Label]) -> dict[Cell, list[Label]]:
    """Cells on which people differ and nobody has decided yet, each with what was said."""
    found = {}
    for cell, by in latest_by_cell(history).items():
        people = [label for label in by.values() if not label.adjudicated]
        if len(people) == len(by) and len({label.outcome for label in people}) > 1:
            found[cell] = people
    return found


def confusions(history: Iterable[Label]) -> list[Confusion]:
    """Pairs of levels that stand behind most differences on a criterion: its wording seems to be the cause."""
    pairs: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for (_, criterion), by in latest_by_cell(history).items():
        levels = sorted({x.level or x.outcome for x in by.values() if not x.adjudicated})
        if len(levels) > 1:
            pairs[criterion].update((a, b) for i, a in enumerate(levels) for b in levels[i + 1 :])
    found = []
    for criterion, counts in sorted(pairs.items()):
        pair, times = counts.most_common(1)[0]
        if times >= _OFTEN and times >= _MOST * counts.total():
            found.append(Confusion(criterion, pair, times, counts.total()))
    return found


def consistencies(history: Iterable[Label]) -> list[Consistency]:
    """How far each annotator says the same of what they were shown again."""
    said: dict[tuple[str, Cell], list[Label]] = defaultdict(list)
    for label in history:
        if not label.adjudicated:
            said[label.annotator, (label.conversation_id, label.criterion)].append(label)
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (annotator, _), labels in said.items():
        if pair := _twice(labels):
            pairs[annotator].append(pair)
    return [_consistency(annotator, own) for annotator, own in sorted(pairs.items())]


def agreements(history: Iterable[Label]) -> list[Agreement]:
    """How far people agree on each criterion: cells that two or more labelled; adjudications aside."""
    cells: dict[str, list[dict[str, str]]] = defaultdict(list)
    for (_, criterion), by in latest_by_cell(history).items():
        people: dict[str, str] = {name: label.outcome for name, label in by.items() if not label.adjudicated}
        if len(people) > 1:
            cells[criterion].append(people)
    return [_agreement(criterion, found) for criterion, found in sorted(cells.items())]


def _agreement(criterion: str, cells: list[dict[str, str]]) -> Agreement:
    names = sorted({name for people in cells for name in people})
    same = share(sum(len(set(people.values())) == 1 for people in cells), len(cells))
    pairs = tuple(_pairs(names, cells))
    kappa = pairs[0].kappa if len(names) == 2 else None
    return Agreement(criterion, len(names), len(cells), same, kappa, _alpha(names, cells), pairs)


def _pairs(names: list[str], cells: list[dict[str, str]]) -> Iterator[Pair]:
    for one, other in combinations(names, 2):
        both = [(people[one], people[other]) for people in cells if one in people and other in people]
        if both:
            same = share(sum(a == b for a, b in both), len(both))
            yield Pair((one, other), len(both), same, cohen_kappa([a for a, _ in both], [b for _, b in both]))


def _alpha(names: list[str], cells: list[dict[str, str]]) -> float | None:
    """Krippendorff's, of what people call pass or fail."""
    import numpy as np

    from safetyqc.judge.agreement import alpha
    from safetyqc.judge.ratings import ABSENT, CODES, NA

    codes: dict[str | None, int] = {"pass": CODES["pass"], "fail": CODES["fail"], "na": NA, None: ABSENT}
    return alpha([np.array([codes[people.get(name)] for people in cells], np.int8) for name in names])


def _consistency(annotator: str, pairs: list[tuple[str, str]]) -> Consistency:
    same = share(sum(a == b for a, b in pairs), len(pairs))
    return Consistency(annotator, len(pairs), same, cohen_kappa([a for a, _ in pairs], [b for _, b in pairs]))


def _twice(labels: list[Label]) -> tuple[str, str] | None:
    """What was last said before a cell came again, and what was last said then."""
    first = next((i for i, label in enumerate(labels) if label.source == AGAIN), None)
    if first is None:
        return None
    before = [label for label in labels[:first] if label.is_verdict]
    after = [label for label in labels[first:] if label.source == AGAIN]
    if not before or not after[-1].is_verdict:
        return None
    return before[-1].outcome, after[-1].outcome


def open_for(labels: Mapping[Cell, Label], rubric_hash: str) -> dict[Cell, Label]:
    """An annotator's verdicts that were given for another wording of the rubric: listed to be labelled again."""
    return {c: x for c, x in labels.items() if x.is_verdict and x.rubric_hash not in (None, rubric_hash)}
