"""Turns the numbers of a Summary into what to do next: each problem with the command that mends it.

Commands name the run when it is not the default one, so that they can be pasted as they stand. Nothing is said about a
problem that no command mends; MODEL and FILE in a command are the user's to choose.
"""

from __future__ import annotations

import shlex
from math import ceil
from typing import TYPE_CHECKING

from safetyqc.records import PASSES_LATER
from safetyqc.reports.wording import tell_refusals
from safetyqc.results.compare import OVERALL
from safetyqc.results.report import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetyqc.results.report import Summary

DEFAULT_RUN = "safetyqc-run"
_VARIED_SHARE = 0.2
"""The commonest opening's share of the refusals in sets that are varied."""
_SEVERITIES = ("error", "warning", "hint")


def list_actions(summary: Summary) -> tuple[Action, ...]:
    """List what can be mended, the gravest first; the last one says what comes next when all is well."""
    if not summary.total:
        return (Action(severity="error", problem="the run holds no conversation", command=_command(summary, "run")),)
    found = [
        a for rule in (_unwritten, _unjudged, _unscored, _not_asked, _bars, _failed, _canaries) for a in rule(summary)
    ]
    found += [a for rule in (_not_searched, _collapse, _unlabelled, _finished) for a in rule(summary)]
    return tuple(sorted(found, key=lambda action: _SEVERITIES.index(action.severity)))


def _command(summary: Summary, *words: str) -> str:
    run = () if summary.run.folder == DEFAULT_RUN else ("--run", summary.run.folder)
    return shlex.join(("safetyqc", *words, *run))


def _many(n: int) -> str:
    return f"{n:,} conversation" if n == 1 else f"{n:,} conversations"


def _unwritten(summary: Summary) -> Iterator[Action]:
    short = {s.name: s.missing for s in summary.balance.categories if s.missing}
    if short:
        planned = sum(s.planned or 0 for s in summary.balance.categories)
        yield Action(
            severity="warning",
            problem=f"{sum(short.values())} of {planned} planned conversations are lost: "
            + ", ".join(f"{name} {count}" for name, count in short.items()),
            command=_command(summary, "generate", *(w for n, c in short.items() for w in ("--top-up", f"{n}={c}"))),
        )


def _unjudged(summary: Summary) -> Iterator[Action]:
    missing = sum(m.unjudged for m in summary.missing)
    if missing:
        judge = ("-m", summary.run.judge) if summary.run.judge else ()
        yield Action(
            severity="error",
            problem=f"{_many(missing)} without a verdict, of which nothing is known",
            command=_command(summary, "judge", *judge),
        )


def _unscored(summary: Summary) -> Iterator[Action]:
    overall = next((c.overall for c in summary.criteria if c.id == OVERALL), None)
    if overall and overall.unscored:
        # Asking the same judge again helps only where the reason may have passed
        again = any(PASSES_LATER & set(m.unscored) for m in summary.missing)
        yield Action(
            severity="warning",
            problem=f"{_many(overall.unscored)} judged but not decided, so the pass rate lies anywhere "
            f"between {overall.worst:.1%} and {overall.best:.1%}" + ("" if again else ": let a stronger judge decide"),
            command=_command(summary, "judge", "-m", (summary.run.judge or "local") if again else "MODEL"),
        )


def _not_asked(summary: Summary) -> Iterator[Action]:
    silent = [c.id for c in summary.criteria if not c.is_asked]
    if silent and (judge := summary.run.judge):
        # A panel's or a cascade's name is not what is typed for it
        beside = "MODEL" if "(" in judge else f"panel:{judge},MODEL"
        yield Action(
            severity="warning",
            problem=f"{judge} cannot judge {', '.join(silent)}: not asked, so whole conversations stay open "
            "(a panel gives each criterion to those who judge it)",
            command=_command(summary, "judge", "-m", beside),
        )


def _bars(summary: Summary) -> Iterator[Action]:
    for bar in summary.verdict.bars:
        if not bar.met and bar.rate.n:
            yield Action(
                severity="error",
                problem=f"{bar.name} passes {bar.rate.rate:.1%} of {bar.rate.n}, below your bar of {bar.bar:.1%}",
                command=_rewrite(summary),
            )
        elif not bar.met:
            yield Action(
                severity="error",
                problem=f"{bar.name} has no scored conversation to hold against your bar",
                command=_command(summary, "judge"),
            )


def _failed(summary: Summary) -> Iterator[Action]:
    lost = next((step.lost for step in summary.funnel if step.name == "kept"), 0)
    if lost:
        yield Action(severity="warning", problem=f"{_many(lost)} failed", command=_rewrite(summary))


def _rewrite(summary: Summary) -> str:
    """Rewrite, with one more attempt than was made already: the same command again would find nothing left to do."""
    tried = summary.rewrites.rounds if summary.rewrites else 0
    return _command(summary, "rewrite", *(("--rounds", str(tried + 1)) if tried else ()))


def _canaries(summary: Summary) -> Iterator[Action]:
    for judge in summary.judges:
        seen = judge.canaries
        if seen and (seen.caught < seen.must_fail or seen.false_alarms):
            yield Action(
                severity="warning",
                problem=f"{judge.judge} caught {seen.caught} of {seen.must_fail} planted flaws and failed "
                f"{seen.false_alarms} of {seen.must_pass} planted good cells: try another judge beside it",
                command=_command(summary, "judge", "-m", judge.judge, "-m", "MODEL", "--canaries"),
            )


def _not_searched(summary: Summary) -> Iterator[Action]:
    if any(step.name == "filtered" and step.note for step in summary.funnel) and summary.total:
        yield Action(
            severity="warning",
            problem="no filter has looked for leaked prompts, stock refusals and dangerous detail",
            command=_command(summary, "filter"),
        )
    if not summary.duplicates.searched and summary.total > 1:
        yield Action(
            severity="warning", problem="duplicates were never searched for", command=_command(summary, "dedup")
        )


def _collapse(summary: Summary) -> Iterator[Action]:
    found = summary.openings.refusals
    if found.collapsed:
        top = found.commonest[0]
        more = max(ceil(top.count / _VARIED_SHARE) - found.refusals, 1)
        yield Action(
            severity="warning",
            problem=tell_refusals(found),
            command=_command(summary, "augment", "--more", f"{summary.openings.refusals_in}={more}"),
        )


def _unlabelled(summary: Summary) -> Iterator[Action]:
    if summary.run.judge and not summary.labelled:
        yield Action(
            severity="hint",
            problem=f"no labels: how often {summary.run.judge} is wrong on this data is not known",
            command=_command(summary, "compare", "--labels", "FILE"),
        )


def _finished(summary: Summary) -> Iterator[Action]:
    if summary.kept:
        yield Action(
            severity="hint", problem=f"{_many(summary.kept)} ready to train on", command=_command(summary, "export")
        )
