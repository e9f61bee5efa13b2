"""A panel: several judges on one conversation, one Judgment.

`combine` is pure, so judgments that are stored already can be combined without asking anybody again. An abstention
never sways a panel. Members that gave no score are left out, and when none did, or as many say pass as fail, the panel
is unscored too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from safetyqc.errors import Deferred, NotComparableError, UserError, choose_from
from safetyqc.judge.base import Preparing, give_judgment
from safetyqc.judge.votes import majority, sum_usage, total
from safetyqc.records import Judgment, Score

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.records import Conversation
    from safetyqc.rubrics import RubricSet

Rule = Literal["majority", "any-fail", "mean"]
V = TypeVar("V", bound=str)


class PanelJudge:
    """Asks several judges at once and combines what they say.

    Args:
        rule: `majority`: what most say; `any-fail`: one fail fails; `mean`: the mean of the levels' scores, pass above
            a half. In all of them exactly half is a tie and unscored.

    Raises:
        UserError: fewer than two judges, two of one name, or an unknown rule.
        NotComparableError: the judges do not share one rubric.
    """

    version: str | None = None
    """Its members have one each."""

    def __init__(
        self, judges: Sequence[Judge], rubric_set: RubricSet, *, rule: Rule = "majority", name: str | None = None
    ) -> None:
        if rule not in RULES:
            raise UserError(f"unknown panel rule {rule!r}", fix=choose_from(rule, RULES))
        names = [judge.name for judge in judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"a panel of {', '.join(names) or 'nobody'}", fix="name two or more different judges")
        for judge in judges:
            if judge.rubric_hash != rubric_set.hash:
                what = f"judge {judge.name!r} has rubric {judge.rubric_hash}, the panel {rubric_set.hash}"
                raise NotComparableError(what, fix="make every member with the same rubric")
        self.judges, self.rubric_set, self.rule = tuple(judges), rubric_set, rule
        self.name, self.rubric_hash = name or f"{rule}({', '.join(names)})", rubric_set.hash

    async def prepare(self) -> None:
        """Prepare the members that have to be."""
        for judge in self.judges:
            if isinstance(judge, Preparing):
                await judge.prepare()

    async def judge(self, conversation: Conversation) -> Judgment:
        """Score one conversation; costs what all members cost.

        Raises:
            FatalModelError: a member's further calls would all fail the same way.
        """
        said = await asyncio.gather(*(judge.judge(conversation) for judge in self.judges), return_exceptions=True)
        # Members that wait for a batch must not hide one whose every call fails
        for error in sorted((x for x in said if isinstance(x, BaseException)), key=lambda e: isinstance(e, Deferred)):
            raise error
        judgments = [x for x in said if not isinstance(x, BaseException)]
        return combine(judgments, self.rubric_set, rule=self.rule, name=self.name)


def combine(judgments: Sequence[Judgment], rubric_set: RubricSet, *, rule: Rule, name: str) -> Judgment:
    """Combine judgments of one conversation; `settings["members"]` keeps every member's outcomes.

    A member that classified imported data otherwise than the others may find another criterion not applicable: `na`
    is an outcome like pass and fail here.
    """
    given = {c.id: [s for j in judgments if (s := j.score(c.id))] for c in rubric_set.criteria}
    scores = tuple(RULES[rule](said) for said in given.values() if said)
    return give_judgment(
        name,
        rubric_set,
        judgments[0].conversation_id,
        scores,
        category=_most_said([j.category for j in judgments]),
        intent=_most_said([j.intent for j in judgments]),
        classified=any(j.classified for j in judgments),
        settings={"rule": rule, "members": {j.judge: {s.criterion: s.outcome for s in j.scores} for j in judgments}},
        usage=sum_usage([j.usage for j in judgments]),
        cost_usd=total([j.cost_usd for j in judgments]),
        latency_s=max((j.latency_s for j in judgments if j.latency_s is not None), default=None),
    )


def _most_said(values: Sequence[V | None]) -> V | None:
    known = Counter(value for value in values if value is not None).most_common(1)
    return known[0][0] if known else None


def _any_fail(said: Sequence[Score]) -> Score:
    """One fail fails; without one, an abstention leaves it open, since it might have been the fail.

    Whoever never scores a criterion has no voice on it.
    """
    if failed := next((s for s in said if s.outcome == "fail"), None):
        return failed
    if silent := next((s for s in said if s.outcome == "unscored" and s.unscored_reason != "not_reliable"), None):
        return silent
    return majority(said)


def _mean(said: Sequence[Score]) -> Score:
    """The mean of probabilities, of levels' scores where there are none; pass above a half."""
    judged = [s for s in said if s.outcome in ("pass", "fail")]
    if not judged or sum(s.outcome == "na" for s in said) >= len(judged):
        return majority(said)
    mean = sum(_strength(s) for s in judged) / len(judged)
    if abs(mean - 0.5) < 1e-9:
        reason = f"mean {mean:.2f} of {len(judged)} judges"
        return Score(criterion=said[0].criterion, outcome="unscored", reason=reason, unscored_reason="tie")
    outcome = "pass" if mean > 0.5 else "fail"
    voice = next((s for s in judged if s.outcome == outcome), judged[0])
    return voice.model_copy(update={"outcome": outcome, "value": mean, "level": None, "probability": mean})


def _strength(score: Score) -> float:
    known = score.probability if score.probability is not None else score.value
    return known if known is not None else float(score.outcome == "pass")


RULES: dict[str, Callable[[Sequence[Score]], Score]] = {"majority": majority, "any-fail": _any_fail, "mean": _mean}
"""How a panel decides, by name."""
