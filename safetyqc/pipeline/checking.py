"""Looks at conversations without a run: `safetyqc check FILE`.

Nothing is stored. Copies rank equal here, since nobody judged them, so the first one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from safetyqc.pipeline.progress import shown

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.records import Conversation, DuplicateGroup, Rejection
    from safetyqc.results.findings import CheckReport


def check_records(config: Config, read: ReadResult) -> CheckReport:
    """Count what is wrong with what was read (not strictly, so that bad structure is counted rather than raised)."""
    from safetyqc.filters import apply_filters
    from safetyqc.filters.check import check_conversations
    from safetyqc.pipeline.choices import filter_settings
    from safetyqc.pipeline.duplicates import dedup_conversations

    settings, rules_seen = filter_settings(config), ExitStack()
    line = rules_seen.enter_context(shown().phase("rules", len(read.conversations)))

    def rules(conversation: Conversation) -> Sequence[Rejection]:
        line.advance()
        return apply_filters(conversation, settings)

    def near(conversations: Sequence[Conversation]) -> Iterable[DuplicateGroup]:
        rules_seen.close()
        return dedup_conversations(config.dedup.model_copy(update={"against": None}), conversations).groups

    with rules_seen:
        return check_conversations(read, rules=rules, near_duplicates=near, min_similarity=config.dedup.min_similarity)
