"""Pairs of a run's conversations: those that it remembers, as far as they go, and a search for the rest.

A run remembers pairs, how rare words were when they were found, and, where the texts are too many to be weighed again
each time, an index of them in a folder beside its file. The one surprising thing: the index may go missing at any time.
Pairs name the very files that belong to them, and where those are not whole the texts are read and indexed again. Loads
numpy: import it late.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from safetyqc.dedup import FrozenVocabulary, compared_text
from safetyqc.dedup.backend import characters_of, would_compile
from safetyqc.dedup.search import Search, extend, search
from safetyqc.dedup.vectors import is_held
from safetyqc.errors import OutputError, UserError
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup.groups import On
    from safetyqc.dedup.pairs import Pairs
    from safetyqc.dedup.rows import Array
    from safetyqc.dedup.stored_index import StoredIndex
    from safetyqc.records import Conversation
    from safetyqc.store import Store

_FOLDER = "dedup"
_LEAST_MEMORY_MB = 64
_CHARACTER_BYTES = 2
"""Of a text in memory: one where all are Latin-1, two for most others."""
_READ_AHEAD, _READ_CHARACTERS = 500, 1_000_000
_GROWN = 2.0
"""From this many times the conversations that words were counted on, counting them anew is worth a thought."""


class Texts:
    """What is compared of a run's conversations, by number; read when it is asked for, and then held.

    Where they would take more than a quarter of the memory allowed, none is held: each is read when it is looked at.
    """

    def __init__(self, store: Store, settings: DedupSettings) -> None:
        self._store, self._on = store, settings.on
        self._held: dict[int, str] = {}
        self._room = _limit_bytes(settings) / 4 / _CHARACTER_BYTES

    def note(self, number: int, conversation: Conversation) -> None:
        """Hold the text of a conversation that was read for another reason."""
        if self._room < 0:
            return
        self._held[number] = text = compared_text(conversation, self._on)
        self._room -= len(text)
        if self._room < 0:
            self._held.clear()

    def of(self, numbers: Array) -> Sequence[str]:
        """The texts of these, in their order."""
        wanted: list[int] = numbers.tolist()
        for number, conversation in self._store.numbered.conversations([n for n in wanted if n not in self._held]):
            self.note(number, conversation)
            if self._room < 0:
                return _Reading(self._store, self._on, wanted)
        return [self._held[number] for number in wanted]


class _Reading(Sequence[str]):
    """Texts that are read as they are looked at, best from first to last; some are held for a while."""

    def __init__(self, store: Store, on: On, numbers: Sequence[int]) -> None:
        self._store, self._on, self._numbers = store, on, numbers
        self._first, self._some = 0, list[str]()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        if not self._first <= place < self._first + len(self._some):
            goes_on = 0 <= place - self._first - len(self._some) < _READ_AHEAD
            self._read(place, _READ_AHEAD if goes_on else 1)
        return self._some[place - self._first]

    def _read(self, first: int, count: int) -> None:
        wanted, found, size = self._numbers[first : first + count], dict[int, str](), 0
        for number, conversation in self._store.numbered.conversations(wanted):
            found[number] = text = compared_text(conversation, self._on)
            size += len(text)
            if size > _READ_CHARACTERS and wanted[0] in found:
                break
        self._first, self._some = first, [found[number] for number in takewhile(found.__contains__, wanted)]


def search_run(store: Store, settings: DedupSettings, numbers: Array, texts: Texts) -> tuple[Search, tuple[str, ...]]:
    """Take the pairs that the run remembers, as far as they go; search the rest and remember it. Also say how.

    Raises:
        UserError: stored pairs that are none, or more pairs than memory allows.
    """
    vocabulary = None if settings.refit else _stored_vocabulary(store, settings)
    before = _stored_search(store, settings, vocabulary) if vocabulary else None
    missing = before.lacks(numbers) if before else numbers
    if before and not len(missing):
        told = f"reused the pairs found before: {len(before.pairs):,} from a similarity of "
        return before, (told + f"{before.pairs.min_similarity:g} on", *_grown(before.pairs, len(numbers)))
    if before:
        add = _add_to_index if before.index and would_compile() else _extend
        try:
            found, more = add(store, settings, before, numbers, texts)
            new, old = counted(len(missing), "new conversation"), len(numbers) - len(missing)
            told = f"searched {new}, {old:,} old ones reuse the pairs found before"
        except UserError:
            if before.pairs.min_similarity >= settings.min_similarity:
                raise
            before = None  # so many pairs from there on: only those asked for are found
    if before is None:
        found, more = _search_all(store, settings, numbers, texts, vocabulary)
        searched = counted(len(numbers), "conversation")
        told = f"searched {searched} from a similarity of {found.pairs.min_similarity:g} on"
    return found, (told, *more, *_grown(found.pairs, len(numbers)))


def within_memory(settings: DedupSettings, texts: Sequence[str]) -> tuple[DedupSettings, tuple[str, ...]]:
    """Leave the search what the conversations do not take of the memory allowed; and say where that is too little."""
    if not settings.memory_mb:
        return settings, ()
    taken_mb = _memory_taken_mb() + (sum(map(len, texts)) // 1_000_000 if is_held(texts) else 0)
    left_mb = max(settings.memory_mb - taken_mb, _LEAST_MEMORY_MB)
    told = f"{taken_mb:,} MB hold the conversations, so the search took up to {left_mb} MB on top of --memory"
    short = (told,) if taken_mb + left_mb > settings.memory_mb else ()
    return settings.model_copy(update={"memory": f"{left_mb}MB"}), short


def has_frozen_count(store: Store, settings: DedupSettings) -> bool:
    """Whether an earlier dedup of the run froze how rare words are."""
    return store.packed(_count_name(settings)) is not None


# ---- ways to search --------------------------------------------------------------------------------------------------


def _search_all(
    store: Store, settings: DedupSettings, numbers: Array, texts: Texts, vocabulary: FrozenVocabulary | None
) -> tuple[Search, tuple[str, ...]]:
    compared = texts.of(numbers)
    settings, short = within_memory(settings, compared)
    found = search(
        numbers,
        compared,
        settings.min_similarity,
        analyzer=settings.analyzer,
        weights=settings.weights,
        vocabulary=vocabulary,
        memory_mb=settings.memory_mb,
    )
    found, unkept = _remember_all(store, settings, found, texts, fresh=vocabulary is None)
    return found, (*short, *unkept)


def _extend(
    store: Store, settings: DedupSettings, before: Search, numbers: Array, texts: Texts
) -> tuple[Search, tuple[str, ...]]:
    """Weigh all texts again: of a few thousand that takes less than opening an index.

    What went out stays among them: whoever comes back is known, and who was connected with it can be told.
    """
    numbers = np.union1d(before.numbers, numbers)
    compared = texts.of(numbers)
    settings, short = within_memory(settings, compared)
    found = extend(before, numbers, compared, memory_mb=settings.memory_mb)
    found, unkept = _remember_all(store, settings, found, texts)
    return found, (*short, *unkept)


def _add_to_index(
    store: Store, settings: DedupSettings, before: Search, numbers: Array, texts: Texts
) -> tuple[Search, tuple[str, ...]]:
    """Ask the index what is near the new texts, and add them to it; where it cannot be written, do without."""
    missing = before.lacks(numbers)
    compared = texts.of(missing)
    bounded, short = within_memory(settings, compared)
    index, told = _open_index(store, bounded, before), short
    try:
        if index is None:
            index, told = _make_index(store, bounded, before, texts), (*short, _REBUILT.format(len(before.numbers)))
        added = index.add(compared, len(before.numbers) + np.arange(len(missing)))
        token = index.save()
    except OutputError:
        return _extend(store, settings, before, numbers, texts)
    except UserError:
        whole = _open_index(store, bounded, before)  # as it was; what was written before it failed is not left behind
        (whole or _new_index(store, bounded, before)).remove_others((whole and before.index) or "")
        raise
    found = before.with_more(missing, added.same_as, added.near, token)
    _remember(store, settings, found)
    index.remove_others(found.index or "")
    return found, told


_REBUILT = "the index of {:,} old conversations was gone or damaged, and was made again"
_UNKEPT = "no index of the conversations was kept, so the next dedup may read them all again: {}: {}"


# ---- what the run remembers ------------------------------------------------------------------------------------------


def _remember_all(
    store: Store, settings: DedupSettings, found: Search, texts: Texts, *, fresh: bool = False
) -> tuple[Search, tuple[str, ...]]:
    """Remember a search, and then make the index; where it cannot be written, say so: only time is lost."""
    if not len(found.numbers):
        return found, ()  # a vocabulary of nothing would be frozen
    if fresh:
        store.put_packed(_count_name(settings), found.pairs.vocabulary.to_bytes())
    _remember(store, settings, found)
    if would_compile(characters_of(texts.of(found.numbers))):
        try:
            index = _make_index(store, settings, found, texts)
            found = replace(found, index=index.save())
        except OutputError as error:
            _new_index(store, settings, found).remove_others("")  # on a full disk others need what is left
            return found, (_UNKEPT.format(error.where, error.what),)
        _remember(store, settings, found)
        index.remove_others(found.index or "")
    return found, ()


def _remember(store: Store, settings: DedupSettings, found: Search) -> None:
    store.put_packed(_search_name(settings), found.to_bytes())


def _stored_vocabulary(store: Store, settings: DedupSettings) -> FrozenVocabulary | None:
    packed = store.packed(_count_name(settings))
    return FrozenVocabulary.from_bytes(packed) if packed else None


def _stored_search(store: Store, settings: DedupSettings, vocabulary: FrozenVocabulary) -> Search | None:
    """The pairs that the run remembers; None where it has none, or none from so low a similarity on."""
    packed = store.packed(_search_name(settings))
    found = Search.from_bytes(packed, vocabulary) if packed else None
    return found if found and found.pairs.min_similarity <= settings.min_similarity else None


def _open_index(store: Store, settings: DedupSettings, before: Search) -> StoredIndex | None:
    from safetyqc.dedup.stored_index import StoredIndex

    pairs, limit = before.pairs, _limit_bytes(settings)
    return StoredIndex.open(
        _folder(store, settings), before.index or "", pairs.min_similarity, pairs.weights, pairs.vocabulary, limit
    )


def _make_index(store: Store, settings: DedupSettings, found: Search, texts: Texts) -> StoredIndex:
    """Index one text of each that has other words, in place of any index that was there."""
    same_as, index = found.pairs.same_as, _new_index(store, settings, found)
    index.remove_others("")
    firsts = np.flatnonzero(same_as == np.arange(len(same_as)))
    index.add(texts.of(found.numbers[firsts]), firsts, search=False)
    return index


def _new_index(store: Store, settings: DedupSettings, found: Search) -> StoredIndex:
    from safetyqc.dedup.stored_index import StoredIndex

    pairs, limit = found.pairs, _limit_bytes(settings)
    return StoredIndex(_folder(store, settings), pairs.min_similarity, pairs.weights, pairs.vocabulary, limit)


def _folder(store: Store, settings: DedupSettings) -> Path:
    return store.folder / _FOLDER / f"{_compared_as(settings)}-{settings.weights}".replace(" ", "-")


def _limit_bytes(settings: DedupSettings) -> float:
    return settings.memory_mb * 1e6 if settings.memory_mb else float("inf")


def _count_name(settings: DedupSettings) -> str:
    return f"vocabulary {_compared_as(settings)}"


def _search_name(settings: DedupSettings) -> str:
    return f"pairs {_compared_as(settings)} {settings.weights}"


def _compared_as(settings: DedupSettings) -> str:
    return settings.on if settings.analyzer == "word" else f"{settings.on} {settings.analyzer}"


def _grown(pairs: Pairs, now: int) -> tuple[str, ...]:
    counted = pairs.vocabulary.texts
    if pairs.weights == "tf" or not now or now < _GROWN * counted:
        return ()
    said = f"how rare words are was counted on {counted:,} conversations, and there are {now:,} now: --refit counts "
    return (said + "anew, and changes the similarity of old pairs",)


def _memory_taken_mb() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (1_000_000 if sys.platform == "darwin" else 1_000)
