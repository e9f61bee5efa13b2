"""Labels that were plainly not drawn by chance are told; those that were are not."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from safetyqc.records import Conversation, Label, Source
from safetyqc.results.labelled import doubts
from safetyqc.testing import conversation

ALL = [
    conversation(
        "q", "a", id=str(n), category="abc"[n % 3], source=Source(path=f"in/{n // 100}.jsonl", line=n + 1, index=n)
    )
    for n in range(300)
]


def labels(places: Iterable[int], **facts: float) -> list[Label]:
    return [Label(conversation_id=str(n), criterion="empathy", outcome="pass", **facts) for n in places]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (range(60), "are the first of 300"),
        (range(240, 300), "are the last of 300"),
        (range(120, 180), "are one block of 300"),
        ([*range(55), 170, 250], "crowd together: 55 are in the first half"),
        (range(0, 300, 3), "of category a, as 33% of all are"),
        (range(10, 90, 2), "of source 0.jsonl, as 33% of all are"),
    ],
)
def test_what_chance_does_not_do_is_told(places: Iterable[int], said: str) -> None:
    assert any(said in doubt for doubt in doubts(ALL, labels(places)))


def test_what_chance_drew_is_hardly_ever_doubted() -> None:
    rng = random.Random(1)
    found = [doubts(ALL, labels(rng.sample(range(300), rng.choice([12, 40, 150, 290])))) for _ in range(400)]
    assert sum(map(bool, found)) <= 4  # four tests at 1 in 1,000 each


@pytest.mark.parametrize("places", [range(300), range(9), range(0)])
def test_all_or_hardly_any_give_no_doubt(places: range) -> None:
    assert doubts(ALL, labels(places)) == ()


def test_labels_drawn_with_a_known_probability_vouch_for_themselves() -> None:
    assert doubts(ALL, labels(range(60), probability=0.2)) == ()


def test_conversations_of_one_source_only_are_not_blamed_for_it() -> None:
    alike: list[Conversation] = [c.model_copy(update={"category": "a", "source": None}) for c in ALL]
    assert doubts(alike, labels(range(0, 300, 7))) == ()
