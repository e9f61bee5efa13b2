"""What is kept becomes files that trainers read; nothing leaks, nothing is overwritten, everything is accounted for."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyqc.errors import InputError, OutputError, UserError
from safetyqc.formats.export import (
    ExportPlan,
    Manifest,
    export_conversations,
    oversample,
    split_by_group,
    tell_repeats,
    validate_nanochat_file,
)
from safetyqc.formats.exporters import EXPORTERS
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation, Message
from safetyqc.testing import conversation

DOCS = Path(__file__).parents[2] / "docs" / "nanochat.md"


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in EXPORTERS if n != "parquet"])
def test_every_format_is_read_back_as_the_same_messages(tmp_path: Path, name: str) -> None:
    conversations = [kept(n) for n in range(3)]
    path = tmp_path / EXPORTERS[name].file_name
    manifest = export_conversations(conversations, ExportPlan(format=name, path=path))
    assert [c.messages for c in read_conversations(path).conversations] == [c.messages for c in conversations]
    assert (manifest.format, manifest.files[0].lines) == (name, 3)


def test_parquet_holds_messages_and_plan(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    export_conversations([kept(1, intent="benign"), kept(2, None)], ExportPlan(format="parquet", path=path))
    first, second = parquet.read_table(path).to_pylist()
    assert first["messages"] == kept(1).as_messages()
    assert (first["category"], first["intent"], second["category"]) == ("general_safety", "benign", None)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'safetyqc\[parquet\]'"):
        export_conversations([kept(1)], ExportPlan(format="parquet", path=tmp_path / "a.parquet"))
    assert list(tmp_path.iterdir()) == []


def test_a_system_message_of_the_input_comes_back_where_there_is_a_place(tmp_path: Path) -> None:
    case = kept(1, meta={"system": "Be kind."})
    for name, key, first in [
        ("openai", "messages", {"role": "system", "content": "Be kind."}),
        ("sharegpt", "conversations", {"from": "system", "value": "Be kind."}),
    ]:
        export_conversations([case], ExportPlan(format=name, path=tmp_path / name))
        assert lines_of(tmp_path / name)[0][key][0] == first
    export_conversations([case], ExportPlan(path=tmp_path / "nanochat"))
    assert validate_nanochat_file(tmp_path / "nanochat") == 1


def test_whole_records_survive(tmp_path: Path) -> None:
    case = kept(1, origin="rewritten", parent_id="c_0", revision=1, meta={"x": [1]})
    export_conversations([case], ExportPlan(format="safetyqc", path=tmp_path / "a.jsonl"))
    (found,) = read_conversations(tmp_path / "a.jsonl").conversations
    assert found.model_copy(update={"source": None}) == case


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no export format 'nanchat'\n  fix: did you mean 'nanochat'"):
        export_conversations([kept(1)], ExportPlan(format="nanchat"))


# ---- nanochat ---------------------------------------------------------------------------------------------------


def test_nanochat_goes_where_nanochat_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    assert EXPORTERS["nanochat"].default_path() == tmp_path / "base" / "safety_conversations.jsonl"
    monkeypatch.setenv("NANOCHAT_BASE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EXPORTERS["nanochat"].default_path() == tmp_path / ".cache" / "nanochat" / "safety_conversations.jsonl"
    export_conversations([kept(1)], ExportPlan())
    assert validate_nanochat_file(tmp_path / ".cache" / "nanochat" / "safety_conversations.jsonl") == 1


def test_nanochat_lines_are_escaped_arrays(tmp_path: Path) -> None:
    hard = conversation('\u2028 \x00 " \\ \r\n 你好 🙂', "ok\ttab")
    export_conversations([hard, kept(1)], ExportPlan(path=tmp_path / "a.jsonl"))
    raw = (tmp_path / "a.jsonl").read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 2
    assert raw.endswith(b"\n")
    assert validate_nanochat_file(tmp_path / "a.jsonl") == 2
    assert lines_of(tmp_path / "a.jsonl")[0] == hard.as_messages()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: is not JSON"),
        ('{"messages": []}', ":2: is not a list"),
        ('[{"role": "user", "content": "x"}]', ":2: is not a list of at least two"),
        ('[{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}]', ":2: message 1 has the role"),
        (
            '[{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]',
            ":2: message 1 has the role 'system'",
        ),
        ('[{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]', ":2: message 2 has no text"),
        ('[{"role": "user", "content": "x"}, "x"]', ":2: message 2 has no text"),
        ('[{"role": "user", "content": "é"}, {"role": "assistant", "content": "x"}]', ":2: is not ASCII"),
    ],
)
def test_a_file_that_training_would_stop_at_is_told(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps(conversation("a", "b").as_messages())
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        validate_nanochat_file(tmp_path / "a.jsonl")


class Task:
    """Stands in for nanochat's base class: a sliced view over num_examples and get_example."""

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        self.start, self.stop, self.step = start, stop, step

    def __len__(self) -> int:
        stop = self.num_examples() if self.stop is None else self.stop  # type: ignore[attr-defined]
        return -(-(stop - self.start) // self.step)

    def __getitem__(self, index: int) -> Any:
        return self.get_example(self.start + index * self.step)  # type: ignore[attr-defined]


@pytest.fixture
def drop_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task that docs/nanochat.md offers, executed as it stands there."""
    code = re.search(r"<!-- drop-in:.*?-->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    for name, content in {
        "nanochat": {},
        "nanochat.common": {"get_base_dir": lambda: str(tmp_path)},
        "tasks": {},
        "tasks.common": {"Task": Task},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    namespace: dict[str, Any] = {"__name__": "tasks.safety"}
    exec(compile(code.group(1), str(DOCS), "exec"), namespace)
    return namespace["SafetyConversations"]


def test_the_documented_task_reads_an_export(drop_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    conversations = [kept(n) for n in range(5)]
    export_conversations(conversations, ExportPlan(val_share=0.2))
    train, val = drop_in(), drop_in(str(tmp_path / "safety_conversations.val.jsonl"))
    assert (len(train), len(val), len(drop_in(stop=2))) == (4, 1, 2)
    found = [train[i] for i in range(4)] + [val[0]]
    assert sorted(m["messages"][1]["content"] for m in found) == [f"Answer {n}." for n in range(5)]


def test_the_documented_task_is_empty_without_a_file_and_refuses_a_wrong_one(drop_in: Any, tmp_path: Path) -> None:
    assert len(drop_in()) == 0
    (tmp_path / "safety_conversations.jsonl").write_text('[{"role": "assistant", "content": "x"}]\n')
    with pytest.raises(ValueError, match="conversation 1 does not alternate"):
        drop_in()


# ---- split ------------------------------------------------------------------------------------------------------


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


# ---- oversampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "lines"), [(1, 8), (2, 16), (1.5, 12), (2.25, 18), (3, 24), (1.1, 8)])
def test_a_category_stands_factor_times_in_the_file(factor: float, lines: int) -> None:
    rare, common = [kept(n, "rare") for n in range(8)], [kept(n) for n in range(100, 105)]
    counts = Counter(c.category for c in oversample([*rare, *common], {"rare": factor}))
    assert counts == {"rare": lines, "general_safety": 5}


def test_copies_come_after_everything_was_there_once() -> None:
    cases = [kept(1, "rare"), kept(2), kept(3, "rare")]
    ids = [c.id for c in oversample(cases, {"rare": 2})]
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


# ---- manifest and files -----------------------------------------------------------------------------------------


def test_the_manifest_accounts_for_everything(tmp_path: Path) -> None:
    broken = Conversation(id="broken", messages=(Message(role="user", content="x"),))
    plan = ExportPlan(path=tmp_path / "a.jsonl", val_share=0.25, seed=7, source={"run": "my-run"})
    told = export_conversations(
        [*(kept(n, f"category {n % 2}") for n in range(8)), broken], plan, left_out={"c_9": "failed strict_refusal"}
    )
    written = Manifest.model_validate_json((tmp_path / "a.manifest.json").read_text())
    assert written == told
    assert sum(f.lines for f in written.files) == 8
    for file in written.files:
        raw = Path(file.path).read_bytes()
        assert (file.sha256, file.bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
        assert sum(file.by_category.values()) == file.lines == raw.count(b"\n")
    assert written.source == {"run": "my-run"}
    assert {x.conversation_id: x.reason for x in written.left_out} == {
        "c_9": "failed strict_refusal",
        "broken": "bad structure: has 1 message(s)",
    }


def test_the_same_export_gives_the_same_bytes(tmp_path: Path) -> None:
    cases = [kept(n, f"category {n % 3}") for n in range(30)]
    for name in ("one", "two"):
        plan = ExportPlan(path=tmp_path / name / "a.jsonl", val_share=0.2, oversample={"category 1": 1.5})
        export_conversations(cases, plan)
    for file in ("a.jsonl", "a.val.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("there", ["a.jsonl", "a.val.jsonl", "a.manifest.json"])
def test_nothing_is_overwritten_without_force(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    cases = [kept(n) for n in range(4)]
    with pytest.raises(OutputError, match=rf"{there}: is there already\n  fix: .*--force"):
        export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5))
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5, force=True))
    assert validate_nanochat_file(tmp_path / "a.jsonl") == 2


def test_an_old_validation_file_does_not_stay_beside_a_training_file_with_its_texts(tmp_path: Path) -> None:
    cases = [kept(n) for n in range(10)]
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5))
    export_conversations(cases, ExportPlan(path=tmp_path / "a.jsonl", force=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.manifest.json"]


def test_a_file_of_somebody_else_beside_it_stays(tmp_path: Path) -> None:
    (tmp_path / "a.val.jsonl").write_text("mine")
    (tmp_path / "a.manifest.json").write_text("{}")
    export_conversations([kept(1)], ExportPlan(path=tmp_path / "a.jsonl", force=True))
    assert (tmp_path / "a.val.jsonl").read_text() == "mine"


def test_a_failure_in_the_middle_leaves_every_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [kept(n) for n in range(4)]
    plan = ExportPlan(path=tmp_path / "a.jsonl", val_share=0.5, force=True)
    export_conversations(cases, plan)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(Manifest, "model_dump_json", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_conversations([kept(n) for n in range(50, 60)], plan)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_nothing_to_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to export"):
        export_conversations([], ExportPlan(path=tmp_path / "a.jsonl"))


def test_a_folder_as_path_is_told_with_a_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder\n  fix: give a file: .*safety_conversations\.jsonl"):
        export_conversations([kept(1)], ExportPlan(path=tmp_path))


def test_what_a_judge_guessed_is_split_repeated_and_counted_but_not_written(tmp_path: Path) -> None:
    told = [conversation(f"question {n}", "answer", id=f"t{n}", category="fraud") for n in range(20)]
    untold = [conversation(f"request {n}", "answer", id=f"u{n}") for n in range(40)]
    guessed = {c.id: "fraud" if n % 2 else "violence" for n, c in enumerate(untold)} | {"t0": "violence"}
    path = tmp_path / "data.jsonl"
    plan = ExportPlan(format="openai", path=path, val_share=0.2, oversample={"violence": 2})
    manifest = export_conversations([*told, *untold], plan, guessed=guessed)
    train, val = manifest.files
    assert val.by_category == {"fraud": 8, "violence": 4}
    assert train.by_category == {"fraud": 32, "violence": 32}
    assert (train.conversations, train.lines, manifest.categories_guessed) == (48, 64, 40)
    assert tell_repeats(manifest) == [
        "violence repeated 2 times: 32 of 64 lines",
        "40 categories are the judge's guess",
    ]
    assert "violence" not in path.read_text(encoding="utf-8")


def test_a_guess_says_which_categories_can_be_repeated(tmp_path: Path) -> None:
    plan = ExportPlan(format="openai", path=tmp_path / "data.jsonl", oversample={"violense": 2})
    with pytest.raises(UserError, match="violense") as raised:
        export_conversations([conversation("q", "a", id="u")], plan, guessed={"u": "violence"})
    assert "violence" in (raised.value.fix or "")
