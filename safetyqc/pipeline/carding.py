"""Makes the card of one judge: gathers its verdicts and labels, has it asked what is missing, and remembers the result.

What is measured is the judge stage's business. Nothing here joins the run: what a card asks is answered through the
run's ledger, and is no verdict on the run's conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError, UserError
from safetyqc.formats.labels import read_labels
from safetyqc.formats.readers import iter_with_values
from safetyqc.judge.attack import ATTACKS
from safetyqc.judge.wordings import ORDERS, SHIPPED, paraphrases
from safetyqc.pipeline.cards import keep_card
from safetyqc.pipeline.choices import judge_models
from safetyqc.pipeline.estimate import StageEstimate, estimate_judging, render_estimate
from safetyqc.pipeline.importing import distinct
from safetyqc.pipeline.order import make_judges
from safetyqc.records import Conversation, content_hash
from safetyqc.results.card import Flips, Probes

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.judge.card import Probed
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.tasks import Judging
    from safetyqc.records import Judgment, Label
    from safetyqc.results.card import JudgeCard, Training

TARGETS = 9
"""Known-bad conversations that attacks are tried on."""


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

    def draw(self, count: int) -> list[Conversation]:
        """Some of the conversations that have or get a verdict, labelled ones first; the same ones every time."""
        labelled = {label.conversation_id for label in self.labels if label.is_verdict}
        known = [c for c in self.conversations.values() if c.id in self.judged or c.id in labelled]
        known.sort(key=lambda c: (c.id not in labelled, content_hash(c.id)))
        return known[:count]


@dataclass(frozen=True)
class Asked:
    """How much is asked for a card.

    Args:
        sample: conversations that are asked about in other words and again; 0 asks for missing verdicts alone.
        only_estimate: say what it takes and ask nothing.
    """

    sample: int = 40
    only_estimate: bool = False


async def card_of(
    session: Session,
    label_files: Sequence[Path],
    asked: Asked,
    tell: Callable[[str], None],
    *,
    truth: str | None = None,
) -> JudgeCard | None:
    """Measure the configured judge; None when only the estimate was wanted.

    Args:
        label_files: labels of the run's conversations, or with conversations of their own.
        tell: gets the estimate, before anything is asked.

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
    if not found.judged and not found.missing:
        fix = f"safetyqc judge FILE -m {task.spec}, or give --labels FILE with conversations in its lines"
        raise UserError(f"{judge.name!r} has judged nothing in this run", where=str(session.config.run), fix=fix)
    probing = Probing(session, task, judge, found.draw(asked.sample))
    if task.asks:
        tell(render_estimate(probing.estimate(found)))
    if asked.only_estimate:
        return None
    judgments = [*found.judged.values(), *await probing.ask("judge", task, found.missing)]
    probed, notes = await probing.probe(judgments) if asked.sample else (None, ["nothing was asked for this card"])
    card = make_card(
        judgments, found.conversations.values(), found.labels, training=training_of(judge), probed=probed, truth=truth
    )
    card = card.model_copy(update={"notes": (*card.notes, *notes, *_versions(judge, judgments))})
    keep_card(session.store, card)
    return card


def _versions(judge: Judge, judgments: Sequence[Judgment]) -> list[str]:
    """Say where verdicts are by another version than the one that was asked for the rest of the card."""
    older = sum(j.prompt_hash not in (None, judge.version) for j in judgments if judge.version)
    told = f"{older:,} verdicts are by another version of this judge than {judge.version}; judge again with --fresh"
    return [told] if older else []


@dataclass(frozen=True)
class Probing:
    """Asks a judge what a card has to know beside its verdicts."""

    session: Session
    task: Judging
    judge: Judge
    sample: Sequence[Conversation]

    def estimate(self, found: Material) -> list[StageEstimate]:
        """What the whole card will ask at most; what the run's ledger holds is free."""
        n = len(self.sample)
        parts = [("labelled ones", len(found.missing), False)]
        if self._rewords:
            parts += [
                ("other wordings", n * len(paraphrases()), False),
                ("other orders", n * len(ORDERS), False),
                ("asked again", n, False),
            ]
        parts.append(("attacks", TARGETS * (1 + len(ATTACKS)) if n else 0, True))
        conversations = [*found.missing, *self.sample]
        return estimate_judging(self.session.config, self.task.spec, conversations, parts)

    @property
    def _rewords(self) -> bool:
        from safetyqc.judge.rubric import RubricJudge

        return isinstance(self.judge, RubricJudge)

    async def probe(self, judgments: Sequence[Judgment]) -> tuple[Probed, list[str]]:
        """Ask in other words, in other orders, again, and under attack; and say what could not be asked."""
        from safetyqc.judge.attack import attack_judge, bad_canaries
        from safetyqc.judge.card import Probed, attack_flips, count_flips

        if self.task.is_recorded:
            return Probed(), [f"{self.judge.name} is a file of verdicts: nothing can be asked of it"]
        chosen = {c.id for c in self.sample}
        before = [j for j in judgments if j.conversation_id in chosen]
        wordings: dict[str, list[Judgment]] = {}
        orders: list[Flips] = []
        notes: list[str] = []
        if self._rewords:
            wordings = {SHIPPED.name: before}
            for wording in paraphrases():
                wordings[wording.name] = await self.ask(f"wording {wording.name}", replace(self.task, wording=wording))
            for wording in ORDERS:
                after = await self.ask(wording.name, replace(self.task, wording=wording))
                orders.append(count_flips(wording.name, before, after))
            orders += [count_flips(f"wording: {w.name}", before, wordings[w.name]) for w in paraphrases()]
        else:
            notes.append(f"{self.judge.name} is asked no rubric question that could be worded otherwise")
        repeats: list[Flips] = []
        if self._rewords or not self.task.asks:
            again = await self.ask("again", replace(self.task, afresh=True))
            repeats.append(count_flips("asked again", before, again))
        else:
            notes.append("whether it says the same again was not asked: it has no other way to be asked")
        rows = await attack_judge(self.judge, self.task.rubric, bad_canaries(TARGETS))
        if not any(row.tried for row in rows):
            notes.append("it failed none of the known-bad conversations, so there was nothing to attack")
        made = Probes(
            sample=len(self.sample),
            wordings=tuple(wordings),
            repeats=tuple(repeats),
            orders=tuple(orders),
            attacks=attack_flips(row for row in rows if row.tried),
        )
        return Probed(wordings, made), notes

    async def ask(self, stage: str, task: Judging, items: Sequence[Conversation] | None = None) -> list[Judgment]:
        """Judge the sample, or other conversations."""
        whom = self.sample if items is None else items
        found = [said async for _, said in self.session.mapper.map(stage, whom, task)]
        return [said for said in found if not isinstance(said, ModelError)]


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
