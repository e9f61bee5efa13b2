"""How numbers are worded, the same in every face of a report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from safetyqc.results.guesses import LETTERS, how_right
from safetyqc.results.statistics import wilson_interval
from safetyqc.text import counted, shorten

if TYPE_CHECKING:
    from safetyqc.results.compare import Estimate, GroupedBy
    from safetyqc.results.openings import RefusalOpenings
    from safetyqc.results.rates import Verdict
    from safetyqc.results.report import Balance, Control, Share, StepName, Summary

NAME_WIDTH = 20
"""Characters that a table of judges has for a name."""
_END_OF_PART, _START_OF_PART = re.compile(r"(?<=[^\W_][-_.: ])\w+$"), re.compile(r"^\w+(?=[-_.: ]\w)")
"""What a name that is cut in its middle shows of a part is the whole part, where something else is left."""
_QUOTED = re.compile(r'("[^"]+"|“[^”]+”|「[^」]+」|(?<!\w)\'[^\']+\'(?!\w)|`[^`]+`)')


STEP_NAMES: dict[StepName, str] = {
    "planned": "planned",
    "written": "written",
    "filtered": "pass filters",
    "apart": "not near references",
    "distinct": "distinct",
    "judged": "judged",
    "scored": "scored",
    "kept": "kept",
}
"""What is left after a step of the funnel, the same word in every face."""
LOST_BY: dict[StepName, str] = {
    "planned": "",
    "written": "never written",
    "filtered": "rejected by filters",
    "apart": "near a reference",
    "distinct": "duplicates",
    "judged": "not judged",
    "scored": "unscored",
    "kept": "failed",
}
"""What became of the others."""


def percent(share: float | None, digits: int = 1) -> str:
    """`97.4%`, or a dash where nothing can be said; only exactly everything is 100, only exactly nothing 0."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    least = 10**-digits
    if share < 1 and float(text) == 100:
        text = f"{100 - least:.{digits}f}"
    elif share > 0 and float(text) == 0:
        text = f"{least:.{digits}f}"
    return text + "%"


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """`95.1–98.8`, in percent; nothing where there is none. An end that is no 0 or 100 is never rounded to one."""
    if low is None or high is None:
        return ""
    least = 10**-digits
    ends = [round(100 * end, digits) + 0.0 for end in (low, high)]  # + 0.0 makes a 0 of -0
    if low < 1 and ends[0] == 100:
        ends[0] -= least
    if high > 0 and ends[1] == 0:
        ends[1] += least
    return "–".join(f"{end:.{digits}f}" for end in ends)


def estimated(estimate: Estimate | None) -> tuple[float | None, float | None, float | None]:
    """A rate and the ends of its interval; three times nothing where there is none."""
    return (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)


def number(value: float | None) -> str:
    """`12,345`, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def money(cost_usd: float | None) -> str:
    """Dollars with as many digits as small sums need."""
    if cost_usd is None:
        return "–"
    return f"${cost_usd:,.2f}" if cost_usd >= 1 or cost_usd == 0 else f"${cost_usd:.4f}"


def duration(seconds: float) -> str:
    """`1 h 04 min`, `3 min 20 s`, `4.2 s`, `12 ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def similarity(value: float, known_from: float) -> str:
    """`0.42`, or `<0.30` where only so much is known."""
    return f"<{known_from:.2f}" if value < known_from else f"{value:.2f}"


def bin_name(low: float, high: float, found_from: float) -> str:
    """`below 0.60`, `0.75–0.80`, `same words`."""
    if low == 1:
        return "same words"
    return f"below {high:.2f}" if low < found_from else f"{low:.2f}–{high:.2f}"


def tell_bars(verdict: Verdict) -> str:
    """Whether the user's bars are met, in one sentence; nothing without bars."""
    bars, missed = len(verdict.bars), sum(not bar.met for bar in verdict.bars)
    if not missed:
        return {0: "", 1: "your bar is met", 2: "both of your bars are met"}.get(
            bars, f"all {bars} of your bars are met"
        )
    return "your bar is missed" if bars == 1 else f"{missed} of your {bars} bars missed"


def tell_refusals(found: RefusalOpenings) -> str:
    """How varied the refusals begin, in one sentence; nothing where there are none."""
    if found.effective is None:
        return ""
    many = "1 first answer that refuses begins" if found.refusals == 1 else f"{found.refusals:,} that refuse begin"
    drawn = f"{many} in {found.effective:.1f} effective ways" + (
        f" ({found.drawn} drawn, many times)" if found.drawn < found.refusals else ""
    )
    if not found.collapsed:
        return drawn
    top = percent(found.commonest[0].share, 0)
    return f"refusals have collapsed: {drawn}, {top} with the same few words, so a model would learn the phrase"


def tell_selection(summary: Summary) -> str:
    """What the rates are over, and what choosing had to do with it; short where nothing was chosen."""
    if not any(c.is_selected for c in summary.criteria):
        return "of what is in: nothing was chosen by its verdict"
    said = "all: what is in, of each duplicate group its best judged copy, rewrites in place of what they mend; "
    said += "before selection: all valid first versions, of each group the first"
    return ". ".join(part for part in (said, tell_chosen(summary)) if part)


def tell_chosen(summary: Summary) -> str:
    """Which rewrites were chosen by the judge that rates them, and what a fresh one says; nothing where none was."""
    chosen = summary.rewrites.chosen if summary.rewrites else None
    if chosen is None or not (chosen.rates.n or chosen.rates.unscored):
        return ""
    told = "no other judge has seen them"
    if chosen.judge and chosen.afresh:
        told = f"{chosen.judge} passes {percent(chosen.afresh.rate)} of the {chosen.afresh.n:,} that it saw"
    rewrites = counted(chosen.rates.n + chosen.rates.unscored, "rewrite")
    return f"{rewrites} chosen by {summary.run.judge}, which rates them: {told}"


def tell_guesses(shares: Iterable[Share]) -> str:
    """How many of these names are guesses; nothing where none is."""
    found = list(shares)
    guessed, written = sum(s.guessed for s in found), sum(s.written for s in found)
    return f"{guessed:,} of {written:,} guessed" if guessed else ""


_LANGUAGES = {"en": "English", "zh": "Chinese"}


def tell_right(fact: str, guesser: str | None, guessed: int) -> str:
    """How many values of a fact are guesses, by whom, and how often such guesses were right where that was measured."""
    found = how_right(fact, guesser)
    of = f"{guessed:,} guessed, of {fact} by {guesser}: "
    if fact == "language":
        sets = " and ".join(f"{m.right:,} of {m.n:,} {_LANGUAGES.get(m.of, m.of)}" for m in found)
        return (
            f"{guessed:,} languages are read from the letters: right for {sets} texts (romanised Chinese passes for "
            "English); any other language was not measured, and is called one of the two"
        )
    if not found:
        return f"{of}how often it is right was not measured"
    right, n = sum(m.right for m in found), sum(m.n for m in found)
    low, high = wilson_interval(right, n)
    return f"{of}it was right for {right:,} of {n:,} labelled ones ({interval(low, high, 0)}%)"


def tell_all_right(balance: Balance, judge: str | None) -> list[str]:
    """The same for each fact of a report's balance of which something is guessed."""
    facts = (("category", balance.categories), ("intent", balance.intents), ("language", balance.languages))
    counts = {fact: sum(s.guessed for s in shares) for fact, shares in facts}
    return [tell_right(fact, LETTERS if fact == "language" else judge, n) for fact, n in counts.items() if n]


def tell_open(control: Control) -> str:
    """What the attempts of which a side is open could do to the lift; nothing where there are none."""
    if not control.unscored or control.worst is None or control.best is None:
        return ""
    bounds = f"{100 * control.worst:+.1f} to {100 * control.best:+.1f}"
    return f"; {control.unscored:,} more with an open side, with which it lies in {bounds}"


def split_quotes(text: str) -> list[tuple[str, bool]]:
    """Cut a reason at what it quotes: (part, is a quote). Quotes may be as harmful as their source."""
    return [(part, index % 2 == 1) for index, part in enumerate(_QUOTED.split(text)) if part]


def short_name(name: str) -> str:
    """Fit a name into its column; models differ at the end of theirs, so the provider goes first, then the middle.

    Guards differ at the beginning of theirs.
    """
    whole = shorten(name, 400)
    last = whole.partition("@")[0] if whole.startswith("guard:") else whole.rpartition("/")[2] or whole
    text = whole if len(whole) <= NAME_WIDTH else last
    if len(text) <= NAME_WIDTH:
        return text
    end, start = NAME_WIDTH // 2 - 1, len(text) - NAME_WIDTH // 2
    head, tail = text[:end], text[start:]
    if text[end].isalnum():
        head = _END_OF_PART.sub("", head)
    if text[start - 1].isalnum():
        tail = _START_OF_PART.sub("", tail)
    return f"{head}…{tail}"


def in_percent(estimate: Estimate | None) -> str:
    """The interval of a share, as `interval` words it."""
    return interval(estimate.low, estimate.high) if estimate else ""


def span(estimate: Estimate | None) -> str:
    """`0.62–0.81`: the interval of a kappa; nothing where there is none."""
    return f"{estimate.low:.2f}–{estimate.high:.2f}" if estimate else ""


def tell_groups(found: GroupedBy) -> list[str]:
    """Which groups surely differ from the rest, for how many rates that is adjusted, and how many are guessed."""
    guessed, all_of_them = (sum(getattr(g, name) for g in found.groups) for name in ("guessed", "conversations"))
    said = [f"{guessed:,} of {all_of_them:,} conversations are in their group by a guess"] if guessed else []
    said += [tell_right(found.by, found.guesser, guessed)] if guessed else []
    for d in found.unlike:
        low, middle, high = (f"{100 * v:+.1f}" for v in (d.difference.low, d.difference.value, d.difference.high))
        what = f"{shorten(d.group, 40)}: {d.measure} of {short_name(d.rater)} on {d.criterion}"
        said.append(f"{what}: {middle} points from the rest ({low} to {high})")
    if len(found.groups) == 1:
        return [*said, "all are in one group"]
    alone = "" if found.unlike else "no group surely differs from the rest; "
    return [*said, f"{alone}adjusted for {counted(found.tests, 'rate')} (Holm)"]
