"""Draws the plan: which conversations to write, before any model is asked.

Pure: the same taxonomy, seed and choices give the same plan in any order, at any concurrency, after any resume. It
does not write conversations. Category, intent, language and turns are not sampled but dealt
in shuffled blocks that hold each value exactly as often as its weight says, so that even a small plan is balanced.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import gcd
from typing import TypeVar

from safetyqc.errors import ConfigError
from safetyqc.generate.taxonomy import Category, Persona, Style, Taxonomy
from safetyqc.records import INTENTS, Intent, Scenario

V = TypeVar("V")

OPENERS_PER_SCENARIO = 3


def plan(
    taxonomy: Taxonomy,
    count: int,
    seed: int,
    *,
    languages: Sequence[str] = ("en",),
    turns: int | None = None,
    even_openers: bool = True,
) -> list[Scenario]:
    """Draw the first `count` scenarios; a longer plan of the same seed begins with a shorter one.

    Args:
        languages: dealt evenly within each category.
        turns: the same number of exchanges for all; None to draw it by the taxonomy's weights.
        even_openers: every opener leads equally often among the scenarios that share a category, intent and language;
            False for a plan that was begun by an earlier version, which went by the place in the category.

    Raises:
        ConfigError: an unknown language, one without openers, or a count or turns below 1.
    """
    _check(taxonomy, languages, turns)
    if count < 1:
        raise ConfigError(f"{count} conversations cannot be planned", where="count", fix="ask for 1 or more")
    return [
        draw_scenario(taxonomy, seed, index, languages, turns=turns, even_openers=even_openers)
        for index in range(count)
    ]


def draw_scenario(
    taxonomy: Taxonomy,
    seed: int,
    index: int,
    languages: Sequence[str] = ("en",),
    *,
    turns: int | None = None,
    draw: int = 0,
    even_openers: bool = True,
) -> Scenario:
    """Draw one scenario of the plan, without drawing those before it.

    `draw` above 0 is that many times a `redraw`. Checks nothing: `plan` does, once.
    """
    name, nth = _place(tuple((c.name, c.weight) for c in taxonomy.categories), index)
    scenario = _draw(taxonomy, seed, index, taxonomy.category(name), nth, languages, turns, even_openers)
    for _ in range(draw):
        scenario = redraw(taxonomy, seed, scenario)
    return scenario


def redraw(taxonomy: Taxonomy, seed: int, scenario: Scenario) -> Scenario:
    """Draw the same place of the plan again, after its conversation could not be written.

    Category, intent, language and turns stay, so that the plan's balance holds; openers, style and persona change.
    """
    draw = scenario.draw + 1
    rng = random.Random(f"{seed}/{scenario.index}/{draw}")
    category = taxonomy.category(scenario.category)
    pool = category.openers[scenario.language][scenario.intent]
    fresh = [opener for opener in pool if opener not in scenario.openers]
    openers = _sample(rng, fresh or pool)
    style, persona = _style_and_persona(rng, taxonomy, category, scenario.intent)
    return scenario.model_copy(update={"draw": draw, "openers": openers, "style": style.name, "persona": persona.text})


def top_up(
    taxonomy: Taxonomy,
    wanted: Mapping[str, int],
    planned: Iterable[Scenario],
    seed: int,
    *,
    languages: Sequence[str] = ("en",),
    turns: int | None = None,
    even_openers: bool = True,
) -> list[Scenario]:
    """Draw more scenarios of chosen categories, going on where a plan ends.

    Args:
        wanted: category name to number of scenarios to add.
        planned: every scenario drawn so far for this run, earlier top-ups included.

    Raises:
        ConfigError: as `plan`, or an unknown category.
    """
    _check(taxonomy, languages, turns, wanted)
    category_of = {scenario.index: scenario.category for scenario in planned}
    nth = Counter(category_of.values())
    index = max(category_of, default=-1)
    added = []
    for name, count in wanted.items():
        for _ in range(count):
            index += 1
            added.append(
                _draw(taxonomy, seed, index, taxonomy.category(name), nth[name], languages, turns, even_openers)
            )
            nth[name] += 1
    return added


def balance(scenarios: Iterable[Scenario]) -> dict[str, dict[Intent, int]]:
    """Count scenarios per category and intent, redraws of one index once; what a finished run should hold."""
    counts: dict[str, dict[Intent, int]] = {}
    for scenario in {scenario.index: scenario for scenario in scenarios}.values():
        counts.setdefault(scenario.category, dict.fromkeys(INTENTS, 0))[scenario.intent] += 1
    return counts


def _check(
    taxonomy: Taxonomy, languages: Sequence[str], turns: int | None, categories: Iterable[str] | None = None
) -> None:
    if not languages:
        raise ConfigError("no language was chosen", where="languages", fix="name at least one, for example en")
    if turns is not None and turns < 1:
        raise ConfigError(f"a conversation cannot have {turns} turns", where="turns", fix="use 1 or more")
    taxonomy.check_languages(languages, categories)


def _draw(
    taxonomy: Taxonomy,
    seed: int,
    index: int,
    category: Category,
    nth: int,
    languages: Sequence[str],
    turns: int | None,
    even_openers: bool,
) -> Scenario:
    """Draw the scenario at `index`, which is the `nth` (0-based) of its category."""
    rng = random.Random(f"{seed}/{index}/0")
    # The category's place turns the shared decks, so that one round over all categories is already mixed
    place = taxonomy.categories.index(category)
    cells = _cells(seed, category.name, tuple(category.intents.items()), tuple(languages), place)
    intent, language, among_alike = cells.at(nth)
    lengths = tuple((entry.turns, entry.weight) for entry in taxonomy.turns)
    style, persona = _style_and_persona(rng, taxonomy, category, intent)
    return Scenario(
        index=index,
        category=category.name,
        intent=intent,
        language=language,
        turns=turns if turns is not None else _dealt(f"{seed}/turns", lengths, nth, place),
        style=style.name,
        persona=persona.text,
        openers=_openers(
            rng,
            f"{seed}/openers/{category.name}/{intent}",
            category.openers[language][intent],
            among_alike if even_openers else nth,
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
    return (first, *_sample(rng, [opener for opener in pool if opener != first], OPENERS_PER_SCENARIO - 1))


def _sample(rng: random.Random, pool: Sequence[str], count: int = OPENERS_PER_SCENARIO) -> tuple[str, ...]:
    return tuple(rng.sample(list(pool), min(count, len(pool))))


def _style_and_persona(
    rng: random.Random, taxonomy: Taxonomy, category: Category, intent: Intent
) -> tuple[Style, Persona]:
    styles = taxonomy.styles_for(category, intent)
    style = rng.choices(styles, [style.weight for style in styles])[0]
    return style, rng.choices(taxonomy.personas, [persona.weight for persona in taxonomy.personas])[0]


def _place(weighted: tuple[tuple[str, int], ...], index: int) -> tuple[str, int]:
    """Say which category stands at an index of the plan, and the how-manieth (0-based) of its category it is."""
    cycle = _round_robin(weighted)
    name = cycle[index % len(cycle)]
    return name, index // len(cycle) * cycle.count(name) + cycle[: index % len(cycle)].count(name)


@lru_cache(maxsize=16)
def _round_robin(weighted: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Spread weighted names as evenly as possible over one cycle (smooth weighted round-robin, as nginx deals servers).

    Every step adds to each name its weight and takes the total off the name that leads; after one cycle each name
    came up exactly as often as its weight, divided by the weights' common divisor.
    """
    divisor = gcd(*(weight for _, weight in weighted))
    weights = {name: weight // divisor for name, weight in weighted if weight}
    total, credit = sum(weights.values()), dict.fromkeys(weights, 0)
    cycle = []
    for _ in range(total):
        for name, weight in weights.items():
            credit[name] += weight
        leader = max(credit, key=credit.__getitem__)
        credit[leader] -= total
        cycle.append(leader)
    return tuple(cycle)


def _dealt(seed: str, weighted: tuple[tuple[V, int], ...], nth: int, turned: int = 0) -> V:
    """Take the nth card from decks that hold each value `weight` times, each shuffled on its own and turned alike."""
    deck = [value for value, weight in weighted for _ in range(weight)]
    return deck[_shuffle(f"{seed}/{nth // len(deck)}", len(deck))[(nth + turned) % len(deck)]]


@lru_cache(maxsize=4096)
def _shuffle(seed: str, size: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).sample(range(size), size))
