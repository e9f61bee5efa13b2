"""What every judge is: a name, and a conversation in, a Judgment out.

A judge never raises for one bad conversation or reply: what it could not score is an unscored Score with its reason.
Only what would hit every further conversation (wrong key, no credit, budget, interruption) is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from safetyqc.records import Judgment

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Score
    from safetyqc.rubrics import RubricSet


class Judge(Protocol):
    """Scores conversations by one rubric set."""

    name: str
    """As reports show it: `local`, a model's name, or a panel's."""
    rubric_hash: str
    """Hash of the rubric set that it was made with; judgments of different hashes are not comparable."""

    @property
    def version(self) -> str | None:
        """What else its verdicts depend on, as `Judgment.prompt_hash` holds it; None where there is no one version."""

    async def judge(self, conversation: Conversation) -> Judgment:
        """Score one conversation.

        Raises:
            FatalModelError: every further call would fail the same way.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """A judge that must ask something before its first conversation, such as how far its members can be trusted."""

    async def prepare(self) -> None:
        """Ask it; does nothing when it is known.

        Raises:
            UserError: what it learnt says that it cannot judge.
            FatalModelError: every further call would fail the same way.
        """
        ...


def give_judgment(
    judge: str, rubric_set: RubricSet, conversation_id: str, scores: tuple[Score, ...], **more: Any
) -> Judgment:
    """Sum scores up by the rubric set's own rule; `more` are the judgment's other fields, `passed` included."""
    passed = more.pop("passed") if "passed" in more else rubric_set.passed(scores)
    return Judgment(
        conversation_id=conversation_id,
        judge=judge,
        rubric=rubric_set.id,
        rubric_hash=rubric_set.hash,
        scores=scores,
        passed=passed,
        **more,
    )
