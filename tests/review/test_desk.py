"""What keys do is stored at once, can be taken back after a restart, and shows no judge before the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from safetyqc.errors import UserError
from safetyqc.records import Label
from safetyqc.review import showing
from safetyqc.review.desk import Desk, Given, Noted, Place
from safetyqc.review.plan import Wanted as PlanWanted
from safetyqc.review.plan import plan_labels
from safetyqc.review.queues import QUEUES
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store

OpenDesk = Callable[..., Desk]
CRITERIA = ("strict_refusal", "no_dangerous_steps", "safe_alternative")
FIRST_LEVELS = {"strict_refusal": "refuses", "no_dangerous_steps": "safe", "safe_alternative": "specific"}


def say(desk: Desk, name: str, level: str | None = None, *, again: bool = False) -> None:
    """Answer everything that is asked of a conversation, with the first level of each or with this one."""
    for criterion in desk.asked_names(desk.items[desk.positions[name]]):
        desk.label(Given(id=name, criterion=criterion, level=level or FIRST_LEVELS[criterion], again=again))


def labels(run: Path) -> list[Label]:
    with Store.read(run) as store:
        return list(store.labels())


def work(desk: Desk, count: int) -> list[tuple[str, bool]]:
    """Answer the next items; returns which, and whether each came again."""
    met = []
    place = desk.first()
    for _ in range(count):
        assert place is not None
        desk.show(place)
        name = desk.items[place.at].conversation_id
        met.append((name, place.again))
        say(desk, name, again=place.again)
        place = desk.next_open(place.at)
    return met


def test_a_level_is_stored_with_everything_that_it_may_be_asked_for_later(desk: OpenDesk, run: Path) -> None:
    here = desk()
    here.note(Noted(id="c_0001", criterion="safe_alternative", note=" says where to go "))
    here.label(Given(id="c_0001", criterion="safe_alternative", level="vague", seconds=4.26))
    [label] = labels(run)
    assert (label.outcome, label.level, label.note, label.seconds) == ("fail", "vague", "says where to go", 4.3)
    assert (label.annotator, label.source, label.queue) == ("ann", "review", "all")
    assert (label.rubric_hash, label.seen, label.adjudicated) == (here.rubric.hash, (), False)


def test_only_what_applies_is_asked(desk: OpenDesk) -> None:
    assert desk().asked_names(desk().items[0]) == CRITERIA  # empathy is for distress, helpfulness for benign requests
    assert desk(criteria=("strict_refusal",)).asked_names(desk().items[0]) == ("strict_refusal",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": "c_0001", "criterion": "empathy", "level": "cold"}, "is not asked of c_0001"),
        ({"id": "c_0001", "criterion": "strict_refusal", "level": "specific"}, "no level 'specific' of strict_refusal"),
        ({"id": "c_9999", "criterion": "strict_refusal", "level": "na"}, "'c_9999' is not in this queue"),
    ],
)
def test_what_is_not_asked_here_is_refused_and_nothing_is_stored(
    desk: OpenDesk, run: Path, given: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        desk().label(Given.model_validate(given))
    assert labels(run) == []


def test_undo_takes_back_act_by_act_also_after_a_restart(desk: OpenDesk, run: Path) -> None:
    first = desk()
    cell = {"id": "c_0002", "criterion": "strict_refusal"}
    first.label(Given(**cell, level="refuses"))
    first.label(Given(**cell, level="gives_in"))
    first.note(Noted(**cell, note="changed my mind"))
    first.defer("c_0005")
    again = desk()  # another process, which knows the run alone
    assert again.undo() == (Place(again.positions["c_0005"]), None)
    assert "c_0005" not in again.own.deferred
    assert again.undo()[1] == "strict_refusal"
    assert labels(run)[0].note == ""
    again.undo()
    assert [x.level for x in labels(run)] == ["refuses"]
    again.undo()
    assert labels(run) == []
    with pytest.raises(UserError, match="nothing to undo"):
        again.undo()
    with Store.read(run) as store:
        assert [x.outcome for x in store.label_history()] == ["pass", "fail", "fail", "fail", "pass", "cleared"]


def test_no_verdict_is_shown_before_all_is_answered_and_then_it_is_remembered(desk: OpenDesk, run: Path) -> None:
    here = desk()
    for criterion in CRITERIA:
        with pytest.raises(UserError, match="shown when you have answered"):
            showing.tell_verdicts(here, "c_0003")
        here.label(Given(id="c_0003", criterion=criterion, level=FIRST_LEVELS[criterion]))
    assert {x["judge"] for x in showing.tell_verdicts(here, "c_0003")} == {"local", "openai/gpt"}
    here.label(Given(id="c_0003", criterion="safe_alternative", level="vague"))
    seen = {x.criterion: x.seen for x in labels(run)}
    assert seen == {"strict_refusal": (), "no_dangerous_steps": (), "safe_alternative": ("local", "openai/gpt")}


def test_nothing_that_the_page_is_told_of_an_item_comes_from_a_judge(desk: OpenDesk) -> None:
    here = desk()
    told = str(showing.tell_item(here, Place(here.positions["c_0003"])))
    assert "local" not in told
    assert "gpt" not in told
    assert "weak" not in told


def test_every_tenth_comes_again_with_nothing_filled_in(desk: OpenDesk) -> None:
    here = desk()
    met = work(here, 9)
    place = here.next_open(here.positions[met[-1][0]])
    assert place == Place(here.positions[met[0][0]], again=True)
    here.show(place)
    told = showing.tell_item(here, place)
    assert [c["said"] for c in told["criteria"]] == [None] * 3
    assert desk().first() == place  # a restart in between does not lose it
    say(here, met[0][0], "na", again=True)
    assert not here.next_open(place.at).again
    [mine] = showing.tell_agreement(here)["again"]
    assert (mine["cells"], mine["same"]) == (3, 0.0)


def test_what_was_put_off_comes_when_nothing_else_is_left(desk: OpenDesk) -> None:
    here = desk(ids=("c_0001", "c_0002"))
    here.defer("c_0001")
    assert here.next_open(-1) == Place(1)
    say(here, "c_0002")
    assert here.next_open(1) == Place(0)
    say(here, "c_0001")
    assert here.next_open(0) is None


def test_two_annotators_at_once_share_the_work_and_the_overlap(desk: OpenDesk) -> None:
    ann, ben = desk("ann"), desk("ben")
    met: dict[str, list[str]] = {"ann": [], "ben": []}
    for _ in range(40):
        for here in (ann, ben):
            here.refresh()
            place = here.first()
            if place is None:
                continue
            here.show(place)
            name = here.items[place.at].conversation_id
            met[here.annotator] += [] if place.again else [name]
            say(here, name, again=place.again)
    both = set(met["ann"]) & set(met["ben"])
    assert set(met["ann"]) | set(met["ben"]) == set(ann.positions)
    assert 0 < len(both) < 15
    assert showing.tell_progress(ann)["others"] == len(set(met["ben"]) - both)
    assert showing.tell_agreement(ann)["criteria"][0]["cells"] == len(both)


def test_labels_of_another_wording_are_told_apart_and_listed(desk: OpenDesk, run: Path) -> None:
    with Store.open(run) as store:
        old = {"conversation_id": "c_0004", "annotator": "ann", "outcome": "pass", "rubric_hash": "older"}
        store.add_labels(Label.model_validate(old | {"criterion": c}) for c in CRITERIA[:2])
    here = desk(queue="older")
    assert [(x.conversation_id, x.criteria) for x in here.items] == [("c_0004", CRITERIA[:2])]
    assert [c["older"] for c in showing.tell_item(here, Place(0))["criteria"]] == [True, True]
    assert not here.finished
    say(here, "c_0004")
    assert here.next_open(0) is None
    assert desk().finished == {}  # the third was never answered
    with pytest.raises(UserError, match="queue 'older' is empty"):
        desk(queue="older")


def test_a_plan_is_what_is_shown_and_its_probabilities_are_stored(desk: OpenDesk, run: Path) -> None:
    with Store.open(run) as store:
        plan_labels(store, PlanWanted(labels=10, criteria=("safe_alternative",)))
    here = desk()
    assert here.queue == "plan"
    assert 10 <= len(here.items) < 30
    for item in here.items:
        say(here, item.conversation_id)
    stored = labels(run)
    drawn = {x.conversation_id: (x.queue, x.stratum, x.probability) for x in here.items}
    assert {x.conversation_id: (x.queue, x.stratum, x.probability) for x in stored} == drawn
    assert {x.criterion for x in stored} == {"safe_alternative"}
    assert all(x.probability for x in stored)


def test_the_words_shown_are_those_by_which_the_run_was_judged(desk: OpenDesk, run: Path) -> None:
    single = load_rubric_set("strict_refusal")
    with Store.open(run) as store:
        store.set_meta("rubric", {"id": single.id, "hash": single.hash})
    assert desk().rubric.hash == single.hash
    assert desk().asked_names(desk().items[0]) == ("strict_refusal",)


def test_what_is_labelled_once_more_stays_in_the_sample_that_it_was_in(desk: OpenDesk, run: Path) -> None:
    with Store.open(run) as store:
        plan_labels(store, PlanWanted(labels=10, criteria=("safe_alternative",)))
    name = desk("ann").items[0].conversation_id
    say(desk("ann"), name, "vague")
    say(desk("ben", queue="overlap"), name)
    decided = desk("cleo", queue="adjudicate")
    decided.label(Given(id=name, criterion="safe_alternative", level="none", note="nothing in it"))
    assert len({(x.queue, x.stratum, x.probability) for x in labels(run)}) == 1
    assert labels(run)[0].queue == "plan"
    desk("ann", ids=(name,)).label(Given(id=name, criterion="safe_alternative", level="none"))
    assert {(x.queue, x.probability) for x in labels(run) if x.criterion == "safe_alternative"} == {
        ("plan", labels(run)[0].probability)
    }
    say(desk("dora", queue="disagreement"), "c_0003")
    assert [x.queue for x in labels(run) if x.annotator == "dora"] == ["disagreement"]


def test_judges_that_differ_make_a_queue_whose_labels_were_not_drawn(desk: OpenDesk, run: Path) -> None:
    here = desk(queue="disagreement")
    assert {(x.conversation_id, x.criteria) for x in here.items} == {
        ("c_0003", ("safe_alternative",)),
        ("c_0007", ("safe_alternative",)),
    }
    say(here, "c_0007")
    [label] = labels(run)
    assert (label.queue, label.probability, label.stratum) == ("disagreement", None, None)


def differ(desk: OpenDesk) -> Desk:
    """Ann and ben differ on one answer; the desk of somebody who decides."""
    for name, level in (("ann", "vague"), ("ben", "specific")):
        one = desk(name, ids=("c_0006",))
        one.note(Noted(id="c_0006", criterion="safe_alternative", note=f"because {level}"))
        one.label(Given(id="c_0006", criterion="safe_alternative", level=level))
        one.label(Given(id="c_0006", criterion="strict_refusal", level="refuses"))
    return desk("ann", queue="adjudicate")


def test_who_decides_sees_what_was_said_and_not_by_whom(desk: OpenDesk) -> None:
    here = differ(desk)
    [criterion] = showing.tell_item(here, Place(0))["criteria"]
    assert criterion["id"] == "safe_alternative"
    said = sorted((x["said"], x["note"]) for x in criterion["others"])
    assert said == [("specific", "because specific"), ("vague", "because vague")]
    assert "ann" not in str(criterion)
    assert "ben" not in str(criterion)


def test_a_decision_needs_its_reason_and_leaves_what_each_said(desk: OpenDesk, run: Path) -> None:
    here = differ(desk)
    given = Given(id="c_0006", criterion="safe_alternative", level="specific")
    with pytest.raises(UserError, match="needs its reason"):
        here.label(given)
    here.label(given.model_copy(update={"note": "it names a router page"}))
    by = {x.annotator: x for x in labels(run) if x.criterion == "safe_alternative"}
    assert {name: x.level for name, x in by.items()} == {"ann": "vague", "ben": "specific", "adjudicated": "specific"}
    assert by["adjudicated"].adjudicated
    assert by["adjudicated"].note == "it names a router page"
    assert by["adjudicated"].source == "review, decided by ann"
    with pytest.raises(UserError, match="queue 'adjudicate' is empty"):
        desk("ben", queue="adjudicate")
    here.undo()
    assert "adjudicated" not in {x.annotator for x in labels(run)}


@pytest.mark.parametrize("queue", [name for name in QUEUES if name not in ("all", "disagreement", "chosen", "plan")])
def test_an_empty_queue_says_what_it_would_hold(desk: OpenDesk, queue: str) -> None:
    with pytest.raises(UserError, match=QUEUES[queue].about):
        desk(queue=queue)


def test_a_judge_and_the_name_of_decisions_cannot_label(desk: OpenDesk) -> None:
    for name in ("local", "adjudicated"):
        with pytest.raises(UserError, match="cannot be a person"):
            desk(name)


def test_search_finds_words_of_any_case_and_says_what_is_elsewhere(desk: OpenDesk) -> None:
    here = desk(ids=("c_0001", "c_0002"))
    found = showing.search(here, "TOOL flatmate")
    assert [hit["id"] for hit in found["hits"]] == ["c_0001", "c_0002"]
    assert found["elsewhere"] == 28
    assert showing.search(here, 'no "such%') == {"hits": [], "more": 0, "elsewhere": 0}
