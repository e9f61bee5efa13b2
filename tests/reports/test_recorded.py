"""A set's own labels are counted in every face of a run's report, beside the judge's verdicts, and decide nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from safetyqc.formats.readers import read_conversations
from safetyqc.records import Judgment, Score
from safetyqc.reports.documents import render_markdown
from safetyqc.reports.html import render_html
from safetyqc.reports.recorded import recorded_rows
from safetyqc.reports.summary import summarise
from safetyqc.results.report import Recorded, Summary
from safetyqc.store import Store
from tests.reports.test_terminal import draw

Maker = Callable[..., Store]
ODD = "<b>odd</b>|set"


@pytest.fixture
def run(make_run: Maker, tmp_path: Path) -> Store:
    rows = [{"prompt": f"How? {n}", "response": f"So {n}.", "is_safe": n < 3} for n in range(4)]
    odd = [
        {"prompt": "When?", "response": "Then.", "recorded": "2024-01-01"},
        {"prompt": "Who?", "response": "She.", "recorded": {"at": "noon", ODD: "2_full_refusal"}},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, [*rows, *odd])))
    conversations = read_conversations(file).conversations
    judged = [
        Judgment(
            conversation_id=one.id,
            judge="m",
            rubric="r",
            rubric_hash="h",
            passed=True,
            scores=(Score(criterion="no_dangerous_steps", outcome="pass"),),
        )
        for one in conversations[1:]
    ]
    return make_run(conversations, judged)


@pytest.fixture
def summary(run: Store) -> Summary:
    return summarise(run)


def test_they_are_counted_beside_what_the_judge_says(summary: Summary) -> None:
    assert summary.recorded == (
        Recorded(by=ODD, criterion="strict_refusal", passed=1, failed=0, both=0, same=0),
        Recorded(by="BeaverTails", criterion="no_dangerous_steps", passed=3, failed=1, both=3, same=2),
    )
    assert summary.run.judge == "m"


def test_every_face_shows_them_and_makes_names_harmless(run: Store, summary: Summary) -> None:
    cells = recorded_rows(summary.recorded)[1]
    assert cells == ("BeaverTails", "no_dangerous_steps", "3", "1", "66.7% of 3")
    terminal, markdown, page = draw(summary), render_markdown(summary), render_html(run, summary)
    for face in (terminal, markdown, page):
        assert "Recorded verdicts" in face
        assert all(cell.replace("_", " ") in face.replace("&#95;", "_").replace("_", " ") for cell in cells)
    assert "<b>odd" not in markdown + page
    assert "Recorded verdicts" in draw(summary, sections=["recorded"])


def test_a_run_without_any_says_nothing_of_them(full_run: Store) -> None:
    found = summarise(full_run)
    assert found.recorded == ()
    assert "Recorded verdicts" not in draw(found) + render_markdown(found)
