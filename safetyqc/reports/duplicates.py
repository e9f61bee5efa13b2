"""Draws duplicate groups in the terminal: what was kept, what was dropped for it, how near, and by which shared words.

It decides nothing. The one surprising thing: pairs are shown nearest to the threshold first, because those are the
ones that a person may see differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.reports.drawing import FAINT, block, masked, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.records import Conversation, Duplicate, DuplicateGroup

_WIDTH = 90


def render_duplicates(
    groups: Sequence[DuplicateGroup], conversations: Sequence[Conversation], pairs: int = 0, *, unmask: bool = False
) -> RenderableType:
    """Draw the sum, and the `pairs` nearest to the threshold with their texts."""
    from rich.console import Group
    from rich.text import Text

    dropped = sum(len(group.dropped) for group in groups)
    exact = sum(drop.exact for group in groups for drop in group.dropped)
    head = (
        f"{len(conversations):,} conversations, {len(groups):,} duplicate groups: "
        f"{len(conversations) - dropped:,} stay, "
        f"{dropped:,} dropped ({exact:,} of them the same text)"
    )
    listed = sorted(((drop, group.kept) for group in groups for drop in group.dropped), key=lambda x: x[0].similarity)
    texts = {c.id: c for c in conversations}
    drawn = [_pair(drop, kept, texts, unmask) for drop, kept in listed[:pairs]]
    hint = [] if unmask or not drawn else [Text("texts are masked: --unmask shows them", style=FAINT)]
    return Group(Text(head), *drawn, *hint)


def _pair(drop: Duplicate, kept: str, texts: dict[str, Conversation], unmask: bool) -> RenderableType:
    shared = f"shared: {', '.join(drop.terms)}" if drop.terms else "the same text"
    return block(
        f"{drop.similarity:.3f}  {drop.conversation_id} dropped for {kept}",
        *(
            masked(texts[name].messages[0].content, unmask=unmask, width=_WIDTH)
            for name in (kept, drop.conversation_id)
        ),
        say(shared, FAINT),
    )
