"""Finds near-duplicate conversations exactly, groups them, and says what a set covers.

`search.search` finds pairs of texts, `groups.group_texts` groups them, `against` holds conversations against reference
sets. Names are loaded on first use, because numpy takes a tenth of a second to import and numba half a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyqc.dedup.choices import DEFAULT_MIN_SIMILARITY as DEFAULT_MIN_SIMILARITY
    from safetyqc.dedup.groups import LINKAGES as LINKAGES
    from safetyqc.dedup.groups import compared_text as compared_text
    from safetyqc.dedup.groups import group_texts as group_texts
    from safetyqc.dedup.groups import setting_of as setting_of
    from safetyqc.dedup.pairs import Pairs as Pairs
    from safetyqc.dedup.search import BACKENDS as BACKENDS
    from safetyqc.dedup.search import find_pairs as find_pairs
    from safetyqc.dedup.vocabulary import FrozenVocabulary as FrozenVocabulary

_HOME = {
    "choices": ("DEFAULT_MIN_SIMILARITY",),
    "groups": ("LINKAGES", "compared_text", "group_texts", "setting_of"),
    "pairs": ("Pairs",),
    "search": ("BACKENDS", "find_pairs"),
    "vocabulary": ("FrozenVocabulary",),
}


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOME.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
