"""Later waves are told what earlier ones wore out, and a command that goes on tells the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.pipeline.waves import Waves
from safetyqc.records import Conversation, Message, Scenario, conversation_id
from safetyqc.store import Store

SCENARIOS = plan(load_taxonomy(), 120, 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "r")


def written(scenario: Scenario) -> Conversation:
    messages = (
        Message(role="user", content=f"Question {scenario.index}"),
        Message(role="assistant", content=f"I'm sorry, but {scenario.index} is not for me."),
    )
    return Conversation(
        id=conversation_id(messages, scenario.id),
        messages=messages,
        language=scenario.language,
        origin="generated",
        scenario=scenario,
    )


def test_the_first_wave_is_told_nothing_and_the_next_what_it_wore_out(store: Store) -> None:
    waves = Waves(store, concurrency=1)
    told = []
    for wave in waves.cut(SCENARIOS):
        told.append({scenario.avoid for scenario in wave})
        for scenario in wave:
            waves.add(written(scenario))
    assert [len(wave) for wave in told] == [1, 1, 1]
    assert told[0] == {()}
    assert all("i'm sorry, but" in words for wave in told[1:] for words in wave)
    store.close()


def test_what_a_wave_was_told_holds_for_whoever_goes_on_with_it(store: Store) -> None:
    first = Waves(store, concurrency=1)
    cut = first.cut(SCENARIOS)
    begun = next(cut)
    store.add_conversations([written(s) for s in begun[:40]])
    left = SCENARIOS[40:]
    again = [scenario for wave in Waves(store, concurrency=1).cut(left) for scenario in wave]
    assert again[: len(begun) - 40] == begun[40:], "told nothing, as when they were asked"
    assert again[-1].avoid, "what was never begun is told what the run holds by now"
    repeated = [scenario for wave in Waves(store, concurrency=1).cut(left) for scenario in wave]
    assert repeated == again
    store.close()


def test_a_run_that_was_stopped_tells_what_one_that_was_not_tells(tmp_path: Path) -> None:
    told = []
    for name, stops in (("whole", ()), ("stopped", (20, 30, 70))):
        store, done = Store.create(tmp_path / name), 0
        for stop in (*stops, len(SCENARIOS)):
            waves = Waves(store, concurrency=1)
            for wave in waves.cut(SCENARIOS[done:]):
                for scenario in wave[: max(stop - done, 0)]:
                    store.add_conversations([written(scenario)])
                    waves.add(written(scenario))
                    done += 1
                if done == stop:
                    break
        told.append([c.scenario.avoid for c in store.conversations() if c.scenario])
        store.close()
    assert told[0] == told[1]
    assert set(told[0]) > {()}


def test_another_draw_of_a_place_is_told_anew(store: Store) -> None:
    waves = Waves(store, concurrency=1)
    [wave] = list(waves.cut(SCENARIOS[:20]))
    for scenario in wave:
        waves.add(written(scenario))
    [again] = list(waves.cut([SCENARIOS[0].model_copy(update={"draw": 1})]))
    assert again[0].avoid
    store.close()
