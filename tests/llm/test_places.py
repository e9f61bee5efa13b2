"""Each model is asked where it is meant to be, with what is its own, and that is said before its first call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, load_config
from safetyqc.errors import ConfigError
from safetyqc.llm import Request
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.hosts import PROVIDERS
from safetyqc.llm.places import Own, Places
from safetyqc.llm.prices import Price
from safetyqc.pipeline.choices import judge_settings, places_of, price_table
from safetyqc.store import Store
from safetyqc.testing.server import FaultServer

HERE = "http://127.0.0.1:8411/v1"
SECRET = "team-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS.values():
        for name in (provider.key_env, *provider.base_envs):
            monkeypatch.delenv(name, raising=False)


def settings(author: str, judge: str, **models: Any) -> Config:
    return load_config(Config.model_validate({"models": models}), {"generate.model": author, "judge.models": (judge,)})


@pytest.mark.parametrize(
    ("author", "judge", "at"),
    [
        ("ollama/llama3", "openai/gpt-4o-mini", (HERE, None)),
        ("ollama/llama3", "gpt-4o-mini", (HERE, None)),
        ("ollama/llama3", "openrouter/openai/gpt-4o-mini", (HERE, None)),
        ("ollama/llama3", "openai/my-own", (HERE, HERE)),
        ("openai/my-own", "openai/gpt-4o-mini", (HERE, HERE)),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini", (HERE, HERE)),
        ("local", "openai/gpt-4o-mini", (None, HERE)),
    ],
)
def test_a_base_url_beside_a_model_of_openais_is_for_the_server_of_ones_own(
    author: str, judge: str, at: tuple[str | None, str | None]
) -> None:
    places = places_of(settings(author, judge, api_base=HERE))
    assert (places.base(author), places.base(judge)) == at


def test_an_entry_of_a_models_own_goes_before_the_base_url_and_names_the_judge() -> None:
    own = {"gpt-4o-mini": {"api_base": "http://gateway:9/v1", "prices": [1, 2]}}
    config = settings("openai/writer", "openai/gpt-4o-mini", api_base=HERE, by_name=own)
    assert places_of(config).base("openai/writer") == HERE
    assert places_of(config).base("openai/gpt-4o-mini") == "http://gateway:9/v1"
    assert judge_settings(config).name_of("openai/gpt-4o-mini") == "openai/gpt-4o-mini at gateway:9"
    assert price_table(config).find("openai/gpt-4o-mini", "http://gateway:9/v1") == Price(1, 2)


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_own_headers_and_parameters_arrive_and_headers_are_kept_nowhere(lane: str, tmp_path: Path) -> None:
    own = Own.model_validate(
        {"headers": {"Authorization": f"Bearer {SECRET}", "X-Team": "red"}, "parameters": {"top_p": 0.5}}
    )
    seen: list[Any] = []
    async with FaultServer() as server:
        server.keep_bodies = True
        answered = server._answer

        async def look(http: Any, *rest: Any) -> Any:
            seen.append(http.headers.copy())
            return await answered(http, *rest)

        server._answer = look  # type: ignore[method-assign]
        with Store.create(tmp_path / "run") as store:
            door = open_door(store, settings=DoorSettings(api_base=server.base_url, by_name={"m": own}, lane=lane))
            for model in ("openai/m", "openai/other"):
                await door.complete(Request(model, ({"role": "user", "content": "hi"},)))
            await door.close()
    assert (seen[0]["Authorization"], seen[0]["X-Team"]) == (f"Bearer {SECRET}", "red")
    assert "X-Team" not in seen[1]
    assert [body.get("top_p") for body in server.bodies] == [0.5, None]
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in repr(own) + repr(door.settings) + own.model_dump_json()


def test_parameters_are_another_question_and_headers_are_not() -> None:
    request = Request("m", ({"role": "user", "content": "hi"},))
    places = {
        name: Places(by_name={"m": Own.model_validate(own)})
        for name, own in {"headers": {"headers": {"X-Team": "red"}}, "parameters": {"parameters": {"top_p": 1}}}.items()
    }
    assert places["headers"].dress(request).key == request.key
    assert places["parameters"].dress(request).key != request.key


async def test_a_fallback_gets_nothing_that_is_the_first_models_own() -> None:
    own = Own.model_validate({"headers": {"X-Team": "red"}, "parameters": {"top_p": 0.5}})
    seen: list[Any] = []
    async with FaultServer() as server, FaultServer(script=["bad_key"]) as first:
        server.keep_bodies = True
        own = own.model_copy(update={"api_base": first.base_url})
        door = open_door(
            None,
            settings=DoorSettings(
                api_base=server.base_url, by_name={"m": own}, fallback="openai/n", announce=seen.append
            ),
        )
        await door.complete(Request("openai/m", ({"role": "user", "content": "hi"},)))
        await door.close()
    assert "top_p" not in server.bodies[0]
    assert [line.split(" is asked at ")[0] for line in seen] == ["openai/m", "openai/n"]
    assert "X-Team" in seen[0]
    assert "red" not in seen[0]
    assert "X-Team" not in seen[1]


async def test_where_a_model_is_asked_and_with_which_key_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine-0123456789")
    said: list[str] = []
    async with FaultServer() as server:
        door = open_door(None, settings=DoorSettings(api_base=server.base_url, announce=said.append))
        for text in ("a", "b"):
            await door.complete(Request("openai/m", ({"role": "user", "content": text},)))
        await door.close()
        host = server.base_url.removeprefix("http://").removesuffix("/v1")
    assert said == [f"openai/m is asked at {host}, with the key in OPENAI_API_KEY"]


@pytest.mark.parametrize(
    ("api_base", "shows"),
    [("https://api.openai.com/v1", True), ("http://api.openai.com/v1", False), ("http://gateway:9/v1", False)],
)
def test_a_url_in_a_file_gets_the_key_only_where_it_is_the_providers(api_base: str, shows: bool) -> None:
    door = open_door(None, settings=DoorSettings(by_name={"gpt-4o-mini": Own(api_base=api_base)}))
    assert door.place(Request("openai/gpt-4o-mini", ())).with_key is shows


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("headers: {Authorization: [sk-very-secret-value]}", "one line of ASCII"),
        ('headers: {Authorization: "sk-very-secret-value\\nX: 1"}', "one line of ASCII"),
        ("headers: {Content-Length: '5'}", "Content-Length"),
        ("headers: {'X Y': 'sk-very-secret-value'}", "X Y"),
        ("parameters: {stream: true}", "stream"),
        ("prices: [-1, 2]", "greater than or equal to 0"),
        ("api_bas: http://h", "did you mean"),
    ],
)
def test_a_slip_in_an_entry_is_told_with_its_line_and_without_the_value_of_a_header(
    entry: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"models:\n  by_name:\n    gpt-4o-mini:\n      {entry}\n")
    with pytest.raises(ConfigError, match=said) as raised:
        load_config(path)
    assert "s.yaml:4" in str(raised.value)
    assert "sk-very" not in str(raised.value)


@pytest.mark.parametrize("model", ["openrouter/a/b", "anthropic/claude", "local"])
def test_a_base_url_that_no_request_could_go_to_is_refused(model: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"models:\n  by_name:\n    {model}:\n      api_base: http://h:1\n")
    with pytest.raises(ConfigError, match=r"s\.yaml:[34]"):
        load_config(path)
