"""Finds out with one cheap call whether a model can be used: key, name, schema support, limits and price.

It changes nothing and judges no quality. Schema support is tried, not believed; where the
strict way is refused, one more call finds the next best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm.client import Format, Request
from safetyqc.llm.complaints import key_hint
from safetyqc.llm.hosts import is_in_process, key_variable
from safetyqc.llm.structured import Unusable, ask_json
from safetyqc.records import Record

if TYPE_CHECKING:
    from safetyqc.llm.door import Door

_SCHEMA = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}},
    "required": ["ready"],
    "additionalProperties": False,
}
_QUESTION = 'Answer with the JSON object {"ready": true} and nothing else.'


class ModelReport(Record):
    """What is known of a model after one call.

    `format` is the strictest way of asking for a schema that works, None when none did. Limits are those that the
    server told in its headers; prices are dollars per million tokens. `fixes` says what to set where something is
    missing.
    """

    model: str
    lane: str
    api_base: str | None
    key: str
    """`set`, `not set` or `not needed`; never the key."""
    answered: bool
    error: str | None = None
    latency_s: float | None = None
    format: Format | None = None
    follows_schema: bool = False
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_usd: float | None = None
    output_usd: float | None = None
    fixes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can write and judge: it answers, and with the object that it was asked for."""
        return self.answered and self.follows_schema


async def check_model(door: Door, model: str) -> ModelReport:
    """Ask the model for one tiny object and tell what was learnt; one call of some 60 tokens, rarely up to four."""
    base = door.base(model)
    price = door.prices.find(model, base)
    report = ModelReport(
        model=model,
        lane=door.lane_name(model),
        api_base=base,
        key=_key(door, model),
        answered=False,
        input_usd=price.input_usd if price else None,
        output_usd=price.output_usd if price else None,
    )
    request = Request(
        model=model, messages=({"role": "user", "content": _QUESTION},), max_tokens=256, schema=_SCHEMA, stage="check"
    )
    try:
        answered = await ask_json(door, request, lambda value: value)
    except Unusable as error:
        found = {"answered": True, "error": error.reason, "latency_s": error.replies[-1].latency_s}
    except ModelError as error:
        fix = error.fix if isinstance(error, FatalModelError) else None
        return report.model_copy(update={"error": error.reason, "fixes": (fix,) if fix else ()})
    else:
        found = {"answered": True, "follows_schema": True, "latency_s": answered.replies[-1].latency_s}
    rpm, tpm = door.limits(request).rates
    found |= {
        "format": door.capabilities.format_for(request),
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
    }
    report = report.model_copy(update=found)
    return report.model_copy(update={"fixes": tuple(_fixes(report))})


def _key(door: Door, model: str) -> str:
    if is_in_process(model):
        return "not needed"
    if door.settings.api_key:
        return "set"
    import os

    return "set" if os.environ.get(key_variable(model)) else "not set"


def _fixes(report: ModelReport) -> list[str]:
    fixes = []
    if not report.follows_schema:
        fixes.append(
            "it answers, but not with the object that was asked for: choose a larger model; "
            "a guard model judges as guard:NAME@MODEL (`safetyqc judge guards` lists them)"
        )
    if report.input_usd is None:
        fixes.append(
            f"its price is unknown: set `models: {{prices: {{{report.model}: [INPUT, OUTPUT]}}}}` in safetyqc.yaml "
            "(dollars per million tokens) to see costs and to use --max-cost"
        )
    if report.key == "not set" and report.api_base is None:
        fixes.append(key_hint(report.model))
    return fixes
