"""Requests beyond a plain chat completion: completions, moderations, log-probabilities, and fields of one server's own.

What another endpoint answers is told as a chat completion would have told it, so that finish reasons, refusals, usage
and the ledger are read in one place. A prompt or a text to moderate is the content of the request's only message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safetyqc.llm.client import Endpoint, TokenChoices, fast_json

if TYPE_CHECKING:
    from safetyqc.llm.client import Request

PATHS: Mapping[Endpoint, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "moderations": "/moderations",
}
"""Where each kind of request is sent, behind the base URL."""


def other_body(request: Request, model: str) -> dict[str, Any]:
    """The JSON body of a request that is no chat completion."""
    text = request.messages[-1]["content"]
    if request.endpoint == "moderations":
        return {"model": model, "input": text}
    body: dict[str, Any] = {
        "model": model,
        "prompt": text,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    return body | added_fields(request)


def added_fields(request: Request) -> dict[str, Any]:
    """What a body holds beyond its plain form: log-probabilities as its endpoint asks for them, and `extra`."""
    added: dict[str, Any] = {}
    if request.top_logprobs and request.endpoint == "chat":
        added = {"logprobs": True, "top_logprobs": request.top_logprobs}
    elif request.top_logprobs:
        added = {"logprobs": request.top_logprobs}
    return added | dict(request.extra or {})


def as_chat(body: Any, endpoint: Endpoint) -> Any:
    """What a completion or a moderation answered, as a chat completion; anything odd is left for its reader."""
    if endpoint == "chat" or not isinstance(body, Mapping):
        return body
    if endpoint == "moderations":
        results = body.get("results")
        first = results[0] if isinstance(results, list) and results else None
        text = _moderation(first) if isinstance(first, Mapping) else ""
        # Nothing is written and no token is billed
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return {"error": body.get("error"), "choices": [choice], "usage": usage}
    choices = body.get("choices")
    if not isinstance(choices, list):
        return body
    told = [{**c, "message": {"content": c.get("text")}} for c in choices if isinstance(c, Mapping)]
    return {**body, "choices": told}


def _moderation(result: Mapping[str, Any]) -> str:
    """One moderation as one line of JSON: whether it is flagged, and for which categories; no field is made up."""
    told: dict[str, Any] = {}
    if isinstance(result.get("flagged"), bool):
        told["flagged"] = result["flagged"]
    categories = result.get("categories")
    if isinstance(categories, Mapping):
        told["categories"] = [str(name) for name, hit in categories.items() if hit is True]
        told.setdefault("flagged", bool(told["categories"]))
    return fast_json(told).decode() if told else ""


def read_logprobs(choice: Mapping[str, Any]) -> tuple[TokenChoices, ...] | None:
    """The tokens of an answer with the log-probabilities of what could have stood there; None where nobody told."""
    told = choice.get("logprobs")
    if told is None:
        return None
    if not isinstance(told, Mapping):
        return None
    if isinstance(told.get("content"), list):
        read = [_chat_token(token) for token in told["content"]]
    elif isinstance(told.get("tokens"), list) and isinstance(told.get("top_logprobs"), list):
        read = [
            (str(token), _numbers(choices if isinstance(choices, Mapping) else {}))
            for token, choices in zip(told["tokens"], told["top_logprobs"], strict=False)
        ]
    else:
        return None
    return tuple(read) or None


def _chat_token(token: Any) -> TokenChoices:
    token = token if isinstance(token, Mapping) else {}
    listed = token.get("top_logprobs")
    choices = {
        str(c.get("token")): c.get("logprob")
        for c in (listed if isinstance(listed, list) else [])
        if isinstance(c, Mapping)
    }
    return str(token.get("token") or ""), _numbers(choices)


def _numbers(choices: Mapping[Any, Any]) -> dict[str, float]:
    return {str(t): float(p) for t, p in choices.items() if isinstance(p, (int, float)) and not isinstance(p, bool)}
