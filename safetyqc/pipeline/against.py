"""Holds conversations against reference sets, and remembers with the run which these were.

Reference sets are searched again each time until told otherwise: they are small, and may have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.records import ReferenceMatch
from safetyqc.results.findings import ReferenceSearch
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.records import Conversation
    from safetyqc.store import Store

AGAINST = "against"
"""Under which name a run remembers the reference sets that its last dedup searched."""
_SHOWN_CHARACTERS = 300


def match_references(
    conversations: Sequence[Conversation], settings: DedupSettings
) -> tuple[list[ReferenceMatch], ReferenceSearch | None, tuple[str, ...]]:
    """Find what is near the configured reference sets: for each conversation the nearest reference."""
    if not settings.against:
        return [], None, ()
    from safetyqc.dedup.against import find_against
    from safetyqc.formats.references import describe_references, read_references

    references = [reference for path in settings.against for reference in read_references(path)]
    found = find_against(
        conversations,
        references,
        settings.against_min_similarity,  # by tfidf always: by tf alone unrelated texts reach it
        memory_mb=settings.memory_mb,
        nearest_only=True,
    )
    matches = [
        ReferenceMatch(
            conversation_id=match.conversation_id,
            path=match.reference.path,
            line=match.reference.line,
            similarity=match.similarity,
            removed=not settings.against_mark,
            turn=match.turn,
            text=shorten(match.text, _SHOWN_CHARACTERS),
            reference_text=shorten(match.reference_text, _SHOWN_CHARACTERS),
            terms=match.terms,
        )
        for match in found
    ]
    search = ReferenceSearch(
        files=tuple(PurePath(path).name for path in settings.against),
        references=len(references),
        conversations=len(conversations),
        min_similarity=settings.against_min_similarity,
        marked_only=settings.against_mark,
    )
    return matches, search, tuple(describe_references(references))


def with_references(store: Store, settings: DedupSettings) -> tuple[DedupSettings, tuple[str, ...]]:
    """The settings with the reference sets of the last dedup, where these name none; and a line that says so."""
    if any(str(path) == "-" for path in settings.against or ()):
        what = "standard input cannot be a reference set of a run: the next dedup could not read it again"
        raise UserError(what, where="--against", fix="give a file")
    known = store.meta(AGAINST)
    if settings.against is not None or not known:
        return settings, ()
    paths = tuple(Path(path) for path in known["files"])
    for path in paths:
        if not path.is_file():
            fix = "give it again with --against FILE, or --no-against to forget it"
            raise UserError("the reference set of an earlier dedup is gone", where=str(path), fix=fix)
    again = {"against": paths, "against_min_similarity": known["min_similarity"], "against_mark": known["mark"]}
    told = f"against {', '.join(path.name for path in paths)} as before; --no-against forgets it"
    return settings.model_copy(update=again), (told,)


def remembered(settings: DedupSettings) -> dict[str, Any] | None:
    """What a run keeps of the reference sets that it was held against."""
    if not settings.against:
        return None
    return {
        "files": [str(Path(path).absolute()) for path in settings.against],
        "min_similarity": settings.against_min_similarity,
        "mark": settings.against_mark,
    }
