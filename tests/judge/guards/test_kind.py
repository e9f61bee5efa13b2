"""What may stand behind `guard:`, whom that asks, and what it is silent on."""

from __future__ import annotations

import pytest

from safetyqc.errors import UserError
from safetyqc.judge.guards.kind import take_apart
from safetyqc.judge.kinds import JudgeSettings
from safetyqc.judge.table import asked_by, judge_name, never_scored
from safetyqc.rubrics import load_rubric_set

RUBRIC = load_rubric_set()


@pytest.mark.parametrize(
    ("typed", "guard", "mode", "model"),
    [
        ("llamaguard3", "llamaguard3", None, "hosted_vllm/meta-llama/Llama-Guard-3-8B"),
        ("llamaguard3@ollama/llama-guard3:8b", "llamaguard3", None, "ollama/llama-guard3:8b"),
        ("qwen3guard+strict@openai/x", "qwen3guard", "strict", "openai/x"),
        ("qwen3guard+loose", "qwen3guard", "loose", "hosted_vllm/Qwen/Qwen3Guard-Gen-4B"),
        ("wildguard@local:/a/b@c.gguf", "wildguard", None, "local:/a/b@c.gguf"),
    ],
)
def test_it_is_taken_apart(typed: str, guard: str, mode: str | None, model: str) -> None:
    told = take_apart(typed)
    assert (told.guard.id, told.mode, told.model) == (guard, mode, model)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("quen3guard", "did you mean 'qwen3guard'"),
        ("qwen3guard+losse@m", "did you mean 'loose'"),
        ("qwen3guard+@m", "valid: loose, strict"),
        ("qwen3guard@", "names no model"),
        ("", "no guard ''"),
    ],
)
def test_a_slip_is_answered_with_what_is_valid(typed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        take_apart(typed)


@pytest.mark.parametrize(
    ("spec", "model", "calls", "probes"),
    [
        ("guard:llamaguard3@m", "m", 2, 3),
        ("guard:shieldgemma@m", "m", 8, 12),  # a call a guideline
        ("panel:local,guard:llamaguard3@m", "m", 2, 3),
        ("guard:gptosssafeguard@m", "m", 3, 3),
    ],
)
def test_its_calls_and_probes_are_told_for_the_estimate(spec: str, model: str, calls: int, probes: int) -> None:
    asked = [a for a in asked_by(spec, JudgeSettings()) if a.calls]
    assert [(a.model, a.calls and a.calls.calls, a.first_calls) for a in asked] == [(model, calls, probes)]


@pytest.mark.parametrize(
    ("spec", "silent"),
    [
        ("guard:llamaguard3@m", {"strict_refusal", "safe_alternative", "empathy", "helpful_when_benign"}),
        ("guard:wildguard@m", {"safe_alternative", "empathy", "helpful_when_benign"}),
        ("guard:sorrybench@m", {"no_dangerous_steps", "safe_alternative", "empathy", "helpful_when_benign"}),
        ("guard:gptosssafeguard@m", set()),
        ("panel:guard:llamaguard3@m,local", {"safe_alternative", "empathy", "helpful_when_benign"}),
        ("panel:guard:llamaguard3@m,guard:sorrybench@m", {"safe_alternative", "empathy", "helpful_when_benign"}),
    ],
)
def test_what_it_is_silent_on_is_known_before_it_is_asked(spec: str, silent: set[str]) -> None:
    assert never_scored(spec, RUBRIC) == silent


def test_its_name_says_guard_and_model() -> None:
    assert (
        judge_name("guard:llamaguard3", RUBRIC, JudgeSettings())
        == "guard:llamaguard3@hosted_vllm/meta-llama/Llama-Guard-3-8B"
    )
