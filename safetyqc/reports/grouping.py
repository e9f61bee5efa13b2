"""Pass rates by anything that conversations have: a category, an intent, a language, a key of their `meta`.

The numbers are counted as the report counts them. Groups that were guessed, since neither a plan nor the data names
them, are counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.notebook import Rows, to_html
from safetyqc.reports.quality import count_criteria
from safetyqc.reports.seen import seen_language, told_language
from safetyqc.reports.snapshot import Classed, Snapshot, seen_category, seen_intent
from safetyqc.results.guesses import LETTERS
from safetyqc.results.rates import Rate
from safetyqc.results.report import CriterionRates, GroupRates

if TYPE_CHECKING:
    from safetyqc.records import Conversation

_ALL = "all"
_NONE = "(none)"
_FACTS: dict[str, Callable[[Conversation], str | None]] = {
    "author": lambda c: c.author,
    "model": lambda c: c.author,
    "origin": lambda c: c.origin,
    "source": lambda c: c.file,
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
    whole = (c for c in snapshot.store.conversations() if c.id in snapshot.by_id)
    groups = name_groups(by, whole, snapshot.verdicts) if by else Groups({}, set())
    judged = (c.id for c in snapshot.in_play if c.id in snapshot.verdicts)
    guessed = Counter(groups.names[i] for i in judged if i in groups.guessed)
    return Rates(by, count_criteria(snapshot, lambda c: groups.names[c.id] if by else _ALL), dict(guessed))


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


@dataclass(frozen=True)
class Groups:
    """The name of each conversation's group by its id, and the ids of those that are in it by a guess."""

    names: dict[str, str]
    guessed: set[str]


def name_groups(by: str, conversations: Iterable[Conversation], verdicts: Mapping[str, Classed]) -> Groups:
    """Name the group of each conversation, which are looked at once.

    Args:
        by: `category`, `intent`, `language`, another fact, or a key of their `meta`.
        verdicts: of the judge whose guesses name what neither plan nor file does.

    Raises:
        UserError: no conversation has such a key.
    """
    groups, known = Groups({}, set()), dict[str, None]()
    for c in conversations:
        known.update(dict.fromkeys(c.meta))
        groups.names[c.id], is_guess = _group(by, c, verdicts)
        if is_guess:
            groups.guessed.add(c.id)
    if by not in _GUESSED and by not in _FACTS and by not in known:
        fix = choose_from(by, (*_GUESSED, *_FACTS, *known))
        raise UserError(f"no conversation here has {by!r}", where="by", fix=fix)
    return groups


_GUESSED = ("category", "intent", "language")


def _group(by: str, c: Conversation, verdicts: Mapping[str, Classed]) -> tuple[str, bool]:
    """The group of a conversation, and whether that is a guess; what nobody names is none."""
    verdict = verdicts.get(c.id)
    if by == "category":
        return seen_category(c, verdicts), not c.category and bool(verdict and verdict.category)
    if by == "intent":
        return seen_intent(c, verdicts), not c.intent and bool(verdict and verdict.intent)
    if by == "language":
        return seen_language(c), told_language(c) is None
    fact = _FACTS.get(by)
    return str(c.meta.get(by) or (fact and fact(c)) or _NONE), False
