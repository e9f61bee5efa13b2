"""Finds near-duplicates of a run or a file, and what is near a reference set; the best judged of a group stays.

How texts are compared is dedup's business, what a run remembers of it that of `roster`, `searching` and `regrouping`.
Here they are put together, with the reference sets, which are searched again each time until told otherwise. The one
surprising thing: what is removed for a reference takes no part in grouping, so it cannot take its copies with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.pipeline.stages import Tally
from safetyqc.records import ReferenceMatch
from safetyqc.results.findings import DedupFacts, Dropped, Nearness, ReferenceSearch
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup import Pairs
    from safetyqc.dedup.rows import Array
    from safetyqc.pipeline.roster import Roster
    from safetyqc.pipeline.searching import Texts
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Conversation, Duplicate, DuplicateGroup
    from safetyqc.store import Store

DEDUP_FACTS, AGAINST = "dedup", "against"
"""Under which names a run remembers what the last dedup found, and which reference sets it searched."""
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Deduplicated:
    """What one dedup found; `told` says how the pairs were come by.

    Of a run, groups and conversations are read when they are first asked for: ask before the next dedup.
    """

    counts: Dropped
    matches: tuple[ReferenceMatch, ...]
    facts: DedupFacts
    told: tuple[str, ...]
    read_groups: Callable[[], Sequence[DuplicateGroup]]
    read_nearest: Callable[[int], Sequence[tuple[str, Duplicate]]]
    read_conversations: Callable[[Set[str]], Iterable[Conversation]]

    @cached_property
    def groups(self) -> tuple[DuplicateGroup, ...]:
        """All groups, in the order of those that they keep."""
        return tuple(self.read_groups())

    @property
    def tally(self) -> Tally:
        """Counts of what stays and what goes."""
        near = sum(match.removed for match in self.matches)
        gone = {name: count for name, count in (("duplicate", self.counts.dropped), ("reference", near)) if count}
        return Tally("dedup", 0, self.counts.conversations - self.counts.dropped - near, gone, self.told)


def has_frozen_count(session: Session) -> bool:
    """Whether an earlier dedup of the run froze how rare words are."""
    from safetyqc.pipeline import searching

    return searching.has_frozen_count(session.store, session.config.dedup)


def dedup_run(session: Session, *, refit: bool = False) -> Deduplicated:
    """Find near-duplicates among all conversations that could be kept, and what is near the run's reference sets.

    Reads and compares what came since the last dedup; of the rest it walks over arrays of numbers. Reference sets are
    searched in full.

    Args:
        refit: count anew how rare words are, also when the settings do not say so.

    Raises:
        InputError, UserError: a reference set that cannot be read, or is gone.
    """
    from safetyqc.pipeline.roster import read_roster
    from safetyqc.pipeline.searching import Texts

    store = session.store
    settings, remembered = _with_references(store, session.config.dedup)
    settings = settings.model_copy(update={"refit": settings.refit or refit})
    with session.stop.at_once():  # a run is whole at every moment, and a search takes minutes
        texts = Texts(store, settings)
        roster = read_roster(store, texts.note)
        inside = roster.inside(store)
        with session.timed("dedup", len(inside)):
            found = _deduplicate_run(store, settings, roster, inside, texts)
        store.replace_matches(found.matches)
        store.set_meta(DEDUP_FACTS, found.facts.model_dump(mode="json"))
        store.set_meta(AGAINST, _remembered(settings))
    return replace(found, told=(*found.told, *remembered))


def _deduplicate_run(
    store: Store, settings: DedupSettings, roster: Roster, inside: Array, texts: Texts
) -> Deduplicated:
    import numpy as np

    from safetyqc.dedup.diversity import measure_nearness
    from safetyqc.pipeline.regrouping import Regrouping
    from safetyqc.pipeline.searching import search_run, within_memory

    matches, against, short = list[ReferenceMatch](), None, tuple[str, ...]()
    if settings.against:
        conversations = [c for _, c in store.numbered.conversations(inside.tolist())]
        bounded, short = within_memory(settings, _said(conversations))
        matches, against = _match(conversations, bounded)
        del conversations
    removed = store.numbered.numbers(match.conversation_id for match in matches if match.removed)
    left = inside[~np.isin(inside, np.array(list(removed.values()), np.int64))]
    found, told = search_run(store, settings, left, texts)
    # A group of an earlier dedup must not hide who would win now: only verdicts rank, not the old groups
    counts = Regrouping(store, settings, found, left, roster, texts).run()
    pairs = found.among(left)
    return Deduplicated(
        counts.model_copy(update={"conversations": len(inside)}),
        tuple(matches),
        _facts(settings, pairs, measure_nearness(pairs, settings.min_similarity, *roster.categories(left)), against),
        tuple(dict.fromkeys((*told, *short))),
        store.duplicate_groups,
        store.numbered.nearest_duplicates,
        store.conversations,
    )


def dedup_conversations(settings: DedupSettings, conversations: Sequence[Conversation]) -> Deduplicated:
    """Do the same with conversations of no run: nothing is remembered, and the first of equally good copies stays."""
    import numpy as np

    from safetyqc.dedup import compared_text, group_pairs
    from safetyqc.dedup.diversity import measure_nearness
    from safetyqc.dedup.search import search
    from safetyqc.pipeline.searching import within_memory

    settings, short = within_memory(settings, _said(conversations))
    matches, against = _match(conversations, settings)
    removed = {match.conversation_id for match in matches if match.removed}
    left = [c for c in conversations if c.id not in removed]
    found = search(
        np.arange(len(left)),
        [compared_text(c, settings.on) for c in left],
        settings.min_similarity,
        analyzer=settings.analyzer,
        weights=settings.weights,
        memory_mb=settings.memory_mb,
    )
    groups = group_pairs(
        left,
        found.pairs,
        min_similarity=settings.min_similarity,
        on=settings.on,
        within_category=settings.within_category,
        linkage=settings.linkage,
    ).groups
    places: dict[str, int] = {}
    codes = [places.setdefault(c.category or "uncategorised", len(places)) for c in left]
    nearness = measure_nearness(found.pairs, settings.min_similarity, list(places), codes)
    drops = [(group.kept, drop) for group in groups for drop in group.dropped]
    counts = Dropped(
        conversations=len(conversations),
        groups=len(groups),
        dropped=len(drops),
        exact=sum(drop.exact for _, drop in drops),
    )
    return Deduplicated(
        counts,
        tuple(matches),
        _facts(settings, found.pairs, nearness, against),
        short,
        lambda: groups,
        lambda count: sorted(drops, key=lambda drop: drop[1].similarity)[:count],
        lambda names: (c for c in conversations if c.id in names),
    )


def _said(conversations: Iterable[Conversation]) -> list[str]:
    """All that is said in conversations."""
    return [message.content for c in conversations for message in c.messages]


def _facts(settings: DedupSettings, pairs: Pairs, nearness: Nearness, against: ReferenceSearch | None) -> DedupFacts:
    return DedupFacts(
        conversations=len(pairs.same_as),
        pairs=len(pairs.at_least(settings.min_similarity)),
        on=settings.on,
        analyzer=settings.analyzer,
        weights=settings.weights,
        linkage=settings.linkage,
        within_category=settings.within_category,
        vocabulary_texts=pairs.vocabulary.texts,
        nearness=nearness,
        against=against,
    )


# ---- reference sets --------------------------------------------------------------------------------------------------


def _match(
    conversations: Sequence[Conversation], settings: DedupSettings
) -> tuple[list[ReferenceMatch], ReferenceSearch | None]:
    """Find what is near the configured reference sets: for each conversation the nearest reference."""
    if not settings.against:
        return [], None
    from safetyqc.dedup.against import find_against
    from safetyqc.formats.references import read_references

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
    return matches, ReferenceSearch(
        files=tuple(PurePath(path).name for path in settings.against),
        references=len(references),
        conversations=len(conversations),
        min_similarity=settings.against_min_similarity,
        marked_only=settings.against_mark,
    )


def _with_references(store: Store, settings: DedupSettings) -> tuple[DedupSettings, tuple[str, ...]]:
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


def _remembered(settings: DedupSettings) -> dict[str, Any] | None:
    if not settings.against:
        return None
    return {
        "files": [str(Path(path).absolute()) for path in settings.against],
        "min_similarity": settings.against_min_similarity,
        "mark": settings.against_mark,
    }
