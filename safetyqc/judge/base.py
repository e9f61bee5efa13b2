"""What every judge is: a name, and a conversation in, a Judgment out.

A judge never raises for one bad conversation or reply: what it could not score is an unscored Score with its reason.
Only what would hit every further conversation (wrong key, no credit, budget, interruption) is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment


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
