from __future__ import annotations

from collections import Counter

import pytest

from safetyqc.review.draws import Draw

MEMBERS = {f"c{n}": "abc"[n % 3] for n in range(60)}
OTHERS = {f"d{n}": "a" for n in range(20)}
DRAW = Draw(id="plan-1").with_strata({"pass": MEMBERS, "fail": OTHERS})


def ids(draw: Draw) -> list[str]:
    return [item.conversation_id for item in draw.items]


def test_a_draw_that_is_made_larger_begins_with_what_was_drawn() -> None:
    small = DRAW.extended({"pass": 12, "fail": 10})
    large = small.extended({"pass": 30, "fail": 12})
    assert ids(large)[:22] == ids(small)
    assert len(set(ids(large))) == 42
    assert [s.taken for s in large.strata.values()] == [30, 12]
    assert small.extended({"pass": 3}) == small


def test_any_two_ways_to_the_same_size_draw_the_same() -> None:
    slowly = DRAW.extended({"pass": 5}).extended({"pass": 20, "fail": 4})
    assert set(ids(slowly)) == set(ids(DRAW.extended({"fail": 4, "pass": 20})))


def test_a_beginning_holds_every_stratum_and_category_in_proportion() -> None:
    drawn = DRAW.extended({"pass": 30, "fail": 10})
    half = Counter(item.stratum for item in drawn.items[:20])
    assert abs(half["pass"] - 15) <= 1
    categories = Counter(MEMBERS[i] for i in ids(drawn) if i in MEMBERS)
    assert all(abs(count - 10) <= 1 for count in categories.values())
    assert {item.stratum: item.probability for item in drawn.items} == {"pass": 0.5, "fail": 0.5}


def test_chance_draws_every_member_equally_often() -> None:
    drawn = Counter[str]()
    for seed in range(300):
        drawn.update(ids(Draw(id="x", seed=seed).with_strata({"pass": MEMBERS}).extended({"pass": 15})))
    expected = 300 * 15 / 60
    assert sum((n - expected) ** 2 / expected for n in drawn.values()) < 60 + 4 * 11  # chi-squared, less than 4 sd
    assert len(drawn) == 60


def test_newcomers_get_strata_of_their_own() -> None:
    drawn = DRAW.extended({"pass": 12, "fail": 10})
    more = drawn.with_strata({"pass": {"e1": "a", "e2": "b"}})
    assert list(more.strata) == ["pass", "fail", "pass (added 3)"]
    assert more.items == drawn.items
    assert more.stratum_of["e1"] == "pass (added 3)"


@pytest.mark.parametrize(
    ("labelled", "by_chance", "count"),
    [
        (range(10), range(10), 10),
        ([*range(4), *range(5, 10)], range(10), 10),  # one was put off
        ([0, 1, 2, 7, 8, 9], [0, 1, 2], 3),  # the last three were labelled because they looked wrong
        ([0, 1, 2, 7, 8, 9], range(10), 3),  # or taken out of their order
        (range(10), [0, 1], 2),
        ([], [], 0),
    ],
)
def test_a_sample_ends_where_people_stopped(labelled: list[int], by_chance: list[int], count: int) -> None:
    drawn = DRAW.extended({"pass": 15, "fail": 5})
    order = ids(drawn)
    assert drawn.reached({order[n] for n in labelled}, {order[n] for n in by_chance if n in labelled}) == order[:count]
