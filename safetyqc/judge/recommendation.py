"""Comparison figures in, one sentence out: which judge is worth its price, or why nobody can say yet.

Decides by kappa against labels and nothing else: agreement among judges says that they agree, not that they are right.
Accuracy never names a winner while intervals overlap; then the price decides, if it differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from safetyqc.records import Outcome
from safetyqc.results.compare import (
    Accuracy,
    CriterionComparison,
    Estimate,
    Price,
    RaterCounts,
    Recommendation,
)

MIN_LABELLED = 30
"""Labelled conversations below which no judge is recommended: a kappa on fewer moves by a fifth with one of them."""
MIN_OF_EACH = 5
"""Cells labelled pass, and fail, below which none is either: kappa hangs on the rarer of the two, and on three failures
one of two equally good judges is clear of the other in one report out of twelve (`benchmarks/corrected_rates.py`)."""
MIN_COVERAGE = 0.9
"""A judge that leaves more than a tenth unscored chose its own questions; it is no match for one that answered all."""


def recommend(basis: CriterionComparison, prices: Sequence[Price]) -> Recommendation:
    """Recommend a judge, or say what is missing; never a winner by overlapping intervals.

    Args:
        basis: the comparison on the cells that every judge was asked for.
        prices: one for every judge.
    """
    judges = [price.judge for price in prices]
    measured = {a.rater: a for a in basis.accuracies if a.rater in judges}
    if not measured:
        return Recommendation(
            judge=None,
            reason="no labels: agreement shows that judges agree, not that they are right; label about "
            "100 conversations in a file (docs/formats.md) and give it: `safetyqc compare --labels labels.jsonl`",
        )
    n = max(a.conversations for a in measured.values())
    if n < MIN_LABELLED:
        reason = f"too few labels: {n} labelled and scored conversations, at least {MIN_LABELLED} are needed"
        return Recommendation(judge=None, reason=reason)
    rarer, word = min((_labelled(measured.values(), "fail"), "fail"), (_labelled(measured.values(), "pass"), "pass"))
    if rarer < MIN_OF_EACH:
        reason = f"too few labels that say {word}: {rarer}, at least {MIN_OF_EACH} are needed to tell judges apart"
        return Recommendation(judge=None, reason=reason)
    chosen = _choose(measured, {c.rater: c for c in basis.counts}, {p.judge: p for p in prices})
    return chosen.model_copy(update={"reason": chosen.reason + _ceiling(basis)})


def _labelled(measured: Iterable[Accuracy], outcome: str) -> int:
    """Cells with this label, of the judge that scored most of them."""
    scored: tuple[Outcome, ...] = ("pass", "fail")
    return max(sum(a.confusion.get(outcome, {}).get(said, 0) for said in scored) for a in measured)


def _ceiling(basis: CriterionComparison) -> str:
    kappas = [a.kappa.value for a in basis.human_ceiling if a.kappa]
    return f"; people agree with each other at {sum(kappas) / len(kappas):.2f}" if kappas else ""


def _choose(
    measured: Mapping[str, Accuracy], counts: Mapping[str, RaterCounts], prices: Mapping[str, Price]
) -> Recommendation:
    kappas = {judge: a.kappa for judge, a in measured.items() if a.kappa is not None}
    shown = ", ".join(f"{judge} {_interval(kappa)}" for judge, kappa in kappas.items())
    if all(kappa.low <= 0 for kappa in kappas.values()):
        return Recommendation(
            judge=None, reason=f"no judge is shown to be better than chance (kappa: {shown or 'none'})"
        )
    thorough = {j: k for j, k in kappas.items() if (counts[j].coverage or 0) >= MIN_COVERAGE}
    aside = _aside(kappas, thorough, counts)
    if not thorough:
        return Recommendation(judge=None, reason=f"no judge scored {MIN_COVERAGE:.0%} of the cells{aside}")
    best = max(thorough, key=lambda judge: thorough[judge].value)
    # A judge that is not shown to beat chance is a rival all the same: that it is worse was not shown either
    rivals = [judge for judge, kappa in thorough.items() if judge == best or kappa.overlaps(thorough[best])]
    if len(rivals) > 1:
        return _cheapest(best, rivals, thorough, prices, aside)
    if thorough[best].low <= 0:
        return Recommendation(judge=None, reason=f"no judge is shown to be better than chance (kappa: {shown})")
    return Recommendation(judge=best, reason=_clear_winner(best, thorough, prices) + aside)


def _aside(
    measured: Mapping[str, Estimate], thorough: Mapping[str, Estimate], counts: Mapping[str, RaterCounts]
) -> str:
    sparse = [f"{judge} scored {counts[judge].coverage or 0:.0%}" for judge in measured if judge not in thorough]
    return f"; not considered, too much unscored: {', '.join(sparse)}" if sparse else ""


def _clear_winner(best: str, kappas: Mapping[str, Estimate], prices: Mapping[str, Price]) -> str:
    price = f"at {_money(prices[best])}"
    if len(kappas) == 1:
        return f"{best}: kappa {_interval(kappas[best])} against the labels, {price}"
    second = max((judge for judge in kappas if judge != best), key=lambda judge: kappas[judge].value)
    return (
        f"{best}: kappa {_interval(kappas[best])} {price}, clear of {second} with {_interval(kappas[second])} "
        f"at {_money(prices[second])}"
    )


def _cheapest(
    best: str, rivals: list[str], kappas: Mapping[str, Estimate], prices: Mapping[str, Price], aside: str
) -> Recommendation:
    tied = ", ".join(f"{judge} {_interval(kappas[judge])}" for judge in rivals)
    costs = {judge: prices[judge].cost_usd_per_1000 for judge in rivals}
    known = {judge: cost for judge, cost in costs.items() if cost is not None}
    if len(known) < len(rivals) or len(set(known.values())) == 1:
        what = "their price is not known for all" if len(known) < len(rivals) else "they cost the same"
        return Recommendation(
            judge=None, reason=f"no winner: intervals overlap (kappa: {tied}) and {what}; more labels may tell{aside}"
        )
    cheap = min(known, key=lambda judge: known[judge])
    if list(known.values()).count(known[cheap]) > 1:
        return Recommendation(
            judge=None, reason=f"no winner: intervals overlap (kappa: {tied}) and the cheapest cost the same{aside}"
        )
    if kappas[cheap].low <= 0:
        return Recommendation(
            judge=None,
            reason=f"no winner: intervals overlap (kappa: {tied}), and {cheap}, the cheapest, is not shown to be "
            f"better than chance; more labels may tell{aside}",
        )
    dearer = best if best != cheap else min((j for j in rivals if j != cheap), key=lambda judge: known[judge])
    return Recommendation(
        judge=cheap,
        reason=f"{cheap}: not told apart from {dearer} by these labels (kappa: {tied}) and cheaper: "
        f"{_money(prices[cheap])} against {_money(prices[dearer])}{aside}",
    )


def _interval(kappa: Estimate) -> str:
    return f"{kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]"


def _money(price: Price) -> str:
    cost = price.cost_usd_per_1000
    return "an unknown price" if cost is None else f"${cost:.2f} per 1,000"
