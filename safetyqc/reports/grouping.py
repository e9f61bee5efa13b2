"""Pass rates by anything that conversations have: a category, an intent, a language, a key of their `meta`.

The numbers are counted as the report counts them. Groups that were guessed, since neither a plan nor the data names
them, are counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.notebook import Rows, to_html
from safetyqc.reports.quality import count_criteria
from safetyqc.reports.snapshot import Snapshot, is_guess, seen_category, seen_intent, seen_language, told_language
from safetyqc.results.guesses import LETTERS
from safetyqc.results.rates import Rate
from safetyqc.results.report import CriterionRates, GroupRates

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment

_ALL = "all"
_NONE = "(none)"
_FACTS: dict[str, Callable[[Conversation], str | None]] = {
    "author": lambda c: c.author,
    "model": lambda c: c.author,
    "origin": lambda c: c.origin,
    "source": lambda c: PurePath(c.source.path).name if c.source else None,
}
"""What is known of a conversation beside its plan's facts; a key of its `meta` by the same name goes first."""


@dataclass(frozen=True)
class Rates(Rows):
    """Pass rates by group and criterion; `rates["privacy"]["overall"].low`.

    Args:
        by: what the groups are of.
        criteria: the counts; the whole conversation, `overall`, comes first.
        guessed: of each group, how many conversations are in it by a guess of the judge, or of the language.
    """

    by: str | None
    criteria: tuple[CriterionRates, ...]
    guessed: dict[str, int]

    def __getitem__(self, group: str) -> dict[str, Rate]:
        if group not in self.groups:
            raise UserError(f"no group {group!r} in these rates", fix=choose_from(group, self.groups))
        return {c.id: c.categories.get(group, Rate()) for c in self.criteria}

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def groups(self) -> list[str]:
        """Names of the groups, sorted."""
        return sorted({group for c in self.criteria for group in c.categories})

    def to_dicts(self) -> list[dict[str, Any]]:
        """A row a group and criterion: counts, the rate and its 95% interval, and the bounds of what is unscored."""
        return [
            {self.by or "group": group, "criterion": name, **rate.model_dump(), "guessed": self.guessed.get(group, 0)}
            for group in self.groups
            for name, rate in self[group].items()
        ]

    def __repr__(self) -> str:
        rates = (f"{group} {_told(self[group])}" for group in self.groups)
        by = f" by {self.by}" if self.by else ""
        return f"<Rates{by}: {', '.join(rates) or 'nothing was judged'}>"

    def _repr_html_(self) -> str:
        from safetyqc.reports.heat import HeatTable

        return to_html(HeatTable(self.criteria, {}))


def _told(rates: dict[str, Rate]) -> str:
    from safetyqc.reports.wording import interval, percent

    overall = next(iter(rates.values()))
    return f"{percent(overall.rate)} {interval(overall.low, overall.high)} (n {overall.n})"


def count_rates(snapshot: Snapshot, by: str | None = None) -> Rates:
    """Count the deciding judge's pass rates of what is in, by group.

    Raises:
        UserError: no conversation has such a key.
    """
    group_of, is_guessed = groups_of(by, snapshot.conversations, snapshot.verdicts)
    judged = [c for c in snapshot.in_play if c.id in snapshot.verdicts]
    guessed = Counter(group_of(c) for c in judged if is_guessed(c))
    return Rates(by, count_criteria(snapshot, group_of), dict(guessed))


def count_groups(snapshot: Snapshot, by: str) -> GroupRates:
    """Count the same for the report.

    Raises:
        UserError: no conversation has such a key.
    """
    rates = count_rates(snapshot, by)
    guesser = guesser_of(by, snapshot.judge[0] if snapshot.judge else None) if rates.guessed else None
    return GroupRates(by=by, criteria=rates.criteria, guessed=rates.guessed, guesser=guesser)


def guesser_of(by: str, judge: str | None) -> str | None:
    """Who guesses what neither plan nor data tells: the deciding judge, or whoever reads the letters."""
    return LETTERS if by == "language" else judge


def _nothing(_: Conversation) -> None:
    return None


def groups_of(
    by: str | None, conversations: Iterable[Conversation], verdicts: Mapping[str, Judgment]
) -> tuple[Callable[[Conversation], str], Callable[[Conversation], bool]]:
    """How a conversation's group is named, and whether that is only a guess.

    Args:
        by: `category`, `intent`, `language`, another fact, or a key of their `meta`; None puts all into one group.
        verdicts: of the judge whose guesses name what neither plan nor file does.

    Raises:
        UserError: no conversation has such a key.
    """
    if by is None:
        return lambda _: _ALL, lambda _: False
    if by == "category":
        return lambda c: seen_category(c, verdicts), lambda c: is_guess("category", c, verdicts)
    if by == "intent":
        return lambda c: seen_intent(c, verdicts), lambda c: is_guess("intent", c, verdicts)
    if by == "language":
        return seen_language, lambda c: told_language(c) is None
    fact = _FACTS.get(by, _nothing)
    known = dict.fromkeys(key for c in conversations for key in c.meta)
    if by not in _FACTS and by not in known:
        fix = choose_from(by, ("category", "intent", "language", *_FACTS, *known))
        raise UserError(f"no conversation here has {by!r}", where="by", fix=fix)
    return lambda c: str(c.meta.get(by) or fact(c) or _NONE), lambda _: False
