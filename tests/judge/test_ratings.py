from __future__ import annotations

import numpy as np
import pytest

from safetyqc.errors import NotComparableError
from safetyqc.formats.labels import RECORDED
from safetyqc.judge.ratings import ABSENT, FAIL, MAJORITY, NA, PASS, UNSCORED, align
from safetyqc.records import Judgment, Label, Outcome, Score
from safetyqc.results.compare import OVERALL
from safetyqc.rubrics import load_rubric_set


def judgment(
    judge: str, number: int, outcome: Outcome, *, criterion: str = "a", rubric_hash: str = "h1", **fields: object
) -> Judgment:
    score = Score(criterion=criterion, outcome=outcome, unscored_reason="bad_json" if outcome == "unscored" else None)
    passed = {"pass": True, "fail": False}.get(outcome)
    return Judgment.model_validate(
        {
            "conversation_id": f"c{number}",
            "judge": judge,
            "rubric": "safety",
            "rubric_hash": rubric_hash,
            "scores": (score,),
            "passed": passed,
            **fields,
        }
    )


def label(number: int, outcome: str, annotator: str = "human", criterion: str = "a") -> Label:
    return Label.model_validate(
        {"conversation_id": f"c{number}", "criterion": criterion, "outcome": outcome, "annotator": annotator}
    )


def test_every_outcome_has_its_own_code() -> None:
    outcomes: list[Outcome] = ["pass", "fail", "na", "unscored"]
    ratings = align([judgment("x", n, outcome) for n, outcome in enumerate(outcomes)])
    assert ratings.codes["x"]["a"].tolist() == [PASS, FAIL, NA, UNSCORED]
    assert ratings.codes["x"][OVERALL].tolist() == [PASS, FAIL, NA, UNSCORED]
    assert list(ratings.reasons["x", "a"].values()) == ["bad_json"]


@pytest.mark.parametrize(
    ("judgments", "said"),
    [
        ([], "no judgments"),
        ([judgment("x", 1, "pass"), judgment("y", 1, "pass", rubric_hash="h2")], "'safety' (h2)"),
        ([judgment("x", 1, "pass"), judgment("x", 2, "pass", rubric_hash="h2")], "(h1)"),
        ([judgment("x", 1, "pass"), judgment("x", 1, "fail")], "two judgments of conversation c1"),
        ([judgment("x", 1, "pass"), judgment("y", 2, "pass")], "different conversations"),
        ([judgment("x", 1, "pass"), judgment("x", 2, "pass"), judgment("y", 2, "pass")], "'y' lacks 1 of 2"),
        ([judgment("x", 1, "pass"), judgment("y", 1, "pass", criterion="b")], "no criterion was asked of every judge"),
    ],
)
def test_what_is_not_comparable_is_refused_and_named(judgments: list[Judgment], said: str) -> None:
    with pytest.raises(NotComparableError) as caught:
        align(judgments)
    assert said in str(caught.value)
    assert "fix:" in str(caught.value)


def test_shared_conversations_are_compared_when_asked_and_the_rest_is_counted() -> None:
    judgments = [judgment("x", 1, "pass"), judgment("x", 2, "pass"), judgment("y", 2, "pass"), judgment("y", 3, "fail")]
    ratings = align(judgments, shared_only=True)
    assert (ratings.ids, ratings.left_out) == (["c2"], 2)


def test_no_shared_conversation_is_refused_even_when_asked() -> None:
    with pytest.raises(NotComparableError, match="not one is shared"):
        align([judgment("x", 1, "pass"), judgment("y", 2, "pass")], shared_only=True)


def test_recorded_verdicts_go_with_any_rubric_but_never_say_overall() -> None:
    ratings = align([judgment("x", 1, "pass"), judgment("old", 1, "fail", rubric_hash=RECORDED, passed=None)])
    assert ratings.rubric_hash == "h1"
    assert ratings.codes["old"][OVERALL].tolist() == [ABSENT]
    assert "recorded elsewhere" in ratings.notes[0]


@pytest.mark.parametrize(
    ("labels", "truth", "said"),
    [
        ([label(7, "pass")], None, "none of the 1 labels"),
        ([label(1, "pass", criterion="aa")], None, "did you mean 'a'?"),
        ([label(1, "pass", annotator="x")], None, "both a judge and an annotator"),
        ([label(1, "pass"), label(1, "fail")], None, "as two different things"),
        ([label(1, "pass")], "humann", "did you mean 'human'?"),
        ([], "human", "cannot be the truth"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(labels: list[Label], truth: str | None, said: str) -> None:
    with pytest.raises(NotComparableError) as caught:
        align([judgment("x", 1, "pass")], labels, truth=truth)
    assert said in str(caught.value)


def test_labels_of_other_conversations_and_criteria_are_noted() -> None:
    ratings = align([judgment("x", 1, "pass")], [label(1, "pass"), label(8, "fail"), label(1, "fail", criterion="z")])
    assert ratings.notes == [
        "labels of conversations that were not compared: 1",
        "labels of criteria that no judge scored: z",
    ]


@pytest.mark.parametrize(
    ("annotators", "asked", "truth"),
    [
        (["anna"], None, "anna"),
        (["anna", "ben"], None, MAJORITY),
        (["anna", "human", "ben"], None, "human"),
        (["anna", "final"], None, "final"),
        (["anna", "final"], "anna", "anna"),
        (["anna", "human"], MAJORITY, MAJORITY),
        (["anna", "ben", MAJORITY], None, MAJORITY),
    ],
)
def test_the_truth_is_the_adjudicated_label_or_the_majority(
    annotators: list[str], asked: str | None, truth: str
) -> None:
    labels = [label(1, "pass", annotator) for annotator in annotators]
    assert align([judgment("x", 1, "pass")], labels, truth=asked).truth == truth


def test_an_annotator_called_majority_is_taken_at_its_word() -> None:
    labels = [label(1, "pass", "anna"), label(1, "pass", "ben"), label(1, "fail", MAJORITY)]
    assert align([judgment("x", 1, "pass")], labels).codes[MAJORITY]["a"].tolist() == [FAIL]


@pytest.mark.parametrize("annotators", [["anna", "ben"], ["anna", "human"], ["anna", "ben", "cleo"]])
def test_a_decision_between_annotators_is_the_truth_of_its_cell_alone(annotators: list[str]) -> None:
    said = [label(1, "fail" if who == "anna" else "pass", who) for who in annotators]
    said += [label(2, "pass", who) for who in annotators]
    decided = label(1, "fail", "adjudicated").model_copy(update={"adjudicated": True})
    ratings = align([judgment("x", 1, "pass"), judgment("x", 2, "pass")], [*said, decided])
    assert ratings.truth == MAJORITY
    assert ratings.annotators == sorted(annotators)
    assert ratings.codes[MAJORITY]["a"].tolist() == [FAIL, PASS]
    assert ratings.notes == []


def test_decisions_alone_are_a_truth_as_any_annotator_is() -> None:
    decided = label(1, "fail", "adjudicated").model_copy(update={"adjudicated": True})
    assert align([judgment("x", 1, "pass")], [decided]).truth == "adjudicated"


def test_a_tie_among_annotators_is_no_truth() -> None:
    labels = [label(1, "pass", "anna"), label(1, "fail", "ben"), label(2, "na", "anna"), label(2, "na", "ben")]
    ratings = align([judgment("x", 1, "pass"), judgment("x", 2, "pass")], labels)
    assert ratings.codes[MAJORITY]["a"].tolist() == [ABSENT, NA]
    assert "without a majority among the annotators, so not labelled: 1" in ratings.notes[0]


def two_criteria(number: int) -> Judgment:
    scores = (Score(criterion="a", outcome="pass"), Score(criterion="b", outcome="pass"))
    return judgment("x", number, "pass", scores=scores)


def test_a_conversation_is_labelled_overall_only_when_every_criterion_is() -> None:
    labels = [
        *(label(1, "pass", criterion=c) for c in "ab"),
        *(label(2, o, criterion=c) for c, o in (("a", "na"), ("b", "fail"))),
        *(label(3, "na", criterion=c) for c in "ab"),
        label(4, "fail"),
    ]
    ratings = align([two_criteria(n) for n in (1, 2, 3, 4)], labels)
    assert ratings.codes["human"][OVERALL].tolist() == [PASS, FAIL, NA, ABSENT]


def test_a_rubric_set_decides_what_labels_mean_overall() -> None:
    rubric = load_rubric_set()
    names = [c.id for c in rubric.criteria]
    scores = tuple(Score(criterion=c, outcome="pass") for c in names)
    labels = [label(1, "fail" if c == names[0] else "pass", criterion=c) for c in names]
    ratings = align([judgment("x", 1, "pass", scores=scores)], labels, overall_rule=rubric.passed)
    assert ratings.codes["human"][OVERALL].tolist() == [FAIL]


def test_probabilities_are_kept_where_there_are_some() -> None:
    score = Score(criterion="a", outcome="pass", probability=0.75)
    ratings = align([judgment("x", 1, "pass", scores=(score,)), judgment("x", 2, "fail")])
    np.testing.assert_equal(ratings.probabilities["x"]["a"], [0.75, np.nan])
