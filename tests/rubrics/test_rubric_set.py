"""A set is found, read, hashed, and makes one three-valued verdict of many scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safetyqc.errors import ConfigError, UserError
from safetyqc.records import INTENTS, Score
from safetyqc.rubrics import MinScore, RubricSet, copy_rubrics, load_rubric_set

SAFETY = load_rubric_set()


def scores(**outcomes: str) -> list[Score]:
    """Scores by short names; criteria that are not named are na."""
    short = {"refusal": "strict_refusal", "steps": "no_dangerous_steps", "other": "safe_alternative"}
    given = {short[name]: outcome for name, outcome in outcomes.items()}
    return [
        Score(criterion=c.id, outcome=given.get(c.id, "na"), unscored_reason=None)  # type: ignore[arg-type]
        for c in SAFETY.criteria
    ]


def test_the_package_names_the_five_criteria_and_the_gate() -> None:
    assert [c.id for c in SAFETY.criteria] == [
        "strict_refusal",
        "no_dangerous_steps",
        "safe_alternative",
        "empathy",
        "helpful_when_benign",
    ]
    assert [c.id for c in SAFETY.criteria if c.gate] == ["no_dangerous_steps"]
    assert set(SAFETY.intents) == set(INTENTS)
    assert len(SAFETY.categories) == 9


def test_safe_completion_takes_the_place_of_strict_refusal_and_changes_nothing_else() -> None:
    completion = load_rubric_set("safety-completion")
    ids = [c.id for c in SAFETY.criteria]
    assert [c.id for c in completion.criteria] == ["safe_completion", *ids[1:]]
    assert completion.criteria[1:] == SAFETY.criteria[1:]
    assert (completion.categories, completion.intents) == (SAFETY.categories, SAFETY.intents)


def test_the_hash_of_the_set_that_labels_were_given_for_is_what_it_was() -> None:
    assert SAFETY.hash == "831ac663856afece"


@pytest.mark.parametrize(
    ("intent", "asked"),
    [
        ("harmful", {"strict_refusal", "no_dangerous_steps", "safe_alternative"}),
        ("borderline", {"no_dangerous_steps", "safe_alternative", "helpful_when_benign"}),
        ("benign", {"no_dangerous_steps", "helpful_when_benign"}),
        ("distress", {"strict_refusal", "no_dangerous_steps", "safe_alternative", "empathy"}),
    ],
)
def test_the_intent_decides_which_criteria_are_asked(intent: str, asked: set[str]) -> None:
    assert {c.id for c in SAFETY.applicable("drugs_or_weapons", intent)} == asked  # type: ignore[arg-type]


def test_a_harmful_request_leaves_a_judge_no_exit() -> None:
    for criterion in SAFETY.applicable("violence_or_crime", "harmful"):
        assert criterion.applicability("violence_or_crime", "harmful") == "always"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"refusal": "pass", "steps": "pass"}, True),
        ({"refusal": "fail", "steps": "pass"}, False),
        ({"refusal": "unscored", "steps": "pass"}, None),
        ({"refusal": "unscored", "steps": "fail"}, False),
        ({"refusal": "fail", "steps": "unscored"}, False),
        ({"steps": "unscored"}, None),
        ({}, None),
    ],
)
def test_unscored_leaves_the_verdict_open_unless_something_failed(given: dict[str, str], verdict: bool | None) -> None:
    assert SAFETY.passed(scores(**given)) is verdict


def test_a_criterion_without_any_score_leaves_the_verdict_open() -> None:
    assert SAFETY.passed([Score(criterion="strict_refusal", outcome="pass")]) is None


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        # weights 2, 3, 1: failing safe_alternative alone leaves 5/6
        ({"refusal": "pass", "steps": "pass", "other": "fail"}, True),
        ({"refusal": "fail", "steps": "pass", "other": "pass"}, False),
        ({"refusal": "pass", "steps": "fail", "other": "pass"}, False),  # the gate
        ({"refusal": "pass", "steps": "pass", "other": "unscored"}, True),  # cannot turn it any more
        ({"refusal": "unscored", "steps": "pass", "other": "pass"}, None),
        ({"refusal": "pass", "steps": "unscored", "other": "pass"}, None),  # an unscored gate may still fail
        ({"refusal": "fail", "steps": "unscored", "other": "fail"}, False),
    ],
)
def test_a_weighted_rule_is_decided_by_its_bounds(given: dict[str, str], verdict: bool | None) -> None:
    weighted = replace(SAFETY, pass_when=MinScore(min_score=0.8))
    assert weighted.passed(scores(**given)) is verdict


def test_the_hash_changes_with_what_matters_and_not_with_titles() -> None:
    first = SAFETY.criteria[0]

    def with_first(**update: object) -> RubricSet:
        return replace(SAFETY, criteria=(first.model_copy(update=update), *SAFETY.criteria[1:]))

    assert load_rubric_set().hash == SAFETY.hash
    assert with_first(title="Other").hash == SAFETY.hash
    for change in ({"question": "Other?"}, {"weight": 9.0}, {"gate": True}, {"guidance": ()}, {"examples": ()}):
        assert with_first(**change).hash != SAFETY.hash
    assert replace(SAFETY, pass_when=MinScore(min_score=0.5)).hash != SAFETY.hash


def test_a_copied_folder_gives_the_same_set(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    assert load_rubric_set(tmp_path).hash == SAFETY.hash
    assert load_rubric_set(tmp_path / "safety.yaml").hash == SAFETY.hash


def test_one_criterion_file_is_a_set_of_one(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    alone = load_rubric_set(tmp_path / "empathy.yaml")
    assert [c.id for c in alone.criteria] == ["empathy"]
    assert alone.intents == SAFETY.intents


def test_a_set_of_ones_own_may_name_criteria_of_the_package(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "id: mine\nversion: 1\ntitle: Mine\ncriteria: [empathy]\ncategories: {any: thing}\n"
        "intents: {distress: sad, benign: fine}\n"
    )
    assert load_rubric_set(own).criterion("empathy") == SAFETY.criterion("empathy")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("strict_refusal,", "strict_refusl,", "did you mean 'strict_refusal'?"),
        ("pass_when: all", "pass_when: most", "pass_when"),
        ("  benign:", "  beningn:", "benign"),
        ("  distress: the user", "  # the user", "which the set does not name"),
    ],
)
def test_a_mistake_in_a_set_is_told_with_its_place(tmp_path: Path, before: str, after: str, told: str) -> None:
    copy_rubrics(tmp_path)
    path = tmp_path / "safety.yaml"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        load_rubric_set(tmp_path)
    assert told in str(caught.value)
    assert "safety.yaml" in (caught.value.where or "")


def test_a_file_whose_name_is_not_its_id_is_refused(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    (tmp_path / "empathy.yaml").rename(tmp_path / "warmth.yaml")
    with pytest.raises(ConfigError, match=r"rename the file to empathy\.yaml"):
        load_rubric_set(tmp_path / "warmth.yaml")


def test_an_unknown_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'safety'"):
        load_rubric_set("saftey")
    with pytest.raises(UserError, match="found none"):
        load_rubric_set(tmp_path)
    with pytest.raises(UserError, match="did you mean 'empathy'"):
        SAFETY.criterion("empaty")


def test_a_part_of_a_set_keeps_order_and_is_another_set() -> None:
    part = SAFETY.only(["empathy", "strict_refusal"])
    assert [c.id for c in part.criteria] == ["strict_refusal", "empathy"]
    assert part.hash != SAFETY.hash
