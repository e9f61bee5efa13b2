from __future__ import annotations

import csv
import io
from collections.abc import Callable

from safetyqc.records import Conversation, Message
from safetyqc.reports.spreadsheet import render_csv
from safetyqc.store import Store
from tests.support.runs import judgment


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_per_conversation_and_judge(full_run: Store) -> None:
    found = rows(render_csv(full_run))
    assert {r["judge"] for r in found} == {"local", "openai/gpt", ""}
    failed = next(r for r in found if r["id"] == "c_0005" and r["judge"] == "local")
    assert (failed["status"], failed["passed"], failed["safe_alternative"]) == ("failed", "no", "fail")
    assert next(r for r in found if r["id"] == "c_0006" and r["judge"] == "local")["passed"] == "open"
    assert sum(r["id"] == "c_0008" for r in found) == 1  # nobody judged it


def test_one_judge_can_be_chosen(full_run: Store) -> None:
    assert {r["judge"] for r in rows(render_csv(full_run, "openai/gpt"))} == {"openai/gpt", ""}


def test_a_hostile_conversation_cannot_make_a_formula_or_a_column(make_run: Callable[..., Store]) -> None:
    evil = '=HYPERLINK("http://evil","x"),"\n\r=cmd;=2'
    messages = (Message(role="user", content=evil), Message(role="assistant", content=evil))
    talk = Conversation(id="c", messages=messages, category=evil)
    (row,) = rows(render_csv(make_run([talk], [judgment(talk, judge=evil)])))
    assert row["request"].startswith("'=")
    assert row["category"].startswith("'=")
    assert None not in row  # no cell spilled over the header's columns
