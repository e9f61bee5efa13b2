"""A prompt -> a model's answer, turn by turn, through the client that every other stage asks.

An answer that is cut off at `max_tokens` is an answer: how it begins shows what the model does. One that a provider's
filter stopped is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from safetyqc.errors import ModelError
from safetyqc.llm.client import Client, Request
from safetyqc.llm.hosts import own_base
from safetyqc.results.probe import Answer, Prompt

SAMPLED = 0.7
"""Temperature where a prompt is asked more than once and none was given."""


@dataclass(frozen=True)
class Asked:
    """A prompt that is to be asked: for which training run, and the how manieth time."""

    prompt: Prompt
    run: int = 0
    sample: int = 0

    @property
    def key(self) -> str:
        """Names it among the answers of one model."""
        return f"{self.prompt.id}/{self.sample}"


@dataclass(frozen=True)
class Speaker:
    """A model as it is asked; equal ones give the same requests."""

    model: str
    api_base: str | None = None
    temperature: float = 0.0
    max_tokens: int = 300

    async def answer(self, asked: Asked, client: Client) -> Answer:
        """Have all turns of a prompt answered; one call a turn.

        Raises:
            ModelError: a turn got no answer.
        """
        messages: list[dict[str, str]] = []
        texts: list[str] = []
        for turn in asked.prompt.turns:
            messages.append({"role": "user", "content": turn})
            texts.append(await self._say(messages, asked.sample, client))
            messages.append({"role": "assistant", "content": texts[-1] or " "})
        return Answer(prompt=asked.prompt.id, run=asked.run, sample=asked.sample, texts=tuple(texts))

    async def _say(self, messages: list[dict[str, str]], sample: int, client: Client) -> str:
        reply = await client.complete(
            Request(
                self.model,
                tuple(messages),
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                api_base=own_base(self.model, self.api_base),
                repeat=sample,
                stage="probe",
            )
        )
        if reply.finish_reason == "content_filter":
            raise ModelError("filtered_by_provider", "the provider's content filter stopped the answer")
        return (reply.refusal or reply.text).strip()
