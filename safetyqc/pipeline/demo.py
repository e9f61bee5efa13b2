"""What `safetyqc demo` runs on: a bundled sample, and everything by the embedded model and judge.

The sample holds conversations good and flawed in every category, in English and Chinese, each with the outcomes that
a careful reader gave. They were written together with the conversations: enough to see that a judge works at all, not
to measure one.
"""

from __future__ import annotations

from pathlib import Path

from safetyqc.config import Config, DedupSettings, GenerateSettings, JudgeSection, ModelSettings, RewriteSettings
from safetyqc.formats.readers import read_conversations
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.llm.llama import SLOTS
from safetyqc.records import Conversation, Label

CATEGORIES = 9
SAMPLE = Path(__file__).with_name("sample.jsonl")
"""The file itself, a conversation a line; `meta` holds a note on what is right or wrong, and the expected outcomes."""


def demo_config(folder: Path, per_category: int) -> Config:
    """Settings for a run in `folder` that writes `per_category` conversations in each bundled category."""
    return Config(
        run=folder,
        models=ModelSettings(concurrency=SLOTS),
        generate=GenerateSettings(count=max(per_category, 1) * CATEGORIES, model=EMBEDDED, turns=1, redraws=1),
        judge=JudgeSection(models=(EMBEDDED,)),
        dedup=DedupSettings(),
        rewrite=RewriteSettings(model=EMBEDDED, rounds=1, limit=12),
    )


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
