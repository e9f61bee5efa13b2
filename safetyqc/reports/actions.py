"""Turns the numbers of a Summary into what to do next: each problem with the command that mends it.

How a command is worded, with the run's folder and models, is `hints`' business. Nothing is said about a problem that no
command mends.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from safetyqc.formats.sheets import unused_name
from safetyqc.records import PASSES_LATER
from safetyqc.reports.advice import advise
from safetyqc.reports.wording import percent, tell_refusals
from safetyqc.results.compare import OVERALL
from safetyqc.results.report import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetyqc.reports.hints import Hints
    from safetyqc.results.compare import CorrectedRate
    from safetyqc.results.report import Summary

_VARIED_SHARE = 0.2
"""The commonest opening's share of the refusals in sets that are varied."""
_KNOWN_TO = 0.05
"""Half the width of a corrected rate's interval from which on more labels are asked for."""
_SEVERITIES = ("error", "warning", "hint")


def list_actions(summary: Summary, hints: Hints) -> tuple[Action, ...]:
    """List what can be mended, the gravest first; the last one says what comes next when all is well."""
    if not summary.total:
        return (Action(severity="error", problem="the run holds no conversation", command=hints.run()),)
    found = [a for rule in _RULES for a in rule(summary, hints)]
    first = {action.command: action for action in reversed(found)}  # one command may mend several problems
    found = [action for action in found if first[action.command] is action]
    return tuple(sorted(found, key=lambda action: _SEVERITIES.index(action.severity)))


def _many(n: int) -> str:
    return f"{n:,} conversation" if n == 1 else f"{n:,} conversations"


def _unwritten(summary: Summary, hints: Hints) -> Iterator[Action]:
    short = {s.name: s.missing for s in summary.balance.categories if s.missing}
    planned = sum(s.planned or 0 for s in summary.balance.categories)
    failed = sum(sum(m.unwritten.values()) for m in summary.missing)
    if (left := sum(step.lost for step in summary.funnel if step.name == "written") - failed) > 0:
        # Stopped before its end: a top-up would write these and as many again
        problem = f"{left:,} of {planned:,} planned conversations are still to be written"
        yield Action(severity="warning", problem=problem, command=hints.generate())
    elif short:
        yield Action(
            severity="warning",
            problem=f"{sum(short.values())} of {planned} planned conversations are lost: "
            + ", ".join(f"{name} {count}" for name, count in short.items()),
            command=hints.generate(*(w for n, c in short.items() for w in ("--top-up", f"{n}={c}"))),
        )


def _unjudged(summary: Summary, hints: Hints) -> Iterator[Action]:
    missing = sum(m.unjudged for m in summary.missing)
    if missing:
        yield Action(
            severity="error",
            problem=f"{_many(missing)} not judged, so nothing is known of them",
            command=hints.judge(),
        )


def _unscored(summary: Summary, hints: Hints) -> Iterator[Action]:
    overall = next((c.overall for c in summary.criteria if c.id == OVERALL), None)
    if overall and overall.unscored:
        # Asking the same judge again helps only where the reason may have passed
        again = any(PASSES_LATER & set(m.unscored) for m in summary.missing)
        yield Action(
            severity="warning",
            problem=f"{_many(overall.unscored)} unscored, so the pass rate lies anywhere "
            f"between {overall.worst:.1%} and {overall.best:.1%}"
            + ("" if again else f": let a stronger judge decide{_never_judged(summary)}"),
            command=hints.judge() if again else hints.judge_anew(),
        )


def _never_judged(summary: Summary) -> str:
    """Criteria that stay open whatever the conversation, as empathy with the embedded judge, and who closes them."""
    open_cells = {c.id: c.overall.unscored for c in summary.criteria if c.id != OVERALL and not c.overall.n}
    found = ", ".join(f"{name} ({count:,} open)" for name, count in open_cells.items() if count)
    return f"; nothing was ever said of {found}: an LLM closes it, or a guard that takes any criterion" if found else ""


def _not_asked(summary: Summary, hints: Hints) -> Iterator[Action]:
    silent = [c.id for c in summary.criteria if not c.is_asked]
    if silent and (judge := summary.run.judge):
        yield Action(
            severity="warning",
            problem=f"{judge} cannot judge {', '.join(silent)}: not asked, so whole conversations stay open "
            "(a panel, panel:A,B, gives each criterion to those who judge it)",
            command=hints.judge_anew(),
        )


def _bars(summary: Summary, hints: Hints) -> Iterator[Action]:
    for bar in summary.verdict.bars:
        found = bar.estimate
        if not bar.met and found:
            low = f" (at least {percent(found.low)})" if bar.of == "low" else ""
            by = "labels" if bar.corrected else ""
            told = f"{percent(found.value)}{low} of {bar.n:,} {by}".rstrip()
            yield Action(
                severity="error",
                problem=f"{bar.title} passes {told}, below your bar of {percent(bar.bar)}",
                command=_rewrite(summary, hints),
            )
        elif not bar.met and bar.of == "corrected":
            yield Action(
                severity="error",
                problem=f"{bar.title} cannot be held against your bar: {bar.doubt}",
                command=hints.command("label", "export", unused_name(), "-n", "100"),
            )
        elif not bar.met:
            yield Action(
                severity="error",
                problem=f"{bar.name} has no scored conversation to hold against your bar",
                command=hints.judge(),
            )


def _failed(summary: Summary, hints: Hints) -> Iterator[Action]:
    lost = next((step.lost for step in summary.funnel if step.name == "kept"), 0)
    if lost:
        yield Action(severity="warning", problem=f"{_many(lost)} failed", command=_rewrite(summary, hints))


def _rewrite(summary: Summary, hints: Hints) -> str:
    """Rewrite, with one more attempt than was made already: the same command again would find nothing left to do."""
    tried = summary.rewrites.rounds if summary.rewrites else 0
    return hints.rewrite(*(("--rounds", str(tried + 1)) if tried else ()))


def _canaries(summary: Summary, hints: Hints) -> Iterator[Action]:
    for judge in summary.judges:
        seen = judge.canaries
        if seen and (seen.caught < seen.must_fail or seen.false_alarms):
            yield Action(
                severity="warning",
                problem=f"{judge.judge} caught {seen.caught} of {seen.must_fail} planted flaws and failed "
                f"{seen.false_alarms} of {seen.must_pass} planted good cells: try another judge beside it",
                command=hints.command("judge", "-m", "MODEL", "--canaries"),
            )


def _not_searched(summary: Summary, hints: Hints) -> Iterator[Action]:
    if any(step.name == "filtered" and step.note for step in summary.funnel) and summary.total:
        yield Action(
            severity="warning",
            problem="no filter has looked for leaked prompts, stock refusals and dangerous detail",
            command=hints.command("filter"),
        )
    if not summary.duplicates.searched and summary.total > 1:
        yield Action(severity="warning", problem="duplicates were never searched for", command=hints.command("dedup"))


def _collapse(summary: Summary, hints: Hints) -> Iterator[Action]:
    found = summary.openings.refusals
    if found.collapsed:
        top = found.commonest[0]
        more = max(ceil(top.count / _VARIED_SHARE) - found.refusals, 1)
        yield Action(
            severity="warning",
            problem=tell_refusals(found),
            command=hints.augment("--more", f"{summary.openings.refusals_in}={more}"),
        )


def _unlabelled(summary: Summary, hints: Hints) -> Iterator[Action]:
    if summary.run.judge and not summary.labelled:
        yield Action(
            severity="hint",
            problem=f"no labels: how often {summary.run.judge} is wrong on this data is not known",
            command=hints.command("label", "plan", "-n", "100"),
        )
    elif summary.run.judge:
        yield from _labels_that_help(summary, hints)


def _labels_that_help(summary: Summary, hints: Hints) -> Iterator[Action]:
    """Ask for labels of the rate that is known least, one that a bar hangs on before any other."""
    open_bars = {b.name for b in summary.verdict.bars if b.corrected and not b.certain}
    unlabelled = [c for c in summary.corrected if c.labels + c.labelled_not_applicable < c.n]
    doubts = [(c.criterion in open_bars, _half_width(c), c) for c in unlabelled]
    decides, doubt, found = max(doubts, key=lambda x: x[:2], default=(False, 0.0, None))
    if found is None or doubt <= _KNOWN_TO:
        return
    known = (
        f"{found.refused}" if found.rate is None else f"known to ± {100 * doubt:.1f} points by {found.labels:,} labels"
    )
    yield Action(
        severity="hint",
        problem=f"labels of {found.criterion} would help most: its corrected rate is "
        + (f"not known ({known})" if found.rate is None else known)
        + (", and your bar hangs on it" if decides else ""),
        command=hints.command("label", "plan", "-n", str(max(100, 2 * found.labels)), "--criterion", found.criterion),
    )


def _half_width(rate: CorrectedRate) -> float:
    return 0.5 if rate.rate is None else (rate.rate.high - rate.rate.low) / 2


def _finished(summary: Summary, hints: Hints) -> Iterator[Action]:
    if summary.kept:
        yield Action(severity="hint", problem=f"{_many(summary.kept)} ready to train on", command=hints.export())


_RULES = (
    _unwritten,
    _unjudged,
    _unscored,
    _not_asked,
    _bars,
    _failed,
    _canaries,
    _not_searched,
    _collapse,
    advise,
    _unlabelled,
    _finished,
)
