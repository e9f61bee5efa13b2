"""Probabilities and labels in, figures out: agreement at full coverage, and where the judge does not abstain.

Plain Python and a seeded bootstrap of conversations, so that figures repeat to the last digit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from safetyqc.judge.embedded.model import Figures

if TYPE_CHECKING:
    from safetyqc.judge.embedded.judge import LocalJudge
    from safetyqc.records import Conversation, Label

RESAMPLES = 1000


def measure(probabilities: Sequence[float], passed: Sequence[bool], unsure: tuple[float, float]) -> Figures:
    """Compare probabilities of pass, cut at 0.5, with labels; `unsure` bounds where the judge abstains."""
    said = [p >= 0.5 for p in probabilities]
    covered = [(s, t) for s, t, p in zip(said, passed, probabilities, strict=True) if not unsure[0] < p < unsure[1]]
    low, high = _interval(said, passed)
    return Figures(
        n=len(said),
        passed=sum(passed),
        kappa=_rounded(kappa(said, passed)),
        kappa_low=_rounded(low),
        kappa_high=_rounded(high),
        accuracy=_share([s == t for s, t in zip(said, passed, strict=True)]),
        coverage=_rounded(len(covered) / len(said)) if said else None,
        accuracy_covered=_share([s == t for s, t in covered]),
    )


def kappa(said: Sequence[bool], truth: Sequence[bool]) -> float | None:
    """Cohen's kappa of two yes/no raters; None when both always say the same one thing."""
    n = len(said)
    if not n:
        return None
    both = sum(s and t for s, t in zip(said, truth, strict=True))
    return _kappa(both, sum(said), sum(truth), n)


def _kappa(both: int, first: int, second: int, n: int) -> float | None:
    observed = (n - first - second + 2 * both) / n
    expected = (first * second + (n - first) * (n - second)) / (n * n)
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _interval(said: Sequence[bool], truth: Sequence[bool]) -> tuple[float | None, float | None]:
    """95% percentile bootstrap over conversations, drawn over the four patterns of cells."""
    patterns = [(s, t) for s, t in zip(said, truth, strict=True)]
    if not patterns:
        return None, None
    rng, found = random.Random(0), []
    for _ in range(RESAMPLES):
        drawn = rng.choices(patterns, k=len(patterns))
        value = kappa([s for s, _ in drawn], [t for _, t in drawn])
        if value is not None:
            found.append(value)
    found.sort()
    if not found:
        return None, None
    return found[int(len(found) * 0.025)], found[min(int(len(found) * 0.975), len(found) - 1)]


def _share(hits: Sequence[bool]) -> float | None:
    return _rounded(sum(hits) / len(hits)) if hits else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def evaluate(
    judge: LocalJudge, conversations: Iterable[Conversation], labels: Iterable[Label]
) -> Mapping[str, Figures]:
    """Figures of a judge per criterion, on labelled conversations; cells labelled na are left out.

    Its abstentions count by its own bounds, whether or not the criterion is reliable or applies by its own reading.
    """
    truth: dict[str, dict[str, bool]] = {}
    for label in labels:
        if label.outcome != "na":
            truth.setdefault(label.conversation_id, {})[label.criterion] = label.outcome == "pass"
    cells: dict[str, list[tuple[float, bool]]] = {}
    for conversation in conversations:
        own = truth.get(conversation.id)
        if own:
            for name, probability in judge.probabilities(conversation).items():
                if name in own:
                    cells.setdefault(name, []).append((probability, own[name]))
    return {
        name: measure([p for p, _ in found], [t for _, t in found], judge.weights.criteria[name].unsure)
        for name, found in cells.items()
    }
