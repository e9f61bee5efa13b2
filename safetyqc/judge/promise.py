"""How sure a judge must be before its word counts, so that agreement with labels can be promised.

Fixed-sequence testing (Jung et al., Trust or Escalate, arXiv 2407.18370; Angelopoulos et al., Learn then Test, arXiv
2110.01052). The sequence starts where two disagreements could still be borne, or fewer where labels are few. At the
very strictest threshold a handful of cells could never show anything, and the sequence would end before it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log

_MISTAKES_AT_START = (2, 1)
"""The sequence starts where so many disagreements could still be borne; fewer would stop it at the first slip."""
_MOST_AT_START = 2 / 3
"""Share of the labels that its start may take; the rest is what an unsure judge is wrong on, and never to be kept."""
_STEPS = 40


@dataclass(frozen=True)
class Promise:
    """What labels allow to be said of one judge on one criterion.

    Args:
        min_certainty: 0.5..1; from here on the judge's word counts. None: nothing can be promised.
        labelled: labelled cells that the judge gave a verdict on.
        kept: of these, the ones at or above `min_certainty`.
        agreement: share of the kept ones that agree with the labels.
        why: one sentence for people.
    """

    criterion: str
    min_certainty: float | None
    labelled: int
    kept: int = 0
    agreement: float | None = None
    why: str = ""


def promise(
    criterion: str, cells: Iterable[tuple[float, bool]], *, min_agreement: float = 0.9, confidence: float = 0.95
) -> Promise:
    """Find the lowest certainty that keeps agreement at `min_agreement` or above, with `confidence`.

    Thresholds are tested from the strictest down, each with an exact binomial test of "agreement is lower than that",
    and the first that is not rejected ends the sequence: so all tests together err with at most 1 - `confidence`. Where
    the sequence starts depends on the certainties alone, never on who was right. The promise holds for this criterion,
    on conversations drawn like the labelled ones.

    Args:
        cells: (certainty, agrees with the label) of every labelled cell.
    """
    ranked = sorted(cells, reverse=True)
    most_error, need = 1 - confidence, labels_needed(min_agreement, confidence)
    if len(ranked) < need:
        why = f"{len(ranked)} labels are too few to promise anything: at least {need} are needed, if all agree"
        return Promise(criterion, None, len(ranked), why=why)
    held: Promise | None = None
    for kept in _sequence([certainty for certainty, _ in ranked], min_agreement, confidence):
        agreeing = sum(agrees for _, agrees in ranked[:kept])
        if tail(agreeing, kept, min_agreement) > most_error:
            if held is None:
                why = (
                    f"of the {kept} surest labels {agreeing} agree: too few to promise {min_agreement:.0%} "
                    f"with {confidence:.0%} confidence"
                )
                return Promise(criterion, None, len(ranked), why=why)
            break
        why = f"{agreeing} of {kept} labels agree from certainty {ranked[kept - 1][0]:.3f} on"
        held = Promise(criterion, ranked[kept - 1][0], len(ranked), kept, agreeing / kept, why)
    return held or Promise(criterion, None, len(ranked), why="no threshold could be tested")


def labels_needed(min_agreement: float, confidence: float) -> int:
    """The fewest labels that could ever promise this: all of them would have to agree (29 for 0.9 at 0.95)."""
    return ceil(log(1 - confidence) / log(min_agreement))


def _sequence(certainties: Sequence[float], min_agreement: float, confidence: float) -> list[int]:
    """How many of the surest cells each test keeps: whole groups of equal certainty, from the strictest down."""
    ends = [i + 1 for i, c in enumerate(certainties) if i + 1 == len(certainties) or certainties[i + 1] < c]
    starts = [_bearing(slips, min_agreement, confidence) for slips in (*_MISTAKES_AT_START, 0)]
    start = next((n for n in starts if n <= _MOST_AT_START * len(certainties)), starts[-1])
    ends = [end for end in ends if end >= start]
    stride = max(ceil(len(ends) / _STEPS), 1)
    return sorted({*ends[::stride], *ends[-1:]})


@lru_cache
def _bearing(slips: int, min_agreement: float, confidence: float) -> int:
    """The fewest labels of which so many may disagree and the promise still be made."""
    n = labels_needed(min_agreement, confidence)
    while tail(n - slips, n, min_agreement) > 1 - confidence:
        n += 1
    return n


def tail(agreeing: int, n: int, share: float) -> float:
    """P(at least `agreeing` of n) when each agrees with probability `share`: the p-value of "it is no more"."""
    from scipy.stats import binom

    return float(binom.sf(agreeing - 1, n, share))
