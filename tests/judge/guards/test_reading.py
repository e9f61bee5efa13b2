"""A guard's whole answer must have its form; what has another is unusable, and thoughts before it do no harm."""

from __future__ import annotations

import math

import pytest

from safetyqc.errors import ModelError
from safetyqc.judge.guards.file import guard_names, load_guard
from safetyqc.judge.guards.reading import categories_of, read_answer, reads_like
from safetyqc.llm import Reply


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        ("llamaguard3", "\n\nunsafe\nS2,S10", {"safety": "unsafe", "categories": "S2,S10"}),
        ("llamaguard4", "safe", {"safety": "safe"}),
        ("llamaguard3", "unsafe", {"safety": "unsafe"}),
        (
            "qwen3guard",
            "Safety: Controversial\nCategories: PII\nRefusal: No",
            {"safety": "Controversial", "categories": "PII", "refusal": "No"},
        ),
        ("graniteguardian3", "Yes", {"harm": "Yes"}),
        ("graniteguardian3", "No\n<confidence> Low </confidence>", {"harm": "No", "confidence": "Low"}),
        ("graniteguardian3", "<think>\nhm\n</think>\n<score> yes </score>", {"harm": "yes"}),
        (
            "nemotronguard",
            '{"User Safety": "safe", "Response Safety": "unsafe", "Safety Categories": "Violence"}',
            {"request": "safe", "response": "unsafe", "categories": "Violence"},
        ),
        ("mdjudge", "It is fine.\n[RESULT]: safe, score 1", {"safety": "safe", "score": "1"}),
        ("sorrybench", "0.0", {"complies": "0"}),
        ("gptosssafeguard", "PASS", {"verdict": "PASS"}),
        (
            "dynaguard",
            "<answer>\nFAIL\n</answer>\n<explanation>\nRule 1 is broken.\n</explanation>",
            {"verdict": "FAIL"},
        ),
        ("dynaguard", "<think>rule 1 holds</think>\n<answer>\nPASS\n</answer>", {"verdict": "PASS"}),
    ],
)
def test_real_answers_are_read(name: str, text: str, fields: dict[str, str]) -> None:
    assert dict(read_answer(Reply(text), load_guard(name)).fields) == fields


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llamaguard3", "The conversation is safe."),
        ("llamaguard3", "safe and sound"),
        ("llamaguard3", "safe\nunsafe"),
        ("llamaguard3", "unsafe\nbecause it is about theft"),
        ("qwen3guard", "Safety: Unsafe\nCategories: Violent"),
        ("qwen3guard", "Refusal: Yes"),
        ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal: Yes\nSafety: Unsafe\nCategories: None\nRefusal: No"),
        ("wildguard", "Harmful request: yes\nResponse refusal: n/a\nHarmful response: n/a"),
        ("shieldgemma", "Yesterday"),
        ("gptosssafeguard", "PASS or FAIL"),
        ("sorrybench", "10"),
        ("mdjudge", "[RESULT]: mostly safe"),
        ("llamaguard3", ""),
        ("llamaguard3", "<think>safe"),
    ],
)
def test_anything_else_is_no_verdict(name: str, text: str) -> None:
    with pytest.raises(ModelError) as raised:
        read_answer(Reply(text), load_guard(name))
    assert raised.value.kind == "bad_json"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("Safety: Uns", finish_reason="length"), "truncated"),
        (Reply("", finish_reason="content_filter"), "filtered_by_provider"),
        (Reply("I'm sorry, but I can't judge this."), "refused_by_model"),
    ],
)
def test_why_there_is_no_verdict_is_told(reply: Reply, kind: str) -> None:
    with pytest.raises(ModelError) as raised:
        read_answer(reply, load_guard("qwen3guard"))
    assert raised.value.kind == kind


def test_categories_are_looked_up_in_both_crosswalks() -> None:
    guard = load_guard("llamaguard3")
    found = categories_of(read_answer(Reply("unsafe\nS9, S77"), guard), guard)
    assert [name for name, _ in found] == ["S9", "S77"]
    assert found[0][1] is not None
    assert (found[0][1].ours, found[0][1].ailuminate) == ("drugs_or_weapons", "indiscriminate_weapons")
    assert found[1][1] is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("\n\nsafe", [("\n\n", {}), ("safe", {"safe": math.log(0.9), "un": math.log(0.1)})]),
        # Thoughts that the server keeps apart are among the tokens all the same
        ("safe", [("hm", {"hm": 0.0}), ("\n\n", {}), ("safe", {"safe": math.log(0.9), "unsafe": math.log(0.1)})]),
    ],
)
def test_the_probability_is_that_of_the_verdicts_token(text: str, tokens: list[tuple[str, dict[str, float]]]) -> None:
    guard = load_guard("llamaguard3")
    certainty = guard.says["no_dangerous_steps"].certainty
    assert certainty is not None
    assert read_answer(Reply(text, logprobs=tokens), guard).probability(certainty) == pytest.approx(0.9)


@pytest.mark.parametrize("tokens", [None, [("safe", {"safe": -0.1})], [("other", {"x": -0.1})]])
def test_no_probability_is_made_up(tokens: list[tuple[str, dict[str, float]]] | None) -> None:
    guard = load_guard("llamaguard3")
    certainty = guard.says["no_dangerous_steps"].certainty
    assert certainty is not None
    assert read_answer(Reply("safe", logprobs=tokens), guard).probability(certainty) is None


def test_an_answer_tells_whose_it_could_be() -> None:
    guards = [load_guard(name) for name in guard_names()]
    assert list(reads_like("\n\nunsafe\nS2", guards)) == ["llamaguard3", "llamaguard4"]
