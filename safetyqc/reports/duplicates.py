"""Draws what dedup found in the terminal: how near everything is, what was dropped for what, what is near a reference.

It decides nothing. Pairs are shown nearest to the threshold first, because those are the
ones that a person may see differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from safetyqc.reports.drawing import ACCENT, FAINT, WARN, Bar, block, masked, say, table
from safetyqc.reports.wording import bin_name, number, percent
from safetyqc.text import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.records import Conversation, Duplicate, ReferenceMatch
    from safetyqc.results.findings import DedupFacts, Dropped, Nearness, ReferenceSearch, Template

_WIDTH = 90
MATCHES = 5
"""How many matches with a reference set are shown when nobody asks for more."""


def render_duplicates(
    counts: Dropped,
    facts: DedupFacts,
    drops: Sequence[tuple[str, Duplicate]] = (),
    texts: Mapping[str, Conversation] | None = None,
    matches: Sequence[ReferenceMatch] = (),
    *,
    most: int = MATCHES,
    unmask: bool = False,
) -> RenderableType:
    """Draw the sum, how near everything is, some drops with their texts (by id), and `most` matches."""
    from rich.console import Group
    from rich.text import Text

    removed = sum(match.removed for match in matches)
    head = (
        f"{counted(counts.conversations, 'conversation')}, {counted(counts.groups, 'duplicate group')}: "
        f"{counts.conversations - counts.dropped - removed:,} stay, {counts.dropped:,} dropped "
        f"({counts.exact:,} of them the same text)"
    )
    if removed:
        head += f"\n{removed:,} more removed as near a reference"
    drawn = [_pair(drop, kept, texts or {}, unmask) for kept, drop in drops]
    nearest = sorted(matches, key=lambda match: -match.similarity)
    near = render_matches(nearest, len(matches), facts.against, most, unmask=unmask) if facts.against else None
    frames = render_templates(facts.templates, unmask=unmask)
    masks = not unmask and bool(drawn or matches or facts.templates)
    hint = [Text("\ntexts are masked: --unmask shows them", style=FAINT)] if masks else []
    return Group(
        Text(head), *_present(render_nearness(facts.nearness)), *drawn, *_present(near), *_present(frames), *hint
    )


def _present(part: RenderableType | None) -> list[RenderableType]:
    return [] if part is None else [part]


def render_nearness(nearness: Nearness) -> RenderableType | None:
    """Draw how near each conversation is to the one most like it, the threshold marked; None for fewer than two."""
    if sum(b.count for b in nearness.bins) < 2:
        return None
    made = table("similarity", "", "conversations", numbers=(0, 2), wide=1)
    most = max(b.count for b in nearness.bins)
    for b in nearness.bins:
        near = b.low >= nearness.min_similarity
        if b.low == nearness.min_similarity:
            made.add_row(f"▸ {b.low:.2f}", say("threshold: near-duplicates from here on", FAINT), "")
        bar = Bar([(b.count / most, WARN if near else ACCENT)])
        made.add_row(bin_name(b.low, b.high, nearness.found_from), bar, number(b.count))
    reach = sum(b.count for b in nearness.bins if b.low >= nearness.min_similarity)
    total = sum(b.count for b in nearness.bins)
    note = f"similarity of each to the one most like it; {reach:,} of {total:,} reach {nearness.min_similarity:g}"
    return block("Nearest neighbours", made, note=note)


def render_templates(templates: Sequence[Template], *, unmask: bool = False) -> RenderableType | None:
    """Draw the frames that many conversations are filled into, with their slots; None where there is none."""
    if not templates:
        return None
    made = []
    for found in templates[:MATCHES]:
        slots = counted(found.slots, "slot")
        made.append(say(f"template of {counted(found.count, 'conversation')}, {percent(found.share)}, {slots}:", WARN))
        made.append(masked(found.frame, unmask=unmask, width=3 * _WIDTH))
    note = "conversations that stay and are one frame filled in: no copies, but a model learns the frame"
    return block("Templates", *made, note=note)


def nearness_of(nearness: Nearness, category: str) -> Nearness:
    """The same of one category alone."""
    counts = nearness.categories.get(category, (0,) * len(nearness.bins))
    bins = [b.model_copy(update={"count": n}) for b, n in zip(nearness.bins, counts, strict=True)]
    return nearness.model_copy(update={"bins": tuple(bins), "categories": {category: counts}})


def render_matches(
    nearest: Sequence[ReferenceMatch], found: int, search: ReferenceSearch, shown: int, *, unmask: bool = False
) -> RenderableType:
    """Draw the first of the nearest matches, of `found` in all, each with the reference's file, line and text."""
    what = "marked" if search.marked_only else "removed"
    note = f"{found:,} of {search.conversations:,} conversations {what}: similarity of at least "
    note += f"{search.min_similarity:g} to one of {counted(search.references, 'reference')} in "
    more = f"and {found - shown:,} more" if found > shown else ""
    return block(
        "Near a reference",
        *_matches(nearest[:shown], unmask),
        say(more, FAINT) if more else None,
        note=note + ", ".join(search.files),
    )


def _matches(matches: Sequence[ReferenceMatch], unmask: bool) -> Iterator[RenderableType]:
    for match in matches:
        where = "as a whole" if match.turn is None else f"message {match.turn + 1}"
        yield block(
            f"{match.similarity:.3f}  {match.place}  is like {match.conversation_id}, {where}",
            masked(match.reference_text, unmask=unmask, width=_WIDTH),
            masked(match.text, unmask=unmask, width=_WIDTH),
            _shared(match.terms, unmask) if match.terms else None,
        )


def _pair(drop: Duplicate, kept: str, texts: Mapping[str, Conversation], unmask: bool) -> RenderableType:
    return block(
        f"{drop.similarity:.3f}  {drop.conversation_id} dropped for {kept}",
        *(
            masked(texts[name].messages[0].content, unmask=unmask, width=_WIDTH)
            for name in (kept, drop.conversation_id)
        ),
        _shared(drop.terms, unmask) if drop.terms else say("the same text", FAINT),
    )


def _shared(terms: Sequence[str], unmask: bool) -> RenderableType:
    """The rare terms that two texts share: parts of them, and masked like them."""
    return say("shared:", FAINT).append(" ").append_text(masked(", ".join(terms), unmask=unmask))
