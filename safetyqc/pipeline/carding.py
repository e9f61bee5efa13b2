"""Makes the card of one judge: gathers its verdicts and labels, has it asked what is missing, and remembers the result.

What is measured is the judge stage's business. Nothing here joins the run: what a card asks is answered through the
run's ledger, and is no verdict on the run's conversations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError, UserError
from safetyqc.formats.labels import read_labels
from safetyqc.formats.readers import iter_with_values
from safetyqc.pipeline.choices import judge_models
from safetyqc.pipeline.importing import distinct
from safetyqc.pipeline.order import make_judges
from safetyqc.records import Conversation

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Judgment, Label
    from safetyqc.results.card import JudgeCard, Training

CARDS = "judge_cards"
"""Under which name a run keeps its cards, by judge."""


@dataclass(frozen=True)
class Material:
    """What a card is made of: conversations by id, labels, and the verdicts that are there already, by conversation."""

    conversations: Mapping[str, Conversation]
    labels: Sequence[Label]
    judged: Mapping[str, Judgment]

    @property
    def missing(self) -> list[Conversation]:
        """Labelled conversations without a verdict."""
        labelled = dict.fromkeys(label.conversation_id for label in self.labels if label.is_verdict)
        return [self.conversations[i] for i in labelled if i in self.conversations and i not in self.judged]


async def card_of(session: Session, label_files: Sequence[Path], *, truth: str | None = None) -> JudgeCard:
    """Measure the configured judge.

    Args:
        label_files: labels of the run's conversations, or with conversations of their own.

    Raises:
        UserError: there is neither a verdict nor a label.
        NotComparableError: the labels meet no verdict.
    """
    from safetyqc.judge.card import make_card
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(session.config.judge.rubric)
    (task,) = await make_judges(session, rubric, [_spec(session)])
    judge = task.judge(session.mapper.context)
    found = gather_material(session, judge, label_files)
    given = [j async for _, j in session.mapper.map("judge", found.missing, task)] if found.missing else []
    judgments = [*found.judged.values(), *(j for j in given if not isinstance(j, ModelError))]
    if not judgments:
        fix = f"safetyqc judge FILE -m {task.spec}, or give --labels FILE with conversations in its lines"
        raise UserError(f"{judge.name!r} has judged nothing in this run", where=str(session.config.run), fix=fix)
    card = make_card(judgments, found.conversations.values(), found.labels, training=training_of(judge), truth=truth)
    keep(session, card)
    return card


def _spec(session: Session) -> str:
    """Whose card: the judge that is named, else the one that decides in this run."""
    named = session.config.judge.models
    return named[0] if named else session.store.meta("deciding_spec") or judge_models(session.config)[0]


def gather_material(session: Session, judge: Judge, label_files: Sequence[Path]) -> Material:
    """Read the run and the label files; canaries are no part of it."""
    store = session.store
    conversations = {c.id: c for c in store.conversations() if c.origin != "canary"}
    labels = [label for label in store.labels() if label.conversation_id in conversations]
    for path in label_files:
        _add_own(path, conversations)
        labels += read_labels(path, conversations.values())
    judged = {
        j.conversation_id: j
        for j in store.judgments(judge=judge.name, rubric_hash=judge.rubric_hash)
        if j.conversation_id in conversations
    }
    return Material(conversations, labels, judged)


def _add_own(path: Path, conversations: dict[str, Conversation]) -> None:
    """Add the conversations of a label file that are not there already, by their text."""
    known = {c.messages for c in conversations.values()}
    for record, _ in iter_with_values(path):
        if isinstance(record, Conversation) and record.messages not in known:
            own = distinct(record, conversations)
            conversations[own.id] = own


def training_of(judge: Judge) -> Training:
    """What a judge was trained on: the embedded judge's weights say so, nobody else does."""
    from safetyqc.judge.embedded.judge import LocalJudge
    from safetyqc.results.card import Training

    if isinstance(judge, LocalJudge):
        sources = dict(judge.weights.trained_on)
        return Training(told="conversations by source, as its weights say", sources=sources)
    return Training(told="unknown: its maker does not say; any public set, labels included, may have been in it")


def keep(session: Session, card: JudgeCard) -> None:
    """Remember a card with the run, for reports and comparisons."""
    cards = session.store.meta(CARDS) or {}
    session.store.set_meta(CARDS, cards | {card.judge: card.model_dump(mode="json")})
