"""Drafts held against what the run holds: the same answers as comparing each with every one before it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from safetyqc.config import Config
from safetyqc.dedup import compared_text, find_pairs
from safetyqc.pipeline.known import Known
from safetyqc.records import Conversation
from tests.dedup.test_pairs import recombined
from tests.pipeline.test_duplicates import conversations

TEXTS = recombined(300, seed=21)
TEXTS[40] = TEXTS[7]
TEXTS[41] = TEXTS[8].upper() + "!"
TEXTS[50] = TEXTS[150] = "🙂🙂"


def one_by_one(items: list[Conversation], held: int) -> Iterable[tuple[str, float] | None]:
    """For each one after the first `held` the nearest before it that was remembered, by a search of all."""
    pairs = find_pairs([compared_text(c) for c in items], 0.85, weights="tf", backend="reference")
    near: dict[int, list[tuple[float, int]]] = {}
    for left, right, similarity in pairs.links():
        near.setdefault(right, []).append((-similarity, left))
    copies = pairs.same_as.tolist()
    remembered = set(range(held))
    for place in range(held, len(items)):
        found = [(-1.0, copies[place])] if copies[place] in remembered else []
        found += [item for item in near.get(copies[place], []) if item[1] in remembered]
        found += [(s, b) for b, items_ in near.items() for s, a in items_ if a == copies[place] and b in remembered]
        if not found:
            remembered.add(place)
        yield (items[min(found)[1]].id, -min(found)[0]) if found else None


@pytest.mark.parametrize("held", [0, 1, 100])
def test_the_nearest_before_is_named_or_the_text_is_remembered(held: int) -> None:
    items = conversations(TEXTS)
    known = Known(Config(), items[:held])
    found = [known.add(item) for item in items[held:]]
    expected = list(one_by_one(items, held))
    assert [near and near.conversation_id for near in found] == [near and near[0] for near in expected]
    assert [near.similarity for near in found if near] == pytest.approx(
        [near[1] for near in expected if near], abs=1e-3
    )
    assert sum(near is not None for near in found) > 5


def test_planted_conversations_are_not_held_against_drafts() -> None:
    planted = [c.model_copy(update={"origin": "canary"}) for c in conversations(TEXTS[:5])]
    known = Known(Config(), planted)
    assert known.add(conversations(TEXTS[:1])[0]) is None
