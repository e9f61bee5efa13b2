"""Pairs of a run -> its duplicate groups, of which only those are made anew that something has happened to.

A group depends on the conversations that pairs connect with its own, on their ranks, and on the settings. So where the
settings are those of the last dedup, only what is connected with a conversation that came, went or changed its rank is
grouped again; everything else is grouped as it was. What is written is the difference, in one transaction with what the
next dedup compares with.

The surprising thing: evidence of drops that another threshold or linkage undid is put aside and not thrown away, so
that trying one and going back costs no second reading of the texts. Loads numpy: import it late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from safetyqc.dedup.groups import Members, connected_with, group_members
from safetyqc.dedup.search import restrict
from safetyqc.dedup.vocabulary import vocabulary_hash
from safetyqc.pipeline.packing import pack, unpack
from safetyqc.records import Duplicate, DuplicateGroup

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup.search import Search
    from safetyqc.pipeline.packing import Array
    from safetyqc.pipeline.roster import Roster
    from safetyqc.pipeline.searching import Texts
    from safetyqc.store import Store

_GROUPED, _ASIDE, _FORMAT = "grouped", "evidence", 1
Drops = dict[str, tuple[str, Duplicate]]
"""For each dropped id the one kept, and the evidence."""


@dataclass(frozen=True)
class Regrouping:
    """Brings the stored groups of a run up to date with the pairs among the conversations with these numbers."""

    store: Store
    settings: DedupSettings
    found: Search
    numbers: Array
    roster: Roster
    texts: Texts

    def run(self) -> None:
        """Group what has to be grouped again, and write what changed."""
        if self._last is None:
            self._write(None, self._drops(self.numbers, ()))
        elif not self._is_same_measure:
            self._write(self._all_drops(), self._drops(self.numbers, ()))
        elif self._last[0]["policy"] == self._policy and not len(self.found.lacks(self._last[1]["numbers"])):
            self._group_touched(self._last[1])
        else:
            self._group_all()

    def _group_touched(self, before: Mapping[str, Array]) -> None:
        """Group again what is connected with anything that changed, now or at the last dedup."""
        changed = _changed(before, self._now)
        if not len(changed):
            return
        everybody = np.union1d(self.numbers, before["numbers"])
        pairs = self.found.among(everybody).at_least(self.settings.min_similarity)
        touched = everybody[connected_with(pairs, np.searchsorted(everybody, changed))]
        names = self.store.numbered.names(touched.tolist()).values()
        old = _as_drops(self.store.numbered.duplicates(names))
        self._write(old, self._drops(touched[np.isin(touched, self.numbers)], old.values()))

    def _group_all(self) -> None:
        """Group everything by another policy, with the evidence of the last one and of those before it."""
        old, aside = self._all_drops(), self._put_aside()
        new = self._drops(self.numbers, [*aside, *old.values()])
        undone = [*(drop for drop in aside if new.get(drop[1].conversation_id) != drop),
                  *(drop for name, drop in old.items() if new.get(name) != drop)]  # fmt: skip
        self._write(old, new, {_ASIDE: self._pack_aside(undone)})

    def _drops(self, numbers: Array, known: Iterable[tuple[str, Duplicate]]) -> Drops:
        """Group these conversations; of those without a near one or a copy nothing is read."""
        settings = self.settings
        pairs = self.found.among(numbers).at_least(settings.min_similarity)
        met = np.bincount(pairs.same_as, minlength=len(numbers)) > 1
        met[pairs.left] = met[pairs.right] = True
        places = np.flatnonzero(met[pairs.same_as])
        pairs, numbers = restrict(pairs, places), numbers[places]
        names = self.store.numbered.names(numbers.tolist())
        members = Members(
            [names[number] for number in numbers.tolist()],
            lambda wanted: self.texts.of(numbers[np.array(wanted, np.int64)]),
            self.roster.ranks(numbers).__getitem__,
            self.roster.planned_categories(numbers) if settings.within_category else None,
        )
        similarity, linkage = settings.min_similarity, settings.linkage
        groups = group_members(members, pairs, min_similarity=similarity, linkage=linkage, known=_as_groups(known))
        return _as_drops((group.kept, drop) for group in groups for drop in group.dropped)

    # ---- what the last dedup left -------------------------------------------------------------------------------

    @cached_property
    def _last(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """What the last dedup grouped, and how; None where the stored groups are not those that it made."""
        found = unpack(self.store.packed(_GROUPED), _FORMAT)
        return found if found and found[0]["dropped"] == self._stored_drops else None

    @cached_property
    def _stored_drops(self) -> int:
        return self.store.numbered.count_duplicates()[1]

    @cached_property
    def _measure(self) -> list[Any]:
        measure = self.settings
        return [measure.on, measure.analyzer, measure.weights, vocabulary_hash(self.found.pairs.vocabulary)]

    @property
    def _policy(self) -> list[Any]:
        return [self.settings.min_similarity, self.settings.linkage, self.settings.within_category]

    @property
    def _is_same_measure(self) -> bool:
        return self._last is not None and self._last[0]["measure"] == self._measure and not self.settings.refit

    @cached_property
    def _now(self) -> dict[str, Array]:
        places = self.roster.places(self.numbers)
        return {
            "numbers": self.numbers, "verdict": self.roster.verdict[places], "mean": self.roster.mean[places],
        }  # fmt: skip

    def _all_drops(self) -> Drops:
        return _as_drops(self.store.numbered.duplicates())

    def _put_aside(self) -> list[tuple[str, Duplicate]]:
        """Evidence that was put aside, by the same measure."""
        head, arrays = unpack(self.store.packed(_ASIDE), _FORMAT) or ({}, {})
        if head.get("measure") != self._measure:
            return []
        groups = map(DuplicateGroup.model_validate_json, arrays["groups"].tobytes().splitlines())
        return [(group.kept, drop) for group in groups for drop in group.dropped]

    def _pack_aside(self, drops: Iterable[tuple[str, Duplicate]]) -> bytes:
        lines = "\n".join(group.model_dump_json() for group in _as_groups(drops)).encode()
        return pack({"format": _FORMAT, "measure": self._measure}, {"groups": np.frombuffer(lines, np.uint8)})

    def _write(self, old: Drops | None, new: Drops, packed: Mapping[str, bytes] | None = None) -> None:
        """Write the drops that are other than before, and take away those that are none any more (None: all)."""
        before = old or {}
        fresh = [drop for name, drop in new.items() if before.get(name) != drop]
        number_of = self.store.numbered.numbers({name for kept, drop in fresh for name in (kept, drop.conversation_id)})
        rows = [(kept, number_of[kept], drop, number_of[drop.conversation_id]) for kept, drop in fresh]
        gone = None if old is None else [name for name, drop in before.items() if new.get(name) != drop]
        untouched = 0 if old is None else self._stored_drops - len(old)
        head = {"format": _FORMAT, "measure": self._measure, "policy": self._policy, "dropped": untouched + len(new)}
        self.store.change_duplicates(gone, rows, {_GROUPED: pack(head, self._now), **(packed or {})})


def _changed(before: Mapping[str, Array], now: Mapping[str, Array]) -> Array:
    """Numbers of the conversations that came, went, or are ranked otherwise than before."""
    moved = np.setxor1d(before["numbers"], now["numbers"], assume_unique=True)
    _, then, there = np.intersect1d(before["numbers"], now["numbers"], assume_unique=True, return_indices=True)
    other = (before["verdict"][then] != now["verdict"][there]) | (before["mean"][then] != now["mean"][there])
    changed: Array = np.union1d(moved, now["numbers"][there[other]])
    return changed


def _as_drops(rows: Iterable[tuple[str, Duplicate]]) -> Drops:
    return {drop.conversation_id: (kept, drop) for kept, drop in rows}


def _as_groups(drops: Iterable[tuple[str, Duplicate]]) -> list[DuplicateGroup]:
    members: dict[str, list[Duplicate]] = {}
    for kept, drop in drops:
        members.setdefault(kept, []).append(drop)
    return [DuplicateGroup(kept=kept, dropped=tuple(dropped)) for kept, dropped in members.items()]
