"""Every kind of judge is made by name, and only those that need a model open a client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import UserError
from safetyqc.judge.cascade import CascadeJudge, CascadeLabels
from safetyqc.judge.kinds import AskedModel, JudgeKind, JudgeSettings
from safetyqc.judge.panel import PanelJudge
from safetyqc.judge.recorded import RecordedJudge
from safetyqc.judge.rubric import RubricJudge
from safetyqc.judge.table import JUDGES, asked_by, check_judge, judge_name, make_judge, never_scored
from safetyqc.llm.hosts import base_of, own_base
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


def labelled() -> CascadeLabels:
    said = [conversation("How?", "No.", id=str(n), category="general_safety", intent="benign") for n in range(3)]
    labels = [Label(conversation_id=c.id, criterion="helpful_when_benign", outcome="fail") for c in said]
    return CascadeLabels(said, labels)


def test_a_cascade_is_fitted_on_labels_before_its_first_conversation() -> None:
    cascade = make_judge("cascade:local", SAFETY, no_client, JudgeSettings(read_labels=labelled))
    assert isinstance(cascade, CascadeJudge)
    asyncio.run(cascade.judge(labelled().labelled[0]))
    assert "too few" in cascade.stages[0].promises["helpful_when_benign"].why


def test_a_panel_may_have_a_cascade_for_a_member_and_prepares_it() -> None:
    panel = make_judge("panel:cascade:local,b", SAFETY, ScriptedClient([]), JudgeSettings(read_labels=labelled))
    assert isinstance(panel, PanelJudge)
    asyncio.run(panel.prepare())
    [cascade, _] = panel.judges
    assert isinstance(cascade, CascadeJudge)
    assert cascade.stages[0].promises


def test_a_cascade_in_a_cascade_is_refused() -> None:
    with pytest.raises(UserError, match="A>B>C"):
        make_judge("cascade:cascade:local>b", SAFETY, ScriptedClient([]), JudgeSettings(read_labels=labelled))


NESTED = [
    ("local", []),
    ("recorded:said.jsonl", []),
    ("trained:weights.npz", []),
    ("openai/a", [AskedModel("openai/a")]),
    ("openai/a:free", [AskedModel("openai/a:free")]),
    ("panel:openai/a, local ,openai/b", [AskedModel("openai/a"), AskedModel("openai/b")]),
    ("cascade:local>openai/a", [AskedModel("openai/a", at_most=True)]),
    ("cascade:openai/a > openai/b", [AskedModel("openai/a"), AskedModel("openai/b", at_most=True)]),
    ("panel:cascade:local>openai/a,openai/b", [AskedModel("openai/a", at_most=True), AskedModel("openai/b")]),
    ("cascade:local>mean:openai/a,openai/b", [AskedModel(f"openai/{m}", at_most=True) for m in "ab"]),
    ("local:model.gguf", [AskedModel("local:model.gguf")]),
]


@pytest.mark.parametrize(("spec", "asked"), NESTED)
def test_each_kind_of_judge_tells_the_models_it_asks_and_the_one_that_stands_in(
    spec: str, asked: list[AskedModel]
) -> None:
    assert asked_by(spec, JudgeSettings()) == asked
    stand_in = AskedModel("openai/z", at_most=True, stands_in=True)
    assert asked_by(spec, JudgeSettings(fallback_model="openai/z")) == [*asked, *([stand_in] if asked else [])]


def test_a_judge_is_known_by_the_name_its_judgments_carry() -> None:
    assert judge_name("openai/a", SAFETY, JudgeSettings()) == "openai/a"
    assert judge_name("panel:openai/a,local", SAFETY, JudgeSettings()) == "majority(openai/a, local)"
    assert judge_name("cascade:local>openai/a", SAFETY, JudgeSettings()) == "cascade(local > openai/a)"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("openai/a", "openai/a at 127.0.0.1:8411"),
        ("openrouter/a/b", "openrouter/a/b"),
        ("local", "local"),
        ("panel:openai/a,local", "majority(openai/a at 127.0.0.1:8411, local)"),
        ("guard:llamaguard3@ollama/g", "guard:llamaguard3@ollama/g at 127.0.0.1:8411"),
    ],
)
def test_the_same_model_asked_elsewhere_is_another_judge(spec: str, name: str) -> None:
    given = JudgeSettings(api_base="http://127.0.0.1:8411")
    resolved = JudgeSettings(base_for=lambda model: base_of(model, own_base(model, "127.0.0.1:8411")))
    assert judge_name(spec, SAFETY, given) == judge_name(spec, SAFETY, resolved) == name
    assert make_judge(spec, SAFETY, ScriptedClient([]), resolved).name == name


@pytest.mark.parametrize("spec", ["any-fail:a,b", "panel:local,cascade:local>a", "cascade:local>a"])
def test_the_name_told_beforehand_is_that_of_the_judge_that_is_made(spec: str) -> None:
    made = make_judge(spec, SAFETY, ScriptedClient([]), JudgeSettings(read_labels=labelled))
    assert judge_name(spec, SAFETY, JudgeSettings()) == made.name


@pytest.mark.parametrize("spec", ["pannel:a,b", "panels:a,b", "record:x.jsonl", "cascad:local>b", "panel:a,pannel:b,c"])
def test_a_slip_in_the_kind_is_no_model_and_names_the_valid_ones(spec: str) -> None:
    with pytest.raises(UserError, match=r"no kind of judge .*\n.*did you mean .*valid: .*recorded"):
        check_judge(spec, SAFETY, JudgeSettings())


@pytest.mark.parametrize("spec", ["llama3:8b", "ft:gpt-4o:org::id", "anthropic.claude-3-sonnet-v1:0", "openai/panel:x"])
def test_a_model_may_have_a_colon_in_its_name(spec: str) -> None:
    assert asked_by(spec, JudgeSettings()) == [AskedModel(spec)]


@pytest.mark.parametrize("spec", ["panel", "trained", "recorded:", "cascade: "])
def test_a_kind_that_names_nothing_says_how_it_is_typed(spec: str) -> None:
    with pytest.raises(UserError, match=r"names nothing\n  fix: give [a-z]+:"):
        check_judge(spec, SAFETY, JudgeSettings())


@pytest.mark.parametrize("word", JUDGES)
def test_the_page_about_judges_tells_of_every_kind(word: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    assert f"`{JUDGES[word].form.partition(':')[0]}" in page


def test_what_is_never_scored_is_what_no_member_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = frozenset({"empathy", "safe_alternative"})
    kind = JudgeKind("silent:X", "of few words", lambda _, m: make_judge("local", m.rubric_set, m.open_client))
    monkeypatch.setitem(JUDGES, "silent", replace(kind, never_scores=lambda _, __: silent))
    monkeypatch.setitem(JUDGES, "quiet", replace(kind, never_scores=lambda _, __: frozenset({"empathy"})))
    assert never_scored("silent:x", SAFETY) == silent
    assert never_scored("panel:silent:x,quiet:x", SAFETY) == {"empathy"}
    assert never_scored("cascade:silent:x>local", SAFETY) == silent
    assert never_scored("cascade:silent:x>openai/x", SAFETY) == frozenset()


def test_a_name_is_needed() -> None:
    with pytest.raises(UserError, match="without a name"):
        make_judge(" ", SAFETY, no_client)
    with pytest.raises(UserError, match="two or more"):
        make_judge("panel:a", SAFETY, ScriptedClient([]))
