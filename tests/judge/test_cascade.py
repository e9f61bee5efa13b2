"""A cascade keeps what labels allow, asks the next judge only about the rest, and tells who decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import pytest

from safetyqc.errors import NotComparableError, UserError
from safetyqc.judge.cascade import CascadeJudge, CascadeLabels, Stage, saving, verdict
from safetyqc.judge.promise import Promise
from safetyqc.records import Conversation, Judgment, Label, Score
from safetyqc.rubrics import RubricSet, load_rubric_set
from safetyqc.testing import conversation

TWO = load_rubric_set().only(["strict_refusal", "no_dangerous_steps"])


class Cheap:
    """Gives probabilities by a rule."""

    def __init__(self, say: Callable[[str, int], Score], rubric_set: RubricSet = TWO, name: str = "cheap") -> None:
        self.name, self.rubric_hash, self.say = name, rubric_set.hash, say
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def judge(self, said: Conversation) -> Judgment:
        return self._judgment(said, [c.id for c in TWO.criteria])

    def _judgment(self, said: Conversation, criteria: Collection[str]) -> Judgment:
        self.asked.append((said.id, tuple(criteria)))
        scores = tuple(self.say(c, int(said.id)) for c in criteria)
        return Judgment(
            conversation_id=said.id,
            judge=self.name,
            rubric=TWO.id,
            rubric_hash=TWO.hash,
            scores=scores,
            passed=None,
            intent="harmful",
            cost_usd=1.0 if self.name == "dear" else None,
            model="big" if self.name == "dear" else None,
        )


class Dear(Cheap):
    """Can be asked about a part."""

    async def judge_only(self, said: Conversation, only: Collection[str] | None) -> Judgment:
        return self._judgment(said, only or ())


def said(number: int) -> Conversation:
    return conversation("Q", "A", id=str(number), intent="harmful", category="drugs_or_weapons")


def score(criterion: str, probability: float | None, outcome: str | None = None) -> Score:
    outcome = outcome or ("pass" if (probability or 0) >= 0.5 else "fail")
    return Score(criterion=criterion, outcome=outcome, probability=probability)  # type: ignore[arg-type]


def sure_of_refusals(criterion: str, number: int) -> Score:
    """Sure of strict_refusal on the first 80, never of the other criterion."""
    if criterion == "no_dangerous_steps":
        return Score(criterion=criterion, outcome="unscored", unscored_reason="not_reliable")
    return score(criterion, 0.98 if number < 80 else 0.55)


def always_right(criterion: str, number: int) -> Score:
    return score(criterion, None, "pass")


LABELS = [
    Label(conversation_id=str(n), criterion=c.id, outcome="pass" if n < 80 or n % 2 else "fail")
    for n in range(120)
    for c in TWO.criteria
]


def prepared(judges: Sequence[Cheap], given: CascadeLabels) -> CascadeJudge:
    cascade = CascadeJudge([Stage(judge) for judge in judges], TWO, to_fit=given)
    asyncio.run(cascade.prepare())
    return cascade


def fitted(*judges: Cheap, people: bool = False) -> CascadeJudge:
    return prepared(judges, CascadeLabels([said(n) for n in range(120)], LABELS, people=people))


def test_thresholds_are_chosen_per_criterion() -> None:
    cascade = fitted(Cheap(sure_of_refusals), Dear(always_right, name="dear"))
    first = cascade.stages[0].promises
    assert first["strict_refusal"].min_certainty == 0.98
    assert first["no_dangerous_steps"].min_certainty is None
    assert first["no_dangerous_steps"].labelled == 0


def test_what_a_criterion_may_err_is_split_over_the_stages() -> None:
    """Thirty labels that all agree promise 90% of one judge with 95% confidence; of each of two they would need 36."""
    given = CascadeLabels([said(n) for n in range(30)], LABELS, people=False)
    alone, with_another = (
        prepared([Cheap(lambda c, n: score(c, 0.98)), *more], given).stages[0].promises["strict_refusal"]
        for more in ([], [Dear(always_right, name="dear")])
    )
    assert alone.min_certainty == 0.98
    assert with_another.min_certainty is None


def test_the_next_judge_is_asked_only_what_is_open_also_while_fitting() -> None:
    dear = Dear(always_right, name="dear")
    cascade = fitted(Cheap(sure_of_refusals), dear)
    assert dict(dear.asked)["3"] == ("no_dangerous_steps",)
    assert dict(dear.asked)["100"] == ("strict_refusal", "no_dangerous_steps")
    dear.asked.clear()
    judgment = asyncio.run(cascade.judge(said(3)))
    assert dear.asked == [("3", ("no_dangerous_steps",))]
    assert judgment.settings["decided_by"] == {"strict_refusal": "cheap", "no_dangerous_steps": "dear"}
    assert (judgment.passed, judgment.cost_usd, judgment.judge) == (True, 1.0, "cascade(cheap > dear)")


def test_what_the_last_judge_may_not_promise_goes_to_people_when_there_are_any() -> None:
    with_people = fitted(Cheap(sure_of_refusals), Dear(always_right, name="dear"), people=True)
    judgment = asyncio.run(with_people.judge(said(100)))
    refusal = judgment.score("strict_refusal")
    assert refusal is not None
    assert (refusal.outcome, refusal.unscored_reason) == ("unscored", "unsure")
    assert "for people: pass" in refusal.reason
    without = fitted(Cheap(sure_of_refusals), Dear(always_right, name="dear"))
    assert asyncio.run(without.judge(said(100))).passed is True


def test_a_judge_that_is_sure_of_everything_saves_every_call() -> None:
    dear = Dear(always_right, name="dear")
    promises = {c.id: Promise(c.id, 0.9, 100) for c in TWO.criteria}
    cascade = CascadeJudge([Stage(Cheap(lambda c, n: score(c, 0.97)), promises), Stage(dear)], TWO)
    judgments = [asyncio.run(cascade.judge(said(n))) for n in range(3)]
    assert dear.asked == []
    told = saving(judgments)
    assert (told.calls_saved, told.cells_not_escalated, told.left_to_people) == (1.0, 1.0, 0)
    assert judgments[0].cost_usd == 0.0


def test_the_saving_counts_conversations_and_cells() -> None:
    cascade = fitted(Cheap(sure_of_refusals), Dear(always_right, name="dear"))
    told = saving(asyncio.run(cascade.judge(said(n))) for n in (1, 2, 100))
    assert (told.calls_saved, told.cells) == (0.0, 6)
    assert told.cells_not_escalated == pytest.approx(2 / 6)
    assert saving([]).calls_saved is None


def test_what_is_left_to_people_is_not_saved() -> None:
    alone = fitted(Cheap(sure_of_refusals), people=True)
    told = saving([asyncio.run(alone.judge(said(3)))])
    # The other criterion was never reliable: an abstention is no verdict, and nobody else was there to ask
    assert (told.calls_saved, told.cells_not_escalated, told.left_to_people) == (0.0, 0.5, 0)
    unsure = saving([asyncio.run(alone.judge(said(100)))])
    assert (unsure.calls_saved, unsure.cells_not_escalated, unsure.left_to_people) == (0.0, 0.0, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (score("c", 0.8), ("pass", 0.8)),
        (score("c", 0.2), ("fail", 0.8)),
        (score("c", None, "fail"), ("fail", 1.0)),
        (score("c", None, "na"), ("na", 1.0)),
        (Score(criterion="c", outcome="unscored", unscored_reason="unsure", probability=0.4), ("fail", 0.6)),
        (Score(criterion="c", outcome="unscored", unscored_reason="unsure"), None),
        (Score(criterion="c", outcome="unscored", unscored_reason="not_reliable", probability=0.9), ("pass", 0.9)),
    ],
)
def test_a_score_has_a_certainty_or_is_an_abstention(given: Score, expected: object) -> None:
    assert verdict(given) == expected


def test_what_the_plan_rules_out_is_settled_and_what_a_judge_rules_out_is_not() -> None:
    looks_away = Cheap(lambda c, n: score(c, None, "na"))
    dear = Dear(always_right, name="dear")
    cascade = CascadeJudge([Stage(looks_away), Stage(dear)], TWO)
    benign = conversation("Q", "A", id="1", intent="benign", category="general_safety")
    asyncio.run(cascade.judge(benign))
    asyncio.run(cascade.judge(benign.model_copy(update={"intent": None})))
    assert [asked for _, asked in dear.asked] == [
        ("no_dangerous_steps",),
        ("strict_refusal", "no_dangerous_steps"),
    ]


def test_ruling_out_wrongly_counts_against_a_judge_and_ruling_out_rightly_earns_nothing() -> None:
    sad = [conversation("Q", "A", id=str(n), intent="distress", category="self_harm_support") for n in range(60)]
    labels = [
        Label(conversation_id=str(n), criterion="strict_refusal", outcome="na" if n < 20 else "pass") for n in range(60)
    ]
    looks_away = Cheap(lambda c, n: score(c, None, "na"))
    cascade = prepared([looks_away], CascadeLabels(sad, labels))
    told = cascade.stages[0].promises["strict_refusal"]
    assert (told.labelled, told.min_certainty) == (40, None)


def test_a_cascade_that_cannot_work_is_refused() -> None:
    with pytest.raises(UserError, match="without judges"):
        CascadeJudge([], TWO)
    with pytest.raises(NotComparableError, match="another rubric"):
        CascadeJudge([Stage(Cheap(always_right, load_rubric_set()))], TWO)
    with pytest.raises(UserError, match="no label fits"):
        prepared([Cheap(always_right)], CascadeLabels([said(999)], LABELS))
