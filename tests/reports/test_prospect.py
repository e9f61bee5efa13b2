"""What decides about a set's effect is counted over what is kept, and pairs by how both members stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.records import Conversation, Intent, Message, Scenario
from safetyqc.reports.advice import advise, tell_mix
from safetyqc.reports.hints import Hints
from safetyqc.reports.summary import summarise
from safetyqc.results.prospect import MEASURED, Prospect
from safetyqc.results.report import Action, Summary
from safetyqc.store import Store
from safetyqc.store.roles import read_cast
from tests.support.runs import RUBRIC, judgment

REFUSAL = "I won't help with that, because somebody would be hurt. A counsellor can listen, number {n}."
HELP = "Press the button on the left and wait a minute, number {n}."


def conversation(
    n: int, intent: Intent, answers: tuple[str, ...] = (), *, pair: str = "", category: str = "general_safety"
) -> Conversation:
    said = answers or (REFUSAL if intent == "harmful" else HELP,)
    messages = [
        message
        for at, answer in enumerate(said)
        for message in (
            Message(role="user", content=f"Question {n} of kind {intent}, part {at}."),
            Message(role="assistant", content=answer.format(n=n)),
        )
    ]
    scenario = Scenario(index=n, category=category, intent=intent, turns=len(said), pair=pair)
    return Conversation(
        id=f"c_{n:04d}",
        messages=tuple(messages),
        category=category,
        intent=intent,
        origin="generated",
        author="openai/a",
        scenario=scenario,
    )


def summary_of(
    folder: Path, conversations: list[Conversation], failed: set[str] = frozenset(), **plan: object
) -> Summary:  # type: ignore[assignment]
    with Store.create(folder / "r") as store:
        store.add_conversations(conversations)
        store.set_meta("rubric", RUBRIC)
        store.set_meta("deciding_judge", "local")
        facts = {"count": len(conversations), "seed": 0, "per_category": {}, "per_intent": {}}
        store.set_meta("plan", facts | plan)
        store.put_judgments(
            [judgment(c, **({"no_dangerous_steps": "fail"} if c.id in failed else {})) for c in conversations]
        ).result()
        return summarise(store)


def prospect_of(folder: Path, conversations: list[Conversation], failed: set[str] = frozenset()) -> Prospect:  # type: ignore[assignment]
    found = summary_of(folder, conversations, failed).prospect
    assert found is not None
    return found


def many(harmful: int, benign: int, ordinary: int = 0) -> list[Conversation]:
    kinds: list[tuple[Intent, str]] = [
        *[("harmful", "general_safety")] * harmful,
        *[("benign", "general_safety")] * benign,
        *[("benign", "ordinary")] * ordinary,
    ]
    return [conversation(n, intent, category=category) for n, (intent, category) in enumerate(kinds)]


def test_kinds_and_refusals_are_counted_over_what_is_kept(tmp_path: Path) -> None:
    answered = conversation(6, "harmful", ("Here is some background on locks and the law, number {n}.",))
    found = prospect_of(tmp_path, [*many(3, 2, 1), answered], failed={"c_0000"})
    assert (found.harmful, found.benign, found.ordinary, found.unknown) == (3, 2, 1, 0)
    assert found.refusals == 2, "an answer to a harmful request need not refuse"
    assert found.refusal_share == pytest.approx(2 / 6)
    assert found.ordinary_share == pytest.approx(1 / 6)


def test_a_pair_is_right_only_when_both_of_it_are(tmp_path: Path) -> None:
    pairs = [conversation(n, "harmful" if n % 2 else "benign", pair=f"p_{n // 2}") for n in range(8)]
    found = prospect_of(tmp_path, [*pairs, conversation(8, "harmful", pair="p_9")], failed={"c_0000", "c_0003"})
    assert found.twins is not None
    assert (found.twins.right.passed, found.twins.right.n) == (2, 4)
    assert found.twins.kept == 2


def test_a_place_that_was_drawn_again_stands_as_its_kept_draw(tmp_path: Path) -> None:
    first = conversation(0, "harmful", pair="p_0")
    again = conversation(0, "harmful", ("I can't do that; a lawyer could tell you more, second draw.",), pair="p_0")
    twin = conversation(1, "benign", pair="p_0")
    found = prospect_of(tmp_path, [first, again.model_copy(update={"id": "c_0100"}), twin], failed={"c_0000"})
    assert found.twins is not None
    assert (found.twins.kept, found.twins.right.passed) == (1, 1)


def test_failures_are_told_by_the_exchange_that_failed(tmp_path: Path) -> None:
    three = [
        conversation(n, "harmful", (REFUSAL, "Still no, {n}.", "Fine, then do it at night, {n}.")) for n in range(4)
    ]
    found = prospect_of(tmp_path, [*three, conversation(9, "harmful")], failed={"c_0001", "c_0002"})
    assert [(t.exchange, t.reached, t.failed) for t in found.turns] == [(1, 5, 0), (2, 4, 0), (3, 4, 2)]


@pytest.mark.parametrize(
    ("harmful", "benign", "ordinary", "name"),
    [
        (90, 10, 0, "a generated set as it passed"),
        (100, 0, 0, "harmful alone"),
        (62, 38, 0, "two look-alikes for three harmful"),
        (30, 60, 0, "twice as many look-alikes"),
        (50, 10, 40, "with the model's own ordinary answers"),
    ],
)
def test_a_set_is_set_beside_the_measured_one_of_the_nearest_mix(
    harmful: int, benign: int, ordinary: int, name: str
) -> None:
    found = Prospect(harmful=harmful, benign=benign, ordinary=ordinary).nearest
    assert found in MEASURED
    assert found is not None
    assert found.name == name


def test_nothing_is_said_of_a_set_of_which_nothing_is_known() -> None:
    assert Prospect(unknown=90, harmful=5).nearest is None
    assert tell_mix(Prospect()) == ""


def advice_of(
    folder: Path, conversations: list[Conversation], failed: set[str] = frozenset(), **plan: object
) -> list[Action]:  # type: ignore[assignment]
    summary = summary_of(folder, conversations, failed, **plan)
    with Store.read(folder / "r") as store:
        return list(advise(summary, Hints(read_cast(store), folder / "r", " --run r")))


def test_a_set_of_refusals_is_warned_of_with_what_was_measured_and_the_command_that_mends_it(tmp_path: Path) -> None:
    [warning, hint] = advice_of(tmp_path, many(60, 10))
    assert warning.severity == "warning"
    assert "60 of 70 kept are harmful" in warning.problem
    assert "119 harmful, 24 benign made SmolLM2-135M refuse 81% of unsafe and 75% of safe questions" in warning.problem
    assert "--shares benign=1 -n 110" in warning.command
    assert "--mix GENERAL_FILE --safety-share 0.1" in hint.command


def test_where_the_plan_was_balanced_the_kept_are_brought_to_it(tmp_path: Path) -> None:
    plan = {"per_category": {"general_safety": 90}, "per_intent": {"harmful": 30, "benign": 60}}
    [warning, *_] = advice_of(tmp_path, many(30, 60), {f"c_{n:04d}" for n in range(40, 90)}, **plan)
    assert "30 of 40 kept are harmful" in warning.problem
    assert "run" in warning.command
    assert "--kept 90" in warning.command


def test_a_plan_of_too_much_harm_needs_another_run(tmp_path: Path) -> None:
    plan = {"per_category": {"general_safety": 70}, "per_intent": {"harmful": 60, "benign": 10}}
    [warning, *_] = advice_of(tmp_path, many(60, 10), **plan)
    assert "--run NEW_RUN --shares harmful=1,benign=2" in warning.command


def test_too_many_ordinary_requests_are_warned_of(tmp_path: Path) -> None:
    [warning] = advice_of(tmp_path, many(30, 20, 40))
    assert "44% of what is kept are ordinary" in warning.problem
    assert "untrained it refuses 4%" in warning.problem


def test_a_balanced_set_is_only_told_to_be_mixed(tmp_path: Path) -> None:
    assert [a.severity for a in advice_of(tmp_path, many(30, 60))] == ["hint"]


def test_a_small_set_is_not_judged_by_its_mix(tmp_path: Path) -> None:
    assert advice_of(tmp_path, many(10, 0)) == []


def test_lonely_twins_and_late_failures_are_told(tmp_path: Path) -> None:
    late = ("I won't, {n}.", "Still no, {n}.", "Fine, do it at night, {n}.")
    harmful = [conversation(n, "harmful", late, pair=f"p_{n}") for n in range(40)]
    benign = [conversation(40 + n, "benign", pair=f"p_{n}") for n in range(30)]
    told = advice_of(tmp_path, [*harmful, *benign], {f"c_{n:04d}" for n in range(28)}, pairs=30)
    problems = " / ".join(a.problem for a in told)
    assert "only 2 of 12 kept harmful requests have their benign twin" in problems
    assert "70% of those that reach exchange 3 fail there, 0% in the first" in problems


def test_safe_completions_that_a_strict_rubric_fails_are_told_with_the_rubric_made_for_them(tmp_path: Path) -> None:
    planned = conversation(0, "harmful", ("Here is how locks protect a home; picking one I leave out, {n}.",))
    scenario = planned.scenario.model_copy(update={"answer": "safe_completion"}) if planned.scenario else None
    completion = planned.model_copy(update={"scenario": scenario})
    with Store.create(tmp_path / "r") as store:
        store.add_conversations([completion, conversation(1, "harmful")])
        store.set_meta("rubric", RUBRIC)
        store.set_meta("deciding_judge", "local")
        store.put_judgments(
            [judgment(completion, strict_refusal="fail"), judgment(conversation(1, "harmful"), strict_refusal="fail")]
        ).result()
        summary = summarise(store)
        [hint] = list(advise(summary, Hints(read_cast(store), tmp_path / "r", " --run r")))
    assert hint.problem.startswith("1 planned safe completion failed")
    assert "--rubric safety-completion" in hint.command
