"""Reads a run once, into what every section of a report counts; texts stay where they are, and are read when shown.

It decides only the view: which judge, which category, which conversations are in. Every
conversation that was written or imported has one fate, that of its last kept rewrite, so the funnel's losses add up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from safetyqc.errors import UserError, choose_from
from safetyqc.reports.seen import Cell, Said, Seen
from safetyqc.results.findings import DedupFacts
from safetyqc.results.probe import ProbeFacts, ProbeResult
from safetyqc.results.rates import BarSetting
from safetyqc.results.report import UNCATEGORISED
from safetyqc.store.roles import Cast, read_cast
from safetyqc.store.standing import Standing, deciding_judge, read_standings

if TYPE_CHECKING:
    from safetyqc.records import (
        Conversation,
        DuplicateGroup,
        Failure,
        Judgment,
        Label,
        ReferenceMatch,
        Rejection,
        Rewrite,
    )
    from safetyqc.store import Spending, Store, Timing

IN_PLAY = frozenset({"kept", "failed", "unscored", "unjudged"})
"""Statuses of conversations that are in: distinct, current, not rejected."""
_AT_ONCE = 900


@dataclass(frozen=True)
class Snapshot:
    """What one report counts of a run, narrowed to the chosen category; good for as long as the run is open."""

    store: Store
    judge: tuple[str, str] | None
    """Name and rubric hash of the deciding judge."""
    category: str | None
    conversations: list[Seen]
    judgments: dict[tuple[str, str], dict[str, Said]]
    """By (judge, rubric hash), then conversation id."""
    standings: dict[str, Standing]
    rejections: list[Rejection]
    groups: list[DuplicateGroup]
    matches: list[ReferenceMatch]
    rewrites: list[Rewrite]
    failures: list[Failure]
    labels: list[Label]
    draws: dict[str, Any]
    """What people were asked about by chance, as the run holds it (see `safetyqc.review.draws`)."""
    spending: list[Spending]
    timings: list[Timing]
    plan: dict[str, Any]
    rubric: dict[str, Any]
    dedup: DedupFacts | None
    bars: dict[str, BarSetting]
    cast: Cast
    """Who writes and decides, which the next commands have to say."""
    probes: tuple[ProbeFacts, ...] = ()

    def has_run(self, stage: str) -> bool:
        """Whether a stage ever did anything in this run; where it never did, its zeros mean nothing."""
        return any(timing.stage == stage for timing in self.timings)

    @cached_property
    def by_id(self) -> dict[str, Seen]:
        """Conversations by their id."""
        return {c.id: c for c in self.conversations}

    def whole(self, conversation_id: str) -> Conversation:
        """A conversation with its texts."""
        return next(self.store.conversations({conversation_id}))

    def all_whole(self) -> Iterator[tuple[Conversation, dict[tuple[str, str], Judgment]]]:
        """Every conversation with its texts and every judge's whole judgment, some hundreds in memory at a time."""
        ids = [c.id for c in self.conversations]
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            said: dict[str, dict[tuple[str, str], Judgment]] = {}
            for judgment in self.store.judgments(only=part):
                said.setdefault(judgment.conversation_id, {})[judgment.judge, judgment.rubric_hash] = judgment
            for conversation in self.store.conversations(set(part)):
                yield conversation, said.get(conversation.id, {})

    @cached_property
    def verdicts(self) -> dict[str, Said]:
        """The deciding judge's judgments by conversation id."""
        return self.judgments.get(self.judge, {}) if self.judge else {}

    @cached_property
    def originals(self) -> list[Seen]:
        """Conversations that were written or imported: no rewrites, no canaries."""
        return [c for c in self.conversations if c.origin not in ("rewritten", "canary")]

    @cached_property
    def in_play(self) -> list[Seen]:
        """Current, distinct conversations that passed the filters: what the rates are about."""
        return [c for c in self.conversations if self.standings[c.id].status in IN_PLAY]

    @cached_property
    def first_versions(self) -> list[Seen]:
        """Originals that no filter and no reference set took out, of each duplicate group the first.

        None of them was chosen by a verdict: rates over them are those of whoever wrote the conversations.
        """
        valid = [c for c in self.originals if self.standings[c.id].status not in ("rejected", "reference")]
        group_of = {
            member: group.kept
            for group in self.groups
            for member in (group.kept, *(drop.conversation_id for drop in group.dropped))
        }
        firsts = {group_of.get(c.id, c.id): c for c in reversed(valid)}
        return [c for c in valid if firsts[group_of.get(c.id, c.id)] is c]

    def category_of(self, conversation: Named) -> str:
        """The plan's or the file's category, else the one that the deciding judge saw."""
        return seen_category(conversation, self.verdicts)

    @cached_property
    def guessed_categories(self) -> dict[str, str]:
        """The deciding judge's category of each conversation, by id, that neither plan nor file gave one."""
        named = {c.id: self.category_of(c) for c in self.conversations if not c.category}
        return {i: name for i, name in named.items() if name != UNCATEGORISED}

    def intent_of(self, conversation: Named) -> str:
        """The plan's or the file's intent, else the one that the deciding judge saw."""
        return seen_intent(conversation, self.verdicts)

    def fate(self, conversation: Seen) -> Standing:
        """Where the last kept rewrite of a conversation stands, or itself when it has none."""
        standing, seen = self.standings[conversation.id], {conversation.id}
        while standing.status == "superseded" and standing.instead in self.standings and standing.instead not in seen:
            seen.add(standing.instead)
            standing = self.standings[standing.instead]
        return standing

    @cached_property
    def fates(self) -> list[tuple[Seen, Standing]]:
        """Every original with its fate."""
        return [(c, self.fate(c)) for c in self.originals]


class Classed(Protocol):
    """Whatever names a category and an intent: a conversation, or a verdict on one."""

    @property
    def category(self) -> str | None:
        """A name, or None."""

    @property
    def intent(self) -> str | None:
        """A name, or None."""


class Named(Classed, Protocol):
    """A conversation, with its texts or without."""

    @property
    def id(self) -> str:
        """Its id."""


def seen_category(conversation: Named, verdicts: Mapping[str, Classed]) -> str:
    """The plan's or the file's category, else the one that the judge of these verdicts saw."""
    verdict = verdicts.get(conversation.id)
    return conversation.category or (verdict.category if verdict else None) or UNCATEGORISED


def seen_intent(conversation: Named, verdicts: Mapping[str, Classed]) -> str:
    """The plan's or the file's intent, else the one that the judge of these verdicts saw."""
    verdict = verdicts.get(conversation.id)
    return conversation.intent or (verdict.intent if verdict else None) or "unknown"


def read_snapshot(
    store: Store,
    judge: str | None = None,
    category: str | None = None,
    *,
    only: Collection[str] | None = None,
    bars: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Read a run.

    Args:
        judge: whose verdict decides; None for the run's own (see `safetyqc.store.standing.deciding_judge`).
        category: look at this one alone.
        only: look at these ids alone, and their rewrites.
        bars: smallest pass rates by criterion or `overall`; None for those remembered with the run.

    Raises:
        UserError: no such judge or category in this run.
    """
    chosen = deciding_judge(store, judge)
    conversations = [Seen.of(c) for c in store.conversations()]
    standings = read_standings(store, judge)  # behind them: what another process writes meanwhile has a standing too
    judgments = _read_judgments(store, chosen, {i for i, found in standings.items() if found.status in IN_PLAY})
    verdicts = judgments[chosen] if chosen else {}
    rejections, groups, rewrites = list(store.rejections()), store.duplicate_groups(), list(store.rewrites())
    matches, facts = list(store.matches()), store.meta("dedup")
    plan = store.meta("plan") or {}
    if category is not None:
        conversations = _of_category(conversations, verdicts, category, plan.get("per_category") or {})
    if only is not None:
        wanted = set(only)
        conversations = [c for c in conversations if c.id in wanted or c.parent_id in wanted]
    ids = {c.id for c in conversations}
    set_bars = bars if bars is not None else store.meta("bars") or {}
    return Snapshot(
        store=store,
        judge=chosen,
        category=category,
        conversations=conversations,
        judgments={key: {i: j for i, j in found.items() if i in ids} for key, found in judgments.items()},
        standings=standings,
        rejections=[r for r in rejections if r.conversation_id in ids],
        groups=[g for g in groups if g.kept in ids or any(d.conversation_id in ids for d in g.dropped)],
        matches=[m for m in matches if m.conversation_id in ids],
        rewrites=[r for r in rewrites if r.parent_id in ids],
        failures=[f for f in store.failures() if category is None or f.category == category],
        labels=[label for label in store.labels() if label.conversation_id in ids],
        draws=store.draws(),
        spending=store.spending(),
        timings=store.timings(),
        plan=plan,
        rubric=store.meta("rubric") or {},
        dedup=DedupFacts.model_validate(facts) if facts else None,
        bars={name: BarSetting.model_validate(bar) for name, bar in set_bars.items()},
        cast=read_cast(store),
        probes=_read_probes(store),
    )


def _read_judgments(
    store: Store, chosen: tuple[str, str] | None, in_play: Collection[str]
) -> dict[tuple[str, str], dict[str, Said]]:
    """Every judge's judgments, with the words of what failed by the deciding one among what is in."""
    found: dict[tuple[str, str], dict[str, Said]] = {(name, key): {} for name, key, _ in store.judges()}
    known: dict[tuple[Cell, ...], tuple[Cell, ...]] = {}
    for judgment in store.judgments():
        key = judgment.judge, judgment.rubric_hash
        said = Said.of(judgment, known, words=key == chosen and judgment.conversation_id in in_play)
        found.setdefault(key, {})[judgment.conversation_id] = said
    return found


def _read_probes(store: Store) -> tuple[ProbeFacts, ...]:
    """The probes that a run keeps, in few words; one of another version is passed over: it can be made again."""
    found = []
    for kept in store.probes().values():
        with suppress(ValidationError):
            found.append(ProbeResult.model_validate(kept).facts)
    return tuple(found)


def _of_category(
    conversations: list[Seen], verdicts: Mapping[str, Said], category: str, planned: dict[str, int]
) -> list[Seen]:
    names = {c.id: seen_category(c, verdicts) for c in conversations}
    known = set(names.values()) | set(planned)
    if category not in known:
        fix = choose_from(category, known) if known else "the run holds no conversation yet"
        raise UserError(f"no category {category!r} in this run", where="--category", fix=fix)
    return [c for c in conversations if names[c.id] == category]
