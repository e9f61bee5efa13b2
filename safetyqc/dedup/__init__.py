"""Finds near-duplicate conversations exactly, groups them, and says what a set covers.

`group_duplicates` is the whole stage; `find_pairs` the search alone. Names are loaded on first use, because numpy
takes a tenth of a second to import and numba half a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyqc.dedup.backend import BACKENDS
    from safetyqc.dedup.groups import (
        COMPARED,
        DEFAULT_MIN_SIMILARITY,
        LINKAGES,
        DedupResult,
        compared_text,
        group_duplicates,
        group_pairs,
    )
    from safetyqc.dedup.pairs import Pairs, find_pairs
    from safetyqc.dedup.vocabulary import FrozenVocabulary

_HOME = {
    "BACKENDS": "backend",
    "COMPARED": "groups",
    "DEFAULT_MIN_SIMILARITY": "groups",
    "LINKAGES": "groups",
    "DedupResult": "groups",
    "FrozenVocabulary": "vocabulary",
    "Pairs": "pairs",
    "compared_text": "groups",
    "find_pairs": "pairs",
    "group_duplicates": "groups",
    "group_pairs": "groups",
}

__all__ = [
    "BACKENDS",
    "COMPARED",
    "DEFAULT_MIN_SIMILARITY",
    "LINKAGES",
    "DedupResult",
    "FrozenVocabulary",
    "Pairs",
    "compared_text",
    "find_pairs",
    "group_duplicates",
    "group_pairs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
