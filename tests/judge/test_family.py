"""A judge of the author's own family is warned of."""

from __future__ import annotations

import pytest

from safetyqc.judge.family import families, family_warning


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("openai/gpt-4o-mini", {"OpenAI"}),
        ("openai/o3-mini", {"OpenAI"}),
        ("openrouter/meta-llama/llama-3.3-70b-instruct", {"Llama"}),
        ("openrouter/deepseek/deepseek-r1-distill-llama-70b", {"DeepSeek", "Llama"}),
        ("ollama/qwen2.5:7b", {"Qwen"}),
        ("local:models/qwen2.5-coder-1.5b.gguf", {"Qwen"}),
        ("anthropic/claude-sonnet-4", {"Claude"}),
        ("gemini/gemma-2-9b", {"Gemini"}),
        ("groq/phi-4", {"Phi"}),
        ("local", set()),
        ("openai/my-own-model", set()),
    ],
)
def test_a_name_tells_its_families(model: str, family: set[str]) -> None:
    assert families(model) == family


def test_a_shared_family_is_told_with_the_part_that_shares_it() -> None:
    told = family_warning("openai/gpt-4o", {"author": "openai/gpt-4o-mini", "rewriter": "anthropic/claude-x"})
    assert told is not None
    assert "author openai/gpt-4o-mini" in told
    assert "claude" not in told


def test_one_unknown_model_in_two_parts_is_told_too() -> None:
    assert family_warning("openai/mine", {"author": "openai/mine"})


def test_different_families_and_the_embedded_judge_are_fine() -> None:
    assert family_warning("openai/gpt-4o", {"author": "ollama/qwen2", "rewriter": None}) is None
    assert family_warning("local", {"author": "local"}) is None
