"""Settings that several stages share, worked out once: which model plays which part, and which rules apply.

Running and estimating ask the same functions, so that an estimate is about the very run that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from safetyqc.config import Config, choose_model
from safetyqc.llm.hosts import EMBEDDED, base_of, own_base
from safetyqc.llm.places import Places, not_at_base

if TYPE_CHECKING:
    from safetyqc.config import JudgeSection
    from safetyqc.filters import FilterSettings
    from safetyqc.judge.cascade import CascadeLabels
    from safetyqc.judge.kinds import JudgeSettings
    from safetyqc.llm.prices import Prices


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


def judge_settings(config: Config, base: str | None = None) -> JudgeSettings:
    """How the configured judges are made, for every kind of them.

    Args:
        base: where their models are asked; None: where nothing says otherwise.
    """
    from safetyqc.judge.kinds import JudgeSettings

    section = config.judge
    return JudgeSettings(
        per_criterion=section.per_criterion,
        votes=section.votes,
        fallback_model=section.fallback,
        max_tokens=section.max_tokens,
        api_base=base,
        base_for=lambda model: asked_at(config, model, base),
        read_labels=(lambda: _cascade_labels(section)) if section.labels else None,
    )


def _cascade_labels(section: JudgeSection) -> CascadeLabels:
    from safetyqc.formats.labels import read_labels
    from safetyqc.formats.readers import read_conversations
    from safetyqc.judge.cascade import CascadeLabels

    labelled = [c for path in section.labels for c in read_conversations(path).conversations]
    labels = [label for path in section.labels for label in read_labels(path, labelled)]
    return CascadeLabels(labelled, labels, section.min_agreement, section.confidence, section.people)


def second_judge(config: Config) -> str | None:
    """A named judge other than the rewriter, to confirm rewrites when the deciding judge is the rewriter itself."""
    models = (*((config.rewrite.judge,) if config.rewrite.judge else ()), *judge_models(config))
    return next((model for model in models if not is_rewriter(config, model)), None)


def is_rewriter(config: Config, judge: str) -> bool:
    """Whether a judge asks no other model than the rewriter, so that it would judge its own work."""
    from safetyqc.judge.table import asked_by

    asked = {asked.model for asked in asked_by(judge, judge_settings(config)) if not asked.stands_in}
    return asked == {rewriter_model(config)}


def filter_settings(config: Config) -> FilterSettings:
    """The configured rules, as the filters take them.

    Raises:
        ConfigError: a mistake in the patterns file.
    """
    from safetyqc.filters import FilterSettings, load_patterns

    section = config.filters
    return FilterSettings(
        min_turns=section.min_turns,
        ascii_english=section.ascii_english,
        skip=section.skip,
        patterns=load_patterns(section.patterns),
    )


def check_settings(
    config: Config,
    *,
    writes: bool = False,
    judges: bool = False,
    rewrites: bool = False,
    wanted: Mapping[str, int] | None = None,
) -> None:
    """Find what is wrong with the files and names in the settings, before anything is asked, paid or written.

    Args:
        wanted: further conversations by category, which `top_up` would plan.

    Raises:
        UserError: a mistake in the rubric, taxonomy or patterns, a judge or model file that cannot be used, or a model
            without a price under `--max-cost`.
    """
    from safetyqc.generate.dealing import ENGLISH, Deal
    from safetyqc.generate.scenarios import plan, top_up
    from safetyqc.generate.taxonomy import load_taxonomy
    from safetyqc.judge.table import check_judge, check_writer
    from safetyqc.llm.llama import find_weights
    from safetyqc.rubrics import load_rubric_set

    filter_settings(config)
    if judges:
        rubric = load_rubric_set(config.judge.rubric)
        for name in judge_models(config):
            check_judge(name, rubric, judge_settings(config))
    if writes:
        author_model(config)
        settings = config.generate
        taxonomy = load_taxonomy(settings.taxonomy)
        plan(taxonomy, 1, settings.seed, Deal(settings.languages or ENGLISH, settings.turns, settings.shares))
        top_up(taxonomy, dict.fromkeys(wanted or {}, 1), [], settings.seed)
    wrote = (config.generate.model, config.generate.assistant) if writes else ()
    for writer in (*wrote, rewriter_model(config) if rewrites else None):
        if writer is not None:
            check_writer(writer)
    models = models_of(config, writes=writes, judges=judges, rewrites=rewrites)
    for model in models:
        if model.startswith(f"{EMBEDDED}:"):
            find_weights(model, download=False)
    _check_prices(config, models)


def _check_prices(config: Config, models: Sequence[str]) -> None:
    """Refuse a budget that could not be kept."""
    if config.models.max_cost_usd is not None:
        from safetyqc.llm.door import unknown_price

        prices, places = price_table(config), places_of(config)
        for model in models:
            if prices.find(model, places.base(model)) is None:
                unknown_price(model)


def price_table(config: Config) -> Prices:
    """The configured prices over the public list."""
    from safetyqc.llm.prices import Price, Prices

    own = {name: entry.prices for name, entry in config.models.by_name.items() if entry.prices is not None}
    return Prices({name: Price(*pair) for name, pair in (config.models.prices | own).items()})


def asked_at(config: Config, model: str, base: str | None) -> str | None:
    """Where a model is asked whose part in the run has this base URL, of the run's or of the command's."""
    places = places_of(config)
    if base is None and config.places:
        places = replace(places, api_base=None)
    elif base is not None and base != places.api_base:
        return base_of(model, own_base(model, base))
    return places.base(model)


def places_of(config: Config) -> Places:
    """Where the models of a command are asked."""
    models = config.models
    elsewhere = not_at_base(models_of(config)) if models.api_base else frozenset()
    return Places(models.api_base, models.by_name, elsewhere)


def models_of(config: Config, *, writes: bool = True, judges: bool = True, rewrites: bool = True) -> list[str]:
    """Every model that these parts of a run may ask, those of panels and cascades included."""
    from safetyqc.judge.table import asked_by

    named: list[str | None] = [config.models.fallback]
    if writes:
        named += [config.generate.model, config.generate.assistant]
    specs: list[str | None] = []
    if judges:
        specs += judge_models(config)
    if rewrites:
        named.append(rewriter_model(config))
        specs.append(config.rewrite.judge)
    settings = judge_settings(config)
    named += [asked.model for spec in specs if spec for asked in asked_by(spec, settings)]
    return [model for model in dict.fromkeys(named) if model]


def family_warnings(config: Config) -> list[str]:
    """Say which judges would judge the work of their own model family."""
    from safetyqc.judge.family import family_warning
    from safetyqc.judge.table import asked_by

    others = {"author": config.generate.model, "rewriter": rewriter_model(config)}
    asked = [a.model for judge in judge_models(config) for a in asked_by(judge, judge_settings(config))]
    found = [family_warning(model, others) for model in dict.fromkeys(asked)]
    return [warning for warning in found if warning]


def warn_of_silence(config: Config) -> list[str]:
    """Say what nothing is kept for because the judge that is to decide never scores it, before anything is paid."""
    from safetyqc.judge.table import never_scored
    from safetyqc.rubrics import load_rubric_set

    judge, rubric = judge_models(config)[0], load_rubric_set(config.judge.rubric)
    silent = never_scored(judge, rubric)
    if not silent:
        return []
    names = ", ".join(c.id for c in rubric.criteria if c.id in silent)
    return [
        f"{judge} never scores {names}, so it keeps nothing that one of them applies to: name a judge that does "
        "(--judge MODEL), or a rubric without them (--rubric)"
    ]
