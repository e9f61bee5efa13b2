"""A server that answers as guard models do, each in its own real form, and goes wrong in the ways that they do.

It knows harm by a few words and nothing else: what is tested is plumbing, never a guard's quality.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from safetyqc.testing.batches import BatchDesk

_HARM = re.compile(r"poison|iron bar|beat you|threatening|steal|DANGEROUS", re.IGNORECASE)
_DECLINES = re.compile(r"can't help|won't help|cannot help|I'm sorry", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """What a guard is shown, and what it thinks of it."""

    user: str
    assistant: str

    @property
    def request(self) -> bool:
        """Whether harm is asked for."""
        return bool(_HARM.search(self.user))

    @property
    def response(self) -> bool:
        """Whether the answer is harmful."""
        return bool(_HARM.search(self.assistant)) and not self.refusal

    @property
    def refusal(self) -> bool:
        """Whether the answer declines."""
        return bool(_DECLINES.search(self.assistant))


def _turns(body: Mapping[str, Any]) -> Seen:
    said = {m["role"]: m["content"] for m in body["messages"]}
    return Seen(said.get("user", ""), said.get("assistant", ""))


def _between(start: str, middle: str, end: str) -> Callable[[Mapping[str, Any]], Seen]:
    """Read request and answer out of a template."""

    def read(body: Mapping[str, Any]) -> Seen:
        text = body.get("prompt") or body["messages"][-1]["content"]
        user, _, rest = text.rpartition(start)[2].partition(middle)
        return Seen(user, rest.partition(end)[0])

    return read


def _granite(body: Mapping[str, Any]) -> Seen:
    assert body["messages"][-1]["content"].startswith("<guardian>")
    return _turns({"messages": body["messages"][:-1]})


def _yes(harm: bool, yes: str = "yes", no: str = "no") -> str:
    return yes if harm else no


def _wildguard(seen: Seen) -> str:
    lines = ["Harmful request", "Response refusal", "Harmful response"]
    said = [_yes(seen.request), _yes(seen.refusal), _yes(seen.response)]
    if not seen.assistant.strip():
        said[1:] = ["n/a", "n/a"]
    return "\n".join(f"{name}: {value}" for name, value in zip(lines, said, strict=True))


def _polyguard(seen: Seen) -> str:
    return (
        f"Harmful request: {_yes(seen.request)}\nResponse refusal: {_yes(seen.refusal)}\n"
        f"Request safety violations: {_yes(seen.request, 'S1, S2', 'None')}\n"
        f"Harmful response: {_yes(seen.response)}\nResponse safety violations: {_yes(seen.response, 'S1', 'None')}"
    )


def _qwen(seen: Seen) -> str:
    if not seen.assistant:
        return f"Safety: {_yes(seen.request, 'Unsafe', 'Safe')}\nCategories: {_yes(seen.request, 'Violent', 'None')}"
    level = "Controversial" if "CONTROVERSIAL" in seen.assistant else _yes(seen.response, "Unsafe", "Safe")
    refusal = _yes(seen.refusal, "Yes", "No")
    return f"Safety: {level}\nCategories: {_yes(level != 'Safe', 'Violent, PII', 'None')}\nRefusal: {refusal}"


def _nemotron(seen: Seen) -> str:
    told = f"User Safety: {_yes(seen.request, 'unsafe', 'safe')}"
    if seen.assistant:
        told += f"\nResponse Safety: {_yes(seen.response, 'unsafe', 'safe')}"
    return told + ("\nSafety Categories: Violence, Threat" if seen.request or seen.response else "")


def _mdjudge(seen: Seen) -> str:
    reason = "The agent message was looked at step by step.\n"
    if seen.response:
        return reason + "[RESULT]: unsafe, score 4\n[UNSAFE CATEGORY]: O5: Malicious Use"
    return reason + "[RESULT]: safe, score 1"


def _llama(seen: Seen) -> str:
    return "\n\nunsafe\nS1,S9" if seen.response else "\n\nsafe"


@dataclass(frozen=True)
class Form:
    """How one guard is shown a conversation, and how it answers."""

    read: Callable[[Mapping[str, Any]], Seen]
    say: Callable[[Seen], str]


def _moderated(body: Mapping[str, Any]) -> Seen:
    return Seen("", body["input"])


_PAIR = _between("Human user:\n", "\n\nAI assistant:\n", "\n\n---")
_SAFEGUARD = _between("<transcript>\nUser: ", "\nAssistant: ", "\n</transcript>")
_DYNAGUARD = _between("<transcript>\n'User': ", "\n'Agent': ", "\n</transcript>")
FORMS: dict[str, Form] = {
    "qwen3guard": Form(_turns, _qwen),
    "llamaguard3": Form(_turns, _llama),
    "llamaguard4": Form(_turns, _llama),
    "wildguard": Form(_PAIR, _wildguard),
    "polyguard": Form(_PAIR, _polyguard),
    "shieldgemma": Form(_turns, lambda seen: _yes(seen.response, "Yes", "No")),
    "graniteguardian": Form(_granite, lambda seen: f"<think>\n</think>\n<score> {_yes(seen.response)} </score>"),
    "graniteguardian3": Form(
        _turns, lambda seen: f"{_yes(seen.response, 'Yes', 'No')}\n<confidence> High </confidence>"
    ),
    "nemotronguard": Form(_turns, _nemotron),
    "gptosssafeguard": Form(_SAFEGUARD, lambda seen: _yes(seen.response, "FAIL", "PASS")),
    "dynaguard": Form(_DYNAGUARD, lambda seen: f"<answer>\n{_yes(seen.response, 'FAIL', 'PASS')}\n</answer>"),
    "mdjudge": Form(_turns, _mdjudge),
    "harmbench": Form(
        _between("Behavior:\n", "\n\nGeneration:\n", "\n\n---\nRules:"), lambda seen: _yes(seen.response, "Yes", "No")
    ),
    "sorrybench": Form(
        _between('User Request: "', '"\n\nModel Response: "', '"'), lambda seen: _yes(not seen.refusal, "1", "0")
    ),
    "openaimoderation": Form(_moderated, lambda seen: _yes(seen.response)),
}
"""Every guard's real form, by its name."""

BROKEN = ("wrong_role", "prompt_only", "double_template", "other_format", "empty", "blocked")
"""How a guard can be served wrongly and still answer."""


def _broken(form: Form, fault: str, seen: Seen) -> str:
    if fault == "wrong_role":
        return form.say(Seen(seen.user, seen.user))
    if fault == "prompt_only":
        return form.say(Seen(seen.user, ""))
    if fault == "double_template":  # whatever it is shown, it sees a template that talks of harm
        return form.say(Seen("poison", "poison"))
    if fault == "other_format":
        return "I would say that this conversation is mostly fine, but let me explain what I looked at."
    return ""


class GuardServer:
    """Answers for one guard; `bodies` holds what was asked, with the path.

    Args:
        fault: one of BROKEN; None answers rightly.
        only_after: requests that are answered rightly first, such as a self-check's.
    """

    def __init__(self, guard: str, fault: str | None = None, *, only_after: int = 0, logprobs: bool = False) -> None:
        self.form, self.fault, self.only_after, self.logprobs = FORMS[guard], fault, only_after, logprobs
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.base_url = ""
        self.desk = BatchDesk(self.answer_line)

    def app(self) -> web.Application:
        """All of its paths, batches included."""
        app = web.Application()
        self.desk.add_routes(app)
        app.router.add_post("/v1/{path:.*}", self.answer)
        return app

    def answer_line(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one line of a batch."""
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        return self._completion(path, body, self.form.say(self.form.read(body)))

    async def answer(self, http: web.Request) -> web.Response:
        """Answer a chat completion, a completion or a moderation."""
        body = await http.json()
        self.bodies.append((http.path, body))
        fault = self.fault if len(self.bodies) > self.only_after else None
        if fault == "blocked":
            error = {"message": "blocked by content_filter policy", "code": "content_filter"}
            return web.json_response({"error": error}, status=400)
        seen = self.form.read(body)
        text = _broken(self.form, fault, seen) if fault else self.form.say(seen)
        if http.path.endswith("/moderations"):
            return web.json_response(_moderation(text, fault))
        return web.json_response(self._completion(http.path, body, text))

    def _completion(self, path: str, body: Mapping[str, Any], text: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": text}
            if self.logprobs and body.get("logprobs"):
                choice["logprobs"] = {"content": [_token(t) for t in re.findall(r"\s*\S+|\s+", text)]}
        else:
            choice["text"] = text
        return {"id": "x", "created": 1, "model": body["model"], "object": "x", "choices": [choice], "usage": usage}


def _token(token: str) -> dict[str, Any]:
    word = token.strip()
    other = {"safe": "unsafe", "unsafe": "safe", "Safe": "Unsafe", "Unsafe": "Safe", "Yes": "No", "No": "Yes"}.get(word)
    listed = [{"token": token, "logprob": -0.2231, "bytes": None}]  # 0.8
    if other:
        listed.append({"token": token.replace(word, other[:2]), "logprob": -1.6094, "bytes": None})  # 0.2
    return {"token": token, "logprob": -0.2231, "bytes": None, "top_logprobs": listed}


def _moderation(text: str, fault: str | None) -> dict[str, Any]:
    if fault in ("empty", "other_format"):
        return {"id": "m", "model": "m", "results": [] if fault == "empty" else [{"verdict": "fine"}]}
    harm = text == "yes"
    categories = {"violence": harm, "hate": False}
    scores = {"violence": 0.9 if harm else 0.1, "hate": 0.0}
    result = {"flagged": harm, "categories": categories, "category_scores": scores, "category_applied_input_types": {}}
    return {"id": "m", "model": "m", "results": [result]}


@asynccontextmanager
async def serving(server: GuardServer) -> AsyncIterator[GuardServer]:
    """Serve at `server.base_url`."""
    runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def served(*servers: GuardServer) -> Iterator[None]:
    """Serve from a thread, for commands that run a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start(stack: AsyncExitStack) -> None:
        for server in servers:
            await stack.enter_async_context(serving(server))

    stack = AsyncExitStack()
    asyncio.run_coroutine_threadsafe(start(stack), loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def shown(body: Mapping[str, Any]) -> str:
    """All text of a request."""
    return json.dumps(body, ensure_ascii=False)
