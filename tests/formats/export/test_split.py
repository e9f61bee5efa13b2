"""Nothing leaks from training into validation, and repeats stand far apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyqc.errors import UserError
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.split import oversample, split_by_group
from safetyqc.records import Conversation
from safetyqc.testing import conversation


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_group_is_never_parted_whatever_the_seed() -> None:
    conversations = [kept(n) for n in range(20)]
    group = [c.id for c in conversations[3:7]]
    for seed in range(30):
        split = split_by_group(conversations, [group], 0.3, seed)
        assert len({c.id in group for c in split.val if c.id in group}) <= 1
        inside = sum(c.id in group for c in split.val)
        assert inside in (0, 4)


def test_variants_rewrites_and_equal_texts_stay_together() -> None:
    parent = kept(0)
    kin = [kept(100, parent_id=parent.id), kept(101, parent_id=parent.id), parent]
    twins = [conversation("Same?", "Yes.", id="t1"), conversation("same? ", "YES.", id="t2")]
    others = [kept(n) for n in range(1, 12)]
    sides = set()
    for seed in range(40):
        split = split_by_group([*kin, *twins, *others], [], 0.3, seed)
        held = {c.id for c in split.val}
        for family in (kin, twins):
            assert len({c.id in held for c in family}) == 1
        sides.add(kin[0].id in held)
    assert sides == {True, False}


def test_siblings_stay_together_also_when_their_parent_is_not_exported() -> None:
    siblings = [kept(1, parent_id="gone"), kept(2, parent_id="gone")]
    for seed in range(20):
        held = {c.id for c in split_by_group([*siblings, *(kept(n) for n in range(3, 10))], [], 0.4, seed).val}
        assert len({c.id in held for c in siblings}) == 1


def test_every_category_gives_its_share() -> None:
    conversations = [kept(n, f"category {n % 9}") for n in range(180)]
    for seed in range(5):
        counts = Counter(c.category for c in split_by_group(conversations, [], 0.1, seed).val)
        assert set(counts.values()) == {2}
        assert len(counts) == 9


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    conversations = [kept(n) for n in range(50)]
    first = {c.id for c in split_by_group(conversations, [], 0.2, 1).val}
    assert first == {c.id for c in split_by_group(conversations[::-1], [], 0.2, 1).val}
    assert first != {c.id for c in split_by_group(conversations, [], 0.2, 2).val}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.floats(0.05, 0.9), st.integers(0, 5))
def test_a_split_loses_nothing_and_parts_no_group(groups: list[int], share: float, seed: int) -> None:
    conversations = [kept(n) for n in range(len(groups))]
    members: dict[int, list[str]] = {}
    for case, group in zip(conversations, groups, strict=True):
        members.setdefault(group, []).append(case.id)
    try:
        split = split_by_group(conversations, members.values(), share, seed)
    except UserError:
        return  # whole groups leave one side empty
    held, trained = {c.id for c in split.val}, {c.id for c in split.train}
    assert held
    assert trained
    assert held | trained == {c.id for c in conversations}
    assert not held & trained
    assert all(len({i in held for i in ids}) == 1 for ids in members.values())
    assert len(held) <= max(round(share * len(conversations)), 1)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_a_share_outside_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"is not in 0\.\.1"):
        split_by_group([kept(1), kept(2)], [], share, 0)


def test_what_cannot_be_split_is_told() -> None:
    pair = [kept(1), kept(2)]
    with pytest.raises(UserError, match="cannot be split by group"):
        split_by_group(pair, [[c.id for c in pair]], 0.5, 0)


@pytest.mark.parametrize(("factor", "lines"), [(1, 8), (2, 16), (1.5, 12), (2.25, 18), (3, 24), (1.1, 8)])
def test_a_category_stands_factor_times_in_the_file(factor: float, lines: int) -> None:
    rare, common = [kept(n, "rare") for n in range(8)], [kept(n) for n in range(100, 105)]
    counts = Counter(c.category for c in oversample([*rare, *common], {"rare": factor}, lambda c: c.category or ""))
    assert counts == {"rare": lines, "general_safety": 5}


def test_copies_come_after_everything_was_there_once() -> None:
    cases = [kept(1, "rare"), kept(2), kept(3, "rare")]
    ids = [c.id for c in oversample(cases, {"rare": 2}, lambda c: c.category or "")]
    assert ids[:3] == [c.id for c in cases]
    assert ids[3:] == [cases[0].id, cases[2].id]


def test_the_validation_file_is_never_oversampled(tmp_path: Path) -> None:
    cases = [kept(n, "rare") for n in range(10)]
    plan = ExportPlan(path=tmp_path / "a.jsonl", val_share=0.2, oversample={"rare": 3})
    manifest = export_conversations(cases, plan)
    train, val = manifest.files
    assert (train.lines, train.conversations, val.lines) == (24, 8, 2)
    assert (val.path, val.split) == (str(tmp_path / "a.val.jsonl"), "val")


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"rar": 2}, r"oversample rar: .*\n  fix: did you mean 'rare'"),
        ({"rare": 0.5}, r"oversample rare=0\.5 is not in 1\.\.100"),
        ({"rare": float("nan")}, "is not in"),
    ],
)
def test_a_factor_that_means_nothing_is_refused(tmp_path: Path, factors: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_conversations([kept(1, "rare")], ExportPlan(path=tmp_path / "a.jsonl", oversample=factors))
    assert list(tmp_path.iterdir()) == []


def test_no_request_stands_on_both_sides() -> None:
    asked = "How would one open the door of number {} at night?"
    pairs = [
        conversation(asked.format(n), answer, id=f"p{n}-{side}", category="violence_or_crime")
        for n in range(15)
        for side, answer in enumerate(("I won't help with that lock.", "No. Ring the letting agency instead."))
    ]
    later = [
        conversation("Hi there.", "Hello.", asked.format(n), "No.", "Go on.", "No, really.", id=f"l{n}")
        for n in range(3)
    ]
    for seed in range(20):
        split = split_by_group([*pairs, *later], [], 0.3, seed)
        train, val = ({turn for c in side for turn in c.user_turns} for side in (split.train, split.val))
        assert split.val
        assert train & val <= {"Go on."}


def test_go_on_ties_nothing_together() -> None:
    told = [
        conversation(f"Tell me about bread {n}, please.", "Flour.", "Go on.", "Water.", id=f"c{n}") for n in range(10)
    ]
    assert len(split_by_group(told, [], 0.3, 1).val) == 3
