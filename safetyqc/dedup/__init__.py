"""Finds near-duplicate conversations exactly, groups them, and says what a set covers.

`search.search` finds pairs of texts, `groups.group_texts` groups them, `against` holds conversations against reference
sets. Names are loaded on first use, because numpy takes a tenth of a second to import and numba half a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyqc.dedup.choices import DEFAULT_MIN_SIMILARITY
    from safetyqc.dedup.groups import COMPARED, LINKAGES, compared_text, group_texts
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.search import BACKENDS, find_pairs
    from safetyqc.dedup.vocabulary import FrozenVocabulary

_HOME = {
    "BACKENDS": "search",
    "COMPARED": "groups",
    "DEFAULT_MIN_SIMILARITY": "choices",
    "LINKAGES": "groups",
    "FrozenVocabulary": "vocabulary",
    "Pairs": "pairs",
    "compared_text": "groups",
    "find_pairs": "search",
    "group_texts": "groups",
}

__all__ = [
    "BACKENDS",
    "COMPARED",
    "DEFAULT_MIN_SIMILARITY",
    "LINKAGES",
    "FrozenVocabulary",
    "Pairs",
    "compared_text",
    "find_pairs",
    "group_texts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
