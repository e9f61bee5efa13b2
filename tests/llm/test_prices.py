"""Money is counted, and an unknown price is never a zero."""

from __future__ import annotations

import pytest

from safetyqc.llm.client import Request
from safetyqc.llm.prices import CallsEstimate, Price, Prices, count_prompt, count_tokens, known_format, price_list
from safetyqc.records import Usage

PRICES = Prices({"mine": Price(1.0, 2.0)})


def test_the_users_table_wins_and_counts_per_million() -> None:
    price = PRICES.find("mine", "http://h/v1")
    assert price is not None
    assert price.of(Usage(prompt_tokens=1_000_000, completion_tokens=500_000)) == pytest.approx(2.0)


def test_a_call_whose_tokens_were_not_counted_has_no_cost() -> None:
    assert Price(1, 1).of(Usage(prompt_tokens=5)) is None


def test_a_listed_model_has_its_listed_price() -> None:
    entry = price_list()["gpt-4o-mini"]
    for name in ("gpt-4o-mini", "openai/gpt-4o-mini"):
        price = PRICES.find(name)
        assert price is not None
        assert price.input_usd == pytest.approx(entry["input_cost_per_token"] * 1e6)


@pytest.mark.parametrize("model", ["openai/no-such-model", "anthropic/gpt-4o-mini", "nobody/gpt-4o-mini"])
def test_an_unlisted_model_has_no_price(model: str) -> None:
    assert PRICES.find(model) is None


def test_the_same_name_at_a_users_own_server_has_no_public_price() -> None:
    assert PRICES.find("openai/gpt-4o-mini", "http://h/v1") is None


def test_the_local_model_is_free() -> None:
    assert PRICES.find("local:/x.gguf") == Price(0, 0)


def test_an_estimate_without_a_price_names_the_model_and_no_cost() -> None:
    known = PRICES.estimate("mine", calls=10, prompt_tokens=100_000, completion_tokens=100_000)
    unknown = PRICES.estimate("other", calls=5, prompt_tokens=10, completion_tokens=10)
    assert known.cost_usd == pytest.approx(3.0)
    total = known + unknown + known
    assert (total.calls, total.cost_usd, total.unpriced) == (25, None, ("other",))
    assert CallsEstimate() + known == known


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("word", 1), ("a longer sentence of words", 7), ("中文四字", 4), ("中a", 2)]
)
def test_tokens_are_estimated_for_latin_and_cjk(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_a_prompt_counts_its_schema() -> None:
    plain = Request(model="m", messages=({"role": "user", "content": "x" * 40},))
    assert count_prompt(plain) == 14
    with_schema = Request(model="m", messages=plain.messages, schema={"type": "object", "properties": {}})
    assert count_prompt(with_schema) > count_prompt(plain)


def test_schema_support_is_known_for_listed_models_only() -> None:
    assert known_format("gpt-4o-mini") == "json_schema"
    assert known_format("openai/no-such-model") is None
