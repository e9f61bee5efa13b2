"""A Comparison and the cards of its judges in; which differences are larger than what wording alone moves, out.

A judge that is not asked in the rubric's words (its card says so) is moved by no wording; of one without a card nothing
is known, and so is whether it differs from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from safetyqc.results.card import JudgeCard
from safetyqc.results.compare import Comparison, CriterionComparison, Measure, Spread, WordingDifference

_Moves = tuple[float, float]
"""How far other wordings take a rate down and up from the shipped wording's."""


def with_differences(comparison: Comparison, cards: Mapping[str, JudgeCard]) -> Comparison:
    """Add every pair's differences, where the card of one of the two is known by this rubric."""
    known = {name: card for name, card in cards.items() if card.rubric_hash == comparison.rubric_hash}
    found = [d for criterion in comparison.criteria for d in _differences(criterion, comparison.judges, known)]
    return comparison.model_copy(update={"differences": tuple(found)})


def _differences(
    criterion: CriterionComparison, judges: Iterable[str], cards: Mapping[str, JudgeCard]
) -> Iterable[WordingDifference]:
    rates: dict[Measure, dict[str, float]] = {
        "pass rate": {c.rater: c.pass_rate.value for c in criterion.counts if c.pass_rate},
        "agreement with labels": {a.rater: a.agreement for a in criterion.accuracies if a.agreement is not None},
    }
    for measure, values in rates.items():
        moves = {judge: _moves(cards.get(judge), measure, criterion.criterion) for judge in judges}
        for first, second in combinations([judge for judge in judges if judge in values], 2):
            if first not in cards and second not in cards:
                continue
            gap = values[first] - values[second]
            reach = _reach(moves[first], moves[second], gap)
            yield WordingDifference(
                criterion=criterion.criterion,
                measure=measure,
                first=first,
                second=second,
                difference=gap,
                wording=reach,
                is_larger=None if reach is None else abs(gap) > reach,
            )


def _reach(first: _Moves | None, second: _Moves | None, gap: float) -> float | None:
    """How far other wordings of both could close the gap: the higher rate down, the lower one up."""
    if first is None or second is None:
        return None
    upper, lower = (first, second) if gap >= 0 else (second, first)
    return upper[0] + lower[1]


def _moves(card: JudgeCard | None, measure: Measure, criterion: str) -> _Moves | None:
    if card is None or not card.probes.sample:
        return None
    if not card.probes.wordings:
        return 0.0, 0.0
    spread = _spread(card, measure, criterion)
    shipped = spread.wordings.get(card.probes.wordings[0]) if spread else None
    if spread is None or shipped is None:
        return None
    return shipped - spread.low, spread.high - shipped


def _spread(card: JudgeCard, measure: Measure, criterion: str) -> Spread | None:
    if measure == "pass rate":
        return next((r.wording for r in card.rates if r.criterion == criterion), None)
    rows = (r for r in card.agreement if r.by == "criterion" and r.criterion == criterion)
    return next((r.wording for r in rows), None)
