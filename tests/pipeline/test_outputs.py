"""What a run holds becomes files: what was kept, and beside it what failed where the format takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.export.split import split_by_group
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.pipeline.outputs import EXPORT_FORMAT, _links
from safetyqc.records import Scenario
from safetyqc.store import Store
from safetyqc.testing import conversation
from tests.support.runs import CATEGORIES, fill_with_everything

Cli = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A small run in which everything happened at least once."""
    with Store.create(tmp_path / "r") as store:
        fill_with_everything(store)
    return tmp_path / "r"


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_rewrite_and_what_it_mends_become_a_pair(cli: Cli, run: Path, tmp_path: Path) -> None:
    ended = cli("export", "pairs.jsonl", "--format", "dpo", "--run", run)
    assert ended.code == 0, ended.err
    with Store.read(run) as store:
        kept = {r.child_id: r.parent_id for r in store.rewrites() if r.kept}
        texts = {c.id: c for c in store.conversations()}
    pairs = lines(tmp_path / "pairs.jsonl")
    assert {p["id"]: p["rejected_id"] for p in pairs} == kept
    for pair in pairs:
        assert pair["chosen"][0]["content"] in texts[pair["id"]].assistant_turns
        assert pair["rejected"][0]["content"] in texts[pair["rejected_id"]].assistant_turns
    assert f"exported {len(pairs)} pair" in ended.err
    assert "no failed answer to the same request" in ended.err


def test_a_run_goes_on_with_the_format_it_was_last_exported_in(cli: Cli, run: Path, tmp_path: Path) -> None:
    with Store.open(run) as store:
        store.set_meta(EXPORT_FORMAT, "openai")
    assert "as openai" in cli("export", "a.jsonl", "--run", run).err
    assert "as sharegpt" in cli("export", "b.jsonl", "--format", "sharegpt", "--run", run).err
    assert "as csv" in cli("export", "c.csv", "--run", run).err
    refused = cli("export", "d.parquet", "--format", "openai", "--run", run)
    assert (refused.code, "its name says parquet" in refused.err) == (2, True)
    assert not (tmp_path / "d.parquet").exists()


def test_kto_holds_what_was_kept_and_what_failed_and_says_how_many(cli: Cli, run: Path, tmp_path: Path) -> None:
    ended = cli("export", "kto.jsonl", "--format", "kto", "--run", run)
    assert ended.code == 0, ended.err
    labels = [row["label"] for row in lines(tmp_path / "kto.jsonl")]
    cli("export", "kept.jsonl", "--format", "openai", "--run", run)
    assert labels.count(True) == len(lines(tmp_path / "kept.jsonl"))
    assert labels.count(False) > 0
    assert f"{labels.count(False)} of {len(labels)} lines hold an answer that failed" in ended.err


def test_what_is_near_a_reference_or_hit_by_a_rule_is_no_bad_example_either(
    cli: Cli, run: Path, tmp_path: Path
) -> None:
    cli("export", "kto.jsonl", "--format", "kto", "--run", run)
    ids = {row["id"] for row in lines(tmp_path / "kto.jsonl")}
    with Store.read(run) as store:
        out = {r.conversation_id for r in store.rejections()} | {
            m.conversation_id for m in store.matches() if m.removed
        }
    assert out
    assert not ids & out


def test_the_card_of_a_folder_names_splits_licence_and_losses(cli: Cli, run: Path, tmp_path: Path) -> None:
    ended = cli(*("export", "--folder", "d", "--format", "openai", "--licence", "cc-by-4.0", "--run", run))
    assert ended.code == 0, ended.err
    card = (tmp_path / "d" / "README.md").read_text(encoding="utf-8")
    assert 'license: "cc-by-4.0"' in card
    assert '"data_files": [{"split": "train", "path": "data/train.jsonl"}]' in card
    assert "openai has no place for: category" in card
    assert set(ended.out.split()) == {
        f"d/{name}" for name in ("README.md", "data/train.jsonl", "dataset_info.json", "axolotl.yaml", "trl.yaml")
    }


@pytest.mark.parametrize(
    ("name", "title", "warning"),
    [
        ("openai", "# Safety conversations", "the answers were judged"),
        ("dpo", "# Safety preference pairs", "so may the rejected answers"),
        ("kto", "# Safety answers with verdicts", "so may the answers that failed"),
    ],
)
def test_a_card_says_what_its_lines_are(
    cli: Cli, run: Path, tmp_path: Path, name: str, title: str, warning: str
) -> None:
    assert (
        cli("export", "--folder", "d", "--format", name, "--oversample", f"{CATEGORIES[0]}=2", "--run", run).code == 0
    )
    card = (tmp_path / "d" / "README.md").read_text(encoding="utf-8")
    assert title in card
    assert warning in card
    assert f"{CATEGORIES[0]} repeated 2 times" in card


def test_equal_runs_are_exported_to_equal_bytes(cli: Cli, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        with Store.create(tmp_path / name) as store:
            fill_with_everything(store)
        cli(*("export", "--folder", f"{name}-out", "--format", "llamafactory", "--val-share", "0.2", "--run", name))
        out = tmp_path / f"{name}-out"
        written.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 7


def test_a_pipe_gets_the_lines_alone(cli: Cli, run: Path, tmp_path: Path) -> None:
    before = {p.name for p in Path("/dev").glob("*.md")}
    assert cli("export", "/dev/null", "--format", "openai", "--run", run).code == 0
    assert {p.name for p in Path("/dev").glob("*.md")} == before


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_takes_a_run(cli: Cli, run: Path, tmp_path: Path, name: str) -> None:
    ended = cli("export", "out", "--format", name, "--run", run)
    assert ended.code == 0, ended.err
    assert (tmp_path / "out").stat().st_size > 0


def test_a_whole_run_refuses_a_folder_of_others_before_it_begins(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("export: {folder: d, format: openai}\n")
    (tmp_path / "d").mkdir()
    turns = conversation(
        "How do I break into house number 3 at night?",
        "I won't help with that. You could talk to a counsellor instead, and I can help you write to them.",
    ).as_messages()
    row = {"messages": turns, "category": "violence_or_crime", "intent": "harmful"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    words = ["run", "in.jsonl", "--judge", "local", "--rubric", "strict_refusal", "--run", "new", "-q"]
    (tmp_path / "d" / "README.md").write_text("mine")
    ended = cli(*words)
    assert (ended.code, "d: is there already" in ended.err, "judge:" in ended.err) == (2, True, False), ended.err
    (tmp_path / "d" / "README.md").unlink()
    for _ in range(2):  # the second time the folder is the run's own
        ended = cli(*words)
        assert ended.code == 0, ended.err
    assert (tmp_path / "d" / "data" / "train.jsonl").is_file()


def test_an_empty_export_says_where_everything_stands_and_what_closes_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": conversation("Hello there!", "Hello!").as_messages()}))
    cli("import", "in.jsonl")
    ended = cli("export")
    assert (ended.code, "(unjudged 1)" in ended.err, "`safetyqc judge` first" in ended.err) == (2, True, True)
    cli("judge", "-m", "local")
    ended = cli("export")
    assert (ended.code, "(unscored 1)" in ended.err, "judge -m MODEL --decide" in ended.err) == (2, True, True)


def test_a_run_says_before_it_begins_that_its_judge_will_keep_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": conversation("Hello there!", "Hello!").as_messages()}))
    told = "warning: local never scores safe_alternative, empathy, helpful_when_benign"
    ended = cli("run", "in.jsonl", "--judge", "local", "--dry-run")
    assert told in " ".join(ended.err.split())
    ended = cli("run", "in.jsonl", "--judge", "local", "--rubric", "strict_refusal", "--dry-run")
    assert (ended.code, "never scores" in ended.err) == (0, False)


def test_what_filters_took_out_is_not_said_to_be_asked_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        json.dumps({"messages": conversation("你好<script>alert(1)</script>", "你好！").as_messages()})
    )
    assert "1 rejected" in cli("run", "in.jsonl", "--judge", "local").err
    told = cli("judge", "-m", "local").err
    assert "not asked about: 1 out by filters or as copies" in told
    assert "--retry-unscored" not in told


def test_twins_stay_on_one_side_of_the_split() -> None:
    twins = [
        conversation(f"Question {n}", f"Answer {n}.").model_copy(
            update={"scenario": Scenario(index=n, category="theft", intent="harmful", pair=f"p_{n // 2}")}
        )
        for n in range(40)
    ]
    split = split_by_group(twins, _links(twins, ()), 0.3, 0)
    sides = [{c.scenario.pair for c in side if c.scenario} for side in (split.train, split.val)]
    assert len(split.val) == 12
    assert not sides[0] & sides[1]
