"""Finds near-duplicates of a run or a file, and what is near a reference set; the best judged of a group stays.

How texts are compared is dedup's business. Here is what a run remembers: the vocabulary that was frozen at its first
dedup, the pairs found so far, and the reference sets, which are searched again each time until told otherwise. The one
surprising thing: what is removed for a reference takes no part in grouping, so it cannot take its copies with it.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.findings import DedupFacts, Nearness, ReferenceSearch
from safetyqc.pipeline.stages import Tally
from safetyqc.records import ReferenceMatch
from safetyqc.standing import deciding_judgments, stand
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup import DedupResult, FrozenVocabulary, Pairs
    from safetyqc.dedup.search import Search
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Conversation, DuplicateGroup, Judgment
    from safetyqc.store import Store

DEDUP_FACTS, AGAINST = "dedup", "against"
"""Under which names a run remembers what the last dedup found, and which reference sets it searched."""
_OUT = frozenset({"rejected", "discarded", "superseded", "canary"})
_LEAST_MEMORY_MB = 64
_SHOWN_CHARACTERS = 300
_GROWN = 2.0
"""From this many times the conversations that words were counted on, counting them anew is worth a thought."""


@dataclass(frozen=True)
class Deduplicated:
    """What one dedup found; `told` says how the pairs were come by."""

    conversations: Sequence[Conversation]
    groups: tuple[DuplicateGroup, ...]
    matches: tuple[ReferenceMatch, ...]
    facts: DedupFacts
    told: tuple[str, ...] = ()

    @property
    def tally(self) -> Tally:
        """Counts of what stays and what goes."""
        duplicates = sum(len(group.dropped) for group in self.groups)
        near = sum(match.removed for match in self.matches)
        gone = {name: count for name, count in (("duplicate", duplicates), ("reference", near)) if count}
        return Tally("dedup", 0, len(self.conversations) - duplicates - near, gone, self.told)


def has_frozen_count(session: Session) -> bool:
    """Whether an earlier dedup of the run froze how rare words are."""
    return session.store.packed(_count_name(session.config.dedup)) is not None


def dedup_run(session: Session, *, refit: bool = False) -> Deduplicated:
    """Find near-duplicates among all conversations that could be kept, and what is near the run's reference sets.

    Args:
        refit: count anew how rare words are, also when the settings do not say so.

    Raises:
        InputError, UserError: a reference set that cannot be read, or is gone.
    """
    store = session.store
    settings, remembered = _with_references(store, session.config.dedup)
    settings = settings.model_copy(update={"refit": settings.refit or refit})
    everything = list(store.conversations())
    standings = stand(everything, deciding_judgments(store), store.rejections(), rewrites=store.rewrites())
    conversations = [c for c in everything if standings[c.id].status not in _OUT]
    # A group of an earlier dedup must not hide who would win now: only verdicts rank, not the old groups
    verdicts = {j.conversation_id: j for j in store.judgments(store.meta("deciding_judge"))}
    with session.timed("dedup", len(conversations)):
        found = _deduplicate(
            conversations,
            settings,
            lambda allowed, left: _search_run(store, allowed, left),
            rank=lambda c: rank(verdicts.get(c.id)),
            known=_known_groups(store, settings),
            category=lambda c: c.category or (verdicts[c.id].category if c.id in verdicts else None),
        )
    store.replace_duplicates(found.groups)
    store.replace_matches(found.matches)
    store.set_meta(DEDUP_FACTS, found.facts.model_dump(mode="json"))
    store.set_meta(AGAINST, _remembered(settings))
    return replace(found, told=(*found.told, *remembered))


def dedup_conversations(settings: DedupSettings, conversations: Sequence[Conversation]) -> Deduplicated:
    """Do the same with conversations of no run: nothing is remembered, and the first of equally good copies stays."""
    return _deduplicate(conversations, settings, lambda allowed, left: (_search(allowed, left, None), ()))


def rank(judgment: Judgment | None) -> tuple[int, float]:
    """Order copies for dedup, best last: passed over undecided over failed, then by mean score."""
    if judgment is None:
        return (1, 0.0)
    values = [s.value for s in judgment.scores if s.value is not None]
    verdict = {True: 2, None: 1, False: 0}[judgment.passed]
    return (verdict, sum(values) / len(values) if values else 0.0)


def _deduplicate(
    conversations: Sequence[Conversation],
    settings: DedupSettings,
    search: Callable[[DedupSettings, Sequence[Conversation]], tuple[Search, tuple[str, ...]]],
    *,
    rank: Callable[[Conversation], Any] | None = None,
    known: Iterable[DuplicateGroup] = (),
    category: Callable[[Conversation], str | None] = lambda c: c.category,
) -> Deduplicated:
    from safetyqc.dedup import group_pairs

    settings, short = _within_memory(settings, conversations)
    matches, against = _match(conversations, settings)
    removed = {match.conversation_id for match in matches if match.removed}
    left = [c for c in conversations if c.id not in removed]
    found, told = search(settings, left)
    result = group_pairs(
        left,
        found.among([c.id for c in left]),
        min_similarity=settings.min_similarity,
        on=settings.on,
        rank=rank,
        within_category=settings.within_category,
        linkage=settings.linkage,
        known=known,
    )
    nearness = _nearness(result, [category(c) or "uncategorised" for c in left])
    facts = DedupFacts(
        conversations=len(left),
        pairs=len(result.pairs.at_least(settings.min_similarity)),
        on=settings.on,
        analyzer=settings.analyzer,
        weights=settings.weights,
        linkage=settings.linkage,
        within_category=settings.within_category,
        vocabulary_texts=result.pairs.vocabulary.texts,
        nearness=nearness,
        against=against,
    )
    return Deduplicated(conversations, result.groups, tuple(matches), facts, told + short)


def _within_memory(
    settings: DedupSettings, conversations: Sequence[Conversation]
) -> tuple[DedupSettings, tuple[str, ...]]:
    """Leave the search what the conversations do not take of the memory allowed; and say where that is too little."""
    if not settings.memory_mb:
        return settings, ()
    texts = sum(len(message.content) for c in conversations for message in c.messages)
    taken_mb = _memory_taken_mb() + texts // 1_000_000
    left_mb = max(settings.memory_mb - taken_mb, _LEAST_MEMORY_MB)
    told = f"{taken_mb:,} MB hold the conversations, so the search took up to {left_mb} MB on top of --memory"
    short = (told,) if taken_mb + left_mb > settings.memory_mb else ()
    return settings.model_copy(update={"memory": f"{left_mb}MB"}), short


def _memory_taken_mb() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (1_000_000 if sys.platform == "darwin" else 1_000)


def _nearness(result: DedupResult, categories: Sequence[str]) -> Nearness:
    from safetyqc.dedup.diversity import nearest_bins

    nearest = result.pairs.nearest().tolist()
    edges = {"found_from": result.pairs.min_similarity, "min_similarity": result.min_similarity}
    by_category: dict[str, list[float]] = {name: [] for name in sorted(Counter(categories))}
    for name, value in zip(categories, nearest, strict=True):
        by_category[name].append(value)
    return Nearness(
        **edges,
        bins=tuple(nearest_bins(nearest, **edges)),
        categories={n: tuple(b.count for b in nearest_bins(values, **edges)) for n, values in by_category.items()},
    )


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _search(
    settings: DedupSettings, conversations: Sequence[Conversation], vocabulary: FrozenVocabulary | None
) -> Search:
    from safetyqc.dedup.search import search

    names, texts = _compared(settings, conversations)
    return search(
        names,
        texts,
        settings.min_similarity,
        analyzer=settings.analyzer,
        weights=settings.weights,
        vocabulary=vocabulary,
        memory_mb=settings.memory_mb,
    )


def _compared(settings: DedupSettings, conversations: Sequence[Conversation]) -> tuple[list[str], list[str]]:
    from safetyqc.dedup import compared_text

    return [c.id for c in conversations], [compared_text(c, settings.on) for c in conversations]


def _known_groups(store: Store, settings: DedupSettings) -> list[DuplicateGroup]:
    """Groups of the last dedup, if similarity was measured then as it is now."""
    last = store.meta(DEDUP_FACTS)
    if not last or settings.refit:
        return []
    facts = DedupFacts.model_validate(last)
    same = (facts.on, facts.analyzer, facts.weights) == (settings.on, settings.analyzer, settings.weights)
    return store.duplicate_groups() if same else []


def _search_run(
    store: Store, settings: DedupSettings, conversations: Sequence[Conversation]
) -> tuple[Search, tuple[str, ...]]:
    """Take the pairs that the run remembers, as far as they go; search the rest and remember it."""
    from safetyqc.dedup.search import extend

    vocabulary = None if settings.refit else _stored_vocabulary(store, settings)
    before = _stored_search(store, settings, vocabulary) if vocabulary else None
    missing = before.lacks([c.id for c in conversations]) if before else []
    if before and not missing:
        told = f"reused the pairs found before: {len(before.pairs):,} from a similarity of "
        return before, (told + f"{before.pairs.min_similarity:g} on", *_grown(before.pairs, conversations))
    if before:
        old = len(conversations) - len(missing)
        found = extend(before, *_compared(settings, conversations), memory_mb=settings.memory_mb)
        told = f"searched {len(missing):,} new conversations, {old:,} old ones reuse the pairs found before"
    else:
        found = _search(settings, conversations, vocabulary)
        told = f"searched {len(conversations):,} conversations from a similarity of {found.pairs.min_similarity:g} on"
    _remember(store, settings, found, fresh=vocabulary is None)
    return found, (told, *_grown(found.pairs, conversations))


def _stored_vocabulary(store: Store, settings: DedupSettings) -> FrozenVocabulary | None:
    from safetyqc.dedup import FrozenVocabulary

    packed = store.packed(_count_name(settings))
    return FrozenVocabulary.from_bytes(packed) if packed else None


def _stored_search(store: Store, settings: DedupSettings, vocabulary: FrozenVocabulary) -> Search | None:
    """The pairs that the run remembers; None where it has none, or none from so low a similarity on."""
    from safetyqc.dedup.search import Search

    packed = store.packed(_search_name(settings))
    found = Search.from_bytes(packed, vocabulary) if packed else None
    return found if found and found.pairs.min_similarity <= settings.min_similarity else None


def _count_name(settings: DedupSettings) -> str:
    return f"vocabulary {_compared_as(settings)}"


def _search_name(settings: DedupSettings) -> str:
    return f"pairs {_compared_as(settings)} {settings.weights}"


def _compared_as(settings: DedupSettings) -> str:
    return settings.on if settings.analyzer == "word" else f"{settings.on} {settings.analyzer}"


def _remember(store: Store, settings: DedupSettings, found: Search, *, fresh: bool) -> None:
    if not found.names:
        return  # a vocabulary of nothing would be frozen
    if fresh:
        store.put_packed(_count_name(settings), found.pairs.vocabulary.to_bytes())
    store.put_packed(_search_name(settings), found.to_bytes())


def _grown(pairs: Pairs, conversations: Sequence[Conversation]) -> tuple[str, ...]:
    counted, now = pairs.vocabulary.texts, len(conversations)
    if pairs.weights == "tf" or not now or now < _GROWN * counted:
        return ()
    said = f"how rare words are was counted on {counted:,} conversations, and there are {now:,} now: --refit counts "
    return (said + "anew, and changes the similarity of old pairs",)


# ---- reference sets --------------------------------------------------------------------------------------------------


def _match(
    conversations: Sequence[Conversation], settings: DedupSettings
) -> tuple[list[ReferenceMatch], ReferenceSearch | None]:
    """Find what is near the configured reference sets: for each conversation the nearest reference."""
    if not settings.against:
        return [], None
    from safetyqc.dedup.against import find_against
    from safetyqc.references import read_references

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
