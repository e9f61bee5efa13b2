"""The plan: seeded, exactly balanced, the same in any order."""

from __future__ import annotations

from collections import Counter

import pytest

from safetyqc.errors import ConfigError
from safetyqc.generate.dealing import Deal
from safetyqc.generate.scenarios import balance, plan, redraw, top_up
from safetyqc.generate.taxonomy import EARLIER, Taxonomy, load_taxonomy
from safetyqc.records import Scenario, content_hash

TAXONOMY = load_taxonomy()
BOTH = Deal(("en", "zh"))


def weighted(**weights: int) -> Taxonomy:
    """The bundled taxonomy with other category weights; 0 for those not named."""
    return TAXONOMY.model_copy(
        update={
            "categories": tuple(c.model_copy(update={"weight": weights.get(c.name, 0)}) for c in TAXONOMY.categories)
        }
    )


def test_same_seed_gives_the_same_plan_and_no_scenario_twice() -> None:
    whole = plan(TAXONOMY, 60, 7, BOTH)
    assert plan(TAXONOMY, 60, 7, BOTH) == whole
    assert len({scenario.id for scenario in whole}) == 60


def test_a_longer_plan_begins_with_the_shorter_one() -> None:
    assert plan(TAXONOMY, 40, 1)[:13] == plan(TAXONOMY, 13, 1)


def test_another_seed_gives_another_plan() -> None:
    assert plan(TAXONOMY, 20, 1) != plan(TAXONOMY, 20, 2)


@pytest.mark.parametrize("count", [9, 18, 27, 600])
def test_categories_are_dealt_round_robin(count: int) -> None:
    counts = Counter(scenario.category for scenario in plan(TAXONOMY, count, 3))
    assert set(counts) == {category.name for category in TAXONOMY.categories}
    assert max(counts.values()) - min(counts.values()) <= (0 if count % 9 == 0 else 1)
    names = [scenario.category for scenario in plan(TAXONOMY, 9, 3)]
    assert names == [category.name for category in TAXONOMY.categories]


def test_category_weights_are_met_exactly_over_a_cycle() -> None:
    taxonomy = weighted(self_harm_support=3, drugs_or_weapons=2, general_safety=1)
    counts = Counter(scenario.category for scenario in plan(taxonomy, 60, 0))
    assert counts == {"self_harm_support": 30, "drugs_or_weapons": 20, "general_safety": 10}
    first = [scenario.category for scenario in plan(taxonomy, 6, 0)]
    assert first[:2] != ["self_harm_support"] * 2, "heavy categories must be spread over the cycle, not bunched"


def test_intents_meet_their_weights_exactly_in_every_category() -> None:
    counts = balance(plan(TAXONOMY, 9 * 20, 5))
    for category in TAXONOMY.categories:
        wanted = {intent: 2 * weight for intent, weight in category.intents.items()}
        assert {intent: n for intent, n in counts[category.name].items() if n} == wanted


def test_languages_are_even_within_each_category_and_intent_and_over_each_round() -> None:
    scenarios = plan(TAXONOMY, 9 * 20, 5, BOTH)
    cells = Counter((s.category, s.intent, s.language) for s in scenarios)
    for category, intent, _ in cells:
        assert abs(cells[category, intent, "en"] - cells[category, intent, "zh"]) <= 1
    assert sorted(Counter(s.language for s in scenarios[:9]).values()) == [4, 5]


def test_turns_follow_the_weights_or_the_callers_choice() -> None:
    total = sum(entry.weight for entry in TAXONOMY.turns)
    counts = Counter(s.turns for s in plan(TAXONOMY, 9 * 10 * total, 0))
    assert all(abs(counts[entry.turns] - 90 * entry.weight) <= 9 for entry in TAXONOMY.turns)
    assert {s.turns for s in plan(TAXONOMY, 20, 0, Deal(turns=3))} == {3}


def test_every_scenario_takes_openers_style_and_answer_that_suit_it() -> None:
    for scenario in plan(TAXONOMY, 400, 11, BOTH):
        category = TAXONOMY.category(scenario.category)
        topic = next(topic for topic in category.topics if topic.name == scenario.topic)
        assert set(scenario.openers) <= set(topic.pool(scenario.language, scenario.intent))
        assert len(set(scenario.openers)) == len(scenario.openers)
        form = "harmful" if scenario.pair else scenario.intent
        assert scenario.style in {style.name for style in TAXONOMY.styles_for(category, form, scenario.turns)}
        assert scenario.answer in {a.name for a in TAXONOMY.answers_for(category, topic.name, scenario.intent)}


def test_a_style_with_steps_is_dealt_only_where_there_are_turns_to_climb() -> None:
    scenarios = plan(TAXONOMY, 400, 2)
    climbing = [s for s in scenarios if TAXONOMY.style(s.style).steps]
    assert len(climbing) > 40
    assert min(s.turns for s in climbing) == 2


def test_the_worse_the_harm_the_less_is_explained() -> None:
    answers: dict[int, set[str]] = {1: set(), 3: set()}
    for s in plan(TAXONOMY, 900, 2):
        category = TAXONOMY.category(s.category)
        topic = next(topic for topic in category.topics if topic.name == s.topic)
        severity = topic.severity or category.severity
        if s.intent == "harmful" and severity in answers:
            answers[severity].add(s.answer)
    assert answers[1] == {"safe_completion", "refusal_with_alternative"}
    assert answers[3] == {"short_refusal", "policy_citing", "refusal_with_alternative"}


def test_redraw_keeps_the_place_in_the_plan_and_changes_who_asks() -> None:
    first = next(s for s in plan(TAXONOMY, 60, 4) if not s.pair)
    second = redraw(TAXONOMY, 4, first)
    place = ("index", "category", "intent", "language", "turns", "topic", "answer")
    assert [getattr(first, key) for key in place] == [getattr(second, key) for key in place]
    assert second.draw == 1
    assert (first.persona, first.traits) != (second.persona, second.traits)
    assert second == redraw(TAXONOMY, 4, first)
    assert second.id != first.id


def test_a_redrawn_twin_keeps_the_words_that_it_shares_with_the_other() -> None:
    twin = next(s for s in plan(TAXONOMY, 60, 4) if s.pair)
    again = redraw(TAXONOMY, 4, twin)
    assert (again.pair, again.openers) == (twin.pair, twin.openers)
    assert (again.style, again.persona, again.traits) != (twin.style, twin.persona, twin.traits)


def test_redraw_without_fresh_openers_uses_the_old_ones() -> None:
    taxonomy = TAXONOMY.model_copy(
        update={
            "categories": (
                TAXONOMY.categories[0].model_copy(
                    update={
                        "intents": {"distress": 1},
                        "topics": (),
                        "openers": {"en": {"distress": ("I feel lost.",)}},
                    }
                ),
            )
        }
    )
    assert redraw(taxonomy, 0, plan(taxonomy, 1, 0)[0]).openers == ("I feel lost.",)


def test_top_up_goes_on_where_the_plan_ends_and_keeps_the_intents_balanced() -> None:
    planned = plan(TAXONOMY, 9 * 4, 6)
    added = top_up(TAXONOMY, {"hate_or_harassment": 6, "self_harm_support": 2}, planned, 6)
    assert [s.index for s in added] == list(range(36, 44))
    assert Counter(s.category for s in added) == {"hate_or_harassment": 6, "self_harm_support": 2}
    intents = balance([*planned, *added])["hate_or_harassment"]
    assert intents == {"harmful": 3, "borderline": 1, "benign": 6, "distress": 0}
    again = top_up(TAXONOMY, {"hate_or_harassment": 1}, [*planned, *added], 6)
    assert [s.index for s in again] == [44]


def test_balance_counts_a_redrawn_scenario_once() -> None:
    first = plan(TAXONOMY, 1, 0)[0]
    counts = balance([first, redraw(TAXONOMY, 0, first)])
    assert sum(counts[first.category].values()) == 1


@pytest.mark.parametrize(
    ("count", "deal", "message"),
    [
        (0, Deal(), "0 conversations cannot be planned"),
        (3, Deal(("e",)), "no language 'e'"),
        (3, Deal(()), "no language was chosen"),
        (3, Deal(turns=0), "cannot have 0 turns"),
        (3, Deal(shares={"harmfull": 1}), "no share 'harmfull'"),
        (3, Deal(shares={"ordinary": 1}), "no share of harmful or benign"),
    ],
)
def test_an_impossible_plan_says_why(count: int, deal: Deal, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(TAXONOMY, count, 0, deal)


def test_top_up_of_an_unknown_category_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'hate_or_harassment'"):
        top_up(TAXONOMY, {"hate_or_harrassment": 2}, [], 0)


def uses(scenarios: list[Scenario], taxonomy: Taxonomy = TAXONOMY) -> dict[tuple[str, str, str], list[int]]:
    """How often each opener of a category, intent and language leads."""
    led = Counter((s.category, s.intent, s.language, s.openers[0]) for s in scenarios)
    cells = {(s.category, s.intent, s.language) for s in scenarios}
    return {
        (name, intent, language): [
            led[name, intent, language, opener] for opener in taxonomy.category(name).pool(language, intent)
        ]
        for name, intent, language in cells
    }


@pytest.mark.parametrize("count", [180, 600, 1730])
@pytest.mark.parametrize("shares", [None, {"harmful": 1, "benign": 1}, {"harmful": 3, "benign": 1}])
@pytest.mark.parametrize("languages", [("en",), ("en", "zh")])
def test_no_opener_leads_more_often_than_its_share(
    languages: tuple[str, ...], shares: dict[str, float] | None, count: int
) -> None:
    for cell, times in uses(plan(TAXONOMY, count, 5, Deal(languages, shares=shares))).items():
        assert max(times) - min(times) <= 1, (cell, times)


def test_six_hundred_and_thirty_are_balanced_exactly_every_pair_is_whole_and_every_topic_is_there() -> None:
    scenarios = plan(TAXONOMY, 630, 9, BOTH)
    for category in TAXONOMY.categories:
        own = [s for s in scenarios if s.category == category.name]
        assert Counter(s.intent for s in own) == {i: 7 * weight for i, weight in category.intents.items()}
        assert {s.topic for s in own} == {topic.name for topic in category.topics}
        of_harm = {(s.topic, s.language) for s in own if s.intent == "harmful"}
        assert len(of_harm) >= 12, "topics come up in both languages, not one in each"
    pairs: dict[str, list[Scenario]] = {}
    for s in scenarios:
        if s.pair:
            pairs.setdefault(s.pair, []).append(s)
    assert len(pairs) == 7 * sum(min(c.intents["harmful"], c.intents["benign"]) for c in TAXONOMY.categories)
    for members in pairs.values():
        assert sorted(s.intent for s in members) == ["benign", "harmful"]
        harmful, benign = sorted(members, key=lambda s: s.intent, reverse=True)
        same = ("category", "language", "turns", "topic", "style", "persona")
        assert [getattr(harmful, key) for key in same] == [getattr(benign, key) for key in same]
        topic = next(t for t in TAXONOMY.category(harmful.category).topics if t.name == harmful.topic)
        place = topic.pool(harmful.language, "harmful").index(harmful.openers[0])
        assert topic.pool(harmful.language, "benign")[place] == benign.openers[0], "the opener's own twin"


@pytest.mark.parametrize("count", [60, 90, 300, 600, 630])
def test_a_plan_of_a_usual_size_ends_between_pairs(count: int) -> None:
    pairs = Counter(s.pair for s in plan(TAXONOMY, count, 1, BOTH) if s.pair)
    assert set(pairs.values()) == {2}


def test_a_plan_of_any_size_parts_at_most_one_pair_a_category() -> None:
    scenarios = plan(TAXONOMY, 200, 1)
    for count in range(1, 200):
        pairs = Counter(s.pair for s in scenarios[:count] if s.pair)
        assert sum(members == 1 for members in pairs.values()) <= 9


def test_without_twins_nothing_is_paired() -> None:
    assert not any(s.pair for s in plan(TAXONOMY, 90, 0, Deal(twins=False)))


@pytest.mark.parametrize(
    ("shares", "count", "wanted"),
    [
        ({"harmful": 0.6, "benign": 0.4}, 900, {"harmful": 540, "benign": 360, "ordinary": 0}),
        ({"harmful": 45, "benign": 45, "ordinary": 10}, 600, {"harmful": 270, "benign": 270, "ordinary": 60}),
        ({"harmful": 1, "benign": 2}, 540, {"harmful": 180, "benign": 360, "ordinary": 0}),
    ],
)
def test_shares_are_met(shares: dict[str, float], count: int, wanted: dict[str, int]) -> None:
    scenarios = plan(TAXONOMY, count, 3, Deal(shares=shares))
    found = Counter(
        "ordinary" if s.category == "ordinary" else "harmful" if s.intent in ("harmful", "distress") else "benign"
        for s in scenarios
    )
    for side, number in wanted.items():
        assert abs(found[side] - number) <= 9, (side, found)
    risks = Counter(s.category for s in scenarios if s.category != "ordinary")
    assert max(risks.values()) - min(risks.values()) <= 1


def test_a_top_up_goes_on_with_the_openers_where_the_plan_ended() -> None:
    name = TAXONOMY.categories[1].name
    scenarios = plan(TAXONOMY, 90, 5)
    both = [*scenarios, *top_up(TAXONOMY, {name: 90}, scenarios, 5)]
    for cell, times in uses(both).items():
        assert cell[0] != name or max(times) - min(times) <= 1


def test_a_taxonomy_without_topics_is_dealt_with_its_categories_own_openers() -> None:
    taxonomy = load_taxonomy(EARLIER)
    scenarios = plan(taxonomy, 180, 1, BOTH)
    assert {s.topic for s in scenarios} == {""}
    assert all(max(times) - min(times) <= 1 for times in uses(scenarios, taxonomy).values())


@pytest.mark.parametrize(("way", "known"), [("place", "b0c93247e52e82b9"), ("opener", "84dc8a5a505061a8")])
def test_a_plan_of_an_earlier_version_is_dealt_as_it_was(way: str, known: str) -> None:
    """Drawn by those versions: a run that was begun so must go on with the same scenarios."""
    drawn = plan(load_taxonomy(EARLIER), 60, 3, Deal(("en", "zh"), way=way))  # type: ignore[arg-type]
    assert content_hash([s.model_dump(mode="json") for s in drawn])[:16] == known


def test_the_ids_of_earlier_scenarios_are_what_they_were() -> None:
    drawn = plan(load_taxonomy(EARLIER), 60, 3, Deal(("en", "zh"), way="opener"))
    assert content_hash([s.id for s in drawn])[:16] == "48ab765c1819e033"
