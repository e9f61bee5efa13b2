"""A cascade: a cheap judge first, a dearer one for what it is unsure of, people for the rest, with a promise.

Labels decide how sure a judge must be before its word counts (`promise.py`). The unit is one criterion of one
conversation, so a judge may be trusted on one criterion and escalate another. With too few
labels it promises nothing and escalates everything, instead of guessing a threshold. The labels must be ones that no
judge of the cascade was trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from safetyqc.errors import Deferred, NotComparableError, UserError
from safetyqc.judge.base import Preparing, give_judgment
from safetyqc.judge.promise import Promise, promise
from safetyqc.judge.votes import sum_usage, total
from safetyqc.records import Judgment, Outcome, Score

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.records import Conversation, Label
    from safetyqc.rubrics import RubricSet


def verdict(score: Score) -> tuple[Outcome, float] | None:
    """Outcome and certainty (0.5..1) of a score; None for an abstention.

    A judge that was unsure, or was never shown to be right, still has a probability, and here the labels of the
    cascade decide what is sure enough. One without a probability has certainty 1: all such stand or fall together.
    """
    if score.outcome == "unscored":
        if score.unscored_reason not in ("unsure", "not_reliable") or score.probability is None:
            return None
        return ("pass" if score.probability >= 0.5 else "fail"), max(score.probability, 1 - score.probability)
    if score.probability is None or score.outcome == "na":
        return score.outcome, 1.0
    return score.outcome, score.probability if score.outcome == "pass" else 1 - score.probability


@runtime_checkable
class SelectiveJudge(Protocol):
    """A judge that can be asked about some criteria alone."""

    async def judge_only(self, conversation: Conversation, only: Collection[str] | None) -> Judgment:
        """Score these criteria."""
        ...


@dataclass(frozen=True)
class Stage:
    """One judge of a cascade and what may be promised of it; a criterion without a promise is never kept."""

    judge: Judge
    promises: Mapping[str, Promise] = field(default_factory=dict)

    def keeps(self, score: Score) -> Score | None:
        """The score as the cascade keeps it, or None when it is escalated."""
        said, given = verdict(score), self.promises.get(score.criterion)
        if said is None or given is None or given.min_certainty is None or said[1] < given.min_certainty:
            return None
        return score.model_copy(update={"outcome": said[0], "unscored_reason": None})


def planned_na(conversation: Conversation, rubric_set: RubricSet) -> set[str]:
    """Criteria that do not apply by the conversation's own category and intent: no judge's word, so never escalated."""
    facts = conversation.category, conversation.intent
    return {c.id for c in rubric_set.criteria if c.applicability(*facts) == "never"}


@dataclass(frozen=True)
class CascadeLabels:
    """What a cascade chooses its thresholds on, and what it is to promise.

    Args:
        people: what the last judge is not sure enough of (or nothing was promised of) is left to people.
    """

    labelled: Sequence[Conversation]
    labels: Sequence[Label]
    min_agreement: float = 0.9
    confidence: float = 0.95
    people: bool = False


class CascadeJudge:
    """Asks its stages in turn, each only about what is still open.

    Args:
        to_fit: what its stages' promises are chosen by, before the first conversation; None when they have them.
        people: what the last judge is not sure enough of (or nothing was promised of) is left to people: unscored, as
            unsure. Otherwise the last judge's word stands, without a promise.

    Raises:
        UserError: no stage.
        NotComparableError: a stage has another rubric.
    """

    version: str | None = None
    """Its stages have one each."""

    def __init__(
        self,
        stages: Sequence[Stage],
        rubric_set: RubricSet,
        *,
        people: bool = False,
        name: str | None = None,
        to_fit: CascadeLabels | None = None,
    ) -> None:
        if not stages:
            raise UserError("a cascade without judges", fix="name at least one")
        for stage in stages:
            if stage.judge.rubric_hash != rubric_set.hash:
                what = f"judge {stage.judge.name!r} has another rubric ({stage.judge.rubric_hash}) than the cascade"
                raise NotComparableError(what, fix="make every judge with the same rubric")
        self.stages, self.rubric_set, self.to_fit = tuple(stages), rubric_set, to_fit
        self.people = to_fit.people if to_fit else people
        self.name = name or f"cascade({' > '.join(stage.judge.name for stage in stages)})"
        self.rubric_hash = rubric_set.hash
        self._waits: Deferred | None = None

    async def prepare(self) -> None:
        """Prepare the stages, and choose what is promised of them; costs what judging the labelled ones costs.

        Raises:
            UserError: no label fits a labelled conversation.
            FatalModelError: a stage's calls cannot work.
        """
        for stage in self.stages:
            if isinstance(stage.judge, Preparing):
                await stage.judge.prepare()
        if self.to_fit is not None:
            judges = [stage.judge for stage in self.stages]
            try:
                self.stages = await choose_promises(judges, self.to_fit, self.rubric_set)
            except Deferred as error:  # no verdict can be given before they are there
                self._waits = error
                return
            self.to_fit = None

    async def judge(self, conversation: Conversation) -> Judgment:
        """Score one conversation; costs what the judges cost that had to be asked.

        Raises:
            FatalModelError: every further call would fail the same way.
        """
        if self.to_fit is not None and self._waits is None:
            await self.prepare()
        if self._waits is not None:
            raise self._waits
        kept: dict[str, Score] = {}
        by: dict[str, str] = {}
        planned = planned_na(conversation, self.rubric_set)
        asked: list[Judgment] = []
        for number, stage in enumerate(self.stages):
            still_open = [c.id for c in self.rubric_set.criteria if c.id not in kept]
            if not still_open:
                break
            judgment = await _ask(stage.judge, conversation, still_open)
            asked.append(judgment)
            is_last = number == len(self.stages) - 1
            for score in judgment.scores:
                if score.criterion not in still_open:
                    continue
                settled = score if score.criterion in planned else stage.keeps(score)
                if settled is None and is_last:
                    settled = self._at_the_end(score)
                if settled:
                    kept[score.criterion], by[score.criterion] = settled, stage.judge.name
        return self._judgment(conversation, kept, by, asked)

    def _at_the_end(self, score: Score) -> Score:
        if not self.people or score.outcome == "unscored":
            return score
        told = f"for people: {score.outcome} is not sure enough. {score.reason}".strip()
        return score.model_copy(update={"outcome": "unscored", "unscored_reason": "unsure", "reason": told})

    def _judgment(
        self, conversation: Conversation, kept: Mapping[str, Score], by: Mapping[str, str], asked: Sequence[Judgment]
    ) -> Judgment:
        scores = tuple(kept[c.id] for c in self.rubric_set.criteria if c.id in kept)
        last = asked[-1]
        return give_judgment(
            self.name,
            self.rubric_set,
            conversation.id,
            scores,
            category=last.category,
            intent=last.intent,
            classified=any(j.classified for j in asked),
            prompt_hash=last.prompt_hash,
            model=last.model,
            settings={"asked": [j.judge for j in asked], "decided_by": dict(by), "people": self.people},
            reply="\n".join(j.reply for j in asked if j.reply) or None,
            usage=sum_usage([j.usage for j in asked]),
            cost_usd=total([j.cost_usd for j in asked if j.model]) if any(j.model for j in asked) else 0.0,
            latency_s=sum(j.latency_s or 0 for j in asked),
        )


async def _ask(judge: Judge, conversation: Conversation, still_open: Collection[str]) -> Judgment:
    if isinstance(judge, SelectiveJudge):
        return await judge.judge_only(conversation, still_open)
    return await judge.judge(conversation)


async def choose_promises(judges: Sequence[Judge], given: CascadeLabels, rubric_set: RubricSet) -> tuple[Stage, ...]:
    """Judge labelled conversations and choose every stage's thresholds; later judges are asked only what is escalated.

    Costs as many calls on the labelled conversations as the cascade itself would make. A criterion's promise is that of
    the whole cascade: what it may err is split evenly over the stages, each of which could break it.

    Raises:
        UserError: no label fits a labelled conversation.
    """
    truth = {(label.conversation_id, label.criterion): label.outcome for label in given.labels}
    conversations = given.labelled
    still_open = {
        c.id: [x.id for x in rubric_set.criteria if (c.id, x.id) in truth and x.id not in planned_na(c, rubric_set)]
        for c in conversations
    }
    if not any(still_open.values()):
        fix = "give labels of these conversations and this rubric's criteria"
        raise UserError("no label fits a labelled conversation", fix=fix)
    confidence = 1 - (1 - given.confidence) / len(judges)
    stages: list[Stage] = []
    for judge in judges:
        said = await _ask_all(judge, conversations, still_open)
        promises = {
            criterion.id: promise(
                criterion.id,
                _cells(criterion.id, said, still_open, truth),
                min_agreement=given.min_agreement,
                confidence=confidence,
            )
            for criterion in rubric_set.criteria
        }
        stage = Stage(judge, promises)
        stages.append(stage)
        for conversation, judgment in said:
            settled = {s.criterion for s in judgment.scores if stage.keeps(s)}
            still_open[conversation.id] = [name for name in still_open[conversation.id] if name not in settled]
    return tuple(stages)


async def _ask_all(
    judge: Judge, conversations: Iterable[Conversation], still_open: Mapping[str, Sequence[str]]
) -> list[tuple[Conversation, Judgment]]:
    """Judge those that are still open; those that wait for a batch all go with the same one."""
    said: list[tuple[Conversation, Judgment]] = []
    waits: Deferred | None = None
    for conversation in conversations:
        if still_open[conversation.id]:
            try:
                said.append((conversation, await _ask(judge, conversation, still_open[conversation.id])))
            except Deferred as error:
                waits = error
    if waits:
        raise waits
    return said


def _cells(
    criterion: str,
    said: Iterable[tuple[Conversation, Judgment]],
    still_open: Mapping[str, Collection[str]],
    truth: Mapping[tuple[str, str], str],
) -> list[tuple[float, bool]]:
    """Certainty and agreement of the labelled cells that reached this stage.

    Where both say not applicable nothing was judged, so it earns no credit; a wrong one counts as a disagreement.
    """
    cells = []
    for conversation, judgment in said:
        score = judgment.score(criterion)
        found = verdict(score) if score and criterion in still_open[conversation.id] else None
        if found is None:
            continue
        outcome, certainty = found
        label = truth[conversation.id, criterion]
        if not outcome == label == "na":
            cells.append((certainty, outcome == label))
    return cells


@dataclass(frozen=True)
class Saving:
    """What a cascade saved: conversations and cells that its first judge settled alone; None when there were none."""

    conversations: int
    calls_saved: float | None
    cells: int
    cells_not_escalated: float | None
    left_to_people: int


def saving(judgments: Iterable[Judgment]) -> Saving:
    """Sum up cascade judgments: share of conversations that cost no further call, share of cells never escalated."""
    given = [j for j in judgments if "decided_by" in j.settings]
    alone = sum(len(j.settings["asked"]) == 1 and all(s.outcome != "unscored" for s in j.scores) for j in given)
    cells = [(j, s) for j in given for s in j.scores if s.outcome != "na"]
    first = sum(_decided_first(j.settings, s) for j, s in cells)
    people = sum(s.unscored_reason == "unsure" for _, s in cells)
    return Saving(
        len(given), alone / len(given) if given else None, len(cells), first / len(cells) if cells else None, people
    )


def _decided_first(settings: Mapping[str, Any], score: Score) -> bool:
    return score.outcome != "unscored" and settings["decided_by"].get(score.criterion) == settings["asked"][0]
