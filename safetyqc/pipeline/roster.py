"""Who of a run takes part in a dedup, and by what they are ranked and sorted, as arrays that are kept with the run.

So a dedup reads only the conversations and verdicts that came since the last one. The arrays are a copy of what the
records say: where they are missing, damaged or do not fit the run any more, they are made anew. The one surprising
thing: who was rejected or replaced is asked of the records each time, because that can be taken back. Loads numpy:
import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from safetyqc.dedup.packing import pack, unpack
from safetyqc.dedup.rows import Array
from safetyqc.store.standing import replaced

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment
    from safetyqc.store import Store

_NAME, _FORMAT = "roster", 1
_NOBODY = -1


def rank(judgment: Judgment | None) -> tuple[int, float]:
    """Order copies for dedup, best last: passed over undecided over failed, then by mean score."""
    if judgment is None:
        return (1, 0.0)
    values = [s.value for s in judgment.scores if s.value is not None]
    verdict = {True: 2, None: 1, False: 0}[judgment.passed]
    return (verdict, sum(values) / len(values) if values else 0.0)


@dataclass(frozen=True)
class Roster:
    """Every conversation of a run by its number (ascending).

    `category` and `seen_category` (the plan's, and what the deciding judge saw) are places in `names`, -1 for none;
    `verdict` and `mean` are what `rank` says of its verdict. Verdicts are those of `judge` up to `last_judgment`.
    """

    numbers: Array
    canary: Array
    category: Array
    seen_category: Array
    verdict: Array
    mean: Array
    names: tuple[str, ...]
    judge: str | None
    last_judgment: int

    def places(self, numbers: Array) -> Array:
        """Where these conversations stand in the arrays."""
        found: Array = np.searchsorted(self.numbers, numbers)
        return found

    def categories(self, numbers: Array) -> tuple[list[str], Array]:
        """Names of categories, and the place there of each conversation's own: the plan's, or else the judge's."""
        places = self.places(numbers)
        names = [name or "uncategorised" for name in self.names] + ["uncategorised"]
        empty = np.array([not name for name in self.names] + [True])
        own, seen = self.category[places], self.seen_category[places]
        chosen: Array = np.where(empty[own], seen, own) % len(names)
        return names, chosen

    def order(self, numbers: Array) -> Array:
        """How good each of these is by what `rank` says: 0 for the best of them; of equals the earlier is better."""
        places = self.places(numbers)
        best_first = np.lexsort((numbers, -self.mean[places], -self.verdict[places]))
        found: Array = np.argsort(best_first)
        return found

    def inside(self, store: Store) -> Array:
        """Numbers of those that take part: neither planted nor rejected, replaced or turned down."""
        gone = [*store.numbered.rejected(), *store.numbered.numbers(replaced(store.rewrites())).values()]
        taking_part: Array = self.numbers[~self.canary & ~np.isin(self.numbers, np.array(gone, np.int64))]
        return taking_part


def read_roster(store: Store, seen: Callable[[int, Conversation], None]) -> Roster:
    """Bring the stored roster up to date, and store it again; `seen` is told each conversation that had to be read."""
    judge = store.meta("deciding_judge")
    stored = before = _stored(store, judge)
    before = _with_conversations(
        before, store.numbered.after(int(before.numbers[-1]) if len(before.numbers) else 0), seen
    )
    before = _with_verdicts(before, store)
    if before is not stored:
        arrays = {name: getattr(before, name) for name in _COLUMNS}
        head = {"format": _FORMAT, "names": before.names, "judge": judge, "last_judgment": before.last_judgment}
        store.put_packed(_NAME, pack(head, arrays))
    return before


def _stored(store: Store, judge: str | None) -> Roster:
    """The roster of the last dedup, as far as it still fits the run."""
    found = unpack(store.packed(_NAME), _FORMAT)
    if found is None:
        return replace(_EMPTY, judge=judge)
    head, arrays = found
    roster = Roster(**arrays, names=tuple(head["names"]), judge=head["judge"], last_judgment=head["last_judgment"])
    later = store.numbered.count_after(int(roster.numbers[-1])) if len(roster.numbers) else 0
    if store.numbered.count() - later != len(roster.numbers):
        return replace(_EMPTY, judge=judge)
    if judge != roster.judge or store.numbered.last_judgment() < roster.last_judgment:
        size = len(roster.numbers)
        return replace(roster, judge=judge, last_judgment=0, **_unjudged(size))
    return roster


def _with_conversations(
    roster: Roster, added: Iterable[tuple[int, Conversation]], seen: Callable[[int, Conversation], None]
) -> Roster:
    codes = {name: code for code, name in enumerate(roster.names)}
    numbers, canary, category = list[int](), list[bool](), list[int]()
    for number, conversation in added:
        seen(number, conversation)
        numbers.append(number)
        canary.append(conversation.origin == "canary")
        category.append(_code(codes, conversation.category))
    if not numbers:
        return roster
    new = {
        "numbers": np.array(numbers, np.int64), "canary": np.array(canary), "category": np.array(category, np.int32),
        **_unjudged(len(numbers)),
    }  # fmt: skip
    columns: dict[str, Any] = {name: np.concatenate([getattr(roster, name), new[name]]) for name in _COLUMNS}
    return replace(roster, names=tuple(codes), **columns)


def _with_verdicts(roster: Roster, store: Store) -> Roster:
    last = store.numbered.last_judgment()
    if last == roster.last_judgment:
        return roster
    codes = {name: code for code, name in enumerate(roster.names)}
    seen, verdict, mean = roster.seen_category.copy(), roster.verdict.copy(), roster.mean.copy()
    for number, judgment in store.numbered.judgments_after(roster.last_judgment, roster.judge):
        place = int(np.searchsorted(roster.numbers, number))
        seen[place], (verdict[place], mean[place]) = _code(codes, judgment.category), rank(judgment)
    return replace(
        roster, names=tuple(codes), seen_category=seen, verdict=verdict, mean=mean, last_judgment=last
    )  # fmt: skip


def _code(codes: dict[str, int], name: str | None) -> int:
    return _NOBODY if name is None else codes.setdefault(name, len(codes))


def _unjudged(size: int) -> dict[str, Any]:
    verdict, mean = rank(None)
    return {
        "seen_category": np.full(size, _NOBODY, np.int32), "verdict": np.full(size, verdict, np.int8),
        "mean": np.full(size, mean),
    }  # fmt: skip


_COLUMNS = ("numbers", "canary", "category", "seen_category", "verdict", "mean")
_EMPTY = Roster(
    np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.int32), **_unjudged(0), names=(), judge=None,
    last_judgment=0,
)  # fmt: skip
