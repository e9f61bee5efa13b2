"""The lines of --jsonl: an index that points into what was read, and never a guess where there is no verdict."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.records import Duplicate, DuplicateGroup, ReferenceMatch, Source
from safetyqc.results.lines import duplicate_lines, places, verdict_line
from safetyqc.testing import conversation
from tests.support.runs import judgment

FIRST = conversation("a?", "b", source=Source(path="data", index=3))
SECOND = conversation("c?", "d")


def test_a_place_is_that_of_the_data_or_of_the_run() -> None:
    assert places([SECOND, FIRST], of_data=True) == [0, 3]
    assert places([SECOND, FIRST], of_data=False) == [0, 1]


def test_without_a_verdict_nothing_is_passed_or_failed() -> None:
    bare = {"index": 3, "id": FIRST.id, "criteria": {}, "passed": None, "classified": {}}
    assert verdict_line(3, FIRST, None) == bare
    line = verdict_line(3, FIRST, judgment(FIRST))
    assert set(line["criteria"]) == {score.criterion for score in judgment(FIRST).scores}


def test_groups_come_before_matches_and_both_name_places() -> None:
    group = DuplicateGroup(kept=FIRST.id, dropped=(Duplicate(conversation_id=SECOND.id, similarity=0.93),))
    match = ReferenceMatch(conversation_id=SECOND.id, path="x.csv", line=12, similarity=0.71, reference_text="t")
    lines = list(duplicate_lines([group], [match], {FIRST.id: 3, SECOND.id: 7}))
    assert lines == [
        {"kept": 3, "dropped": [{"index": 7, "similarity": 0.93}]},
        {"index": 7, "near": {"path": "x.csv", "line": 12, "text": "t"}, "similarity": 0.71, "removed": True},
    ]


@pytest.mark.parametrize(
    ("told", "classified"),
    [
        ({}, {"category": "violence", "intent": "harmful"}),
        ({"category": "fraud"}, {"intent": "harmful"}),
        ({"category": "fraud", "intent": "benign"}, {}),
    ],
)
def test_what_the_judge_guessed_is_told_and_what_the_file_told_is_no_guess(
    told: dict[str, Any], classified: dict[str, str]
) -> None:
    talk = conversation("q", "a", id="x", **told)
    verdict = judgment(talk).model_copy(update={"category": "violence", "intent": "harmful"})
    line = verdict_line(0, talk, verdict)
    assert line["classified"] == classified
    # nobody measured how often this judge's guesses are right, so that nothing is claimed
    assert line.get("classified_right", {}) == dict.fromkeys(classified)
