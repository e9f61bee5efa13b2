"""Texts -> the templates that many of them are filled into, with what stays the same and how large their share is.

Near-duplicates by tf-idf cannot see one template filled in three hundred times: the more often its words stand in a
set, the less they weigh. Here a text belongs to a frame when runs of three words that stand in many texts cover half of
it, and when it shares most of those runs with the other texts of the frame. It drops nothing: whether a set may be one
template is for people to say. Of many texts a sample is looked at, so shares are estimates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from random import Random

from safetyqc.results.findings import Template
from safetyqc.text import CJK, normalise

MOST = 2_000
"""Texts that are looked at: in about a second."""
_FEWEST = 10
_LEAST_SHARE = 0.005
_COVERED = 0.5
_ALIKE = 0.55
"""Of the runs of two texts of one frame; words that often fill a slot make up the rest."""
_RUN = 3
_BLOCK = 256
_WORD = re.compile(rf"{CJK.pattern}|[^\W{CJK.pattern[1:-1]}]+")
_Run = tuple[str, ...]


def find_templates(texts: Sequence[str], places: Sequence[int]) -> tuple[Template, ...]:
    """The frames that at least ten of the texts at these places (and one in two hundred) are filled into.

    The most used comes first.
    """
    looked_at = places if len(places) <= MOST else sorted(Random(0).sample(places, MOST))
    words = [_WORD.findall(normalise(texts[place])) for place in looked_at]
    often = _often(words)
    rows = [sorted({often[run] for run in _runs(said) if run in often}) for said in words]
    rows = [
        row if len(_covered(said, often)) >= _COVERED * len(said) else [] for row, said in zip(rows, words, strict=True)
    ]
    least = max(_FEWEST, _LEAST_SHARE * len(words))
    frames = sorted((f for f in _frames(rows, len(often)) if len(f) >= least), key=lambda f: -len(f))
    return tuple(_template([words[place] for place in frame], len(words), len(places)) for frame in frames)


def _frames(rows: Sequence[Sequence[int]], columns: int) -> Iterator[list[int]]:
    """Group texts, given by their frequent runs: the first that is still free takes all that are alike."""
    import numpy as np
    from scipy.sparse import csr_array

    sizes = np.array([len(row) for row in rows], dtype=np.intp)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    table = csr_array((np.ones(bounds[-1]), [run for row in rows for run in row], bounds), shape=(len(rows), columns))
    free = sizes > 0
    for place, row in enumerate(rows):
        if place % _BLOCK == 0:
            shared = (table[place : place + _BLOCK] @ table.T).toarray()
        if free[place]:
            alike = free & (2 * shared[place % _BLOCK] >= _ALIKE * (sizes + len(row)))
            free &= ~alike
            yield np.flatnonzero(alike).tolist()


def _runs(said: Sequence[str]) -> Iterable[_Run]:
    return zip(*(said[start:] for start in range(_RUN)), strict=False)


def _often(words: Iterable[Sequence[str]]) -> dict[_Run, int]:
    """The runs that stand in many texts, numbered."""
    counts = Counter(run for said in words for run in set(_runs(said)))
    return {run: number for number, run in enumerate(run for run, times in counts.items() if times >= _FEWEST)}


def _covered(said: Sequence[str], often: Container[_Run]) -> set[int]:
    """Which of the words stand in a frequent run."""
    return {start + step for start, run in enumerate(_runs(said)) if run in often for step in range(_RUN)}


def _template(members: Sequence[Sequence[str]], looked_at: int, total: int) -> Template:
    """Show a frame by one of its texts: words that most of the others have in such runs too, and slots."""
    counts = Counter(run for said in members for run in set(_runs(said)))
    most = {run for run, times in counts.items() if times >= 0.6 * len(members)}
    fixed = _covered(members[0], most)
    shown = [word if place in fixed else _SLOT for place, word in enumerate(members[0])]
    shown = [word for place, word in enumerate(shown) if word != _SLOT or place == 0 or shown[place - 1] != _SLOT]
    frame = re.sub(rf"(?<={CJK.pattern}) (?={CJK.pattern})", "", " ".join(shown))
    share = len(members) / looked_at
    return Template(count=round(share * total), share=share, frame=frame, slots=shown.count(_SLOT))


_SLOT = "[…]"
