"""Pairs of a run -> its duplicate groups, of which only those are made anew that something has happened to.

A group depends on the conversations that pairs connect with its own, on their ranks, and on the settings. So where the
settings are those of the last dedup, only what is connected with a conversation that came, went or changed its rank is
grouped again; everything else is grouped as it was. Who stays for whom is an array of numbers, and what is read and
written is the difference, in one transaction with what the next dedup compares with.

The surprising thing: evidence of drops that another threshold or linkage undid is put aside and not thrown away, so
that trying one and going back costs no second reading of the texts. Loads numpy: import it late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from safetyqc.dedup.evidence import describe
from safetyqc.dedup.groups import connected_with, dropped_of, stay_of
from safetyqc.dedup.packing import pack, unpack
from safetyqc.dedup.vocabulary import vocabulary_hash
from safetyqc.results.findings import Dropped
from safetyqc.store.numbered import drop_key, of_drop_key

if TYPE_CHECKING:
    from safetyqc.config import DedupSettings
    from safetyqc.dedup.rows import Array
    from safetyqc.dedup.search import Search
    from safetyqc.pipeline.roster import Roster
    from safetyqc.pipeline.searching import Texts
    from safetyqc.store import Store

_GROUPED, _ASIDE, _FORMAT = "grouped", "evidence", 2


@dataclass
class _Evidence:
    """What is written of drops, by their keys; `exact` are the keys of those that are the same text."""

    bodies: dict[int, str]
    exact: set[int]


@dataclass(frozen=True)
class Regrouping:
    """Brings the stored groups of a run up to date with the pairs among the conversations with these numbers."""

    store: Store
    settings: DedupSettings
    found: Search
    numbers: Array
    roster: Roster
    texts: Texts

    def run(self) -> Dropped:
        """Group what has to be grouped again, write what changed, and count what there is then."""
        stays = self._stays()
        dropped = dropped_of(np.searchsorted(self.numbers, stays))
        keys = drop_key(stays[dropped], self.numbers[dropped])
        gone, fresh, exact = self._difference(keys)
        aside, packed = self._take_aside(gone, fresh)
        found = self._evidence(fresh, aside)
        exact = np.union1d(exact, np.array(sorted(found.exact), np.int64))
        head = {"format": _FORMAT, "measure": self._measure, "policy": self._policy}
        head["drops"] = [len(keys), int(keys.max(initial=0))]
        packed[_GROUPED] = pack(head, {**self._now, "stays": stays, "exact": exact})
        self.store.change_duplicates(gone if gone is None else gone.tolist(), self._rows(fresh, found), packed)
        groups = len(np.unique(stays[dropped]))
        return Dropped(conversations=len(self.numbers), groups=groups, dropped=len(keys), exact=len(exact))

    def _difference(self, now: Array) -> tuple[Array | None, Array, Array]:
        """Which drops are gone (None: all that there are) and which are fresh; and which others are the same text."""
        if not self._last or not self._is_same_measure:
            return None, now, np.empty(0, np.int64)
        before = self._last[1]
        was = np.flatnonzero(before["stays"] != before["numbers"])
        then = drop_key(before["stays"][was], before["numbers"][was])
        gone, fresh = np.setdiff1d(then, now, assume_unique=True), np.setdiff1d(now, then, assume_unique=True)
        return gone, fresh, np.setdiff1d(before["exact"], gone, assume_unique=True)

    def _rows(self, keys: Array, found: _Evidence) -> Iterator[tuple[int, str, str, str]]:
        kept, own = of_drop_key(keys)
        names = self.store.numbered.names(np.union1d(kept, own).tolist())
        for key, one, number in zip(keys.tolist(), kept.tolist(), own.tolist(), strict=True):
            yield key, names[number], names[one], found.bodies[key]

    # ---- who stays ----------------------------------------------------------------------------------------------

    def _stays(self) -> Array:
        """For each conversation the number of the one that stays for it."""
        if not self._last or not self._is_same_policy or len(self.found.lacks(self._last[1]["numbers"])):
            return self._grouped(self.numbers)
        before = self._last[1]
        stays = self.numbers.copy()
        _, then, here = np.intersect1d(before["numbers"], self.numbers, assume_unique=True, return_indices=True)
        stays[here] = before["stays"][then]
        changed = _changed(before, self._now)
        if len(changed):
            pairs = self.found.pairs.at_least(self.settings.min_similarity)
            touched = self.found.numbers[connected_with(pairs, self.found.places(changed))]
            touched = np.intersect1d(touched, self.numbers, assume_unique=True)
            stays[np.searchsorted(self.numbers, touched)] = self._grouped(touched)
        return stays

    def _grouped(self, numbers: Array) -> Array:
        """Group these conversations, whatever was before."""
        pairs = self.found.among(numbers).at_least(self.settings.min_similarity)
        within = self.roster.category[self.roster.places(numbers)] if self.settings.within_category else None
        order = self.roster.order(numbers)
        found: Array = numbers[stay_of(pairs, linkage=self.settings.linkage, order=order, categories=within)]
        return found

    # ---- why the others do not ----------------------------------------------------------------------------------

    def _evidence(self, keys: Array, known: _Evidence) -> _Evidence:
        """Evidence of these drops: what is known, and for all others what their texts say."""
        found = _Evidence({key: known.bodies[key] for key in keys.tolist() if key in known.bodies}, set())
        found.exact = known.exact & found.bodies.keys()
        missing = keys[~np.isin(keys, np.array(list(found.bodies), np.int64))]
        kept, own = (self.found.places(numbers) for numbers in of_drop_key(missing))
        numbers = self.found.numbers[own].tolist()
        names = self.store.numbered.names(numbers)
        drops = describe(
            self.found.pairs, kept, own, [names[number] for number in numbers],
            lambda places: self.texts.of(self.found.numbers[places]),
        )  # fmt: skip
        for key, drop in zip(missing.tolist(), drops, strict=True):
            found.bodies[key] = drop.model_dump_json()
            if drop.exact:
                found.exact.add(key)
        return found

    def _take_aside(self, gone: Array | None, fresh: Array) -> tuple[_Evidence, dict[str, bytes]]:
        """Where the policy changed and not the measure: evidence that was put aside, and what is put aside now."""
        if self._last is None or gone is None or self._is_same_policy:
            return _Evidence({}, set()), {}
        aside = self._stored_aside()
        bodies = {**aside.bodies, **self.store.numbered.drops(gone.tolist())}
        for key in fresh.tolist():
            bodies.pop(key, None)
        keys = np.array(list(bodies), np.int64)
        exact = np.union1d(np.array(sorted(aside.exact), np.int64), self._last[1]["exact"])
        columns = {"keys": keys, "bodies": _lines(bodies.values()), "exact": np.intersect1d(exact, keys)}
        return aside, {_ASIDE: pack({"format": _FORMAT, "measure": self._measure}, columns)}

    def _stored_aside(self) -> _Evidence:
        head, arrays = unpack(self.store.packed(_ASIDE), _FORMAT) or ({}, {})
        if head.get("measure") != self._measure:
            return _Evidence({}, set())
        lines = arrays["bodies"].tobytes().decode().split("\n")[:-1]
        return _Evidence(dict(zip(arrays["keys"].tolist(), lines, strict=True)), set(arrays["exact"].tolist()))

    # ---- what the last dedup left -------------------------------------------------------------------------------

    @cached_property
    def _last(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """What the last dedup grouped, and how; None where the stored groups are not those that it made."""
        found = unpack(self.store.packed(_GROUPED), _FORMAT)
        return found if found and found[0]["drops"] == list(self.store.numbered.count_drops()) else None

    @cached_property
    def _measure(self) -> list[Any]:
        measure = self.settings
        return [measure.on, measure.analyzer, measure.weights, vocabulary_hash(self.found.pairs.vocabulary)]

    @property
    def _policy(self) -> list[Any]:
        return [self.settings.min_similarity, self.settings.linkage, self.settings.within_category]

    @cached_property
    def _is_same_measure(self) -> bool:
        return self._last is not None and self._last[0]["measure"] == self._measure and not self.settings.refit

    @property
    def _is_same_policy(self) -> bool:
        return self._last is not None and self._is_same_measure and self._last[0]["policy"] == self._policy

    @cached_property
    def _now(self) -> dict[str, Array]:
        places = self.roster.places(self.numbers)
        return {
            "numbers": self.numbers, "verdict": self.roster.verdict[places], "mean": self.roster.mean[places],
        }  # fmt: skip


def _lines(bodies: Iterable[str]) -> Array:
    """JSON on a line each; it holds no newline, but may hold what else Python takes for the end of a line."""
    return np.frombuffer("".join(f"{body}\n" for body in bodies).encode(), np.uint8)


def _changed(before: Mapping[str, Array], now: Mapping[str, Array]) -> Array:
    """Numbers of the conversations that came, went, or are ranked otherwise than before."""
    moved = np.setxor1d(before["numbers"], now["numbers"], assume_unique=True)
    _, then, there = np.intersect1d(before["numbers"], now["numbers"], assume_unique=True, return_indices=True)
    other = (before["verdict"][then] != now["verdict"][there]) | (before["mean"][then] != now["mean"][there])
    changed: Array = np.union1d(moved, now["numbers"][there[other]])
    return changed
