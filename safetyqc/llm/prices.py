"""Turns token counts into money, before and after a call; an unknown price stays unknown and is never a zero.

Prices come from the user's own table, then from the price list that litellm ships (read as a file: litellm itself is
not imported). Discounts for cached prompts and surcharges for very long ones are left out. A
model at the user's own base URL has no public price, whatever its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from safetyqc.llm.client import Format, Request
from safetyqc.llm.hosts import is_in_process, is_nanochat, wire_name
from safetyqc.records import Usage
from safetyqc.text import CJK

_PER_MESSAGE = 4
_LIST_NAME = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True)
class Price:
    """What a model costs, in US dollars per million tokens."""

    input_usd: float
    output_usd: float

    def of(self, usage: Usage) -> float | None:
        """Cost of one call; None when the server did not count its tokens."""
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return (usage.prompt_tokens * self.input_usd + usage.completion_tokens * self.output_usd) / 1e6


FREE = Price(0.0, 0.0)


@dataclass(frozen=True)
class CallsEstimate:
    """What a stage is expected to take; `cost_usd` is None as soon as one price is unknown."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    unpriced: tuple[str, ...] = ()
    """Models whose price is unknown."""

    def __add__(self, other: CallsEstimate) -> CallsEstimate:
        known = self.cost_usd is not None and other.cost_usd is not None
        return CallsEstimate(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            tuple(dict.fromkeys((*self.unpriced, *other.unpriced))),
        )


@dataclass(frozen=True)
class Prices:
    """Looks prices up: the user's table first, then litellm's list."""

    table: Mapping[str, Price] = field(default_factory=dict)

    def find(self, model: str, api_base: str | None = None) -> Price | None:
        """The price of a model, or None when nobody told it."""
        given = self.table.get(model) or self.table.get(wire_name(model))
        if given is not None:
            return given
        if is_in_process(model) or is_nanochat(model):
            return FREE
        if api_base is not None:
            return None
        entry = listed(model)
        if entry is None or "input_cost_per_token" not in entry or "output_cost_per_token" not in entry:
            return None
        return Price(float(entry["input_cost_per_token"]) * 1e6, float(entry["output_cost_per_token"]) * 1e6)

    def _is_given(self, model: str) -> bool:
        return model in self.table or wire_name(model) in self.table

    def find_batch(self, model: str, api_base: str | None = None) -> Price | None:
        """The price of a model in a batch, or None when nobody told it: half prices are looked up, never assumed."""
        entry = listed(model) if not self._is_given(model) and api_base is None else None
        if entry is None or "input_cost_per_token_batches" not in entry or "output_cost_per_token_batches" not in entry:
            return None
        return Price(
            float(entry["input_cost_per_token_batches"]) * 1e6, float(entry["output_cost_per_token_batches"]) * 1e6
        )

    def estimate(
        self, model: str, *, calls: int, prompt_tokens: int, completion_tokens: int, api_base: str | None = None
    ) -> CallsEstimate:
        """Expect `calls` calls with these tokens each."""
        price = self.find(model, api_base)
        usage = Usage(prompt_tokens=calls * prompt_tokens, completion_tokens=calls * completion_tokens)
        return CallsEstimate(
            calls,
            calls * prompt_tokens,
            calls * completion_tokens,
            price.of(usage) if price else None,
            () if price else (model,),
        )


@cache
def price_list() -> Mapping[str, Mapping[str, Any]]:
    """litellm's list of models (some 30 ms to read); empty when litellm is not installed."""
    spec = find_spec("litellm")
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / _LIST_NAME
        if path.is_file():
            entries: dict[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            return entries
    return {}


def listed(model: str) -> Mapping[str, Any] | None:
    """litellm's entry for a model, with or without its provider prefix."""
    entries = price_list()
    if model in entries:
        return entries[model]
    prefix, _, name = model.partition("/")
    entry = entries.get(name)
    return entry if entry is not None and str(entry.get("litellm_provider", "")).startswith(prefix) else None


def known_format(model: str) -> Format | None:
    """The strictest way to ask this model for a schema, where litellm's list says so."""
    entry = listed(model)
    if entry is None or "supports_response_schema" not in entry:
        return None
    return "json_schema" if entry["supports_response_schema"] else "json_object"


def count_tokens(text: str, chars_per_token: float = 4) -> int:
    """Estimate the tokens of a text without a tokenizer: a CJK character is one, else so many characters are."""
    wide = len(CJK.findall(text)) if not text.isascii() else 0
    return wide + ceil((len(text) - wide) / chars_per_token)


def count_prompt(request: Request) -> int:
    """Estimate the prompt tokens of a request, its schema included."""
    return count_messages(request.messages) + (len(json.dumps(request.schema)) // 4 if request.schema else 0)


def count_messages(messages: Sequence[Mapping[str, str]]) -> int:
    """Estimate the tokens of messages."""
    return sum(count_tokens(m["content"]) + _PER_MESSAGE for m in messages)
