"""The JSON lines of `judge --jsonl` and `dedup --jsonl`: stable, described in docs/machine-interface.md.

Records in, plain dictionaries out; nothing here reads a file or a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safetyqc.results.guesses import shares_right

if TYPE_CHECKING:
    from safetyqc.records import Conversation, DuplicateGroup, Judgment, ReferenceMatch


def places(conversations: Sequence[Conversation], *, of_data: bool) -> list[int]:
    """The `index` of each: its place among all records of what was read, broken ones too, or else in the run."""
    return [c.source.index if of_data and c.source else place for place, c in enumerate(conversations)]


def verdict_line(index: int, conversation: Conversation, judgment: Judgment | None) -> dict[str, Any]:
    """What the deciding judge says of one conversation; without a judgment no criterion, and `passed` is None."""
    criteria = {
        score.criterion: {
            "outcome": score.outcome,
            "reason": score.reason or (score.unscored_reason or ""),
            "quote": score.quote,
            "probability": score.probability,
        }
        for score in (judgment.scores if judgment else ())
    }
    passed = judgment.passed if judgment else None
    line = {"index": index, "id": conversation.id, "criteria": criteria, "passed": passed}
    guesses = _classified(conversation, judgment)
    right = {"classified_right": shares_right(guesses, judgment.judge)} if judgment and guesses else {}
    return line | {"classified": guesses} | right


def _classified(conversation: Conversation, judgment: Judgment | None) -> dict[str, str]:
    """Category and intent that the judge guessed since neither plan nor file told them; empty where it guessed none."""
    if judgment is None:
        return {}
    guesses = {name: getattr(judgment, name) for name in ("category", "intent") if not getattr(conversation, name)}
    return {name: guess for name, guess in guesses.items() if guess}


def duplicate_lines(
    groups: Iterable[DuplicateGroup], matches: Iterable[ReferenceMatch], index: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """A line a group, then one for each conversation that is near a reference; `index` gives places by id."""
    for group in groups:
        dropped = [{"index": index[d.conversation_id], "similarity": round(d.similarity, 6)} for d in group.dropped]
        yield {"kept": index[group.kept], "dropped": dropped}
    for match in matches:
        near = {"path": match.path, "line": match.line, "text": match.reference_text}
        similarity = round(match.similarity, 6)
        yield {"index": index[match.conversation_id], "near": near, "similarity": similarity, "removed": match.removed}
