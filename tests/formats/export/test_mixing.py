"""Ordinary conversations make up the rest of the training file, exactly, and never meet the validation file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.formats.export.encoding import Example
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.manifest import tell_mixed
from safetyqc.formats.export.mixing import Mix, mix_in
from safetyqc.records import Conversation, Message, Scenario
from safetyqc.store import Store
from tests.support.runs import RUBRIC, judgment

Cli = Callable[..., Any]


def conversation(n: int, kind: str = "safety", **changes: Any) -> Conversation:
    messages = (Message(role="user", content=f"{kind} question {n}"), Message(role="assistant", content=f"Answer {n}"))
    return Conversation(id=f"{kind}_{n}", messages=messages, **changes)


SAFETY = [conversation(n, category="violence_or_crime") for n in range(30)]
ORDINARY = [conversation(n, "ordinary") for n in range(600)]


def mix(share: float, ordinary: list[Conversation] | None = None) -> Mix:
    return Mix(Path("folder/general.jsonl"), ORDINARY if ordinary is None else ordinary, share)


@pytest.mark.parametrize(("share", "lines"), [(0.3, 100), (0.1, 300), (0.05, 600)])
def test_safety_makes_up_the_share_that_was_asked_for(tmp_path: Path, share: float, lines: int) -> None:
    path = tmp_path / "train.jsonl"
    manifest = export_conversations(SAFETY, ExportPlan("openai", path, mix=mix(share)))
    written = [json.loads(line) for line in path.read_text().splitlines()]
    safety = [n for n, line in enumerate(written) if line["messages"][0]["content"].startswith("safety")]
    assert (len(written), len(safety)) == (lines, 30)
    assert safety != list(range(30)), "shuffled among the others"
    assert manifest.mixed is not None
    assert manifest.mixed.safety_share == pytest.approx(share)
    assert manifest.files[0].by_category == {"ordinary": lines - 30, "violence_or_crime": 30}
    assert tell_mixed(manifest) == [
        f"mixed with {lines - 30:,} of 600 conversations of general.jsonl: {share:.1%} of the lines are safety data"
    ]


def test_the_same_seed_mixes_the_same_and_another_does_not() -> None:
    train = [Example(c) for c in SAFETY]
    assert mix_in(train, (), mix(0.1), 1) == mix_in(train, (), mix(0.1), 1)
    assert mix_in(train, (), mix(0.1), 1) != mix_in(train, (), mix(0.1), 2)


def test_too_few_ordinary_ones_are_refused_with_the_share_that_they_reach(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="take 970 ordinary conversations, and 600 can be used") as caught:
        export_conversations(SAFETY, ExportPlan("openai", tmp_path / "t.jsonl", mix=mix(0.03)))
    assert "--safety-share 0.048" in (caught.value.fix or "")
    assert list(tmp_path.iterdir()) == [], "nothing half written"
    reached = export_conversations(SAFETY, ExportPlan("openai", tmp_path / "t.jsonl", mix=mix(0.048)))
    assert reached.mixed is not None


@pytest.mark.parametrize("share", [0.0, 1.0, -1, 3])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="a share cannot be"):
        mix_in([Example(SAFETY[0])], (), mix(share), 0)


def test_what_is_held_out_or_in_the_set_is_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    ordinary = [*SAFETY, *ORDINARY]
    manifest = export_conversations(SAFETY, ExportPlan("openai", path, val_share=0.2, mix=mix(0.1, ordinary)))
    assert manifest.mixed is not None
    assert manifest.mixed.available == 600
    held = set(path.with_name("train.val.jsonl").read_text().splitlines())
    assert len(held) == 6
    assert not held & set(path.read_text().splitlines())
    assert not any("ordinary" in line for line in held)


def test_formats_of_pairs_have_no_place_for_them(tmp_path: Path) -> None:
    rejected = Example(SAFETY[0], rejected=conversation(0).model_copy(update={"id": "other"}))
    with pytest.raises(UserError, match="no place among pairs"):
        export_conversations([rejected], ExportPlan("dpo", tmp_path / "t.jsonl", mix=mix(0.1)))


def test_whole_twin_pairs_are_named_in_the_manifest(tmp_path: Path) -> None:
    def twin(n: int, intent: Any, pair: str) -> Conversation:
        scenario = Scenario(index=n, category="theft", intent=intent, pair=pair)
        return conversation(n, intent=intent, scenario=scenario)

    twins = [twin(0, "harmful", "p_1"), twin(1, "benign", "p_1"), twin(2, "harmful", "p_2")]
    manifest = export_conversations(twins, ExportPlan("openai", tmp_path / "t.jsonl"))
    assert manifest.twins == {"p_1": (twins[0].id, twins[1].id)}


def test_the_command_mixes_a_file_in_and_refuses_a_share_alone(cli: Cli, tmp_path: Path) -> None:
    with Store.create(tmp_path / "safetyqc-run") as store:
        store.set_meta("rubric", RUBRIC)
        store.add_conversations(SAFETY[:4])
        store.put_judgments([judgment(c) for c in SAFETY[:4]]).result()
    rows = [[m.model_dump() for m in c.messages] for c in ORDINARY[:40]]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = cli("export", "t.jsonl", "--safety-share", "0.1")
    assert alone.code == 2
    assert "--mix FILE" in alone.err
    into = cli("export", "general.jsonl", "--mix", "general.jsonl", "--force")
    assert into.code == 2, "the file that is read is never written over"
    mixed = cli("export", "t.jsonl", "--mix", "general.jsonl", "--safety-share", "0.2")
    assert mixed.code == 0, mixed.err
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 20
    assert "mixed with 16 of 40 conversations of general.jsonl: 20.0% of the lines are safety data" in mixed.err
    assert "20.0% of the lines are safety data" in (tmp_path / "t.card.md").read_text()
