"""The arrays that a run keeps of its conversations say what its records say, and are read on from where they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from safetyqc.pipeline.roster import Roster, rank, read_roster
from safetyqc.records import Conversation
from safetyqc.store import Store
from safetyqc.store.standing import stand
from safetyqc.testing import conversation
from tests.support.runs import fill_with_everything, judgment


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "r") as store:
        fill_with_everything(store)
        yield store


def talk(name: str) -> Conversation:
    return conversation("How do I sharpen a chisel?", "On a wet stone, with patience.", id=name, category="tools")


def read(store: Store) -> tuple[Roster, list[str]]:
    """The roster, and the ids of the conversations that were read for it."""
    seen: list[str] = []
    return read_roster(store, lambda _, conversation: seen.append(conversation.id)), seen


def ranks(roster: Roster) -> list[tuple[int, float]]:
    return list(zip(roster.verdict.tolist(), roster.mean.tolist(), strict=True))


def test_who_takes_part_is_who_stands_so(store: Store) -> None:
    roster, _ = read(store)
    inside = store.numbered.names(roster.inside(store).tolist()).values()
    standings = stand(store.placed(), {}, rejections=store.rejections(), rewrites=store.rewrites())
    out = {"rejected", "discarded", "superseded", "canary"}
    assert set(inside) == {name for name, found in standings.items() if found.status not in out}
    assert {found.status for found in standings.values()} >= out


def test_ranks_and_categories_are_those_of_the_records(store: Store) -> None:
    store.add_conversations(talk(name).model_copy(update={"category": None}) for name in ("none", "seen"))
    store.put_judgments([judgment(talk("seen")).model_copy(update={"category": "knives"})]).result()
    roster, _ = read(store)
    verdicts = {j.conversation_id: j for j in store.judgments("local")}
    names = store.numbered.names(roster.numbers.tolist())
    expected = [rank(verdicts.get(names[n])) for n in roster.numbers.tolist()]
    assert ranks(roster) == expected
    best_first = sorted(range(len(expected)), key=lambda place: expected[place], reverse=True)
    assert roster.order(roster.numbers)[best_first].tolist() == list(range(len(expected)))
    labels, codes = roster.categories(roster.numbers)
    of = {names[n]: labels[code] for n, code in zip(roster.numbers.tolist(), codes.tolist(), strict=True)}
    categories = {c.id: c.category for c in store.conversations()}
    seen = {"none": "uncategorised", "seen": "knives"}
    assert of == {name: category or seen[name] for name, category in categories.items()}
    planned = [(*roster.names, None)[code] for code in roster.category.tolist()]
    assert dict(zip(of, planned, strict=True)) == categories


def test_only_what_was_added_is_read(store: Store) -> None:
    first, everybody = read(store)
    assert len(everybody) == store.numbered.count() == len(first.numbers)
    assert read(store)[1] == []
    store.add_conversations([talk("later")])
    again, seen = read(store)
    assert seen == ["later"]
    assert again.numbers.tolist()[:-1] == first.numbers.tolist()


def test_the_latest_verdict_counts_also_when_it_replaces_the_last_one_written(store: Store) -> None:
    before, _ = read(store)
    last = list(store.judgments("local"))[-1]
    changed = last.model_copy(update={"passed": not last.passed})
    store.put_judgments([changed]).result()
    after, _ = read(store)
    number = store.numbered.numbers([last.conversation_id])[last.conversation_id]
    place = int(after.places(number))
    assert ranks(after)[place] == rank(changed) != ranks(before)[place]


def test_another_deciding_judge_has_other_verdicts(store: Store) -> None:
    read(store)
    store.put_judgments([judgment(talk("c_0001"), judge="strict", empathy="fail")]).result()
    store.set_meta("deciding_judge", "strict")
    roster, seen = read(store)
    assert seen == []
    failed = [n for n, found in zip(roster.numbers, ranks(roster), strict=True) if found[0] == 0]
    assert list(store.numbered.names([int(n) for n in failed]).values()) == ["c_0001"]


@pytest.mark.parametrize("damage", [b"", b"PK nothing", None])
def test_without_its_arrays_everything_is_read_again(store: Store, damage: bytes | None) -> None:
    first, everybody = read(store)
    packed = store.packed("roster") or b""
    store.put_packed("roster", packed[:-100] if damage is None else damage)
    again, seen = read(store)
    assert seen == everybody
    assert ranks(again) == ranks(first)
