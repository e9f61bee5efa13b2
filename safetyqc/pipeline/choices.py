"""Settings that several stages share, worked out once: which model plays which part, and which rules apply.

Running and estimating ask the same functions, so that an estimate is about the very run that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from safetyqc.config import Config, choose_model
from safetyqc.llm.hosts import EMBEDDED

if TYPE_CHECKING:
    from safetyqc.filters import FilterSettings
    from safetyqc.llm.client import Client


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


def filter_settings(config: Config) -> FilterSettings:
    """The configured rules, as the filters take them.

    Raises:
        ConfigError: a rule to skip that does not exist, or a mistake in the patterns file.
    """
    from safetyqc.filters import FilterSettings, check_filter_names, load_patterns

    section = config.filters
    check_filter_names(section.skip)
    return FilterSettings(
        min_turns=section.min_turns,
        ascii_english=section.ascii_english,
        skip=section.skip,
        patterns=load_patterns(section.patterns),
    )


def check_settings(
    config: Config, *, writes: bool = False, judges: bool = False, wanted: Mapping[str, int] | None = None
) -> None:
    """Find what is wrong with the files and names in the settings, before anything is asked, paid or written.

    Args:
        wanted: further conversations by category, which `top_up` would plan.

    Raises:
        UserError: a mistake in the rubric, taxonomy or patterns, or a model file that cannot be used.
    """
    from safetyqc.generate.scenarios import plan, top_up
    from safetyqc.generate.taxonomy import load_taxonomy
    from safetyqc.judge.table import JUDGES, make_judge
    from safetyqc.llm.llama import find_weights
    from safetyqc.rubrics import load_rubric_set

    models: list[str | None] = [rewriter_model(config), config.models.fallback]
    filter_settings(config)
    if judges:
        rubric = load_rubric_set(config.judge.rubric)
        for name in judge_models(config):
            kind = name.partition(":")[0]
            if kind in JUDGES and not (kind == "cascade" and config.judge.labels):
                make_judge(name, rubric, lambda: cast("Client", None))  # made to see its files, never asked
        models += [*judge_models(config), config.judge.fallback]
    if writes:
        settings = config.generate
        taxonomy = load_taxonomy(settings.taxonomy)
        plan(taxonomy, 1, settings.seed, languages=settings.languages, turns=settings.turns)
        top_up(taxonomy, dict.fromkeys(wanted or {}, 1), [], settings.seed)
        models += [author_model(config), config.generate.assistant]
    for model in models:
        if model is not None and model.startswith(f"{EMBEDDED}:"):
            find_weights(model, download=False)


def models_of(config: Config) -> list[str]:
    """Every model that a run may ask, so that what it takes to reach them can be loaded in time."""
    judges = (*judge_models(config), config.judge.fallback, config.rewrite.judge)
    named = (config.generate.model, config.generate.assistant, rewriter_model(config), *judges, config.models.fallback)
    return [model for model in dict.fromkeys(named) if model and model != EMBEDDED]
