"""Labels are never overwritten, and the latest of each annotator counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safetyqc.records import Label
from safetyqc.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "run") as store:
        yield store


def label(outcome: str = "pass", annotator: str = "ann", **more: object) -> Label:
    fields = {"conversation_id": "c", "criterion": "empathy", "outcome": outcome, "annotator": annotator}
    return Label.model_validate(fields | more)


def test_the_latest_label_of_each_annotator_counts_and_the_others_stay(store: Store) -> None:
    assert store.add_labels([label("pass"), label("fail", "ben"), label("fail"), label("na", criterion="refusal")]) == 4
    current = {(x.criterion, x.annotator): x.outcome for x in store.labels()}
    assert current == {("empathy", "ben"): "fail", ("empathy", "ann"): "fail", ("refusal", "ann"): "na"}
    assert [x.outcome for x in store.label_history()] == ["pass", "fail", "fail", "na"]


@pytest.mark.parametrize("taken_back", ["cleared", "disputed"])
def test_what_was_taken_back_is_no_label_until_it_is_given_again(store: Store, taken_back: str) -> None:
    store.add_labels([label("pass")])
    store.add_labels([label(taken_back)])
    assert list(store.labels()) == []
    store.add_labels([label("pass")])
    assert [x.outcome for x in store.labels()] == ["pass"]
    assert len(list(store.label_history())) == 3


def test_the_same_label_told_again_is_not_added_and_one_of_another_rubric_is(store: Store) -> None:
    store.add_labels([label(rubric_hash="a")])
    assert store.add_labels([label(rubric_hash="a"), label(rubric_hash="a", at=1.0)]) == 0
    assert store.add_labels([label(rubric_hash="b")]) == 1


def test_a_label_comes_back_with_all_that_is_known_of_it(store: Store) -> None:
    told = label(
        source="labels.csv", at=12.5, rubric_hash="h", note="很难", seconds=4.2, queue="disagreement", stratum="zh",
        probability=0.25, seen=("local", "gpt"), adjudicated=True,
    )  # fmt: skip
    store.add_labels([told])
    assert list(store.labels()) == [told]


def test_a_label_without_a_time_gets_the_present_one(store: Store) -> None:
    before = time.time()
    store.add_labels([label()])
    [found] = store.labels()
    assert found.at is not None
    assert before <= found.at <= time.time()


def test_draws_come_back_in_the_order_in_which_they_were_made(store: Store) -> None:
    store.put_draw("second by name", {"ids": ["a"]})
    store.put_draw("first by name", {"ids": []})
    assert list(store.draws().items()) == [("second by name", {"ids": ["a"]}), ("first by name", {"ids": []})]
    store.put_draw("first by name", {"ids": ["b"]})
    assert store.draws()["first by name"] == {"ids": ["b"]}
