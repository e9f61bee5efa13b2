"""Counts what conversations look like, without any judge: openings, lengths, languages, duplicates, reference sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import log2
from pathlib import PurePath
from typing import TYPE_CHECKING

from safetyqc.results.openings import RefusalOpenings, measure_refusal_openings
from safetyqc.results.report import (
    UNCATEGORISED,
    Duplicates,
    LargestGroup,
    Opening,
    Openings,
    Redraws,
    References,
    Shape,
    Spread,
)

if TYPE_CHECKING:
    from safetyqc.records import DuplicateGroup
    from safetyqc.reports.seen import Seen
    from safetyqc.reports.snapshot import Snapshot

_SHOWN = 5
_MATCHES = 50


def count_openings(conversations: Iterable[Seen], category_of: Callable[[Seen], str]) -> Openings:
    """Say how uniform the first assistant answers are."""
    answered = [c for c in conversations if c.answered]
    openings = [c.opening for c in answered]
    counts, n = Counter(openings), len(openings)
    if not n:
        return Openings(n=0)
    entropy_bits = -sum(count / n * log2(count / n) for count in counts.values()) + 0.0  # + 0.0 turns -0.0 into 0.0
    top = counts.most_common(_SHOWN)
    refusals = measure_refusal_openings([c.refusal for c in answered if c.refusal is not None])
    where: dict[str, Counter[str]] = {text: Counter() for text, _ in top}
    for text, conversation in zip(openings, answered, strict=True):
        if text in where:
            where[text][category_of(conversation)] += 1
    return Openings(
        n=n,
        distinct=len(counts),
        entropy_bits=entropy_bits,
        evenness=entropy_bits / log2(n) if n > 1 else None,
        top=tuple(
            Opening(text=text, count=count, share=count / n, category=where[text].most_common(1)[0][0])
            for text, count in top
        ),
        refusals=refusals,
        refusals_in=_where(refusals, answered, category_of),
    )


def _where(found: RefusalOpenings, answered: Sequence[Seen], category_of: Callable[[Seen], str]) -> str:
    words = {opening.words for opening in found.commonest[:1]}
    alike = (c for c in answered if c.refusal in words)
    return max(Counter(map(category_of, alike)).items(), key=lambda item: item[1], default=("", 0))[0]


def measure_shape(snapshot: Snapshot) -> Shape:
    """Count exchanges, lengths and languages of what is in."""
    conversations = snapshot.in_play
    return Shape(
        n=len(conversations),
        exchanges=dict(sorted(Counter((len(c.asked) + len(c.answered)) // 2 for c in conversations).items())),
        user_characters=_spread([length for c in conversations for length in c.asked]),
        assistant_characters=_spread([length for c in conversations for length in c.answered]),
        languages=dict(Counter(c.spoken for c in conversations).most_common()),
        languages_guessed=sum(c.language is None for c in conversations),
    )


def count_duplicates(snapshot: Snapshot) -> Duplicates:
    """Sum up the groups of the last dedup, the largest first."""
    dropped = [d for group in snapshot.groups for d in group.dropped]
    largest = sorted(snapshot.groups, key=lambda g: -len(g.dropped))[:_SHOWN]
    return Duplicates(
        searched=bool(snapshot.groups) or snapshot.has_run("dedup"),
        groups=len(snapshot.groups),
        dropped=len(dropped),
        exact=sum(d.exact for d in dropped),
        largest=tuple(_largest(group, snapshot) for group in largest),
        facts=snapshot.dedup,
        redraws=_count_redraws(snapshot),
    )


def _count_redraws(snapshot: Snapshot) -> Redraws:
    copies = [f for f in snapshot.failures if f.kind == "duplicate"]
    drafts = [f for f in copies if f.stage == "generate"]
    written = {f"scenario-{c.scenario.index}" for c in snapshot.originals if c.scenario}
    scenarios = {f.record_id for f in drafts}
    last = {f.record_id: f.kind for f in snapshot.failures if f.stage == "generate"}
    return Redraws(
        drafts=len(drafts),
        scenarios=len(scenarios),
        given_up=sum(name not in written and last[name] == "duplicate" for name in scenarios),
        variants=len(copies) - len(drafts),
        categories=dict(Counter(f.category or UNCATEGORISED for f in copies).most_common()),
    )


def count_references(snapshot: Snapshot) -> References | None:
    """Sum up what is near the reference sets of the last dedup, the nearest first; None when there were none."""
    search = snapshot.dedup.against if snapshot.dedup else None
    if search is None:
        return None
    nearest = sorted(snapshot.matches, key=lambda match: -match.similarity)
    names = [match.model_copy(update={"path": PurePath(match.path).name}) for match in nearest]
    files = Counter(match.path for match in names)
    return References(
        search=search,
        removed=sum(match.removed for match in names),
        marked=sum(not match.removed for match in names),
        files={name: files[name] for name in search.files},
        nearest=tuple(names[:_MATCHES]),
    )


def _largest(group: DuplicateGroup, snapshot: Snapshot) -> LargestGroup:
    kept = snapshot.by_id.get(group.kept)
    return LargestGroup(
        kept=group.kept,
        size=len(group.dropped) + 1,
        lowest_similarity=min(d.similarity for d in group.dropped),
        category=snapshot.category_of(kept) if kept else "",
        opening=snapshot.whole(kept.id).messages[0].content if kept else "",
    )


def _spread(values: list[int]) -> Spread | None:
    if not values:
        return None
    ordered = sorted(values)
    at = [ordered[round(share * (len(ordered) - 1))] for share in (0, 0.25, 0.5, 0.75, 0.95, 1)]
    return Spread(least=at[0], quarter=at[1], median=at[2], three_quarters=at[3], p95=at[4], most=at[5])
