"""Draws the plan: which conversations to write, before any model is asked.

Pure: the same taxonomy, seed and way of dealing give the same plan in any order, at any concurrency, after any resume.
It does not write conversations. Categories take turns by smooth weighted round-robin; what stands at a category's
places is dealt by `dealing`, so that even a small plan is balanced.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from safetyqc.errors import ConfigError
from safetyqc.generate import earlier
from safetyqc.generate.dealing import Deal, Dealer, category_weights, check_shares, round_robin
from safetyqc.generate.taxonomy import ORDINARY, TRAITS, Taxonomy
from safetyqc.records import INTENTS, Intent, Scenario


def plan(taxonomy: Taxonomy, count: int, seed: int, deal: Deal | None = None) -> list[Scenario]:
    """Draw the first `count` scenarios; a longer plan of the same seed begins with a shorter one.

    Raises:
        ConfigError: an unknown language, one without openers, impossible shares, or a count or turns below 1.
    """
    deal = deal or Deal()
    _check(taxonomy, deal)
    if count < 1:
        raise ConfigError(f"{count} conversations cannot be planned", where="count", fix="ask for 1 or more")
    cycle = round_robin(tuple(entry for entry in category_weights(taxonomy, deal.shares) if entry[1]))
    draw, nth = _Drawing(taxonomy, seed, deal), Counter[str]()
    scenarios = []
    for index in range(count):
        name = cycle[index % len(cycle)]
        scenarios.append(draw(index, name, nth[name]))
        nth[name] += 1
    return scenarios


class _Drawing:
    """Draws one place by the way that a plan was begun with."""

    def __init__(self, taxonomy: Taxonomy, seed: int, deal: Deal) -> None:
        self._taxonomy, self._seed, self._deal = taxonomy, seed, deal
        self._dealer = Dealer(taxonomy, seed, deal)

    def __call__(self, index: int, name: str, nth: int) -> Scenario:
        if self._deal.way == "topic":
            return self._dealer.scenario(index, name, nth)
        return earlier.draw(self._taxonomy, self._seed, index, name, nth, self._deal)


def redraw(taxonomy: Taxonomy, seed: int, scenario: Scenario) -> Scenario:
    """Draw the same place of the plan again, after its conversation could not be written or did not pass.

    Category, intent, language, turns, topic and pair stay, so that the plan's balance holds; the other openers, style,
    persona and traits change. A twin keeps its leading opener: the words that it shares with the other one.
    """
    draw = scenario.draw + 1
    rng = random.Random(f"{seed}/{scenario.index}/{draw}")
    category = taxonomy.category(scenario.category)
    topic = next((t for t in category.subjects if t.name == scenario.topic), category)
    pool = topic.pool(scenario.language, scenario.intent)
    fresh = [opener for opener in pool if opener not in scenario.openers]
    openers = scenario.openers if scenario.pair else earlier.sample(rng, fresh or pool)
    intent: Intent = "harmful" if scenario.pair else scenario.intent
    style, persona = earlier.style_and_persona(rng, taxonomy, category, intent, scenario.turns)
    changed = {"draw": draw, "openers": openers, "style": style.name, "persona": persona.text}
    if scenario.topic:
        changed["traits"] = _traits(rng, taxonomy, scenario.intent)
    return scenario.model_copy(update=changed)


def _traits(rng: random.Random, taxonomy: Taxonomy, intent: Intent) -> dict[str, str]:
    drawn = {}
    for kind in TRAITS:
        suiting = [trait for trait in getattr(taxonomy, kind) if intent in trait.intents and trait.weight]
        if suiting and (trait := rng.choices(suiting, [t.weight for t in suiting])[0]).text:
            drawn[kind.removesuffix("s")] = trait.text
    return drawn


def top_up(
    taxonomy: Taxonomy,
    wanted: Mapping[str, int],
    planned: Iterable[Scenario],
    seed: int,
    deal: Deal | None = None,
) -> list[Scenario]:
    """Draw more scenarios of chosen categories, going on where a plan ends.

    Args:
        wanted: category name to number of scenarios to add.
        planned: every scenario drawn so far for this run, earlier top-ups included.

    Raises:
        ConfigError: as `plan`, or an unknown category.
    """
    deal = deal or Deal()
    _check(taxonomy, deal, wanted)
    category_of = {scenario.index: scenario.category for scenario in planned}
    nth = Counter(category_of.values())
    index = max(category_of, default=-1)
    draw = _Drawing(taxonomy, seed, deal)
    added = []
    for name, count in wanted.items():
        for _ in range(count):
            index += 1
            added.append(draw(index, name, nth[name]))
            nth[name] += 1
    return added


def balance(scenarios: Iterable[Scenario]) -> dict[str, dict[Intent, int]]:
    """Count scenarios per category and intent, redraws of one index once; what a finished run should hold."""
    counts: dict[str, dict[Intent, int]] = {}
    for scenario in {scenario.index: scenario for scenario in scenarios}.values():
        counts.setdefault(scenario.category, dict.fromkeys(INTENTS, 0))[scenario.intent] += 1
    return counts


def _check(taxonomy: Taxonomy, deal: Deal, categories: Iterable[str] | None = None) -> None:
    if not deal.languages:
        raise ConfigError("no language was chosen", where="languages", fix="name at least one, for example en")
    if deal.turns is not None and deal.turns < 1:
        raise ConfigError(f"a conversation cannot have {deal.turns} turns", where="turns", fix="use 1 or more")
    if deal.shares is not None:
        check_shares(deal.shares, taxonomy)
    taxonomy.check_languages(deal.languages, categories)
    if (deal.shares or {}).get(ORDINARY):
        taxonomy.check_languages(deal.languages, [ORDINARY])
