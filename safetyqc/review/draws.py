"""Conversations in strata -> the order in which people are asked about them, so that any beginning of it is a sample.

A draw keeps every conversation's stratum and place in it for good, so it can be broken off anywhere, taken up again and
made larger: within a stratum those asked about are always the first ones of an order that chance made, whatever came
to be known meanwhile. How many of which stratum is `allocation`'s business, what labels say of all `judge.corrected`'s.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from safetyqc.records import Record

if TYPE_CHECKING:
    from safetyqc.store import Store

PLAN = "plan"
"""The queue of labels that a draw asked for."""
_PASSED_OVER = 0.05
"""Of the conversations asked about so far, the share that may be without a label yet (put off, or with somebody)."""


class Item(Record):
    """A conversation that was drawn, and with which probability."""

    conversation_id: str
    stratum: str
    probability: float = Field(gt=0, le=1)


class Stratum(Record):
    """Conversations in the order in which they are drawn, and how many of them are."""

    ids: tuple[str, ...]
    taken: int = 0


class Draw(Record):
    """Who is asked about, in order; `strata` holds everybody who could have been."""

    id: str
    criteria: tuple[str, ...] = ()
    """What people are asked about each; empty for everything."""
    by: str | None = None
    seed: int = 0
    strata: dict[str, Stratum] = Field(default_factory=dict)
    items: tuple[Item, ...] = ()

    @property
    def stratum_of(self) -> dict[str, str]:
        """Each conversation's stratum."""
        return {name: key for key, stratum in self.strata.items() for name in stratum.ids}

    def with_strata(self, strata: Mapping[str, Mapping[str, str]]) -> Draw:
        """The draw with strata of conversations that were in none: of each id its category.

        Within a stratum chance decides, but every part of it holds the categories as the whole does.
        """
        taken = 1 + len(self.strata)
        new = {
            name if name not in self.strata else f"{name} (added {taken})": Stratum(ids=_by_chance(members, self.seed))
            for name, members in strata.items()
        }
        return self.model_copy(update={"strata": self.strata | new})

    def extended(self, counts: Mapping[str, int]) -> Draw:
        """The draw in which so many of each stratum are asked about; what is drawn stays, and goes first."""
        new: list[tuple[float, Item]] = []
        strata = dict(self.strata)
        for name, count in counts.items():
            ids, taken = strata[name].ids, strata[name].taken
            upto = max(taken, min(count, len(ids)))
            for place, identifier in enumerate(ids[taken:upto]):
                share = (place + _chance(self.seed, "order", identifier)) / (upto - taken)
                item = Item(conversation_id=identifier, stratum=name, probability=upto / len(ids))
                new.append((share, item))
            strata[name] = Stratum(ids=ids, taken=upto)
        later = tuple(item for _, item in sorted(new, key=lambda pair: (pair[0], pair[1].conversation_id)))
        return self.model_copy(update={"strata": strata, "items": (*self.items, *later)})

    def reached(self, labelled: Collection[str], by_chance: Collection[str]) -> list[str]:
        """Ids that people were asked about so far: the longest beginning of the draw that is labelled all but a few.

        Args:
            labelled: conversations with a label, whatever it was given for.
            by_chance: those of them whose label was not asked for out of a queue of suspects: the last one that counts
                is one of these, as where the sample ends must not depend on what looked wrong.
        """
        found, missing = 0, 0
        for place, item in enumerate(self.items, 1):
            missing += item.conversation_id not in labelled
            if item.conversation_id in by_chance and missing <= max(1, _PASSED_OVER * place):
                found = place
        return [item.conversation_id for item in self.items[:found]]


def _by_chance(members: Mapping[str, str], seed: int) -> tuple[str, ...]:
    of_category: dict[str, list[str]] = defaultdict(list)
    for identifier, category in members.items():
        of_category[category].append(identifier)
    places: list[tuple[float, str]] = []
    for ids in of_category.values():
        ids.sort(key=lambda identifier: _chance(seed, "rank", identifier))
        places += [((rank + _chance(seed, "place", i)) / len(ids), i) for rank, i in enumerate(ids)]
    return tuple(identifier for _, identifier in sorted(places))


def _chance(seed: int, what: str, identifier: str) -> float:
    """A number in 0..1 that is the same on every machine."""
    digest = hashlib.sha256(f"{seed}\0{what}\0{identifier}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def read_draws(store: Store) -> list[Draw]:
    """The run's draws, the oldest first."""
    return draws_of(store.draws())


def draws_of(bodies: Mapping[str, Any]) -> list[Draw]:
    """Draws as a run holds them, by their names."""
    return [Draw.model_validate(body) for body in bodies.values() if _is_draw(body)]


def put_draw(store: Store, draw: Draw) -> None:
    """Remember a draw, in place of what it was."""
    store.put_draw(draw.id, draw.model_dump(mode="json"))


def _is_draw(body: Any) -> bool:
    return isinstance(body, dict) and {"id", "strata", "items"} <= body.keys()
