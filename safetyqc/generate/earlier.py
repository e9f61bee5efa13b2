"""Deals plans as earlier versions did, so that a run that was begun by one goes on with the same scenarios.

Nothing new is dealt here: see `dealing`. Intent, language and turns come from shuffled decks that hold each value as
often as its weight says; style, persona and further openers are sampled.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from safetyqc.generate.dealing import OPENERS_PER_SCENARIO, Deal
from safetyqc.generate.entries import Category, Persona, Style
from safetyqc.generate.taxonomy import Taxonomy
from safetyqc.records import Intent, Scenario

V = TypeVar("V")


def draw(taxonomy: Taxonomy, seed: int, index: int, name: str, nth: int, deal: Deal) -> Scenario:
    """Draw the scenario at `index`, which is the `nth` (0-based) of its category."""
    category = taxonomy.category(name)
    rng = random.Random(f"{seed}/{index}/0")
    # The category's place turns the shared decks, so that one round over all categories is already mixed
    place = taxonomy.categories.index(category)
    cells = _cells(seed, category.name, tuple(category.intents.items()), tuple(deal.languages), place)
    intent, language, among_alike = cells.at(nth)
    lengths = tuple((entry.turns, entry.weight) for entry in taxonomy.turns)
    style, persona = style_and_persona(rng, taxonomy, category, intent)
    return Scenario(
        index=index,
        category=category.name,
        intent=intent,
        language=language,
        turns=deal.turns if deal.turns is not None else _dealt(f"{seed}/turns", lengths, nth, place),
        style=style.name,
        persona=persona.text,
        openers=_openers(
            rng,
            f"{seed}/openers/{category.name}/{intent}",
            category.openers[language][intent],
            among_alike if deal.way == "opener" else nth,
        ),
    )


class _Cells:
    """Intent and language of every place of one category, and how many places before it have the same two."""

    def __init__(
        self, seed: int, name: str, intents: tuple[tuple[Intent, int], ...], languages: Sequence[str], turned: int
    ):
        self._seed, self._name, self._intents, self._turned = seed, name, intents, turned
        self._languages = tuple((language, 1) for language in languages)
        self._seen: Counter[tuple[Intent, str]] = Counter()
        self._dealt: list[tuple[Intent, str, int]] = []

    def at(self, nth: int) -> tuple[Intent, str, int]:
        """What is at the nth place (0-based); what lies before it is dealt once and remembered."""
        for place in range(len(self._dealt), nth + 1):
            intent = _dealt(f"{self._seed}/intent/{self._name}", self._intents, place)
            language = _dealt(f"{self._seed}/language", self._languages, place, self._turned)
            self._dealt.append((intent, language, self._seen[intent, language]))
            self._seen[intent, language] += 1
        return self._dealt[nth]


_cells = lru_cache(maxsize=256)(_Cells)


def _openers(rng: random.Random, deck_seed: str, pool: Sequence[str], nth: int) -> tuple[str, ...]:
    """Choose the leading opener from a shuffled deck, where `nth` stands, and others at random."""
    deck = list(pool)
    random.Random(deck_seed).shuffle(deck)
    first = deck[nth % len(deck)]
    return (first, *sample(rng, [opener for opener in pool if opener != first], OPENERS_PER_SCENARIO - 1))


def sample(rng: random.Random, pool: Sequence[str], count: int = OPENERS_PER_SCENARIO) -> tuple[str, ...]:
    """Draw so many openers, or as many as there are."""
    return tuple(rng.sample(list(pool), min(count, len(pool))))


def style_and_persona(
    rng: random.Random, taxonomy: Taxonomy, category: Category, intent: Intent, turns: int | None = None
) -> tuple[Style, Persona]:
    """Draw both by weight."""
    styles = taxonomy.styles_for(category, intent, turns)
    style = rng.choices(styles, [style.weight for style in styles])[0]
    return style, rng.choices(taxonomy.personas, [persona.weight for persona in taxonomy.personas])[0]


def _dealt(seed: str, weighted: tuple[tuple[V, int], ...], nth: int, turned: int = 0) -> V:
    """Take the nth card from decks that hold each value `weight` times, each shuffled on its own and turned alike."""
    deck = [value for value, weight in weighted for _ in range(weight)]
    return deck[_shuffle(f"{seed}/{nth // len(deck)}", len(deck))[(nth + turned) % len(deck)]]


@lru_cache(maxsize=4096)
def _shuffle(seed: str, size: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).sample(range(size), size))
