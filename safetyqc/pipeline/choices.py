"""Which model plays which part, where the user did not say: decided here once, for running and for estimating alike."""

from __future__ import annotations

from typing import Literal

from safetyqc.config import Config, choose_model

EMBEDDED = "local"
"""As an author: the small model in llama.cpp. As a judge: the scikit-learn judge, which needs no model at all."""


def author_model(config: Config) -> str:
    """Who writes conversations (in a dialogue: the user's side).

    Raises:
        UserError: none was named although a provider's key is set.
    """
    return choose_model(config.generate.model)


def author_mode(config: Config) -> Literal["oneshot", "dialogue"]:
    """How conversations are written: a 135M model cannot write a whole one as JSON, so it goes turn by turn."""
    return config.generate.mode or ("dialogue" if author_model(config) == EMBEDDED else "oneshot")


def judge_models(config: Config) -> tuple[str, ...]:
    """Who judges, the deciding one first: those named, else the author's model, else the embedded judge."""
    return config.judge.models or ((config.generate.model,) if config.generate.model else (EMBEDDED,))


def rewriter_model(config: Config) -> str | None:
    """Who mends weak conversations: the one named, else the author named; None when neither is."""
    return config.rewrite.model or config.generate.model


def second_judge(config: Config) -> str | None:
    """A named judge other than the rewriter, to confirm rewrites when the deciding judge is the rewriter itself."""
    models = (*((config.rewrite.judge,) if config.rewrite.judge else ()), *judge_models(config))
    rewriter = rewriter_model(config)
    return next((model for model in models if model != rewriter), None)
