from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.records import Label, Outcome
from safetyqc.results.label_plan import LabelPlan
from safetyqc.review.drawn import open_items
from safetyqc.review.draws import PLAN, read_draws
from safetyqc.review.plan import Wanted, plan_labels
from safetyqc.store import Store
from tests.support.runs import CATEGORIES, RUBRIC, judgment, planned

Cli = Callable[..., Any]
COUNT = 240
ONE = "safe_alternative"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A judged run: an eighth of the answers offers nothing, says the judge, and on a few another differs."""
    talks = [planned(i, CATEGORIES[i % 3]) for i in range(COUNT)]
    with Store.create(tmp_path / "r") as store:
        store.set_meta("rubric", RUBRIC)
        store.add_conversations(talks)
        store.put_judgments(judgment(c, safe_alternative="fail" if i % 8 == 0 else "pass") for i, c in enumerate(talks))
        other = [judgment(c, judge="other", safe_alternative="fail" if i < 30 else "pass") for i, c in enumerate(talks)]
        store.put_judgments(other)
        store.set_meta("deciding_judge", "local")
    return tmp_path / "r"


def plan(run: Path, **wanted: Any) -> LabelPlan:
    with Store.open(run) as store:
        return plan_labels(store, Wanted(**wanted))


def strata(found: LabelPlan) -> dict[str, tuple[int, int]]:
    return {s.stratum: (s.conversations, s.to_label) for s in found.strata}


def test_what_is_uncertain_is_drawn_more_often(run: Path) -> None:
    found = strata(plan(run, half_width=0.06, criteria=(ONE,)))
    assert {name: n for name, (n, _) in found.items()} == {
        "fail, unsure": 26, "fail": 4, "pass": 184, "pass, unsure": 26,
    }  # fmt: skip
    shares = {name: drawn / n for name, (n, drawn) in found.items()}
    assert shares["pass, unsure"] > 1.3 * shares["pass"]
    assert shares["fail, unsure"] > 1.3 * shares["pass"]


def test_every_rate_is_expected_to_be_known_as_well_as_asked_with_no_more_labels_than_evenly(run: Path) -> None:
    found = plan(run, half_width=0.08, criteria=(ONE,))
    assert max(rate.half_width for rate in found.rates) <= 0.08
    assert found.even_draw is not None
    assert found.to_label <= found.even_draw
    more = plan(run, half_width=0.08)
    assert {rate.criterion for rate in more.rates} == {*(c["id"] for c in RUBRIC["criteria"]), "overall"}
    assert max(rate.half_width for rate in more.rates) <= 0.08


def test_a_category_each_takes_more_labels(run: Path) -> None:
    found = plan(run, half_width=0.1, criteria=(ONE,), by="category")
    assert {rate.group for rate in found.rates} == set(CATEGORIES)
    assert found.to_label > 1.5 * plan(run, half_width=0.1, criteria=(ONE,)).to_label


def test_planned_again_a_draw_goes_on_and_takes_nothing_back(run: Path) -> None:
    first = plan(run, labels=40)  # exactly as many as asked for
    with Store.read(run) as store:
        before = read_draws(store)[0].items
    again, smaller = plan(run, half_width=0.07), plan(run, labels=10)
    with Store.read(run) as store:
        (draw,) = read_draws(store)
    assert (first.to_label, again.draw) == (40, first.draw)
    assert smaller.to_label == again.to_label > 40
    assert draw.items[:40] == before


def test_conversations_that_come_later_are_drawn_too(run: Path) -> None:
    plan(run, labels=40, criteria=(ONE,))
    with Store.open(run) as store:
        more = [planned(i, CATEGORIES[0]) for i in range(COUNT, COUNT + 60)]
        store.add_conversations(more)
        store.put_judgments(map(judgment, more))
    found = plan(run, labels=80, criteria=(ONE,))
    assert strata(found)["pass (added 5)"][0] == 60
    assert strata(found)["pass (added 5)"][1] >= 10
    assert found.conversations == COUNT + 60


def test_labels_teach_how_often_a_word_is_wrong(run: Path) -> None:
    first = strata(plan(run, labels=60, criteria=(ONE,)))
    with Store.open(run) as store:
        for item in open_items(store, "ann"):
            outcome: Outcome = "fail" if item.stratum == "fail, unsure" else "pass"
            store.add_labels([Label(conversation_id=item.conversation_id, criterion=ONE, outcome=outcome, queue=PLAN)])
    again = plan(run, labels=120, criteria=(ONE,))
    assert again.labelled == 60
    added = {name: drawn - first[name][1] for name, (_, drawn) in strata(again).items()}
    assert added["pass"] > added["fail, unsure"]  # which are always right


@pytest.mark.parametrize(
    ("wanted", "said", "fix"),
    [
        ({"half_width": 0.001}, "0.001 is not to be had: safe_alternative has 240 conversations", "takes"),
        ({"half_width": 3}, "no interval is 3 to each side", "such as 0.03"),
        ({"labels": 5, "criteria": ("safe_alternativ",)}, "no criterion 'safe_alternativ'", "did you mean"),
        ({"labels": 5, "by": "author"}, "unknown value 'author'", "category"),
    ],
)
def test_a_plan_that_cannot_be_had_stores_nothing(run: Path, wanted: dict[str, Any], said: str, fix: str) -> None:
    with pytest.raises(UserError) as raised:
        plan(run, **wanted)
    assert said in str(raised.value)
    assert fix in (raised.value.fix or "")
    with Store.read(run) as store:
        assert not read_draws(store)


def test_a_run_that_nobody_judged_is_drawn_evenly(tmp_path: Path) -> None:
    with Store.create(tmp_path / "r") as store:
        store.add_conversations(planned(i, CATEGORIES[i % 3]) for i in range(50))
        found = plan_labels(store, Wanted(labels=20))
    assert [(s.stratum, s.to_label) for s in found.strata] == [("unjudged", 20)]


def test_typed_the_plan_says_strata_expectations_and_what_is_next(cli: Cli, run: Path) -> None:
    ended = cli("label", "plan", "--run", run, "--for", "0.08", "--criterion", ONE)
    assert ended.code == 0
    for word in ("pass, unsure", "What to expect", "drawn evenly it would take", "plan again after 30"):
        assert word in " ".join(ended.out.split())
    assert f"next:  safetyqc review --run {run}\n" in ended.err
    count = ended.out.split()[1]
    assert f"safetyqc label export sheet.csv -n {count} --run" in ended.err
    found = LabelPlan.model_validate_json(cli("label", "plan", "--run", run, "-n", "9", "--json").out)
    assert found.draw == "plan-2"
    assert cli("label", "plan", "--run", run).code == 2
