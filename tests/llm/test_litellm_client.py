"""litellm is used with everything off that is not needed, and leaves nothing behind in this process."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, ModelError
from safetyqc.llm import FormatRefused, Request
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.litellm_client import LitellmClient, load_litellm
from safetyqc.testing.server import FaultServer

REQUEST = Request(model="openai/m", messages=({"role": "user", "content": "hi"},), max_tokens=50, seed=3)


@pytest.fixture(scope="module", autouse=True)
def litellm() -> Any:
    return load_litellm()


async def test_a_request_arrives_as_it_was_made() -> None:
    async with FaultServer() as server:
        server.keep_bodies = True
        client = LitellmClient()
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        request = replace(REQUEST, api_base=server.base_url, schema=schema, format="json_schema", temperature=0.5)
        reply = await client.complete(request)
        await client.close()
    [body] = server.bodies
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.5, 50, 3)
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert reply.model == "openai/m"
    assert reply.usage.completion_tokens is not None
    assert reply.cost_usd is None


async def test_rate_headers_reach_the_limiter() -> None:
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
    async with FaultServer(headers=headers) as server:
        client = LitellmClient()
        reply = await client.complete(replace(REQUEST, api_base=server.base_url))
        await client.close()
    assert reply.allowance is not None
    assert reply.allowance.limit_requests == 500


async def test_retry_after_reaches_the_limiter() -> None:
    async with FaultServer(script=["rate_limited_wait"], retry_after_s=7) as server:
        client = LitellmClient()
        with pytest.raises(ModelError) as caught:
            await client.complete(replace(REQUEST, api_base=server.base_url))
        await client.close()
    assert (caught.value.retry_after_s, caught.value.overload) == (7.0, True)


async def test_litellm_retries_nothing_itself() -> None:
    async with FaultServer(script=["error_500"] * 9) as server:
        client = LitellmClient()
        with pytest.raises(ModelError):
            await client.complete(replace(REQUEST, api_base=server.base_url))
        await client.close()
    assert server.witness.received.total() == 1


async def test_an_unknown_provider_is_told_with_what_to_write() -> None:
    with pytest.raises(FatalModelError, match="no provider is known") as caught:
        await LitellmClient().complete(replace(REQUEST, model="nobody-knows-this"))
    assert "openai/" in (caught.value.fix or "")


class Refusing:
    """litellm where a model refuses some parameters."""

    class UnsupportedParamsError(Exception):
        pass

    def __init__(self, *refused: str) -> None:
        self.refused, self.asked = set(refused), []

    async def acompletion(self, **arguments: Any) -> Any:
        self.asked.append(set(arguments))
        if hit := sorted(self.refused & set(arguments)):
            raise self.UnsupportedParamsError(f"does not support parameters: {hit}")
        message = {"content": "hi", "provider_specific_fields": {}}
        choice = SimpleNamespace(message=Message(message), finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage=None, _hidden_params={})


class Message(dict[str, Any]):
    @property
    def content(self) -> Any:
        return self["content"]


async def test_refused_temperature_and_seed_are_left_out_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Refusing("temperature", "seed")
    monkeypatch.setattr("safetyqc.llm.litellm_client.load_litellm", lambda: fake)
    door = open_door(None, settings=DoorSettings(api_key="k"))
    for _ in range(2):
        assert (await door.complete(replace(REQUEST, model="openai/o-model", seed=1))).text == "hi"
    assert len(fake.asked) == 4
    assert not {"temperature", "seed"} & fake.asked[-1]


async def test_a_refused_schema_is_never_left_out_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.llm.litellm_client.load_litellm", lambda: Refusing("response_format"))
    request = replace(REQUEST, model="openai/x", schema={"type": "object"}, format="json_schema")
    with pytest.raises(FormatRefused):
        await LitellmClient(api_key="k").complete(request)


async def test_the_costs_of_others_in_this_process_are_still_computed(litellm: Any) -> None:
    async with FaultServer() as server:
        response = await litellm.acompletion(
            model="hosted_vllm/gpt-4o-mini",
            messages=[{"role": "user", "content": "hi"}],
            api_base=server.base_url,
            api_key="none",
        )
    assert "response_cost" in response._hidden_params
    assert callable(litellm.response_cost_calculator.__wrapped__)


def test_loading_leaves_the_collector_on_and_says_nothing() -> None:
    assert gc.isenabled()
    code = "from safetyqc.llm.litellm_client import load_litellm; load_litellm()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_importing_the_module_does_not_import_litellm() -> None:
    code = "import sys, safetyqc.llm.litellm_client, safetyqc.llm.door; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai/gpt-4o-mini", "OPENAI_API_KEY"), ("openrouter/a/b", "OPENROUTER_API_KEY"), ("groq/x", "GROQ_API_KEY")],
)
async def test_a_missing_key_stops_at_once_and_is_named(
    model: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(FatalModelError, match=variable) as caught:
        await LitellmClient().complete(replace(REQUEST, model=model))
    assert caught.value.fix is not None
    assert variable in caught.value.fix


async def test_a_key_that_is_set_to_nothing_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    client = LitellmClient()
    with pytest.raises(FatalModelError, match="OPENAI_API_KEY is not set"):
        await client.complete(Request(model="openai/gpt-4o-mini", messages=({"role": "user", "content": "hi"},)))
    await client.close()
