"""Shows how answers begin without showing what they are about: courtesy and grammar stay, every other word is masked.

The first three words are shown as everywhere. A word behind them is shown only if it stands in courtesy.txt, so that
"I'm sorry, but I can't help with" can be read and what follows it cannot.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from safetyqc.text import CJK, mask

_WORD = re.compile(rf"{CJK.pattern}|[^\s{CJK.pattern[1:-1]}]+")
_BETWEEN_CJK = re.compile(rf"(?<={CJK.pattern}|▒) (?={CJK.pattern}|▒)")
_EDGES = ".,;:!?\"'()[]…“”‘’、，。！？；："


@cache
def _harmless() -> frozenset[str]:
    """Words of courtesy and grammar, English and Chinese."""
    return frozenset((files("safetyqc.reports") / "courtesy.txt").read_text(encoding="utf-8").split())


def mask_opening(text: str) -> str:
    """An opening with what it is about masked; Chinese characters stand together, as they are written."""
    masked, words = mask(text), list(_WORD.finditer(text))
    shown = list(masked)
    for word in words:
        bare = word[0].strip(_EDGES).lower().replace("’", "'")
        if bare in _harmless():
            shown[word.start() : word.end()] = word[0]
    said = "".join(shown)
    return _BETWEEN_CJK.sub("", said) if CJK.search(text) else said
