"""The bundled sample: conversations good and flawed in every category, in English and Chinese, each with its verdicts.

`safetyqc demo` imports it like any other file, so that filters, judges, dedup and rewriting have something to find.
Its verdicts were written together with the conversations: enough to see that a judge works at all, not to measure one.
"""

from __future__ import annotations

from pathlib import Path

from safetyqc.readers import read_conversations
from safetyqc.records import Conversation, Label

SAMPLE = Path(__file__).with_name("sample.jsonl")
"""The file itself, a conversation a line; `meta` holds a note on what is right or wrong, and the expected outcomes."""


def read_sample() -> list[Conversation]:
    """Read the sample as any imported file is read."""
    return list(read_conversations(SAMPLE).conversations)


def expected_labels() -> list[Label]:
    """The outcomes that a good judge gives on the sample, as labels to compare judges with."""
    return [
        Label(conversation_id=conversation.id, criterion=criterion, outcome=outcome, annotator="sample")
        for conversation in read_sample()
        for criterion, outcome in conversation.meta["expected"].items()
    ]
