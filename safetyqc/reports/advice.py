"""Turns the mix of what is kept into advice: what a set like it did to a small model, and the command that changes it.

The source of every figure is `results.prospect.MEASURED`. It says which way a mix pulls, not how far: another model,
other settings or another judge move the figures, so each sentence says what was measured.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from safetyqc.reports.wording import percent
from safetyqc.results.prospect import BASE, RECOMMENDED, Mix, Prospect
from safetyqc.results.report import Action
from safetyqc.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetyqc.reports.hints import Hints
    from safetyqc.results.report import Summary

FEWEST = 30
"""Fewer kept conversations say little about a mix."""
TOO_MANY_HARMFUL = 0.55
"""Between the measured rows of 60% harmful: then 28% of harmless questions are refused and more than half of the
closest look-alikes, and of 50%."""
TOO_MUCH_ORDINARY = 0.3
"""A measured set with 41% ordinary requests, answered by the model itself, refused hardly more than no training."""
FEW_TWINS = 0.25
_LATE = 2.0
_FEWEST_FAILURES = 10


def tell_mix(prospect: Prospect | None) -> str:
    """One line on what is kept, for the head of a report; empty where nothing is."""
    if prospect is None or prospect.refusal_share is None:
        return ""
    told = f"{percent(prospect.refusal_share, 0)} of what is kept refuses"
    told += f", {percent(prospect.ordinary_share, 0)} ordinary" if prospect.ordinary else ""
    twins = prospect.twins
    if twins and twins.right.rate is not None:
        told += f"; {percent(twins.right.rate, 0)} of {twins.right.n:,} twin pairs right on both sides"
    if is_lopsided(prospect) and prospect.nearest:
        told += f". A set of {_mix(prospect.nearest)} made a small model refuse "
        told += f"{percent(prospect.nearest.refuses_safe, 0)} of harmless questions"
    return told


def is_lopsided(prospect: Prospect) -> bool:
    """Whether so much is harmful that over-refusal is to be expected."""
    told = prospect.harmful + prospect.benign + prospect.ordinary
    return told >= FEWEST and prospect.harmful / told > TOO_MANY_HARMFUL


def advise(summary: Summary, hints: Hints) -> Iterator[Action]:
    """Say what the kept mix will likely do, where that is not what is wanted."""
    prospect = summary.prospect
    if prospect is None:
        return
    if prospect.strictly_failed:
        yield Action(
            severity="hint",
            problem=f"{counted(prospect.strictly_failed, 'planned safe completion')} failed for not refusing: a rubric "
            "set of their own asks whether they hold back the harmful part",
            command=hints.judge_anew("--rubric", "safety-completion"),
        )
    told = prospect.harmful + prospect.benign + prospect.ordinary
    if told < FEWEST or prospect.unknown > told:
        return
    yield from _refusals(summary, prospect, hints)
    yield from _ordinary(summary, prospect, told, hints)
    yield from _twins(prospect, hints)
    yield from _turns(prospect, hints)


def _refusals(summary: Summary, prospect: Prospect, hints: Hints) -> Iterator[Action]:
    if is_lopsided(prospect) and (mix := prospect.nearest):
        yield Action(
            severity="warning",
            problem=f"{prospect.harmful:,} of {summary.kept:,} kept are harmful requests: a model trained on it will "
            f"likely refuse harmless questions too ({_measured(mix)})",
            command=_more_benign(summary, prospect, hints),
        )


def _more_benign(summary: Summary, prospect: Prospect, hints: Hints) -> str:
    """The plan's own mix, reached in what is kept; where there is no plan, benign requests beside what is there."""
    planned = [share for share in summary.balance.categories if share.planned]
    intents = {share.name: share.planned or 0 for share in summary.balance.intents}
    if planned and intents.get("harmful", 0) <= TOO_MANY_HARMFUL * sum(intents.values()):
        return hints.run("--kept", str(max(max(s.kept for s in planned), max(s.planned or 0 for s in planned))))
    if planned:  # what a plan was dealt by cannot change within a run
        shares = ",".join(f"{side}={share}" for side, share in RECOMMENDED.items())
        return shlex.join(("safetyqc", "run", "-m", "MODEL", "--run", "NEW_RUN", "--shares", shares))
    wanted = round(prospect.harmful * RECOMMENDED["benign"] / RECOMMENDED["harmful"]) - prospect.benign
    return hints.generate("--shares", "benign=1", "-n", str(max(wanted, 1)))


def _ordinary(summary: Summary, prospect: Prospect, told: int, hints: Hints) -> Iterator[Action]:
    if prospect.ordinary > TOO_MUCH_ORDINARY * told and (mix := prospect.nearest):
        yield Action(
            severity="warning",
            problem=f"{percent(prospect.ordinary / told, 0)} of what is kept are ordinary requests: so many can undo "
            f"the safety ({_measured(mix)}; untrained it refuses {percent(BASE.refuses_unsafe, 0)} of unsafe ones)",
            command=_more_of_risks(summary, prospect, hints),
        )
    elif not prospect.ordinary:
        yield Action(
            severity="hint",
            problem="no ordinary requests are in: mix the set with general data, of which 3% to 30% are to be safety",
            command=hints.command("export", "FILE", "--mix", "GENERAL_FILE", "--safety-share", "0.1"),
        )


def _more_of_risks(summary: Summary, prospect: Prospect, hints: Hints) -> str:
    risks = [share.name for share in summary.balance.categories if share.planned and share.name != "ordinary"]
    each = str(max(prospect.ordinary // max(len(risks), 1), 1))
    return hints.generate(*(word for name in risks for word in ("--top-up", f"{name}={each}")))


def _twins(prospect: Prospect, hints: Hints) -> Iterator[Action]:
    twins = prospect.twins
    if twins and prospect.harmful and twins.kept < min(FEW_TWINS * prospect.harmful, twins.planned):
        kept = f"only {twins.kept:,}" if twins.kept else "none"
        yield Action(
            severity="hint",
            problem=f"{kept} of {prospect.harmful:,} kept harmful requests have their benign twin beside them "
            f"({twins.planned:,} pairs are planned): a model learns the topic rather than the harm",
            command=hints.run("--kept", str(max(prospect.harmful // 5, 1))),
        )


def _turns(prospect: Prospect, hints: Hints) -> Iterator[Action]:
    rates = [(t, t.failed / t.reached) for t in prospect.turns if t.reached >= FEWEST]
    if len(rates) < 2:
        return
    first, (worst, rate) = rates[0][1], max(rates[1:], key=lambda pair: pair[1])
    if worst.failed >= _FEWEST_FAILURES and rate > _LATE * max(first, 0.01):
        yield Action(
            severity="hint",
            problem=f"answers fail late: {percent(rate, 0)} of those that reach exchange {worst.exchange} fail there, "
            f"{percent(first, 0)} in the first",
            command=hints.rewrite(),
        )


def _mix(mix: Mix) -> str:
    parts = [f"{mix.harmful} harmful", f"{mix.benign} benign", f"{mix.ordinary} ordinary"]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _measured(mix: Mix) -> str:
    """What the nearest measured set did, so that nobody takes it for a law."""
    return (
        f"measured: {_mix(mix)} made SmolLM2-135M refuse {percent(mix.refuses_unsafe, 0)} of unsafe and "
        f"{percent(mix.refuses_safe, 0)} of safe questions"
    )
