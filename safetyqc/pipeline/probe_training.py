"""Leaves out the prompts that the training data is near: what a model was trained on, it cannot be probed with.

The training data is the files that were named, else what the run holds. A prompt goes with its twin, so that pairs stay
whole or are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.records import Conversation, Message
from safetyqc.results.probe import Near, Prompt
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.formats.references import Reference
    from safetyqc.pipeline.session import Session


def without_trained(session: Session, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Near]]:
    """The prompts that nothing of the training data is near, and what was near the others."""
    from safetyqc.dedup.against import find_against

    references = _training(session)
    if not references:
        return list(prompts), []
    asked = [
        Conversation(id=p.id, messages=tuple(Message(role="user", content=turn) for turn in p.turns)) for p in prompts
    ]
    dedup = session.config.dedup
    matches = find_against(
        asked, references, dedup.against_min_similarity, memory_mb=dedup.memory_mb, nearest_only=True
    )
    near = [
        Near(prompt=match.conversation_id, similarity=match.similarity, text=shorten(match.reference_text, 200))
        for match in matches
    ]
    gone = {one.prompt for one in near}
    pairs = {prompt.pair for prompt in prompts if prompt.id in gone and prompt.pair}
    return [p for p in prompts if p.id not in gone and p.pair not in pairs], near


def _training(session: Session) -> list[Reference]:
    from safetyqc.formats.references import Reference, read_references

    files = session.config.probe.train
    if files is not None:
        return [reference for path in files for reference in read_references(path)]
    return [Reference(c, "the run") for c in session.store.conversations() if c.origin != "canary"]
