"""Finds conversations that are near a reference set: benchmark prompts, held-out data, or what the SFT mix already
holds.

A benchmark's prompt is one line and a conversation is many, so the cosine of the two whole texts would be low however
plainly the prompt was copied. Therefore units are compared: of a conversation the whole of it and every user turn, of a
reference the whole of it and its first user turn (a bare string is one unit). A conversation matches a reference by its
nearest pair of units, and the match shows both. It marks; whether a match is removed is the caller's decision.

The surprising thing: later turns of a reference conversation, and first ones of fewer than four words, are no units.
"Yes, please" and "what else can I do?" stand in every data set and contaminate none; a bare string is taken as it is,
however short, because somebody listed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safetyqc.dedup.backend import BackendName, characters_of, choose_backend
from safetyqc.dedup.evidence import shared_terms
from safetyqc.dedup.groups import compared_text
from safetyqc.dedup.pairs import check_similarity, join
from safetyqc.dedup.tokens import tokens
from safetyqc.formats.references import Reference
from safetyqc.records import Conversation

if TYPE_CHECKING:
    from safetyqc.dedup.rows import Found
    from safetyqc.dedup.vectors import Weights
    from safetyqc.dedup.vocabulary import FrozenVocabulary

AGAINST_MIN_SIMILARITY = 0.6
"""Lower than for duplicates: letting a benchmark through costs more than losing one conversation."""
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
    backend: BackendName = "auto",
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
    limit = memory_mb * 1e6 if memory_mb else float("inf")
    near, vocabulary = _near_units(theirs, ours, min_similarity, weights, limit, backend, nearest_only)
    best: dict[tuple[int, int], tuple[float, _Unit, _Unit]] = {}
    for unit, other, similarity in near:
        key = (unit.owner, 0 if nearest_only else other.owner)
        if key not in best or (similarity, -other.owner) > (best[key][0], -best[key][2].owner):
            best[key] = (similarity, unit, other)
    name = shared_terms(vocabulary, terms)
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


def _near_units(
    theirs: list[_Unit],
    ours: list[_Unit],
    min_similarity: float,
    weights: Weights,
    limit_bytes: float,
    backend: BackendName,
    nearest_only: bool,
) -> tuple[Iterator[tuple[_Unit, _Unit, float]], FrozenVocabulary]:
    """Find the near pairs of one of our units and one of theirs, copies written out."""
    from safetyqc.dedup.vectors import vectorise

    units = theirs + ours
    texts = [unit.text for unit in units]
    worker = choose_backend(backend, characters_of(texts))
    vectors = vectorise(texts, worker, weights=weights, apart=len(theirs), limit_bytes=limit_bytes)
    apart = int(vectors.texts.searchsorted(len(theirs)))
    found = join(vectors.rows, vectors.groups, worker, min_similarity, apart=apart, limit_bytes=limit_bytes)
    if nearest_only:
        found = _nearest(found)
    copies: dict[int, list[_Unit]] = {}
    for place, first in enumerate(vectors.same_as.tolist()):
        copies.setdefault(first, []).append(units[place])

    def expanded() -> Iterator[tuple[_Unit, _Unit, float]]:
        lefts, rights = vectors.texts[found.left].tolist(), vectors.texts[found.right].tolist()
        for left, right, cosine in zip(lefts, rights, found.cosine.tolist(), strict=True):
            similarity = min(round(cosine, 6), 1.0)
            if similarity >= min_similarity:
                others = copies[left][:1] if nearest_only else copies[left]
                yield from ((unit, other, similarity) for other in others for unit in copies[right])

    return expanded(), vectors.vocabulary


def _nearest(found: Found) -> Found:
    """Keep for each row on the right the nearest on the left, among equals the first."""
    import numpy as np

    order = np.lexsort((found.left, -np.round(found.cosine, 6), found.right))
    first = np.ones(len(order), bool)
    first[1:] = found.right[order[1:]] != found.right[order[:-1]]
    kept = order[first]
    return replace(found, left=found.left[kept], right=found.right[kept], cosine=found.cosine[kept])


def _units(owner: int, conversation: Conversation) -> Iterator[_Unit]:
    yield _Unit(owner, None, compared_text(conversation))
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
