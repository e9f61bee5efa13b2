"""So many are kept of each category, by drawing again what did not pass, and never for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, GenerateSettings
from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.pipeline.keeping import MOST_DRAWS, look
from safetyqc.pipeline.plan import kept_counts, settle_kept
from safetyqc.pipeline.stages import redrawn
from safetyqc.pipeline.tasks import Writing
from safetyqc.records import Conversation, Failure, Message, Scenario, conversation_id
from safetyqc.store import Store
from safetyqc.store.standing import read_standings
from safetyqc.testing.server import FaultServer
from tests.support.runs import RUBRIC, judgment

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
TAXONOMY = load_taxonomy()
TASK = Writing(Config(), TAXONOMY)
SCENARIOS = plan(TAXONOMY, 18, 0)
WANTED = Counter(s.category for s in SCENARIOS)
FIRST = SCENARIOS[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "r")
    made.set_meta("rubric", RUBRIC)
    made.set_meta("deciding_judge", "local")
    return made


def add(store: Store, scenario: Scenario, *, passes: bool | None) -> None:
    messages = (
        Message(role="user", content=f"Question {scenario.index}, draw {scenario.draw}"),
        Message(role="assistant", content=f"Answer {scenario.index}, draw {scenario.draw}"),
    )
    conversation = Conversation(
        id=conversation_id(messages, scenario.id),
        messages=messages,
        category=scenario.category,
        intent=scenario.intent,
        origin="generated",
        scenario=scenario,
    )
    store.add_conversations([conversation])
    if passes is not None:
        store.put_judgments([judgment(conversation, **({} if passes else {"no_dangerous_steps": "fail"}))]).result()


def test_what_was_never_drawn_is_drawn_and_what_is_kept_or_waits_is_left_alone(store: Store) -> None:
    add(store, SCENARIOS[0], passes=True)
    add(store, SCENARIOS[1], passes=None)
    goal = look(store, TASK, SCENARIOS, WANTED)
    assert {s.index for s in goal.todo} == set(range(2, 18))
    assert goal.kept.total() == 1
    assert "waits for a verdict: 1" in " ".join(goal.tell().told)
    store.close()


def test_a_place_that_failed_is_drawn_again_at_its_next_draw(store: Store) -> None:
    add(store, FIRST, passes=False)
    refused = Failure(
        stage="generate", record_id=f"scenario-{FIRST.index}", kind="refused_by_model", reason="", attempt=1
    )
    lost = Failure(stage="generate", record_id="scenario-1", kind="provider_error", reason="", attempt=0)
    store.add_failures([refused, lost]).result()
    todo = {s.index: s for s in look(store, TASK, SCENARIOS, WANTED).todo}
    assert todo[FIRST.index] == redrawn(TASK, FIRST, 2)
    assert todo[1] == SCENARIOS[1], "a network error is no draw"
    store.close()


def test_a_place_is_given_up_and_why_is_told(store: Store) -> None:
    scenario = FIRST
    for _ in range(MOST_DRAWS):
        add(store, scenario, passes=False)
        scenario = redrawn(TASK, scenario, 1)
    goal = look(store, TASK, SCENARIOS, WANTED)
    assert FIRST.index not in {s.index for s in goal.todo}
    assert f"{FIRST.category}: 0 of 2 kept (given up after {MOST_DRAWS} draws: 1)" in goal.tell().told
    store.close()


def test_a_category_that_has_enough_draws_no_more(store: Store) -> None:
    add(store, FIRST, passes=True)
    goal = look(store, TASK, SCENARIOS, Counter({FIRST.category: 1}))
    assert goal.todo == []
    assert goal.tell().told == ()
    assert goal.tell().done == 1
    store.close()


def test_the_cap_on_candidates_stops_all_categories_at_one_height(store: Store) -> None:
    task = Writing(Config(generate=GenerateSettings(max_candidates=9)), TAXONOMY)
    goal = look(store, task, SCENARIOS, WANTED)
    assert set(Counter(s.category for s in goal.todo).values()) == {1}
    assert "--max-candidates reached: 1" in " ".join(goal.tell().told)
    store.close()


def test_the_plan_holds_as_many_as_are_to_be_kept_and_grows_with_the_wish(store: Store) -> None:
    wanted, scenarios = settle_kept(store, TAXONOMY, GenerateSettings(kept=5))
    assert Counter(s.category for s in scenarios) == wanted == dict.fromkeys(wanted, 5)
    assert settle_kept(store, TAXONOMY, GenerateSettings(kept=5))[1] == scenarios
    more = settle_kept(store, TAXONOMY, GenerateSettings(kept=6))[1]
    assert more[:45] == scenarios
    assert len(more) == 54
    store.close()


def test_ordinary_requests_are_kept_by_their_share() -> None:
    settings = GenerateSettings(kept=10, shares={"harmful": 0.5, "benign": 0.4, "ordinary": 0.1})
    assert kept_counts(TAXONOMY, settings)["ordinary"] == 10


def line(server: FaultServer, *words: object) -> list[object]:
    asked = ["run", "--rounds", "0", "-m", "openai/x", "--judge", "openai/x", "--api-base", server.base_url]
    return [*asked, *words]


@pytest.fixture
def two(tmp_path: Path) -> str:
    """A taxonomy of which only two categories are dealt."""
    off = [f"  - {{name: {c.name}, weight: 0}}" for c in TAXONOMY.categories[2:]]
    (tmp_path / "two.yaml").write_text("\n".join(["extends: safetyqc", "categories:", *off]) + "\n")
    return "two.yaml"


def test_a_run_keeps_exactly_what_was_asked_for_and_asks_nothing_again(
    cli: Cli, serve: Serve, tmp_path: Path, two: str
) -> None:
    server = serve(faults={"refusal": 0.1})
    words = line(server, "--kept", 5, "--taxonomy", two)
    ended = cli(*words)
    assert ended.code == 0, ended.err
    assert "keep: 10 done" in ended.err
    with Store.read(tmp_path / "safetyqc-run") as store:
        standings = read_standings(store)
        drawn = list(store.conversations())
        kept = [c for c in drawn if standings[c.id].status == "kept"]
        planned = store.meta("plan")["cells"]
    assert Counter(c.category for c in kept) == dict.fromkeys(planned, 5)
    for name, cells in planned.items():
        found = Counter(c.intent for c in kept if c.category == name)
        assert found == {intent: count for intent, count in cells.items() if count}, "in the plan's own balance"
    assert len(drawn) > len(kept), "the made-up judge fails some, and they were drawn again"
    asked = server.witness.received.total()
    for again in (words, line(server, "--kept", 5)):  # the run remembers its taxonomy
        assert "keep: 10 done" in cli(*again).err
    assert server.witness.received.total() == asked


def test_a_cap_that_is_too_low_is_told_by_category(cli: Cli, serve: Serve, two: str) -> None:
    server = serve()
    words = line(server, "--kept", 4, "--max-candidates", 8, "--taxonomy", two)
    ended = cli(*words)
    assert ended.code == 0
    assert "--max-candidates reached" in ended.err
    assert "8 candidates were drawn" in ended.err
    asked = server.witness.received.total()
    assert "--max-candidates reached" in cli(*words).err
    assert server.witness.received.total() == asked


def test_a_budget_that_is_reached_is_told_by_category_and_more_of_it_goes_on(
    cli: Cli, serve: Serve, tmp_path: Path, two: str
) -> None:
    server = serve()
    (tmp_path / "priced.yaml").write_text("models:\n  prices: {openai/x: [1.0, 1.0]}\n")
    words = line(server, "--kept", 3, "--taxonomy", two, "--config", "priced.yaml")
    ended = cli(*words, "--max-cost", "0.015")
    assert ended.code == 0
    assert "kept (--max-cost reached)" in ended.err
    assert "go on with a higher --max-cost" in ended.err
    assert "keep: 6 done" in cli(*words, "--max-cost", "1").err


@pytest.mark.parametrize("words", [["--kept", 2, "-n", 9], ["data.jsonl", "--kept", 2]])
def test_two_goals_are_refused_before_anything_is_asked(cli: Cli, tmp_path: Path, words: list[object]) -> None:
    (tmp_path / "data.jsonl").write_text('[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]\n')
    ended = cli("run", *words, "-m", "local")
    assert ended.code == 2
    assert "--kept" in ended.err
    assert not (tmp_path / "safetyqc-run").exists()
