"""Canaries: conversations whose verdict is known, slipped into a run to see whether its judges are awake.

They are marked by origin, so exports leave them out. A canary that a judge could not score
counts as neither caught nor missed; it stands in `unscored`, like any other abstention.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from safetyqc.formats.yaml_file import read_yaml
from safetyqc.records import Conversation, Intent, Message, Record, Role, conversation_id

if TYPE_CHECKING:
    from safetyqc.records import Judgment


class Canary(Record):
    """One conversation and the criteria that a good judge must fail; empty when it is known to be good."""

    category: str
    intent: Intent
    language: str
    fails: tuple[str, ...]
    messages: Annotated[tuple[Mapping[Role, str], ...], Field(min_length=2)]

    @property
    def conversation(self) -> Conversation:
        """The canary as a record; its id is stable, so a second run knows it again."""
        messages = tuple(Message(role=role, content=text) for turn in self.messages for role, text in turn.items())
        return Conversation(
            id=conversation_id(messages, "canary"),
            messages=messages,
            category=self.category,
            intent=self.intent,
            language=self.language,
            origin="canary",
            meta={"fails": list(self.fails)},
        )


class CanaryFile(Record):
    """All of them."""

    canaries: tuple[Canary, ...]


@cache
def load_canaries() -> tuple[Canary, ...]:
    """The package's own canaries: good and bad ones in every category, English and Chinese."""
    return read_yaml(files("safetyqc.judge") / "canaries.yaml", CanaryFile).canaries


def slip_in(conversations: Sequence[Conversation], seed: int = 0, *, most: int | None = None) -> list[Conversation]:
    """Mix canaries among conversations at places that depend on the seed alone.

    Args:
        most: how many canaries at most, drawn by the seed but good and bad in equal number; None for all.
    """
    rng = random.Random(seed)
    good = [c.conversation for c in load_canaries() if not c.fails]
    bad = [c.conversation for c in load_canaries() if c.fails]
    rng.shuffle(good)
    rng.shuffle(bad)
    pairs = [canary for pair in zip(good, bad, strict=True) for canary in pair]
    mixed = list(conversations)
    for canary in pairs[:most]:
        mixed.insert(rng.randint(0, len(mixed)), canary)
    return mixed


@dataclass(frozen=True)
class CanaryReport:
    """How one judge did on the canaries; cells are (conversation, criterion), unscored ones included.

    Rates are None where there are no cells. `missed`: the cells that must fail, were scored and did not;
    `unscored_flaws`: those that must fail and were not scored.
    """

    judge: str
    must_fail: int
    caught: int
    must_pass: int
    false_alarms: int
    unscored: int
    missed: tuple[tuple[str, str], ...]
    unscored_flaws: int = 0

    @property
    def catch_rate(self) -> float | None:
        """Share of the cells that must fail and did; an unscored one did not."""
        return self.caught / self.must_fail if self.must_fail else None

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the cells that must pass and failed."""
        return self.false_alarms / self.must_pass if self.must_pass else None


def check_canaries(judgments: Iterable[Judgment]) -> list[CanaryReport]:
    """Sum up every judge's verdicts on canaries; judgments of other conversations are passed over."""
    known = {canary.conversation.id: canary for canary in load_canaries()}
    by_judge: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        if judgment.conversation_id in known:
            by_judge.setdefault(judgment.judge, []).append(judgment)
    return [_report(judge, given, known) for judge, given in by_judge.items()]


def _report(judge: str, judgments: Iterable[Judgment], known: Mapping[str, Canary]) -> CanaryReport:
    must_fail = caught = must_pass = false_alarms = unscored = unscored_flaws = 0
    missed: list[tuple[str, str]] = []
    for judgment in judgments:
        fails = known[judgment.conversation_id].fails
        for score in judgment.scores:
            unscored += score.outcome == "unscored"
            if score.criterion in fails:
                # Not applicable is a miss too, and unscored: it is how a judge would look away
                must_fail += 1
                caught += score.outcome == "fail"
                unscored_flaws += score.outcome == "unscored"
                if score.outcome not in ("fail", "unscored"):
                    missed.append((judgment.conversation_id, score.criterion))
            elif score.outcome != "na":  # unscored is no false alarm, but it was there to be scored
                must_pass += 1
                false_alarms += score.outcome == "fail"
    return CanaryReport(
        judge, must_fail, caught, must_pass, false_alarms, unscored, tuple(missed), unscored_flaws=unscored_flaws
    )
