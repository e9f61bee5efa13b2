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
from typing import TYPE_CHECKING

from safetyqc.results.findings import Template
from safetyqc.text import CJK, normalise

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
    least = max(_FEWEST, _LEAST_SHARE * len(words))
    frames = sorted((f for f in _frames(_often(words)) if len(f) >= least), key=lambda f: -len(f))
    return tuple(_template([words[place] for place in frame], len(words), len(places)) for frame in frames)


def _often(words: Sequence[Sequence[str]]) -> csr_array:
    """Which texts hold which of the runs that stand in many: a row for each text, empty where they cover too little."""
    import numpy as np
    from scipy.sparse import csr_array

    numbers: dict[str, int] = {}
    said = np.array([numbers.setdefault(word, len(numbers)) for text in words for word in text], np.int64)
    owners = np.repeat(np.arange(len(words)), [len(text) for text in words])
    runs = said[: 1 - _RUN]
    for step in range(1, _RUN):  # numbered anew at each step, so that no product grows beyond 64 bits
        longer = runs * len(numbers) + said[step : len(said) + 1 - _RUN + step]
        runs = np.unique(longer, return_inverse=True)[1].reshape(-1)
    starts = np.flatnonzero(owners[: 1 - _RUN] == owners[_RUN - 1 :])
    runs, holders = runs[starts], owners[starts]
    table = csr_array((np.ones(len(runs)), (holders, runs)), shape=(len(words), int(runs.max(initial=-1)) + 1))
    table.sum_duplicates()
    table.data[:] = 1.0
    frequent = table.sum(axis=0) >= _FEWEST
    covered = np.zeros(len(said), bool)
    for step in range(_RUN):
        covered[starts[frequent[runs]] + step] = True
    shares = np.bincount(owners[covered], minlength=len(words)) - _COVERED * np.bincount(owners, minlength=len(words))
    return csr_array(table[:, np.flatnonzero(frequent)].multiply((shares >= 0)[:, np.newaxis]))


def _frames(table: csr_array) -> Iterator[list[int]]:
    """Group texts, given by their frequent runs: the first that is still free takes all that are alike."""
    import numpy as np

    sizes = np.asarray(table.sum(axis=1))
    free = sizes > 0
    for place in range(len(sizes)):
        if place % _BLOCK == 0:
            shared = (table[place : place + _BLOCK] @ table.T).toarray()
        if free[place]:
            alike = free & (2 * shared[place % _BLOCK] >= _ALIKE * (sizes + sizes[place]))
            free &= ~alike
            yield np.flatnonzero(alike).tolist()


def _runs(said: Sequence[str]) -> Iterable[_Run]:
    return zip(*(said[start:] for start in range(_RUN)), strict=False)


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
