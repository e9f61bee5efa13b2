"""Tries a judge on the examples of a rubric: the examples are few-shot material and test cases at once.

It knows judges only by the one method they share. A judge is right here when it names the
example's outcome; naming another level of the same outcome is told, but is not a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment, Score
    from safetyqc.rubrics.criterion import Criterion, Example


class ExampleJudge(Protocol):
    """What is tried."""

    async def judge(self, conversation: Conversation) -> Judgment:
        """Score one conversation."""
        ...


@dataclass(frozen=True)
class Trial:
    """What a judge said of one example."""

    criterion: str
    example: Example
    expected: str
    """pass or fail."""
    score: Score | None

    @property
    def is_right(self) -> bool | None:
        """Whether the outcome is the expected one; None when the judge gave no score."""
        if self.score is None or self.score.outcome == "unscored":
            return None
        return self.score.outcome == self.expected

    @property
    def is_same_level(self) -> bool:
        """Whether even the level is the expected one."""
        return self.score is not None and self.score.level == self.example.level


async def test_rubric(judge: ExampleJudge, criteria: Iterable[Criterion]) -> list[Trial]:
    """Judge every example of the criteria; one judgment each.

    Raises:
        FatalModelError: every further call would fail the same way.
    """
    trials = []
    for criterion in criteria:
        for example in criterion.examples:
            level = criterion.level(example.level)
            judgment = await judge.judge(example.conversation)
            expected = level.outcome if level else "fail"
            trials.append(Trial(criterion.id, example, expected, judgment.score(criterion.id)))
    return trials
