"""The plan: seeded, exactly balanced, the same in any order."""

from __future__ import annotations

from collections import Counter

import pytest

from safetyqc.errors import ConfigError
from safetyqc.generate.scenarios import OPENERS_PER_SCENARIO, balance, draw_scenario, plan, redraw, top_up
from safetyqc.generate.taxonomy import Taxonomy, load_taxonomy
from safetyqc.records import content_hash

TAXONOMY = load_taxonomy()


def weighted(**weights: int) -> Taxonomy:
    """The bundled taxonomy with other category weights; 0 for those not named."""
    return TAXONOMY.model_copy(
        update={
            "categories": tuple(c.model_copy(update={"weight": weights.get(c.name, 0)}) for c in TAXONOMY.categories)
        }
    )


def test_same_seed_gives_the_same_scenario_whatever_was_drawn_before() -> None:
    whole = plan(TAXONOMY, 60, seed=7, languages=("en", "zh"))
    backwards = [draw_scenario(TAXONOMY, 7, index, ("en", "zh")) for index in reversed(range(60))]
    assert backwards[::-1] == whole
    assert len({scenario.id for scenario in whole}) == 60


def test_a_longer_plan_begins_with_the_shorter_one() -> None:
    assert plan(TAXONOMY, 40, seed=1)[:13] == plan(TAXONOMY, 13, seed=1)


def test_another_seed_gives_another_plan() -> None:
    assert plan(TAXONOMY, 20, seed=1) != plan(TAXONOMY, 20, seed=2)


@pytest.mark.parametrize("count", [9, 18, 27, 600])
def test_categories_are_dealt_round_robin(count: int) -> None:
    counts = Counter(scenario.category for scenario in plan(TAXONOMY, count, seed=3))
    assert set(counts) == {category.name for category in TAXONOMY.categories}
    assert max(counts.values()) - min(counts.values()) <= (0 if count % 9 == 0 else 1)
    names = [scenario.category for scenario in plan(TAXONOMY, 9, seed=3)]
    assert names == [category.name for category in TAXONOMY.categories]


def test_category_weights_are_met_exactly_over_a_cycle() -> None:
    taxonomy = weighted(self_harm_support=3, drugs_or_weapons=2, general_safety=1)
    counts = Counter(scenario.category for scenario in plan(taxonomy, 60, seed=0))
    assert counts == {"self_harm_support": 30, "drugs_or_weapons": 20, "general_safety": 10}
    first = [scenario.category for scenario in plan(taxonomy, 6, seed=0)]
    assert first[:2] != ["self_harm_support"] * 2, "heavy categories must be spread over the cycle, not bunched"


def test_intents_meet_their_weights_exactly_in_every_category() -> None:
    counts = balance(plan(TAXONOMY, 9 * 20, seed=5))
    for category in TAXONOMY.categories:
        wanted = {intent: 2 * weight for intent, weight in category.intents.items()}
        assert {intent: n for intent, n in counts[category.name].items() if n} == wanted


def test_languages_are_even_within_each_category_and_over_each_round() -> None:
    scenarios = plan(TAXONOMY, 36, seed=5, languages=("en", "zh"))
    for category in TAXONOMY.categories:
        assert Counter(s.language for s in scenarios if s.category == category.name) == {"en": 2, "zh": 2}
    first_round = Counter(s.language for s in scenarios[:9])
    assert sorted(first_round.values()) == [4, 5]


def test_turns_follow_the_weights_or_the_callers_choice() -> None:
    total = sum(entry.weight for entry in TAXONOMY.turns)
    counts = Counter(s.turns for s in plan(TAXONOMY, 9 * total, seed=0))
    assert counts == {entry.turns: 9 * entry.weight for entry in TAXONOMY.turns}
    assert {s.turns for s in plan(TAXONOMY, 20, seed=0, turns=3)} == {3}


def test_every_scenario_takes_openers_and_style_that_suit_it() -> None:
    for scenario in plan(TAXONOMY, 200, seed=11, languages=("en", "zh")):
        category = TAXONOMY.category(scenario.category)
        pool = category.openers[scenario.language][scenario.intent]
        assert set(scenario.openers) <= set(pool)
        assert len(set(scenario.openers)) == len(scenario.openers) == min(OPENERS_PER_SCENARIO, len(pool))
        assert scenario.style in {style.name for style in TAXONOMY.styles_for(category, scenario.intent)}


def test_neighbours_of_a_category_do_not_lead_with_the_same_opener() -> None:
    scenarios = plan(weighted(violence_or_crime=1), 5, seed=2)
    assert len({scenario.openers[0] for scenario in scenarios}) == 5


def test_redraw_keeps_the_place_in_the_plan_and_changes_the_openers() -> None:
    first = draw_scenario(TAXONOMY, 4, 12)
    second = redraw(TAXONOMY, 4, first)
    place = ("index", "category", "intent", "language", "turns")
    assert [getattr(first, key) for key in place] == [getattr(second, key) for key in place]
    assert second.draw == 1
    assert not set(first.openers) & set(second.openers)
    assert second == redraw(TAXONOMY, 4, first) == draw_scenario(TAXONOMY, 4, 12, draw=1)
    assert second.id != first.id


def test_redraw_without_fresh_openers_uses_the_old_ones() -> None:
    taxonomy = TAXONOMY.model_copy(
        update={
            "categories": (
                TAXONOMY.categories[0].model_copy(
                    update={"intents": {"distress": 1}, "openers": {"en": {"distress": ("I feel lost.",)}}}
                ),
            )
        }
    )
    assert redraw(taxonomy, 0, draw_scenario(taxonomy, 0, 0)).openers == ("I feel lost.",)


def test_top_up_goes_on_where_the_plan_ends_and_keeps_the_intents_balanced() -> None:
    planned = plan(TAXONOMY, 9 * 4, seed=6)
    added = top_up(TAXONOMY, {"hate_or_harassment": 6, "self_harm_support": 2}, planned, seed=6)
    assert [s.index for s in added] == list(range(36, 44))
    assert Counter(s.category for s in added) == {"hate_or_harassment": 6, "self_harm_support": 2}
    intents = balance([*planned, *added])["hate_or_harassment"]
    assert intents == {"harmful": 6, "borderline": 2, "benign": 2, "distress": 0}
    again = top_up(TAXONOMY, {"hate_or_harassment": 1}, [*planned, *added], seed=6)
    assert [s.index for s in again] == [44]


def test_balance_counts_a_redrawn_scenario_once() -> None:
    first = draw_scenario(TAXONOMY, 0, 0)
    counts = balance([first, redraw(TAXONOMY, 0, first)])
    assert sum(counts[first.category].values()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "0 conversations cannot be planned"),
        ({"count": 3, "languages": ("e",)}, "no language 'e'"),
        ({"count": 3, "languages": ()}, "no language was chosen"),
        ({"count": 3, "turns": 0}, "cannot have 0 turns"),
    ],
)
def test_an_impossible_plan_says_why(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(TAXONOMY, seed=0, **arguments)


def test_top_up_of_an_unknown_category_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'hate_or_harassment'"):
        top_up(TAXONOMY, {"hate_or_harrassment": 2}, [], seed=0)


@pytest.mark.parametrize("languages", [("en",), ("en", "zh")])
def test_every_opener_leads_equally_often_among_its_category_intent_and_language(languages: tuple[str, ...]) -> None:
    taxonomy = load_taxonomy()
    scenarios = plan(taxonomy, 2400, seed=5, languages=languages)
    led: dict[tuple[str, str, str], Counter[str]] = {}
    for s in scenarios:
        led.setdefault((s.category, s.intent, s.language), Counter())[s.openers[0]] += 1
    for (name, intent, language), counts in led.items():
        pool = taxonomy.category(name).openers[language][intent]
        times = [counts[opener] for opener in pool]
        assert max(times) - min(times) <= 1, (name, intent, language)


def test_a_top_up_goes_on_with_the_deck_where_the_plan_ended() -> None:
    taxonomy = load_taxonomy()
    name = taxonomy.categories[0].name
    scenarios = plan(taxonomy, 90, seed=5)
    both = [*scenarios, *top_up(taxonomy, {name: 90}, scenarios, 5)]
    for intent in {s.intent for s in both}:
        counts = Counter(s.openers[0] for s in both if (s.category, s.intent) == (name, intent))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_plan_of_an_earlier_version_is_dealt_as_it_was() -> None:
    """Drawn before openers were dealt by intent: a run that was begun so must go on with the same scenarios."""
    drawn = plan(load_taxonomy(), 60, seed=3, languages=("en", "zh"), even_openers=False)
    assert content_hash([s.model_dump(mode="json") for s in drawn])[:16] == "b0c93247e52e82b9"
