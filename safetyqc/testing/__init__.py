"""Stand-ins that tests use, also for users' own tests: a client that follows a script, and small records.

Nothing here is used by the tool itself. `python -m safetyqc.testing.server` rehearses faults over real HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from safetyqc.errors import ModelError
from safetyqc.llm.client import Reply, Request
from safetyqc.records import Conversation, Message, Usage, conversation_id

Answer = str | dict[str, Any] | Reply | ModelError
"""What a script may answer: text, an object (sent as JSON), a whole Reply, or an error to raise."""


class ScriptedClient:
    """Answers from a list (in order) or from a function of the request, and remembers what it was asked."""

    def __init__(self, script: Iterable[Answer] | Callable[[Request], Answer]) -> None:
        self._next = script if callable(script) else _from_list(list(script))
        self.requests: list[Request] = []
        self.closed = False

    async def complete(self, request: Request) -> Reply:
        """Answer as the script says."""
        self.requests.append(request)
        answer = self._next(request)
        if isinstance(answer, ModelError):
            raise answer
        if isinstance(answer, Reply):
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return Reply(text=text, model=request.model, usage=Usage(prompt_tokens=10, completion_tokens=len(text.split())))

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _from_list(answers: list[Answer]) -> Callable[[Request], Answer]:
    def next_answer(_: Request) -> Answer:
        if not answers:
            raise LookupError("the script has no answer left for this request")
        return answers.pop(0)

    return next_answer


def conversation(*turns: str, **fields: Any) -> Conversation:
    """Build a Conversation from alternating texts, the user's first."""
    messages = tuple(Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(turns))
    return Conversation(
        id=fields.pop("id", conversation_id(messages, system=fields.get("system"))), messages=messages, **fields
    )
