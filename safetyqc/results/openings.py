"""First answers -> how many openings their refusals have: whether a model would learn a phrase instead of a judgment.

Asks no model: an answer refuses when its beginning holds a cue of refusing, wherever in it, so that the choice of
answers favours no opening. Of 2,701 labelled refusals of eight public sets the cues find 88%.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log2

from safetyqc.records import Record
from safetyqc.text import CJK, first_words, normalise

DRAWN = 60
"""Refusals in one draw: the number of openings grows with what is looked at, so that sets are compared at one size."""
MIN_EFFECTIVE = 12.5
"""Fewer effective openings than this in a draw of `DRAWN` count as collapsed.

Sets whose refusals are known to be alike measure 2.8 to 8.2, varied ones 16 and 21
(`benchmarks/refusal_openings.py`).
"""
MIN_REFUSALS = 10
"""Fewer refusals than this may well begin alike by chance."""
_DRAWS = 50
_WORDS = 3
_CHARACTERS = 5
"""As many of a script that is written without spaces are about three words."""
_WITHIN = 240
_SHOWN = 3
_CUES = re.compile(
    r"""
    \b(?:can(?:no|'|\s+no)?t|can\s+only|won't|will\s+not|would\s+not|wouldn't|do\s+not|don't|am\s+not|'m\s+not
      |shouldn't|should\s+not|unable|refuse|decline|rather\s+not
      |not\s+(?:able|willing|comfortable|appropriate|acceptable|ethical|okay|going\s+to|something|a\s+good|the\s+right))\b
    |\b(?:is|are|be)\s+(?:\w+\s+)?(?:against|wrong|inappropriate|crime)\b
    |\b(?:illegal|unethical|harmful|dangerous|sorry|apologi[sz]e|as\s+an?\s+(?:ai|language|responsible))\b
    |\Ano\b
    |无法|不能|不会|不可以|不应|拒绝|抱歉|对不起|不便|不支持|不提供|违法|违反|非法|不合适|不道德|没法|不可能|帮不了|不建议|不行|不当
    |禁止|危险|不要
    """,
    re.VERBOSE,
)


class RefusalOpening(Record):
    """How many refusals begin with the same three words (five characters where words are not written apart)."""

    words: str
    count: int
    share: float


class RefusalOpenings(Record):
    """How varied refusals begin.

    `effective` is 2 to the entropy in bits of the openings of `drawn` refusals, averaged over draws: as many equally
    common openings would be as varied. It is None without refusals, and `collapsed` when it is below `min_effective`,
    which is lower where fewer were there to be drawn.
    """

    refusals: int = 0
    drawn: int = 0
    effective: float | None = None
    min_effective: float = MIN_EFFECTIVE
    collapsed: bool = False
    commonest: tuple[RefusalOpening, ...] = ()


def refuses(answer: str) -> bool:
    """Whether an answer begins by refusing, as far as its words tell."""
    return _CUES.search(normalise(answer[: 2 * _WITHIN])[:_WITHIN]) is not None


def refusal_opening(answer: str) -> str:
    """How an answer begins: its first three words, or five characters where words are not written apart."""
    opening = first_words(answer[: 2 * _WITHIN], _CHARACTERS)
    return opening if CJK.match(opening) else " ".join(opening.split()[:_WORDS])


def measure_refusals(answers: Iterable[str], seed: int = 0) -> RefusalOpenings:
    """Measure those answers that refuse; equal answers and seed give equal figures."""
    return measure_refusal_openings([refusal_opening(answer) for answer in answers if refuses(answer)], seed)


def measure_refusal_openings(openings: Sequence[str], seed: int = 0) -> RefusalOpenings:
    """Measure the openings of refusals (see `refusal_opening`)."""
    if not openings:
        return RefusalOpenings()
    n, drawn = len(openings), min(len(openings), DRAWN)
    rng = random.Random(seed)
    draws = [rng.sample(openings, drawn) for _ in range(_DRAWS)] if n > drawn else [openings]
    effective = sum(map(effective_number, draws)) / len(draws)
    # A draw of fewer holds fewer openings; the power keeps varied sets above the bar down to the smallest draw
    bar = MIN_EFFECTIVE * (drawn / DRAWN) ** 0.6
    return RefusalOpenings(
        refusals=n,
        drawn=drawn,
        effective=effective,
        min_effective=bar,
        collapsed=n >= MIN_REFUSALS and effective < bar,
        commonest=tuple(
            RefusalOpening(words=words, count=count, share=count / n)
            for words, count in Counter(openings).most_common(_SHOWN)
        ),
    )


def effective_number(values: Sequence[str]) -> float:
    """2 to the entropy in bits: the number of equally frequent values that would be as varied."""
    counts, n = Counter(values).values(), len(values)
    return float(2 ** -sum(count / n * log2(count / n) for count in counts)) if n else 0.0
