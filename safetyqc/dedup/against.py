"""Finds conversations that are near a reference set: benchmark prompts, held-out data, or what the SFT mix already
holds.

A benchmark's prompt is one line and a conversation is many, so the cosine of the two whole texts would be low however
plainly the prompt was copied. Therefore units are compared: of a conversation the whole of it and every user turn, of a
reference the whole of it and its first user turn (a bare string is one unit). A conversation matches a reference by its
nearest pair of units, and the match shows both. It marks; whether a match is removed is the caller's decision.

Later turns of a reference conversation, and first ones of fewer than four words, are no units.
"Yes, please" and "what else can I do?" stand in every data set and contaminate none; a bare string is taken as it is,
however short, because somebody listed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safetyqc.dedup.choices import AGAINST_MIN_SIMILARITY
from safetyqc.dedup.evidence import shared_terms
from safetyqc.dedup.groups import compared_text
from safetyqc.dedup.pairs import check_similarity
from safetyqc.dedup.search import find_pairs
from safetyqc.dedup.tokens import tokens
from safetyqc.formats.references import Reference
from safetyqc.records import Conversation

if TYPE_CHECKING:
    from safetyqc.dedup.choices import Weights
    from safetyqc.dedup.pairs import Pairs

FEWEST_WORDS = 4


@dataclass(frozen=True)
class Match:
    """A conversation and a reference that it is near.

    `turn` is the 0-based message index of the user turn that matched, None when the whole conversation did; `text` is
    what matched in the conversation and `reference_text` what it matched; `terms` the rarest terms that both share.
    """

    conversation_id: str
    reference: Reference
    similarity: float
    turn: int | None
    text: str
    reference_text: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    owner: int
    turn: int | None
    text: str


def find_against(
    conversations: Sequence[Conversation],
    references: Sequence[Reference],
    min_similarity: float = AGAINST_MIN_SIMILARITY,
    *,
    weights: Weights = "tfidf",
    memory_mb: int | None = None,
    backend: str = "auto",
    terms: int = 5,
    nearest_only: bool = False,
) -> list[Match]:
    """Find every conversation near a reference: one match for each such pair, by conversation, the nearest first.

    With `nearest_only` a conversation has one match at most, that with the reference nearest to it (among equals the
    first); their number is then bounded by the conversations, however often a reference is repeated.

    Raises:
        UserError: a threshold outside 0..1, or more matches than the memory holds.
    """
    check_similarity(min_similarity)
    theirs = [unit for place, item in enumerate(references) for unit in _reference_units(place, item.content)]
    ours = [unit for place, item in enumerate(conversations) for unit in _units(place, item)]
    if not theirs or not ours:
        return []
    pairs = find_pairs(
        [unit.text for unit in (*theirs, *ours)], min_similarity, weights=weights, apart=len(theirs),
        memory_mb=memory_mb, backend=backend,
    )  # fmt: skip
    near = _near_units(_nearest(pairs) if nearest_only else pairs, [*theirs, *ours], nearest_only)
    best: dict[tuple[int, int], tuple[float, _Unit, _Unit]] = {}
    for unit, other, similarity in near:
        key = (unit.owner, 0 if nearest_only else other.owner)
        if key not in best or (similarity, -other.owner) > (best[key][0], -best[key][2].owner):
            best[key] = (similarity, unit, other)
    name = shared_terms(pairs.vocabulary, terms)
    return [
        Match(
            conversation_id=conversations[unit.owner].id,
            reference=references[other.owner],
            similarity=similarity,
            turn=unit.turn,
            text=unit.text,
            reference_text=other.text,
            terms=name(unit.text, other.text),
        )
        for similarity, unit, other in sorted(best.values(), key=lambda it: (it[1].owner, -it[0], it[2].owner))
    ]


def _near_units(pairs: Pairs, units: list[_Unit], nearest_only: bool) -> Iterator[tuple[_Unit, _Unit, float]]:
    """The near pairs of one of our units and one of theirs, copies written out."""
    copies: dict[int, list[_Unit]] = {}
    for unit, first in zip(units, pairs.same_as.tolist(), strict=True):
        copies.setdefault(first, []).append(unit)
    for left, right, similarity in zip(
        pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True
    ):
        others = copies[left][:1] if nearest_only else copies[left]
        yield from ((unit, other, similarity) for other in others for unit in copies[right])


def _nearest(pairs: Pairs) -> Pairs:
    """Keep for each text on the right the nearest on the left, among equals the first."""
    import numpy as np

    order = np.lexsort((pairs.left, -pairs.similarity, pairs.right))
    first = np.ones(len(order), bool)
    first[1:] = pairs.right[order[1:]] != pairs.right[order[:-1]]
    kept = order[first]
    return replace(pairs, left=pairs.left[kept], right=pairs.right[kept], similarity=pairs.similarity[kept])


def _units(owner: int, conversation: Conversation) -> Iterator[_Unit]:
    yield _Unit(owner, None, compared_text(conversation))
    if conversation.system:
        yield _Unit(owner, None, conversation.system)
    for turn, message in enumerate(conversation.messages):
        if message.role == "user":
            yield _Unit(owner, turn, message.content)


def _reference_units(owner: int, content: str | Conversation) -> Iterator[_Unit]:
    if isinstance(content, str):
        yield _Unit(owner, None, content)
        return
    yield _Unit(owner, None, compared_text(content))
    if len(tokens(content.user_turns[0])) >= FEWEST_WORDS:
        yield _Unit(owner, 0, content.user_turns[0])
