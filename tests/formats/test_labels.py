"""Labels of people and of recorded judges come out of data files as what they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import InputError
from safetyqc.formats.labels import read_labels, read_recorded
from safetyqc.formats.readers import read_conversations
from safetyqc.testing import conversation

TURNS = conversation("What is a lock?", "A thing that closes.").as_messages()


def write(folder: Path, *records: Any) -> Path:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def cells(path: Path, **options: Any) -> set[tuple[str, str, str, str]]:
    return {(x.conversation_id, x.annotator, x.criterion, x.outcome) for x in read_labels(path, **options)}


def test_disputed_cells_are_left_out_and_na_is_kept(tmp_path: Path) -> None:
    labels = {"kind": "benign", "strict_refusal": "na", "empathy": "disputed", "safe_alternative": "fail"}
    path = write(tmp_path, {"id": "a", "messages": TURNS, "labels": labels})
    assert cells(path) == {("a", "human", "strict_refusal", "na"), ("a", "human", "safe_alternative", "fail")}


def test_labels_alone_are_matched_by_id(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "a", "labels": {"empathy": "pass"}})
    assert cells(path) == {("a", "human", "empathy", "pass")}


def test_labels_take_the_id_of_the_conversation_with_the_same_text(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "theirs", "messages": TURNS, "labels": {"empathy": "pass"}})
    ours = conversation("What is a lock?", "A thing that closes.", id="ours")
    assert cells(path, conversations=[ours]) == {("ours", "human", "empathy", "pass")}
    assert cells(path, conversations=[conversation("x", "y")]) == {("theirs", "human", "empathy", "pass")}


def test_an_id_that_means_another_text_is_an_error_not_a_wrong_label(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "1", "messages": TURNS, "labels": {"empathy": "pass"}})
    with pytest.raises(InputError, match=r"labels\.jsonl:1: labels '1', but the conversation of that id has another"):
        read_labels(path, [conversation("x", "y", id="1")])


@pytest.mark.parametrize(("partial", "final"), [("pass", {"pass"}), ("fail", {"fail"}), ("leave_out", set())])
def test_classes_of_refusal_become_strict_refusal(tmp_path: Path, partial: Any, final: set[str]) -> None:
    human = {"annotator_1": "1_full_compliance", "annotator_2": "2_full_refusal", "final": "3_partial_refusal"}
    found = read_labels(write(tmp_path, {"messages": TURNS, "human": human}), partial=partial)
    assert {x.criterion for x in found} == {"strict_refusal"}
    by_annotator = {x.annotator: x.outcome for x in found}
    assert by_annotator["annotator_1"] == "fail"
    assert by_annotator["annotator_2"] == "pass"
    assert {by_annotator[a] for a in by_annotator if a == "human"} == final


def test_a_judges_own_refusal_is_unscored_and_never_a_class(tmp_path: Path) -> None:
    refusal = "I'm sorry, but I can't assist with that."
    path = write(tmp_path, {"messages": TURNS, "recorded": {"gpt4": refusal, "rules": "2_full_refusal", "x": "?"}})
    gpt4, rules, odd = read_recorded(path)
    assert (gpt4.judge, gpt4.passed, gpt4.reply) == ("gpt4", None, refusal)
    (score,) = gpt4.scores
    assert (score.outcome, score.unscored_reason, score.reason, score.level) == (
        "unscored",
        "refused_by_model",
        refusal,
        None,
    )
    assert (rules.scores[0].outcome, rules.scores[0].level) == ("pass", "2_full_refusal")
    assert odd.scores[0].unscored_reason == "off_scale"


def test_a_recorded_judge_may_hold_an_outcome_per_criterion(tmp_path: Path) -> None:
    path = write(tmp_path, {"messages": TURNS, "recorded": {"m": {"empathy": "na", "safe_alternative": "fail"}}})
    (found,) = read_recorded(path)
    assert {s.criterion: s.outcome for s in found.scores} == {"empathy": "na", "safe_alternative": "fail"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "a", "labels": {"empathy": "pas"}}, r":1: label 'pas' of empathy\n  fix: did you mean 'pass'"),
        ({"id": "a", "labels": ["pass"]}, r":1: 'labels' is no object"),
        ({"messages": TURNS, "human": {"final": "2_full"}}, r":1: final's label is '2_full'"),
        ({"messages": TURNS[:1], "labels": {"empathy": "pass"}}, r":1: has 1 message"),
        ({"messages": TURNS}, r"holds no label"),
    ],
)
def test_what_is_no_label_is_told(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(write(tmp_path, record))


def test_a_file_without_recorded_judges_gives_none(tmp_path: Path) -> None:
    assert read_recorded(write(tmp_path, {"messages": TURNS})) == []


def test_real_labels_are_those_of_the_files(shared_data: Path) -> None:
    gold = shared_data / "gold_dev.jsonl"
    raw = [json.loads(line)["labels"] for line in gold.read_text(encoding="utf-8").splitlines()]
    wanted = Counter((k, v) for row in raw for k, v in row.items() if k != "kind" and v != "disputed")
    assert Counter((x.criterion, x.outcome) for x in read_labels(gold)) == wanted
    assert {x.conversation_id for x in read_labels(gold)} <= {c.id for c in read_conversations(gold).conversations}
    xstest = shared_data / "xstest_dev.jsonl"
    assert len(read_labels(xstest)) == 3 * 1317
    assert {j.judge for j in read_recorded(xstest)} == {"gpt4", "string_match"}
