"""Which labels correct a run's rates: those drawn by chance, of the present wording; the rest is counted and said."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import load_config
from safetyqc.pipeline.correcting import Corrections, correct
from safetyqc.records import Conversation, Label
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.review.drawn import open_items
from safetyqc.review.draws import PLAN
from safetyqc.review.plan import Wanted, plan_labels
from safetyqc.store import Store
from tests.support.runs import CATEGORIES, RUBRIC, RUBRIC_HASH, judgment, planned

Cli = Callable[..., Any]
ONE = "safe_alternative"
COUNT = 400


def fails(number: int) -> bool:
    """What people say: one in five, of which the judge sees every other."""
    return number % 5 == 0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "r") as store:
        store.set_meta("rubric", RUBRIC)
        talks = [planned(i, CATEGORIES[i % 3]) for i in range(COUNT)]
        store.add_conversations(talks)
        store.put_judgments(
            judgment(c, safe_alternative="fail" if i % 10 == 0 else "pass") for i, c in enumerate(talks)
        )
    return tmp_path / "r"


@pytest.fixture
def store(run: Path) -> Iterator[Store]:
    with Store.open(run) as store:
        yield store


def number(identifier: str) -> int:
    return int(identifier.removeprefix("c_"))


def label(identifier: str, queue: str | None = PLAN, **fields: Any) -> Label:
    told = {"criterion": ONE, "outcome": "fail" if fails(number(identifier)) else "pass", "rubric_hash": RUBRIC_HASH}
    return Label.model_validate({"conversation_id": identifier, "queue": queue, **told, **fields})


def found(store: Store) -> Corrections:
    return correct(read_snapshot(store, bars={}), load_config(None, {}))


def rate(store: Store) -> Any:
    return next(r for r in found(store).rates if r.criterion == ONE)


def label_by_plan(store: Store, count: int, upto: int | None = None) -> None:
    plan_labels(store, Wanted(labels=count, criteria=(ONE,)))
    store.add_labels(label(item.conversation_id) for item in open_items(store, "human")[:upto])


def test_labels_of_a_draw_correct_the_rate_and_name_it(store: Store) -> None:
    label_by_plan(store, 100)
    told = rate(store)
    assert (told.draw, told.labels, told.n, told.judge_rate) == ("plan-1", 100, COUNT, 0.9)
    assert told.rate.low < 0.8 < told.rate.high
    assert found(store).doubts == ()


def test_a_draw_that_people_broke_off_counts_as_far_as_they_came(store: Store) -> None:
    label_by_plan(store, 200, upto=60)
    assert rate(store).labels == 60
    assert found(store).doubts == ()


def test_what_looked_wrong_enters_no_rate(store: Store) -> None:
    label_by_plan(store, 100)
    before = rate(store)
    drawn = {item.conversation_id for item in store_items(store)}
    suspects = [c.id for c in others(store, drawn) if fails(number(c.id))]
    store.add_labels(label(identifier, "disagreement") for identifier in suspects)
    assert rate(store) == before
    assert found(store).aside == (
        f"{len(suspects)} labels given where something looked wrong, not by chance (disagreement {len(suspects)})",
    )


def test_suspects_that_the_draw_comes_to_later_count_there(store: Store) -> None:
    store.add_labels(label(f"c_{n:04}", "disagreement") for n in range(0, COUNT, 5))
    assert found(store).rates == ()
    label_by_plan(store, 150)
    told = rate(store)
    assert told.draw == "plan-1"
    assert told.labels >= 140
    assert told.rate.low < 0.8 < told.rate.high


def test_labels_that_nobody_drew_keep_the_estimator_of_before(store: Store) -> None:
    some = random.Random(1).sample(range(COUNT), 90)
    store.add_labels(label(f"c_{n:04}", None) for n in some)
    told = rate(store)
    assert (told.draw, told.labels) == (None, 90)
    assert told.labels_alone is not None


def test_the_first_of_a_file_are_doubted_and_conversations_after_the_draw_said(store: Store) -> None:
    store.add_labels(label(f"c_{n:04}", None) for n in range(60))
    assert "are the first of 400" in found(store).doubts[0]
    label_by_plan(store, 100)
    more = [planned(i, CATEGORIES[0]) for i in range(COUNT, COUNT + 50)]
    store.add_conversations(more)
    store.put_judgments(map(judgment, more)).result()
    assert found(store).doubts == (
        "50 conversations came after draw plan-1 (safetyqc label plan again draws of them too)",
    )
    assert rate(store).n == COUNT + 50


def test_labels_of_another_wording_correct_nothing_and_that_is_said(cli: Cli, run: Path, tmp_path: Path) -> None:
    with Store.open(run) as store:
        store.add_labels(label(f"c_{n:04}", None, rubric_hash="older") for n in range(0, COUNT, 4))
        assert found(store).rates == ()
    said = "100 labels were given for another wording of the rubric"
    page, markdown = tmp_path / "r.html", tmp_path / "r.md"
    ended = cli("report", "--run", run, "--section", "corrected", "--html", page, "--md", markdown)
    for face in (ended.out, page.read_text("utf-8"), markdown.read_text("utf-8"), cli("compare", "--run", run).out):
        assert said in " ".join(face.split())
    exported = tmp_path / "labels.jsonl"
    cli("label", "export", exported, "--run", run)
    again = exported.read_text("utf-8").replace(', "rubric_hash": "older"', "")
    exported.write_text(again, "utf-8")
    assert "100 changed" in cli("label", "import", exported, "--run", run).err  # given again, for this wording
    with Store.read(run) as store:
        assert rate(store).labels == 100


def test_compare_corrects_by_the_draw_too(cli: Cli, run: Path) -> None:
    with Store.open(run) as store:
        label_by_plan(store, 100)
        expected = rate(store).rate.value
    assert f"{expected:.1%}" in cli("compare", "--run", run).out


def store_items(store: Store) -> Iterable[Any]:
    from safetyqc.review.drawn import drawn_items

    return drawn_items(store)


def others(store: Store, drawn: set[str]) -> Iterable[Conversation]:
    return (c for c in store.conversations() if c.id not in drawn)


def test_a_sheet_is_in_the_order_of_the_draw(cli: Cli, run: Path, tmp_path: Path) -> None:
    with Store.open(run) as store:
        plan_labels(store, Wanted(labels=60, criteria=(ONE,)))
        drawn = [item.conversation_id for item in open_items(store, "ann")]
    sheet = tmp_path / "sheet.csv"
    assert cli("label", "export", sheet, "-n", "40", "--annotator", "ann", "--run", run).code == 0
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == drawn[:40]
    for row in rows:
        row[ONE] = "fail" if fails(number(row["id"])) else "pass"
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert cli("label", "import", sheet, "--run", run).code == 0
    with Store.read(run) as store:
        told = rate(store)
    assert (told.draw, told.labels) == ("plan-1", 40)
