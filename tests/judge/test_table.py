"""Every kind of judge is made by name, and only those that need a model open a client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.judge.cascade import CascadeJudge
from safetyqc.judge.panel import PanelJudge
from safetyqc.judge.recorded import RecordedJudge
from safetyqc.judge.rubric import RubricJudge
from safetyqc.judge.table import JUDGES, JudgeSettings, make_cascade, make_judge
from safetyqc.records import Label
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import ScriptedClient, conversation

SAFETY = load_rubric_set()


def no_client() -> Any:
    raise AssertionError("no model was needed")


def test_the_embedded_judge_needs_no_client() -> None:
    judge = make_judge("local", SAFETY, no_client)
    assert judge.name == "local"
    assert judge.rubric_hash == SAFETY.hash


def test_a_recording_needs_no_client(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps({"id": "x", "criteria": {}, "passed": None}))
    assert isinstance(make_judge(f"recorded:{path}", SAFETY, no_client), RecordedJudge)


def test_anything_else_is_a_model_with_the_settings() -> None:
    client = ScriptedClient([])
    judge = make_judge("openai/gpt-4o:free", SAFETY, client, JudgeSettings(votes=3, fallback_model="b", max_tokens=9))
    assert isinstance(judge, RubricJudge)
    assert (judge.name, judge.votes, judge.fallback_model, judge.max_tokens) == ("openai/gpt-4o:free", 3, "b", 9)


def test_a_model_in_this_process_gets_a_small_context() -> None:
    small = make_judge("local:m.gguf", SAFETY, ScriptedClient([]))
    big = make_judge("openai/x", SAFETY, ScriptedClient([]))
    assert isinstance(small, RubricJudge)
    assert isinstance(big, RubricJudge)
    assert small.max_conversation_tokens < big.max_conversation_tokens


@pytest.mark.parametrize(
    ("spec", "rule"), [("panel:a,b", "majority"), ("any-fail:a,b", "any-fail"), ("mean:a,b", "mean")]
)
def test_panels_name_their_members(spec: str, rule: str) -> None:
    panel = make_judge(spec, SAFETY, ScriptedClient([]))
    assert isinstance(panel, PanelJudge)
    assert (panel.rule, [j.name for j in panel.judges]) == (rule, ["a", "b"])


def test_a_cascade_without_labels_is_refused() -> None:
    with pytest.raises(UserError, match="--labels"):
        make_judge("cascade:local>m", SAFETY, no_client)
    assert "cascade" in JUDGES


def test_a_cascade_is_fitted_on_labels() -> None:
    said = [conversation("How?", "No.", id=str(n), category="general_safety", intent="benign") for n in range(3)]
    labels = [Label(conversation_id=c.id, criterion="helpful_when_benign", outcome="fail") for c in said]
    cascade = asyncio.run(make_cascade("cascade:local", SAFETY, no_client, None, labelled=said, labels=labels))
    assert isinstance(cascade, CascadeJudge)
    assert "too few" in cascade.stages[0].promises["helpful_when_benign"].why


def test_a_name_is_needed() -> None:
    with pytest.raises(UserError, match="without a name"):
        make_judge(" ", SAFETY, no_client)
    with pytest.raises(UserError, match="two or more"):
        make_judge("panel:a", SAFETY, ScriptedClient([]))
