"""Kept and failed answers to the same prompt -> pairs that say which of the two to prefer; and single verdicts.

A failed conversation is set against the rewrite that replaced it, else against the first kept one that was asked the
same. The pair is made at the first message in which the two differ, which must be an answer: whatever comes before is
the prompt of both. Nothing is paired on a guess: where the judge's evidence lies only in later messages than that one,
nothing shows that the answers compared are the better and the worse one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safetyqc.formats.export.encoding import Example, system_turns
from safetyqc.records import Conversation, Judgment


@dataclass(frozen=True)
class Contrast:
    """Examples, and by id why a conversation is in none of them."""

    examples: list[Example]
    left_out: dict[str, str]


def pair_up(kept: Sequence[Conversation], failed: Sequence[Conversation], verdicts: Mapping[str, Judgment]) -> Contrast:
    """Set every failed conversation against one kept answer to the same prompt, in the order of those that are kept.

    Args:
        failed: those that the deciding judge failed, superseded ones included.
        verdicts: its judgments, by conversation.
    """
    asked: dict[object, list[Conversation]] = {}
    made_of: dict[str | None, list[Conversation]] = {}
    for conversation in kept:
        asked.setdefault(_request(conversation), []).append(conversation)
        made_of.setdefault(conversation.parent_id, []).append(conversation)
    pairs: dict[str, list[Example]] = {}
    left_out: dict[str, str] = {}
    for conversation in failed:
        # The rewrite made of it comes first: everything but what failed is the same in both
        rivals = (*made_of.get(conversation.id, ()), *asked.get(_request(conversation), ()))
        found = next((e for c in rivals if (e := _pair(c, conversation, verdicts.get(conversation.id)))), None)
        if found:
            pairs.setdefault(found.conversation.id, []).append(found)
        else:
            left_out[conversation.id] = "failed elsewhere than in the answer that differs" if rivals else _NO_KEPT
    left_out |= {c.id: "no failed answer to the same request" for c in kept if c.id not in pairs}
    return Contrast([pair for c in kept for pair in pairs.get(c.id, ())], left_out)


_NO_KEPT = "failed, and no kept answer to the same request"


def label_answers(
    kept: Iterable[Conversation], failed: Iterable[Conversation], verdicts: Mapping[str, Judgment]
) -> Contrast:
    """An example for the last answer of every kept conversation, and one for the answer that failed of every other."""
    good = [Example(c) for c in kept]
    bad = [Example(c, answer=_failing_answer(c, verdicts.get(c.id)), failed=True) for c in failed]
    return Contrast([*good, *bad], {})


def _request(conversation: Conversation) -> object:
    return str(system_turns(conversation, "role", "content")), conversation.messages[0]


def _pair(kept: Conversation, failed: Conversation, verdict: Judgment | None) -> Example | None:
    place = next(
        (n for n, (a, b) in enumerate(zip(kept.messages, failed.messages, strict=False)) if a != b),
        None,
    )
    if place is None or kept.messages[place].role != "assistant" or _request(kept) != _request(failed):
        return None
    evidence = _evidence(verdict)
    if evidence and all(turn is not None and turn > place for turn in evidence):
        return None
    return Example(kept, answer=place, rejected=failed)


def _evidence(verdict: Judgment | None) -> list[int | None]:
    return [score.turn for score in verdict.scores if score.outcome == "fail"] if verdict else []


def _failing_answer(conversation: Conversation, verdict: Judgment | None) -> int:
    """The first answer that evidence of a failure was found in, else the last one."""
    found = [turn for turn in _evidence(verdict) if turn is not None and turn % 2 and turn < len(conversation.messages)]
    return min(found, default=len(conversation.messages) - 1)
