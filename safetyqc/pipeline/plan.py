"""Settles which conversations a run is to hold: drawn once, kept with the run, the same at every resume.

It asks no model. A plan may grow (a larger count, a top-up), but seed, languages and taxonomy are fixed by the first
command, because a changed draw would mix two different plans into one balance table. A top-up stays open until all of
it is written: until then the same words go on with it, whatever ended the command that began it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetyqc.config import DEFAULT_COUNT, Config, GenerateSettings
from safetyqc.errors import RunError
from safetyqc.generate.dealing import ENGLISH, Deal, Way
from safetyqc.generate.scenarios import balance, plan, top_up
from safetyqc.generate.taxonomy import EARLIER, ORDINARY, Taxonomy, load_taxonomy
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.pipeline.choices import author_model
from safetyqc.records import Scenario, content_hash
from safetyqc.store import Store

PLAN = "plan"
_OPEN = "open_top_ups"
"""Top-ups of which something is still to be written."""
_TAXONOMY_FILE = "taxonomy_file"
_OF_EARLIER_PLANS = {"twins": False}
"""What holds where a plan of an earlier version says nothing."""


def as_planned(store: Store, config: Config) -> Config:
    """The configuration with the seed and the taxonomy file of the run's plan, where it names none itself."""
    before, settings = store.meta(PLAN), config.generate
    if before is None:
        return config
    file = before.get(_TAXONOMY_FILE) if settings.taxonomy is None else None
    found: dict[str, Any] = {"taxonomy": Path(file)} if file else {}
    if "seed" not in settings.model_fields_set:
        found["seed"] = before["seed"]
    return config.model_copy(update={"generate": settings.model_copy(update=found)})


def settle_plan(
    store: Store, taxonomy: Taxonomy, settings: GenerateSettings, wanted: Mapping[str, int] | None = None
) -> list[Scenario]:
    """Draw the run's scenarios, and remember with the run how they were drawn.

    Args:
        wanted: further conversations by category, on top of the plan so far (`--top-up`); those of a top-up that is
            still open are meant, where there is one.

    Raises:
        RunError: the run was planned with another seed, languages, turns or taxonomy.
        ConfigError: the taxonomy does not know a language or category.
    """
    before = store.meta(PLAN)
    deal = deal_of(before, settings)
    fixed = {"seed": settings.seed, "taxonomy": hash_of(taxonomy)} | asdict(deal)
    fixed["languages"] = list(deal.languages)
    _refuse_change(before, fixed, store)
    base = _base(before, settings.count, store, is_top_up=bool(wanted))
    top_ups, still_open = (list(before.get(name, [])) if before else [] for name in ("top_ups", _OPEN))
    if wanted and dict(wanted) not in still_open:
        top_ups.append(dict(wanted))
        still_open.append(dict(wanted))
    scenarios = plan(taxonomy, base, settings.seed, deal) if base else []
    for each in top_ups:
        scenarios += top_up(taxonomy, each, scenarios, settings.seed, deal)
    file = {_TAXONOMY_FILE: str(settings.taxonomy.resolve()) if settings.taxonomy else None}
    store.set_meta(PLAN, fixed | file | {"base": base, "top_ups": top_ups, _OPEN: still_open} | _counts(scenarios))
    return scenarios


def settle_kept(store: Store, taxonomy: Taxonomy, settings: GenerateSettings) -> tuple[dict[str, int], list[Scenario]]:
    """How many of each category are to be kept, and the run's scenarios: at least as many of each.

    Raises:
        RunError: as `settle_plan`.
    """
    before = store.meta(PLAN)
    wanted = kept_counts(taxonomy, settings, before)
    planned: Mapping[str, int] = (before or {}).get("per_category", {})
    missing = {name: count - planned.get(name, 0) for name, count in wanted.items() if count > planned.get(name, 0)}
    scenarios = settle_plan(store, taxonomy, settings, missing or None)
    close_top_ups(store)  # they are no wish of their own: the same command asks for what is missing yet
    return wanted, scenarios


def kept_counts(
    taxonomy: Taxonomy, settings: GenerateSettings, before: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """How many conversations `--kept` means of each category; of ordinary requests as many as their share says."""
    kept = settings.kept or 0
    risks = {category.name: kept for category in taxonomy.categories if category.weight}
    shares = deal_of(before, settings).shares or {}
    ordinary, total = shares.get(ORDINARY, 0), sum(shares.values())
    if ordinary and total > ordinary:
        risks[ORDINARY] = round(sum(risks.values()) * ordinary / (total - ordinary))
    return risks


def taxonomy_of(store: Store, settings: GenerateSettings) -> Taxonomy:
    """The taxonomy of the settings; where they name none, the bundled one that the run was planned by.

    Raises:
        ConfigError: the file cannot be used.
    """
    taxonomy = load_taxonomy(settings.taxonomy)
    before = store.meta(PLAN)
    if settings.taxonomy is None and before and before["taxonomy"] != hash_of(taxonomy):
        earlier = load_taxonomy(EARLIER)
        return earlier if before["taxonomy"] == hash_of(earlier) else taxonomy
    return taxonomy


def names_worn(store: Store, config: Config) -> bool:
    """Whether scenarios are told what was used too often: not in plans of earlier versions, whose requests stay word
    for word what they were, nor where the author is too small to mind it."""
    author = config.generate.assistant or author_model(config)
    return config.generate.name_worn and author != EMBEDDED and (store.meta(PLAN) or {}).get("way") == "topic"


def hash_of(taxonomy: Taxonomy) -> str:
    """What tells one taxonomy from another."""
    return content_hash(taxonomy.model_dump(mode="json"))[:16]


def deal_of(before: Mapping[str, Any] | None, settings: GenerateSettings) -> Deal:
    """How a plan is dealt: as the settings say, and a plan that is there as it was begun, by whichever version."""
    shares = dict(settings.shares) if settings.shares is not None else None
    chosen = Deal(settings.languages or ENGLISH, settings.turns, shares, settings.twins is not False)
    if before is None:
        return chosen
    way: Way = before.get("way") or ("opener" if before.get("even_openers") else "place")
    return Deal(
        settings.languages or tuple(before["languages"]),
        before.get("turns") if settings.turns is None else settings.turns,
        shares if shares is not None else before.get("shares"),
        before.get("twins", False) if settings.twins is None else settings.twins,
        way,
    )


def close_top_ups(store: Store) -> None:
    """Remember that every scenario is written: whoever asks for the same top-up from now on wants as many again."""
    plan = store.meta(PLAN)
    if plan.get(_OPEN):
        store.set_meta(PLAN, plan | {_OPEN: []})


def _base(before: Mapping[str, Any] | None, count: int | None, store: Store, *, is_top_up: bool) -> int:
    """How many conversations the plan begins with; fixed once a top-up stands behind them, none in a run of files."""
    if before is None:
        return 0 if is_top_up else count or DEFAULT_COUNT
    base: int = before["base"]
    if count is None or is_top_up or count <= base:
        return base
    if before["top_ups"]:
        raise RunError(
            f"this run was topped up, so its first {base:,} conversations cannot become {count:,}",
            where=str(store.folder),
            fix="add more with `safetyqc generate --top-up CATEGORY=N`, or start a new run with --run",
        )
    return count


def _refuse_change(before: Mapping[str, Any] | None, fixed: Mapping[str, Any], store: Store) -> None:
    for name, value in fixed.items():
        was = (before or {}).get(name, _OF_EARLIER_PLANS.get(name))
        if before and name != "way" and was != value:
            raise RunError(
                f"this run was planned with {name} {was!r}, not {value!r}",
                where=str(store.folder),
                fix=f"{_SAME.get(name, f'use the same {name}')}, or start a new run with --run",
            )


_SAME = {"taxonomy": "give the file as it was: --taxonomy FILE"}


def _counts(scenarios: list[Scenario]) -> dict[str, Any]:
    return {
        "count": len(scenarios),
        "per_category": dict(Counter(s.category for s in scenarios)),
        "per_intent": dict(Counter(s.intent for s in scenarios)),
        "cells": balance(scenarios),
        "pairs": sum(members == 2 for members in Counter(s.pair for s in scenarios if s.pair).values()),
    }
