"""Mixes ordinary conversations into a training file, so that safety makes up the share that was asked for.

Which ordinary ones are taken, and where they stand among the others, is drawn from the seed. The validation file holds
none of them, and no text that is held out or in the set is mixed in. A share that the ordinary ones do not suffice for
is refused rather than missed: nobody looks for it in a file of a hundred thousand lines.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetyqc.errors import UserError
from safetyqc.formats.export.encoding import Example
from safetyqc.formats.export.manifest import Mixed
from safetyqc.formats.turns import structure_problem
from safetyqc.records import Conversation, content_hash

ORDINARY = "ordinary"
DEFAULT_SHARE = 0.1


@dataclass(frozen=True)
class Mix:
    """What to mix in.

    Args:
        conversations: the ordinary ones.
        safety_share: of the lines of the training file, 0..1.
    """

    path: Path
    conversations: Sequence[Conversation]
    safety_share: float = DEFAULT_SHARE


def mix_in(train: Sequence[Example], held_out: Iterable[Example], mix: Mix, seed: int) -> tuple[list[Example], Mixed]:
    """Draw as many ordinary conversations as the share asks for, and shuffle all.

    Raises:
        UserError: a share out of range, or too few ordinary conversations.
    """
    if not 0 < mix.safety_share < 1:
        raise UserError(f"a share cannot be {mix.safety_share}", where="--safety-share", fix="give 0.03 to 0.3")
    known = {_text(example.conversation) for example in (*train, *held_out)}
    usable = {_text(c): c for c in mix.conversations if not structure_problem(c.as_messages())}
    ordinary = [conversation for text, conversation in usable.items() if text not in known]
    wanted = max(round(len(train) * (1 - mix.safety_share) / mix.safety_share), 1)
    if wanted > len(ordinary):
        raise UserError(
            f"{len(train):,} lines of safety data at a share of {mix.safety_share:g} take {wanted:,} ordinary "
            f"conversations, and {len(ordinary):,} can be used",
            where=str(mix.path),
            fix=f"give --safety-share {_reachable(len(train), len(ordinary))} or more, or a longer file",
        )
    rng = random.Random(f"{seed}/mix")
    drawn = [Example(c.model_copy(update={"category": c.category or ORDINARY})) for c in rng.sample(ordinary, wanted)]
    lines = [*train, *drawn]
    rng.shuffle(lines)
    told = Mixed(
        path=mix.path.name,
        conversations=wanted,
        available=len(ordinary),
        safety_share=len(train) / len(lines),
    )
    return lines, told


def _reachable(safety: int, ordinary: int) -> float:
    """The least share that so many ordinary conversations suffice for, rounded up to a thousandth."""
    return min(-(-1000 * safety // (safety + ordinary)) / 1000, 0.999)


def _text(conversation: Conversation) -> str:
    return content_hash(conversation.as_messages())
