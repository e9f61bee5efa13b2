"""A prompt and a model's answers -> the conversation that judges and people who label see."""

from __future__ import annotations

from safetyqc.records import Conversation, Message, stable_id
from safetyqc.results.probe import Answer, Prompt


def conversation_of(prompt: Prompt, answer: Answer) -> Conversation:
    """The exchange, with the prompt's own intent; equal texts have equal ids."""
    messages = []
    for asked, said in zip(prompt.turns, answer.texts, strict=False):
        messages += [Message(role="user", content=asked), Message(role="assistant", content=said or " ")]
    return Conversation(
        id=stable_id("c", [prompt.id, *answer.texts]),
        messages=tuple(messages),
        category=prompt.category,
        intent=prompt.intent,
        language=prompt.language,
    )
