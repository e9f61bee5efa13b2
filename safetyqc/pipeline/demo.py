"""What `safetyqc demo` runs on: a bundled sample with its reader's verdicts, the embedded model and the embedded judge.

The sample holds conversations good and flawed in every category, in English and Chinese, each with the outcomes that
a careful reader gave: they decide what is exported, and the embedded judge is measured against them. They were written
together with the conversations: enough to see how a judge is measured, not to rank judges. Nothing decides about what
the embedded model writes, so none of it is exported.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetyqc.config import Config, DedupSettings, GenerateSettings, JudgeSection, ModelSettings, RewriteSettings
from safetyqc.formats.readers import read_conversations
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.llm.llama import SLOTS
from safetyqc.records import Conversation, Label

if TYPE_CHECKING:
    from safetyqc.store import Store

CATEGORIES = 9
SAMPLE = Path(__file__).with_name("sample.jsonl")
"""The file itself, a conversation a line; `meta` holds a note on what is right or wrong, and the expected outcomes."""
READER_MAP = SAMPLE.with_suffix(".yaml")
READER = "the sample's reader"
"""The name of the recorded judge that READER_MAP describes."""


def demo_config(folder: Path, per_category: int) -> Config:
    """Settings for a run in `folder` that writes `per_category` conversations in each bundled category."""
    return Config(
        run=folder,
        models=ModelSettings(concurrency=SLOTS),
        generate=GenerateSettings(count=max(per_category, 1) * CATEGORIES, model=EMBEDDED, turns=1, redraws=1),
        judge=JudgeSection(models=(f"recorded:{READER_MAP}", EMBEDDED)),
        dedup=DedupSettings(),
        rewrite=RewriteSettings(rounds=0),
    )


class Measured(NamedTuple):
    """How often the embedded judge was right, wrong and silent where the sample's reader says pass or fail."""

    criterion: str
    right: int
    wrong: int
    silent: int


def read_sample() -> list[Conversation]:
    """Read the sample as any imported file is read."""
    return list(read_conversations(SAMPLE).conversations)


def expected_labels() -> list[Label]:
    """The outcomes that a good judge gives on the sample, as labels to compare judges with."""
    return [
        Label(conversation_id=conversation.id, criterion=criterion, outcome=outcome, annotator=READER)
        for conversation in read_sample()
        for criterion, outcome in conversation.meta["expected"].items()
    ]


def measure_embedded(store: Store) -> list[Measured]:
    """Hold the embedded judge's verdicts on the sample against its reader's, criterion by criterion."""
    truth = {(label.conversation_id, label.criterion): label.outcome for label in expected_labels()}
    counts: dict[str, Counter[str]] = {criterion: Counter() for _, criterion in truth}
    for judgment in store.judgments(EMBEDDED):
        for score in judgment.scores:
            wanted = truth.get((judgment.conversation_id, score.criterion))
            if wanted in ("pass", "fail"):
                said = score.outcome if score.outcome in ("pass", "fail") else "silent"
                counts[score.criterion]["right" if said == wanted else "silent" if said == "silent" else "wrong"] += 1
    return [Measured(name, c["right"], c["wrong"], c["silent"]) for name, c in counts.items()]
