"""Cuts what is to be written into waves: before each, what answers used too often so far is named as not to be used.

What a wave was told is remembered with the run before anything of it is asked, by the places that it covers. So a
command that goes on asks word for word what it asked before, and no answer is paid for twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from safetyqc.generate.worn import Worn

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Scenario
    from safetyqc.store import Store

TOLD = "told_to_avoid"
_FEWEST = 48
"""Scenarios in a wave at least: fewer would leave a server idle at every seam."""
_PER_CALL = 4
"""Scenarios in a wave for each request in flight."""


class Waves:
    """The waves of one run."""

    def __init__(self, store: Store, concurrency: int) -> None:
        self._store = store
        self._size: int = store.meta(f"{TOLD}/size", max(_FEWEST, _PER_CALL * concurrency))
        store.set_meta(f"{TOLD}/size", self._size)
        self._worn = Worn(c for c in store.conversations() if c.origin == "generated")
        self._told: dict[tuple[int, ...], Mapping[str, list[str]]] = {}
        self._settled = 0
        while entry := store.meta(f"{TOLD}/{self._settled}"):
            self._told |= dict.fromkeys(map(tuple, entry["places"]), entry["avoid"])
            self._settled += 1

    def add(self, conversation: Conversation) -> None:
        """Count what was written."""
        self._worn.add(conversation)

    def cut(self, scenarios: Sequence[Scenario]) -> Iterator[list[Scenario]]:
        """The scenarios in waves, each with what it must avoid; the next one is cut when it is asked for."""
        for wave in self._by_place(scenarios):
            self._settle([s for s in wave if (s.index, s.draw) not in self._told])
            yield [self._with_told(scenario) for scenario in wave]

    def _by_place(self, scenarios: Sequence[Scenario]) -> list[Sequence[Scenario]]:
        """In the plan's order, seams lie at the same places of the plan whatever is left to do of it: a run that was
        stopped tells what one that was not stopped tells."""
        indices = [scenario.index for scenario in scenarios]
        if indices == sorted(indices):
            return [list(wave) for _, wave in groupby(scenarios, key=lambda scenario: scenario.index // self._size)]
        return [scenarios[start : start + self._size] for start in range(0, len(scenarios), self._size)]

    def _settle(self, new: Sequence[Scenario]) -> None:
        if not new:
            return
        avoid = {language: list(self._worn.named(language)) for language in {s.language for s in new}}
        places = [(s.index, s.draw) for s in new]
        self._store.set_meta(f"{TOLD}/{self._settled}", {"places": places, "avoid": avoid})
        self._settled += 1
        self._told |= dict.fromkeys(places, avoid)

    def _with_told(self, scenario: Scenario) -> Scenario:
        words = tuple(self._told[scenario.index, scenario.draw].get(scenario.language, ()))
        return scenario if words == scenario.avoid else scenario.model_copy(update={"avoid": words})
