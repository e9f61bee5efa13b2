"""Finds near-duplicates of a run or a file, and what is near a reference set; the best judged of a group stays.

A run remembers how rare words were at its first dedup, and the pairs that were found: another threshold or linkage
needs no search, and after an import only what came is searched for. Reference sets are searched again each time until
told otherwise. What is removed for a reference takes no part in grouping, so it cannot take its copies with it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safetyqc.pipeline.against import AGAINST, match_references, remembered, with_references
from safetyqc.pipeline.progress import shown
from safetyqc.pipeline.stages import Tally
from safetyqc.records import ReferenceMatch, content_hash
from safetyqc.results.findings import DedupFacts, Dropped, ReferenceSearch, Template
from safetyqc.store import Timing
from safetyqc.store.standing import deciding_judge, replaced
from safetyqc.text import counted, normalise

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup import FrozenVocabulary, Pairs
    from safetyqc.dedup.blocks import Spread
    from safetyqc.dedup.search import Search
    from safetyqc.formats.spooled import Texts
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Conversation, Duplicate, DuplicateGroup
    from safetyqc.store import Store, Verdict

DEDUP_FACTS, _MEASURE = "dedup", "dedup_measure"
"""Under which names a run remembers what the last dedup found, and its measure."""
_LEAST_MEMORY_MB = 64
_GROWN = 2.0
"""From this many times the conversations that words were counted on, counting them anew is worth a thought."""
_OF_OLDER_VERSIONS = ("roster", "grouped", "evidence")


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
    return session.store.packed(_count_name(session.config.dedup)) is not None


def dedup_run(session: Session, *, refit: bool = False) -> Deduplicated:
    """Find near-duplicates among all conversations that could be kept, and what is near the run's reference sets.

    Reads each conversation once. Pairs that were found before are taken as they are; reference sets are searched in
    full.

    Args:
        refit: count anew how rare words are, also when the settings do not say so.

    Raises:
        InputError, UserError: a reference set that cannot be read, or is gone.
    """
    store = session.store
    settings, told = with_references(store, session.config.dedup)
    settings = settings.model_copy(update={"refit": settings.refit or refit})
    # A run is whole at every moment, and a search takes minutes
    with session.stop.at_once(), shown().phase("dedup") as line:
        shutil.rmtree(store.folder / "dedup", ignore_errors=True)  # an index that older versions kept
        store.forget_packed(_OF_OLDER_VERSIONS)
        started = time.monotonic()
        found = _deduplicate(settings, _taking_part(store), store, session.engine.spread())
        line.advance(count=found.counts.conversations)
        if found.counts.conversations:
            store.add_timing(Timing("dedup", time.monotonic() - started, found.counts.conversations))
        store.replace_matches(found.matches)
        store.set_meta(DEDUP_FACTS, found.facts.model_dump(mode="json"))
        store.set_meta(AGAINST, remembered(settings))
    return replace(found, told=(*found.told, *told))


def dedup_conversations(
    settings: DedupSettings, conversations: Sequence[Conversation], spread: Spread | None = None
) -> Deduplicated:
    """Do the same with conversations of no run: nothing is remembered, and the first of equally good copies stays."""
    with shown().phase("copies", len(conversations)):
        return _deduplicate(settings, conversations, None, spread)


def rank(verdict: Verdict | None) -> tuple[int, float]:
    """Order copies for dedup, best last: passed over undecided over failed, then by mean score."""
    return ({True: 2, None: 1, False: 0}[verdict.passed], verdict.mean) if verdict else (1, 0.0)


def _taking_part(store: Store) -> Iterator[Conversation]:
    """All conversations that are neither planted nor rejected, replaced or turned down."""
    gone = {rejection.conversation_id for rejection in store.rejections()} | replaced(store.rewrites())
    return (c for c in store.conversations() if c.origin != "canary" and c.id not in gone)


@dataclass
class _Compared:
    """The conversations that are compared, column by column: a million of them whole would fill the memory.

    `categories` are the plan's, `seen` what stands for them in counts: of those that have none what the judge saw.
    """

    texts: Texts
    ids: list[str] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)
    settings: list[str | None] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    ranks: list[tuple[int, float]] = field(default_factory=list)

    def add(self, conversation: Conversation, text: str, setting: str | None, verdict: Verdict | None) -> None:
        """Put one conversation behind the others."""
        self.ids.append(conversation.id)
        self.texts.add(text)
        self.categories.append(conversation.category)
        self.settings.append(setting)
        self.seen.append(conversation.category or (verdict and verdict.category) or "uncategorised")
        self.ranks.append(rank(verdict))


def _deduplicate(
    settings: DedupSettings, everything: Iterable[Conversation], store: Store | None, spread: Spread | None
) -> Deduplicated:
    """Compare, group and count; with a store, by its verdicts, with what it remembers, and into it."""
    from safetyqc.filters.templates import find_templates

    kept: list[DuplicateGroup] = []
    chosen = deciding_judge(store) if store else None
    verdicts = store.verdicts(*chosen) if store and chosen else {}
    # Those of a file are looked at where they lie; to hold conversations against reference sets takes all of a run
    in_place = isinstance(everything, Sequence) or (store and not settings.against)
    conversations = everything if in_place else list(everything)
    matches: list[ReferenceMatch] = []
    against: ReferenceSearch | None = None
    short: tuple[str, ...] = ()
    if isinstance(conversations, Sequence) and settings.against:
        bounded, short = _within_memory(settings, [m.content for c in conversations for m in c.messages])
        matches, against, said = match_references(conversations, bounded)
        short = (*said, *short)
    removed = {match.conversation_id for match in matches if match.removed}
    compared = _compared(settings, (c for c in conversations if c.id not in removed), verdicts)
    with compared.texts:
        bounded, shorter = _within_memory(settings, compared.texts)
        found, told = _search(bounded, compared, store, spread)
        counts, dropped = Counter[str](), set[str]()
        measure = _measure(settings, found.pairs)
        groups = _counting(_groups(settings, found.pairs, compared, _known(store, measure)), counts, dropped)
        if store:
            store.replace_duplicates(groups)
            store.set_meta(_MEASURE, measure)
        else:
            kept.extend(groups)
        staying = [place for place, name in enumerate(compared.ids) if name not in dropped]
        templates = find_templates(compared.texts.held, staying)
        short = (*short, *_other_settings(compared))
    total = len(compared.ids) + len(removed)
    return Deduplicated(
        Dropped(conversations=total, **{name: counts[name] for name in ("groups", "dropped", "exact")}),
        tuple(matches),
        _facts(settings, found.pairs, compared.seen, against, templates),
        tuple(dict.fromkeys((*told, *short, *shorter))),
        store.duplicate_groups if store else lambda: kept,
        store.conversations if store else lambda names: (c for c in conversations if c.id in names),
    )


def _facts(
    settings: DedupSettings,
    pairs: Pairs,
    seen: Sequence[str],
    against: ReferenceSearch | None,
    templates: tuple[Template, ...],
) -> DedupFacts:
    from safetyqc.dedup.diversity import measure_nearness

    return DedupFacts(
        conversations=len(pairs.same_as),
        pairs=len(pairs.at_least(settings.min_similarity)),
        on=settings.on,
        analyzer=settings.analyzer,
        weights=settings.weights,
        linkage=settings.linkage,
        within_category=settings.within_category,
        vocabulary_texts=pairs.vocabulary.texts,
        nearness=measure_nearness(pairs, settings.min_similarity, *_codes(seen)),
        against=against,
        templates=templates,
    )


def _compared(
    settings: DedupSettings,
    conversations: Iterable[Conversation],
    verdicts: Mapping[str, Verdict],
) -> _Compared:
    from safetyqc.dedup import compared_text, setting_of
    from safetyqc.formats.spooled import Texts

    found = _Compared(Texts(settings.memory_mb * 1e6 / 4 if settings.memory_mb else float("inf")))
    for conversation in conversations:
        setting = setting_of(conversation)
        found.add(conversation, compared_text(conversation, settings.on), setting, verdicts.get(conversation.id))
    return found


def _measure(settings: DedupSettings, pairs: Pairs) -> list[str]:
    from safetyqc.dedup.vocabulary import vocabulary_hash

    return [settings.on, settings.analyzer, settings.weights, vocabulary_hash(pairs.vocabulary)]


def _known(store: Store | None, measure: list[str]) -> dict[tuple[str, str], Duplicate]:
    """Evidence of the last dedup, where it was measured alike: to work it out anew is most of a dedup."""
    if store is None or store.meta(_MEASURE) != measure:
        return {}
    return {(group.kept, drop.conversation_id): drop for group in store.duplicate_groups() for drop in group.dropped}


def _groups(
    settings: DedupSettings, pairs: Pairs, compared: _Compared, known: Mapping[tuple[str, str], Duplicate]
) -> Iterator[DuplicateGroup]:
    import numpy as np

    from safetyqc.dedup import group_texts

    parts = _apart(settings, compared)
    # A stable sort: among equals the earlier is the better one
    best_first = sorted(range(len(compared.ids)), key=lambda place: [-value for value in compared.ranks[place]])
    return group_texts(
        compared.ids,
        compared.texts.held,
        pairs,
        min_similarity=settings.min_similarity,
        linkage=settings.linkage,
        order=np.argsort(np.array(best_first, np.int64)),
        categories=None if parts is None else np.array(_codes(parts)[1], np.int64),
        known=known,
    )


def _apart(settings: DedupSettings, compared: _Compared) -> list[Any] | None:
    """What no group may cross: the system message, and the category where that was asked for; None for nothing."""
    if not settings.within_category:
        return compared.settings if any(compared.settings) else None
    return list(zip(compared.categories, compared.settings, strict=True))


def _other_settings(compared: _Compared) -> tuple[str, ...]:
    """Say how many conversations differ from an earlier one in their system message alone."""
    if not any(compared.settings):
        return ()
    pairs = {
        (content_hash(normalise(text)), setting)
        for text, setting in zip(compared.texts, compared.settings, strict=True)
    }
    count = len(pairs) - len({text for text, _ in pairs})
    if not count:
        return ()
    return (f"{counted(count, 'conversation')} with the same messages under another system message: no copies",)


def _codes(names: Iterable[Any]) -> tuple[list[Any], list[int]]:
    """Every name once, and the place there of each."""
    places: dict[Any, int] = {}
    codes = [places.setdefault(name, len(places)) for name in names]
    return list(places), codes


def _counting(groups: Iterable[DuplicateGroup], counts: Counter[str], dropped: set[str]) -> Iterator[DuplicateGroup]:
    for group in groups:
        dropped.update(drop.conversation_id for drop in group.dropped)
        counts.update(groups=1, dropped=len(group.dropped), exact=sum(drop.exact for drop in group.dropped))
        yield group


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _search(
    settings: DedupSettings, compared: _Compared, store: Store | None, spread: Spread | None
) -> tuple[Search, tuple[str, ...]]:
    """Take the pairs that the run remembers, as far as they go; search the rest and remember it. Also say how.

    Raises:
        UserError: a stored count that is none, or more pairs than memory allows.
    """
    from safetyqc.dedup.search import search

    ids, texts = compared.ids, compared.texts.held
    vocabulary = _stored_vocabulary(store, settings) if store and not settings.refit else None
    before = _stored_search(store, settings, vocabulary) if store and vocabulary else None
    found = search(
        ids,
        texts,
        settings.min_similarity,
        before=before,
        analyzer=settings.analyzer,
        weights=settings.weights,
        vocabulary=vocabulary,
        memory_mb=settings.memory_mb,
        spread=spread,
    )
    if store is None or not ids:  # of nothing no count is frozen
        return found, ()
    least = found.pairs.min_similarity
    missing = len(set(ids).difference(before.ids)) if before else len(ids)
    if before and not missing:
        told = f"reused the pairs found before: {len(found.pairs):,} from a similarity of {least:g} on"
        return found, (told, *_grown(found.pairs))
    told = f"searched {counted(len(ids), 'conversation')} from a similarity of {least:g} on"
    if before and before.pairs.min_similarity == least:
        new, old = counted(missing, "new conversation"), len(ids) - missing
        told = f"searched {new}, {old:,} old ones reuse the pairs found before"
    if vocabulary is None:
        store.put_packed(_count_name(settings), found.pairs.vocabulary.to_bytes())
    store.put_packed(_search_name(settings), found.to_bytes())
    return found, (told, *_grown(found.pairs))


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


def _grown(pairs: Pairs) -> tuple[str, ...]:
    then, now = pairs.vocabulary.texts, len(pairs.same_as)
    if pairs.weights == "tf" or now < _GROWN * then:
        return ()
    said = f"how rare words are was counted on {then:,} conversations, and there are {now:,} now: --refit counts "
    return (said + "anew, and changes the similarity of old pairs",)


def _within_memory(settings: DedupSettings, texts: Sequence[str]) -> tuple[DedupSettings, tuple[str, ...]]:
    """Leave the search what the process does not take of the memory allowed; and say where that is too little."""
    if not settings.memory_mb:
        return settings, ()
    taken_mb = _memory_taken_mb() + sum(map(len, texts)) // 1_000_000
    left_mb = max(settings.memory_mb - taken_mb, _LEAST_MEMORY_MB)
    told = f"{taken_mb:,} MB hold the conversations, so the search took up to {left_mb} MB on top of --memory"
    short = (told,) if taken_mb + left_mb > settings.memory_mb else ()
    return settings.model_copy(update={"memory": f"{left_mb}MB"}), short


def _memory_taken_mb() -> int:
    """The most that the process has taken so far; nothing where the system has no such figure (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (1_000_000 if sys.platform == "darwin" else 1_000)
