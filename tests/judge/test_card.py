from __future__ import annotations

from collections.abc import Sequence

import pytest

from safetyqc.judge.card import Probed, count_flips, make_card
from safetyqc.records import Conversation, Judgment, Label, Outcome, Score
from safetyqc.results.card import AgreementRow, JudgeCard, Training
from safetyqc.results.compare import POOLED
from safetyqc.results.statistics import wilson_interval
from safetyqc.testing import conversation

NAMES: dict[str, Outcome] = {"p": "pass", "f": "fail", "n": "na", "u": "unscored"}


def said(cells: str, criterion: str = "a", probabilities: Sequence[float | None] = ()) -> list[Judgment]:
    return [
        Judgment(
            conversation_id=f"c{n}",
            judge="j",
            rubric="r",
            rubric_hash="h",
            passed=None,
            scores=(
                Score(
                    criterion=criterion,
                    outcome=NAMES[cell],
                    unscored_reason="unsure" if cell == "u" else None,
                    probability=probabilities[n] if probabilities else None,
                ),
            ),
        )
        for n, cell in enumerate(cells)
    ]


def labels(cells: str, criterion: str = "a") -> list[Label]:
    return [
        Label.model_validate({"conversation_id": f"c{n}", "criterion": criterion, "outcome": NAMES[cell]})
        for n, cell in enumerate(cells)
        if cell in "pfn"
    ]


def texts(count: int, answers: Sequence[str] = (), **fields: object) -> list[Conversation]:
    return [
        conversation(f"question {n}", answers[n] if answers else "answer", id=f"c{n}").model_copy(update=fields)
        for n in range(count)
    ]


def card(given: list[Judgment], truth: str = "", found: list[Conversation] | None = None, **more: object) -> JudgeCard:
    training = more.pop("training", Training(told="unknown"))
    return make_card(given, found or texts(len(given)), labels(truth), training=training, **more)  # type: ignore[arg-type]


def row(made: JudgeCard, by: str, name: str, criterion: str = "a") -> AgreementRow:
    return next(r for r in made.agreement if (r.by, r.name, r.criterion) == (by, name, criterion))


def test_unscored_and_na_cells_are_counted_and_in_no_rate() -> None:
    found = row(card(said("ppffunp"), "pffppf-"), "criterion", "a")
    assert (found.labelled, found.scored, found.na, found.unscored) == (6, 4, 1, 1)
    assert found.agreement is not None
    assert (found.agreement.value, found.agreement.low, found.agreement.high) == (0.5, *wilson_interval(2, 4))
    assert found.missed is not None
    assert found.missed.value == 0.5
    assert found.false_alarms is not None
    assert found.false_alarms.value == 0.5


def test_without_labels_a_card_says_what_it_passes_and_nothing_of_being_right() -> None:
    made = card(said("ppfu"))
    assert made.rates[0].rate is not None
    assert made.rates[0].rate.value == pytest.approx(2 / 3)
    assert (made.agreement, made.risk, made.leans, made.labelled) == ((), (), (), 0)


def test_groups_are_facts_of_the_conversation_never_the_judges_guess() -> None:
    given = [j.model_copy(update={"category": "guessed", "classified": True}) for j in said("pp" * 15)]
    found = [c.model_copy(update={"category": "planned"} if n < 15 else {}) for n, c in enumerate(texts(30))]
    made = card(given, "p" * 25 + "f" * 5, found)
    assert {r.name for r in made.agreement if r.by == "category"} == {"planned", "(not given)"}
    assert row(made, "category", "planned").agreement.value == 1.0  # type: ignore[union-attr]
    assert row(made, "category", "(not given)").agreement.value == pytest.approx(10 / 15)  # type: ignore[union-attr]


def test_language_and_length_are_read_from_the_text() -> None:
    answers = ["short"] * 20 + ["这是一个很长的回答。" * 50] * 20
    made = card(said("p" * 40), "p" * 20 + "f" * 20, texts(40, answers))
    assert row(made, "length", "up to 300 characters").agreement.value == 1.0  # type: ignore[union-attr]
    assert row(made, "length", "up to 1,000 characters").agreement.value == 0.0  # type: ignore[union-attr]
    assert {r.name for r in made.agreement if r.by == "language"} == {"en", "zh"}


def test_accuracy_rises_and_coverage_falls_with_the_certainty_asked_for() -> None:
    given = said("ppppff", probabilities=(0.99, 0.97, 0.7, 0.62, 0.01, 0.3))
    points = {p.min_certainty: p for p in card(given, "ppffff").risk}
    assert [(points[least].spoken, points[least].coverage) for least in (None, 0.8, 0.98)] == [
        (6, 1.0),
        (3, 0.5),
        (2, pytest.approx(1 / 3)),
    ]
    assert points[None].accuracy.value == pytest.approx(4 / 6)  # type: ignore[union-attr]
    assert points[0.8].accuracy.value == 1.0  # type: ignore[union-attr]


def test_what_was_left_open_as_unsure_counts_from_where_it_is_sure_enough() -> None:
    points = {p.min_certainty: p for p in card(said("pu", probabilities=(0.99, 0.65)), "pf").risk}
    assert (points[None].spoken, points[0.6].spoken, points[0.7].spoken) == (1, 2, 1)


def test_a_judge_without_probabilities_has_one_point() -> None:
    assert [p.min_certainty for p in card(said("ppff"), "ppfp").risk] == [None]


def test_length_bias_is_found_where_labels_are_the_same_and_not_where_long_answers_are_better() -> None:
    answers = ["x" * (10 + n) for n in range(40)]
    biased = card(said("f" * 20 + "p" * 20), "p" * 40, texts(40, answers)).leans[0]
    assert biased.shift is not None
    assert biased.shift.value == 1.0
    assert biased.shift.low > 0.5
    fair = card(said("f" * 20 + "p" * 20), "f" * 20 + "p" * 20, texts(40, answers)).leans[0]
    assert fair.shift is not None
    assert fair.shift.value == 0.0
    assert fair.shift.low < 0 < fair.shift.high


def test_labelled_conversations_of_a_source_it_was_trained_on_are_counted() -> None:
    found = [c.model_copy(update={"meta": {"source": "xs" if n < 3 else "other"}}) for n, c in enumerate(texts(5))]
    made = card(said("ppppp"), "ppp-p", found, training=Training(told="t", sources={"xs": 100}))
    assert made.training.labelled_seen == 3


def test_several_criteria_are_pooled_with_conversations_as_the_unit() -> None:
    both = [
        a.model_copy(update={"scores": (*a.scores, *b.scores)})
        for a, b in zip(said("pf" * 10), said("pf" * 10, "b"), strict=True)
    ]
    made = make_card(both, texts(20), [*labels("pp" * 10), *labels("pp" * 10, "b")], training=Training(told="t"))
    pooled = row(made, "criterion", POOLED, POOLED)
    assert (pooled.labelled, pooled.agreement.value) == (40, 0.5)  # type: ignore[union-attr]
    # Both cells of a conversation stand or fall together, so there are 20 of them and not 40
    assert pooled.agreement.low == pytest.approx(wilson_interval(10, 20)[0], abs=0.02)  # type: ignore[union-attr]


def test_the_spread_is_of_one_rate_under_every_wording() -> None:
    wordings = {"shipped": said("pppp"), "brief": said("pppf"), "formal": said("pfff"), "broken": said("uuuu")}
    made = card(said("pppp"), "pppp", probed=Probed(wordings))
    (rate,) = made.rates
    assert rate.wording is not None
    assert rate.wording.wordings == {"shipped": 1.0, "brief": 0.75, "formal": 0.25}
    assert (rate.wording.low, rate.wording.high, rate.wording.n) == (0.25, 1.0, 4)
    found = row(made, "criterion", "a").wording
    assert found is not None
    assert (found.low, found.high) == (0.25, 1.0)


def test_a_group_has_the_spread_of_its_own_conversations() -> None:
    found = [c.model_copy(update={"category": "x" if n < 20 else "y"}) for n, c in enumerate(texts(40))]
    wordings = {"shipped": said("p" * 40), "brief": said("p" * 20 + "f" * 20)}
    made = card(said("p" * 40), "p" * 40, found, probed=Probed(wordings))
    spreads = {name: row(made, "category", name).wording for name in ("x", "y")}
    assert {name: s.width for name, s in spreads.items() if s} == {"x": 0.0, "y": 1.0}


def test_a_verdict_that_turns_is_a_flip_and_one_that_falls_silent_is_not() -> None:
    found = count_flips("again", said("ppffnu"), said("pfuppp"))
    assert (found.tried, found.flipped, found.silenced) == (3, 2, 1)
    assert count_flips("again", said("pp"), []).share is None
