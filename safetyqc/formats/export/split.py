"""Which conversations are held out for validation, and which stand several times in the training file.

Whole groups go to one side (duplicates, rewrites and variants of one parent, equal texts or requests), so the share is
met as nearly as whole groups allow, and repeating a category never touches the validation file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from safetyqc.errors import UserError, choose_from
from safetyqc.records import Conversation, content_hash
from safetyqc.text import CJK, normalise

T = TypeVar("T")
MAX_FACTOR = 100
_OFTEN_SAID = 6
"""Words (characters of Chinese) up to which a later turn, such as "go on", says nothing about where it came from."""


@dataclass(frozen=True)
class Split:
    """Conversations to train on and to validate with; no group has members in both."""

    train: list[Conversation]
    val: list[Conversation]


class Categories:
    """The category of a conversation: its own, else the one that a judge guessed, else none."""

    def __init__(self, guessed: Mapping[str, str]) -> None:
        self._guessed = guessed

    def __call__(self, conversation: Conversation) -> str:
        """Name it; "" where nobody knows."""
        return conversation.category or self._guessed.get(conversation.id, "")

    def is_guess(self, conversation: Conversation) -> bool:
        """Whether it is not its own."""
        return not conversation.category and conversation.id in self._guessed

    def count(self, conversations: Iterable[Conversation]) -> dict[str, int]:
        """Lines by category, the commonest first."""
        return dict(Counter(map(self, conversations)).most_common())


CategoryOf = Callable[[Conversation], str]
_OWN = Categories({})


def split_by_group(
    conversations: Sequence[Conversation],
    groups: Iterable[Collection[str]],
    val_share: float,
    seed: int,
    category_of: CategoryOf = _OWN,
) -> Split:
    """Hold out a share of the conversations, whole groups at a time, evenly over categories.

    Kept together: a group's members, equal texts, equal requests, and whatever descends from one conversation. The draw
    depends on the seed and the ids alone, so the order of the input does not matter. Both sides keep that order.

    Raises:
        UserError: the share is not in 0..1, or whole groups leave one side empty.
    """
    if not 0 <= val_share < 1:
        raise UserError(f"validation share {val_share} is not in 0..1", fix="give a share such as 0.1")
    if val_share == 0:
        return Split(list(conversations), [])
    target = max(round(val_share * len(conversations)), 1)
    held: set[str] = set()
    for members in _in_drawing_order(_kinship(conversations, groups), seed, category_of):
        if len(held) + len(members) <= target and len(held) + len(members) < len(conversations):
            held |= {c.id for c in members}
    if not held:
        raise UserError(
            f"validation share {val_share}: the {len(conversations)} conversation(s) cannot be split by group",
            fix="export without a validation share, or export more conversations",
        )
    return Split([c for c in conversations if c.id not in held], [c for c in conversations if c.id in held])


def oversample(conversations: Sequence[T], factors: Mapping[str, float], category_of: Callable[[T], str]) -> list[T]:
    """Repeat conversations of a category: all once in their order, then the repeats, so that copies stand far apart.

    A factor of 2.5 gives each twice and every second one a third time.
    """
    result = list(conversations)
    seen: Counter[str] = Counter()
    extra: list[list[T]] = []
    for conversation in conversations:
        category = category_of(conversation)
        more = factors.get(category, 1.0) - 1
        place = seen[category]
        seen[category] += 1
        # Rounded running totals, so that a category of n gets factor * n, whatever n is
        times = math.floor((place + 1) * more + 1e-9) - math.floor(place * more + 1e-9)
        for repeat in range(times):
            if repeat == len(extra):
                extra.append([])
            extra[repeat].append(conversation)
    return result + [c for repeats in extra for c in repeats]


def check_factors(factors: Mapping[str, float], conversations: Sequence[Conversation], category_of: CategoryOf) -> None:
    """Refuse factors that mean nothing.

    Raises:
        UserError: a factor out of range, or a category that no conversation is of.
    """
    present = {category for c in conversations if (category := category_of(c))}
    for category, factor in factors.items():
        if not 1 <= factor <= MAX_FACTOR:
            raise UserError(f"oversample {category}={factor} is not in 1..{MAX_FACTOR}", fix="give a factor such as 2")
        if category not in present:
            fix = choose_from(category, present) if present else "the conversations have no category"
            raise UserError(f"oversample {category}: no exported conversation is of this category", fix=fix)


def _kinship(conversations: Sequence[Conversation], groups: Iterable[Collection[str]]) -> list[list[Conversation]]:
    """Collect conversations that must not be parted, by union-find over ids, parents, texts and requests."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = name = leader[above]
        return name

    for members in groups:
        names = list(members)
        for name in names[1:]:
            leader[find(name)] = find(names[0])
    for conversation in conversations:
        text = normalise("\n".join(m.content for m in conversation.messages))
        leader[find(conversation.id)] = find(f"text {content_hash(text)}")
        for request in _requests(conversation):
            leader[find(conversation.id)] = find(f"request {content_hash(request)}")
        if conversation.parent_id:
            leader[find(conversation.id)] = find(conversation.parent_id)
    found: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        found.setdefault(find(conversation.id), []).append(conversation)
    return list(found.values())


def _requests(conversation: Conversation) -> Iterator[str]:
    """What is asked, so that no side holds the other's questions: how it begins, and later turns of some length."""
    for number, told in enumerate(conversation.user_turns):
        request = normalise(told)
        if number == 0 or len(CJK.findall(request)) + len(request.split()) > _OFTEN_SAID:
            yield request


def _in_drawing_order(
    groups: Sequence[list[Conversation]], seed: int, category_of: CategoryOf
) -> list[list[Conversation]]:
    """Order groups so that any first part of the list holds the same share of every category.

    Systematic sampling: the groups of a category stand at even distances from a start drawn for it, so that a small
    category gets its share on average rather than never.
    """
    drawn = {id(g): content_hash([seed, min(c.id for c in g)]) for g in groups}
    by_category: dict[str, list[list[Conversation]]] = {}
    for group in sorted(groups, key=lambda g: drawn[id(g)]):
        by_category.setdefault(category_of(group[0]), []).append(group)
    placed = [
        ((place + _start(seed, category)) / len(members), drawn[id(group)], group)
        for category, members in by_category.items()
        for place, group in enumerate(members)
    ]
    return [group for _, _, group in sorted(placed, key=lambda item: item[:2])]


def _start(seed: int, category: str) -> float:
    return int(content_hash([seed, category])[:8], 16) / 2**32
