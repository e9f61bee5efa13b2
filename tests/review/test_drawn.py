from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from safetyqc.records import Label, Rejection
from safetyqc.review.drawn import OVERLAP_EVERY, current_draw, open_items
from safetyqc.review.plan import Wanted, plan_labels
from safetyqc.store import Store
from tests.support.runs import CATEGORIES, RUBRIC, judgment, planned

ONE = "safe_alternative"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    talks = [planned(i, CATEGORIES[i % 3]) for i in range(60)]
    with Store.create(tmp_path / "r") as store:
        store.set_meta("rubric", RUBRIC)
        store.add_conversations(talks)
        store.put_judgments(judgment(c, safe_alternative="fail" if i % 4 == 0 else "pass") for i, c in enumerate(talks))
        yield store


def label(identifier: str, criterion: str = ONE, annotator: str = "ann") -> Label:
    return Label(conversation_id=identifier, criterion=criterion, outcome="pass", annotator=annotator)


def test_the_second_annotator_is_asked_what_is_left_and_the_overlap(store: Store) -> None:
    plan_labels(store, Wanted(labels=40, criteria=(ONE,)))
    items = open_items(store, "ann")
    assert [item.overlap for item in items].count(True) == 40 // OVERLAP_EVERY
    store.add_labels(label(item.conversation_id) for item in items[:20])
    assert open_items(store, "ann") == items[20:]
    assert open_items(store, "bob") == [item for n, item in enumerate(items) if n >= 20 or item.overlap]


def test_a_conversation_is_done_when_all_that_is_asked_is_labelled(store: Store) -> None:
    assert current_draw(store) is None
    assert open_items(store, "ann") == []
    plan_labels(store, Wanted(labels=10))
    first, *rest = open_items(store, "ann")
    assert first.criteria is None
    store.add_labels([label(first.conversation_id)])
    assert open_items(store, "ann") == [first, *rest]
    store.add_labels(label(first.conversation_id, c["id"]) for c in RUBRIC["criteria"])
    assert open_items(store, "ann") == rest


def test_each_conversation_comes_once_and_what_does_not_count_any_more_not_at_all(store: Store) -> None:
    plan_labels(store, Wanted(labels=40, criteria=(ONE,)))
    plan_labels(store, Wanted(labels=40))
    found = open_items(store, "ann")
    assert len({item.conversation_id for item in found}) == len(found) < 60
    assert [item.draw for item in found[:40]] == ["plan-2"] * 40
    gone = found[0].conversation_id
    store.put_rejections([Rejection(conversation_id=gone, filter="x", reason="y")], [gone])
    assert open_items(store, "ann") == found[1:]
