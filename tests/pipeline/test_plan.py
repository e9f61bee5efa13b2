"""A run's plan is settled once: it may grow, and is never mixed with another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from safetyqc.config import DEFAULT_COUNT, Config, GenerateSettings
from safetyqc.errors import RunError
from safetyqc.generate.dealing import Deal, Way
from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import EARLIER, load_taxonomy
from safetyqc.pipeline.plan import as_planned, close_top_ups, hash_of, settle_plan, taxonomy_of
from safetyqc.store import Store

TAXONOMY = load_taxonomy()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "r")


def test_a_plan_grows_and_begins_as_before(store: Store) -> None:
    first = settle_plan(store, TAXONOMY, GenerateSettings(count=9))
    assert settle_plan(store, TAXONOMY, GenerateSettings(count=18))[:9] == first
    assert store.meta("plan")["count"] == 18
    store.close()


@pytest.mark.parametrize(("told", "way"), [({}, "place"), ({"even_openers": True}, "opener")])
def test_a_run_of_an_earlier_version_goes_on_as_it_was_dealt(store: Store, told: dict[str, bool], way: Way) -> None:
    old = load_taxonomy(EARLIER)
    scenarios = plan(old, 60, 0, Deal(way=way))
    facts = {"seed": 0, "languages": ["en"], "turns": None, "taxonomy": "914b7e39e1b02eee", "base": 60, "top_ups": []}
    store.set_meta("plan", facts | told)
    settings = GenerateSettings(count=120)
    assert hash_of(taxonomy_of(store, settings)) == "914b7e39e1b02eee", "the bundled taxonomy of that version"
    grown = settle_plan(store, taxonomy_of(store, settings), settings)
    assert grown[:60] == scenarios
    assert grown == plan(old, 120, 0, Deal(way=way))
    assert settle_plan(store, taxonomy_of(store, settings), settings) == grown, "and remembers how"
    store.close()


def test_a_new_run_is_planned_by_the_bundled_taxonomy_with_twins(store: Store) -> None:
    settings = GenerateSettings(count=90)
    scenarios = settle_plan(store, taxonomy_of(store, settings), settings)
    assert hash_of(taxonomy_of(store, settings)) == hash_of(TAXONOMY)
    assert any(s.pair for s in scenarios)
    store.close()


def test_what_a_command_does_not_say_holds_as_the_run_was_begun(store: Store) -> None:
    first = settle_plan(store, TAXONOMY, GenerateSettings(count=90, twins=False, shares={"harmful": 1, "benign": 2}))
    assert settle_plan(store, TAXONOMY, GenerateSettings()) == first
    store.close()


def test_a_smaller_or_unnamed_count_keeps_what_was_planned(store: Store) -> None:
    settle_plan(store, TAXONOMY, GenerateSettings(count=9))
    for count in (None, 3):
        assert len(settle_plan(store, TAXONOMY, GenerateSettings(count=count))) == 9
    store.close()


def test_an_unnamed_count_of_a_new_run_is_the_default(store: Store) -> None:
    assert len(settle_plan(store, TAXONOMY, GenerateSettings())) == DEFAULT_COUNT
    store.close()


def test_a_top_up_adds_to_its_category_and_a_run_of_files_gets_nothing_else(store: Store) -> None:
    topped = settle_plan(store, TAXONOMY, GenerateSettings(), {"drugs_or_weapons": 4})
    assert Counter(s.category for s in topped) == {"drugs_or_weapons": 4}
    more = settle_plan(store, TAXONOMY, GenerateSettings(), {"general_safety": 2})
    assert more[:4] == topped
    assert len({s.index for s in more}) == 6
    store.close()


def test_a_topped_up_plan_cannot_grow_at_its_beginning(store: Store) -> None:
    settle_plan(store, TAXONOMY, GenerateSettings(count=9))
    settle_plan(store, TAXONOMY, GenerateSettings(count=9), {"drugs_or_weapons": 1})
    assert len(settle_plan(store, TAXONOMY, GenerateSettings(count=9))) == 10
    with pytest.raises(RunError, match="topped up"):
        settle_plan(store, TAXONOMY, GenerateSettings(count=18))
    store.close()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"languages": ("zh",)}, {"turns": 1}, {"twins": False}, {"shares": {"benign": 1}}]
)
def test_another_draw_is_refused_and_named(store: Store, other: dict[str, object]) -> None:
    settle_plan(store, TAXONOMY, GenerateSettings(count=9))
    with pytest.raises(RunError, match=next(iter(other))):
        settle_plan(store, TAXONOMY, GenerateSettings.model_validate({"count": 9, **other}))
    store.close()


def test_what_is_not_said_again_stays_as_the_run_was_begun(store: Store) -> None:
    begun = settle_plan(store, TAXONOMY, GenerateSettings(count=6, languages=("zh",), turns=1))
    assert settle_plan(store, TAXONOMY, GenerateSettings()) == begun
    more = settle_plan(store, TAXONOMY, GenerateSettings(), {"general_safety": 1})
    assert {(s.language, s.turns) for s in more} == {("zh", 1)}
    store.close()


def test_seed_and_taxonomy_file_are_those_of_the_run_where_none_is_named(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(EARLIER.read_text())
    begun = GenerateSettings(count=6, seed=7, taxonomy=file)
    first = settle_plan(store, taxonomy_of(store, begun), begun)
    later = as_planned(store, Config()).generate
    assert settle_plan(store, taxonomy_of(store, later), later) == first
    other = as_planned(store, Config.model_validate({"generate": {"seed": 0}})).generate
    with pytest.raises(RunError, match="seed 7, not 0"):
        settle_plan(store, taxonomy_of(store, other), other)
    file.write_text(file.read_text() + "\n# the same taxonomy\n")
    assert settle_plan(store, taxonomy_of(store, later), later) == first
    store.close()


def test_a_top_up_is_gone_on_with_until_it_is_written_and_then_asks_for_as_many_again(store: Store) -> None:
    wanted = {"drugs_or_weapons": 4}
    begun = settle_plan(store, TAXONOMY, GenerateSettings(), wanted)
    assert settle_plan(store, TAXONOMY, GenerateSettings(), wanted) == begun
    other = settle_plan(store, TAXONOMY, GenerateSettings(), {"general_safety": 1})
    assert settle_plan(store, TAXONOMY, GenerateSettings(), wanted) == other
    close_top_ups(store)
    assert len(settle_plan(store, TAXONOMY, GenerateSettings(), wanted)) == 9
    store.close()
