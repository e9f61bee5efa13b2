"""Several judgments of one conversation in, one out: the majority per criterion, and how often the votes flipped.

Used for repeated votes of one judge and for panels of several. A tie is unscored, not
broken, since a coin toss is no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.records import Judgment, Outcome, Score, Usage

if TYPE_CHECKING:
    from safetyqc.rubrics import RubricSet


def merge_votes(judgments: Sequence[Judgment], rubric_set: RubricSet) -> Judgment:
    """Merge repeated votes of one judge; `settings` tells the outcomes of all votes per criterion."""
    names = [s.criterion for s in judgments[0].scores]
    votes = {name: [s for j in judgments if (s := j.score(name))] for name in names}
    scores = tuple(majority(votes[name]) for name in names)
    first = judgments[0]
    outcomes = {name: [s.outcome for s in votes[name]] for name in names}
    return first.model_copy(
        update={
            "scores": scores,
            "passed": rubric_set.passed(scores),
            "settings": {**first.settings, "outcomes": outcomes},
            "category": judgments[-1].category,
            "intent": judgments[-1].intent,
            "classified": any(j.classified for j in judgments),
            "reply": "\n".join(j.reply for j in judgments if j.reply) or None,
            "usage": sum_usage([j.usage for j in judgments]),
            "cost_usd": total([j.cost_usd for j in judgments]),
            "latency_s": total([j.latency_s for j in judgments]),
        }
    )


def majority(votes: Sequence[Score]) -> Score:
    """The score that most usable votes agree on, as its first voter worded it; `probability` is the share of passes.

    Unscored votes are left out. No usable vote gives the first one's reason; as many for one outcome as for another
    gives `tie`.
    """
    usable = [s for s in votes if s.outcome != "unscored"]
    if not usable:
        return votes[0]
    counts = Counter(s.outcome for s in usable).most_common()
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts)
        return Score(criterion=votes[0].criterion, outcome="unscored", reason=f"votes: {told}", unscored_reason="tie")
    winner: Outcome = counts[0][0]
    agreeing = [s for s in usable if s.outcome == winner]
    level = Counter(s.level for s in agreeing).most_common(1)[0][0]
    chosen = next(s for s in agreeing if s.level == level)
    judged = [s for s in usable if s.outcome != "na"]
    share = sum(s.outcome == "pass" for s in judged) / len(judged) if judged and winner != "na" else None
    return chosen.model_copy(update={"probability": share})


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """Add tokens up; what no call told stays None."""
    if len(usages) == 1:
        return usages[0]
    prompt, completion = [u.prompt_tokens for u in usages], [u.completion_tokens for u in usages]
    return Usage(
        prompt_tokens=sum(n or 0 for n in prompt) if any(n is not None for n in prompt) else None,
        completion_tokens=sum(n or 0 for n in completion) if any(n is not None for n in completion) else None,
    )


def total(values: Sequence[float | None]) -> float | None:
    """Add up; None if there is nothing or a part is unknown, since the rest's sum would look like the price."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
