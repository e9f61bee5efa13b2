"""Settles which conversations a run is to hold: drawn once, kept with the run, the same at every resume.

It asks no model. A plan may grow (a larger count, a top-up), but seed, languages and taxonomy are fixed by the first
command, because a changed draw would mix two different plans into one balance table. A top-up stays open until all of
it is written: until then the same words go on with it, whatever ended the command that began it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from safetyqc.config import DEFAULT_COUNT, GenerateSettings
from safetyqc.errors import RunError
from safetyqc.generate.scenarios import balance, plan, top_up
from safetyqc.generate.taxonomy import Taxonomy
from safetyqc.records import Scenario, content_hash
from safetyqc.store import Store

PLAN = "plan"
_EVEN = "even_openers"
_OPEN = "open_top_ups"
"""Top-ups of which something is still to be written."""


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
    fixed = {
        "seed": settings.seed,
        "languages": list(settings.languages),
        "turns": settings.turns,
        "taxonomy": content_hash(taxonomy.model_dump(mode="json"))[:16],
    }
    before = store.meta(PLAN)
    _refuse_change(before, fixed, store)
    base = _base(before, settings.count, store, is_top_up=bool(wanted))
    top_ups, still_open = (list(before.get(name, [])) if before else [] for name in ("top_ups", _OPEN))
    if wanted and dict(wanted) not in still_open:
        top_ups.append(dict(wanted))
        still_open.append(dict(wanted))
    # A plan that was begun by an earlier version goes on as it was dealt
    how: dict[str, Any] = {
        "languages": settings.languages,
        "turns": settings.turns,
        _EVEN: before.get(_EVEN, False) if before else True,
    }
    scenarios = plan(taxonomy, base, settings.seed, **how) if base else []
    for each in top_ups:
        scenarios += top_up(taxonomy, each, scenarios, settings.seed, **how)
    store.set_meta(
        PLAN, fixed | {_EVEN: how[_EVEN], "base": base, "top_ups": top_ups, _OPEN: still_open} | _counts(scenarios)
    )
    return scenarios


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
        if before and before[name] != value:
            raise RunError(
                f"this run was planned with {name} {before[name]!r}, not {value!r}",
                where=str(store.folder),
                fix=f"use the same {name}, or start a new run with --run",
            )


def _counts(scenarios: list[Scenario]) -> dict[str, Any]:
    return {
        "count": len(scenarios),
        "per_category": dict(Counter(s.category for s in scenarios)),
        "per_intent": dict(Counter(s.intent for s in scenarios)),
        "cells": balance(scenarios),
    }
