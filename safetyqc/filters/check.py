"""Conversations of one file -> a CheckReport: what is wrong with the data before any model is asked.

Counts structure, rule hits, copies, balance and openings; it draws nothing and decides nothing. Conversations may lie
in a file and are looked at one at a time, so what is kept of them is where they stand. The rules and the finder of
near-duplicates are handed in as functions, because stages do not know each other. Shares are of all records of the
file, also of those that could not be read, so that they add up to what the user has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from safetyqc.filters.languages import written_in
from safetyqc.filters.templates import find_templates
from safetyqc.formats.readers import ReadResult
from safetyqc.records import Conversation, DuplicateGroup, Rejection, content_hash
from safetyqc.results.findings import (
    BadLine,
    Balance,
    CheckReport,
    Copies,
    CopyExample,
    Example,
    Finding,
    Opening,
    Openings,
    Slice,
    Template,
)
from safetyqc.results.guesses import LETTERS, how_right
from safetyqc.results.openings import measure_refusals
from safetyqc.text import OPENING_WORDS, first_words, guess_language_of, normalise, shorten

Rules = Callable[[Conversation], Sequence[Rejection]]
NearDuplicates = Callable[[Sequence[Conversation]], Iterable[DuplicateGroup]]

_EXAMPLES = 3
_SHOWN_OPENINGS = 5


def check_conversations(
    read: ReadResult,
    *,
    rules: Rules,
    near_duplicates: NearDuplicates | None = None,
    min_similarity: float | None = None,
) -> CheckReport:
    """Count what is wrong with a file; asks no model.

    Args:
        read: from `read_conversations(path, strict=False)`, so that bad structure is a finding.
        rules: one conversation's hits, such as `filters.apply_filters` with its settings.
        near_duplicates: all groups of similar conversations, such as dedup's; equal ones in them are not counted twice.
        min_similarity: what `near_duplicates` took for similar, for the report.
    """
    conversations, total = read.conversations, len(read.conversations) + len(read.skipped)
    lines = {c.id: c.source.line if c.source else None for c in conversations}
    hits = [hit for c in conversations for hit in rules(c)]
    exact = [places for places in _places_by(conversations, _fingerprint).values() if len(places) > 1]
    copies = {conversations[place].id for group in exact for place in group[1:]}
    groups = list(near_duplicates(conversations)) if near_duplicates else None
    near = [
        (group, drop.conversation_id, drop.similarity)
        for group in groups or ()
        for drop in group.dropped
        if not drop.exact and drop.conversation_id not in copies
    ]
    dirty = {h.conversation_id for h in hits} | copies | {dropped for _, dropped, _ in near}
    return CheckReport(
        path=read.path,
        records=total,
        conversations=len(conversations),
        clean=len(conversations) - len(dirty),
        how=read.how,
        notes={**read.notes, **language_notes(conversations)},
        unreadable=tuple(bad for bad in read.skipped if not bad.is_structure),
        structure=_structure_findings(read.skipped, total),
        rules=_rule_findings(hits, lines, total),
        rejected=len({h.conversation_id for h in hits}),
        exact=_exact_copies(exact, conversations, total),
        near=None if groups is None else _near_copies(near, conversations, total),
        min_similarity=min_similarity if groups is not None else None,
        balance=tuple(_balance(name, of, conversations) for name, of in PROPERTIES.items()),
        openings=_openings(conversations),
        templates=_templates(conversations, copies | {dropped for _, dropped, _ in near}),
    )


def language_notes(conversations: Iterable[Conversation]) -> dict[str, int]:
    """What languages were declared while another is plainly written, as sentences, and how often."""
    counts: Counter[str] = Counter()
    for conversation in conversations:
        declared = conversation.language
        if declared and (written := written_in("\n".join(m.content for m in conversation.messages), declared)):
            counts[f"declared as {declared}, written in {written}"] += 1
    return dict(counts.most_common())


def _templates(conversations: Sequence[Conversation], copies: Set[str]) -> tuple[Template, ...]:
    return find_templates(_Texts(conversations), [n for n, c in enumerate(conversations) if c.id not in copies])


@dataclass(frozen=True)
class _Texts(Sequence[str]):
    """What is said in conversations, put together when it is looked at."""

    conversations: Sequence[Conversation]

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, place: Any) -> Any:
        return "\n".join(message.content for message in self.conversations[place].messages)


PROPERTIES: dict[str, Callable[[Conversation], str | None]] = {
    "category": lambda c: c.category,
    "intent": lambda c: c.intent,
    "language": lambda c: c.language or guess_language_of(m.content for m in c.messages),
    "turns": lambda c: str(len(c.assistant_turns)),
}
"""What balance is counted over; a language that the file does not name is guessed, turns are exchanges."""


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _structure_findings(skipped: Sequence[BadLine], total: int) -> tuple[Finding, ...]:
    bad = [b for b in skipped if b.is_structure]
    return _findings([(b.kind, Example(line=b.line, id=None, text=b.what)) for b in bad], total)


def _rule_findings(hits: Sequence[Rejection], lines: dict[str, int | None], total: int) -> tuple[Finding, ...]:
    return _findings(
        [(h.filter, Example(line=lines[h.conversation_id], id=h.conversation_id, text=h.reason)) for h in hits], total
    )


def _findings(found: Sequence[tuple[str, Example]], total: int) -> tuple[Finding, ...]:
    """Collect by name, the most frequent first, with the first few places of each."""
    return tuple(
        Finding(
            name=name,
            count=count,
            share=_share(count, total),
            examples=tuple([example for other, example in found if other == name][:_EXAMPLES]),
        )
        for name, count in Counter(name for name, _ in found).most_common()
    )


def _fingerprint(conversation: Conversation) -> str:
    """Equal for conversations that are equal but for case, typography and white space."""
    told = [[m.role, normalise(m.content)] for m in conversation.messages]
    return content_hash([told, normalise(conversation.system)] if conversation.system else told)


def _places_by(
    conversations: Iterable[Conversation], key: Callable[[Conversation], str | None]
) -> dict[str, list[int]]:
    """Where the conversations of each key stand, in input order; those without one stand nowhere."""
    places: dict[str, list[int]] = {}
    for place, conversation in enumerate(conversations):
        if (found := key(conversation)) is not None:
            places.setdefault(found, []).append(place)
    return places


def _exact_copies(groups: Sequence[Sequence[int]], conversations: Sequence[Conversation], total: int) -> Copies:
    dropped = sum(len(group) - 1 for group in groups)
    examples = [_copy(conversations[group[0]], conversations[group[1]], 1.0) for group in groups[:_EXAMPLES]]
    return Copies(groups=len(groups), dropped=dropped, share=_share(dropped, total), examples=tuple(examples))


def _near_copies(
    near: Sequence[tuple[DuplicateGroup, str, float]], conversations: Sequence[Conversation], total: int
) -> Copies:
    closest = sorted(near, key=lambda found: -found[2])[:_EXAMPLES]
    shown = {name for group, dropped, _ in closest for name in (group.kept, dropped)}
    by_id = {c.id: c for c in conversations if c.id in shown}
    return Copies(
        groups=len({group.kept for group, _, _ in near}),
        dropped=len(near),
        share=_share(len(near), total),
        examples=tuple(_copy(by_id[group.kept], by_id[dropped], cosine) for group, dropped, cosine in closest),
    )


def _copy(kept: Conversation, dropped: Conversation, similarity: float) -> CopyExample:
    return CopyExample(
        kept_line=_line(kept), dropped_line=_line(dropped), similarity=similarity, text=_beginning(dropped.user_turns)
    )


def _balance(
    name: str, value_of: Callable[[Conversation], str | None], conversations: Sequence[Conversation]
) -> Balance:
    values = [value_of(c) for c in conversations]
    guessed = sum(not c.language for c in conversations) if name == "language" else 0
    counts = Counter(values)
    known = [count for value, count in counts.items() if value is not None]
    return Balance(
        of=name,
        slices=tuple(Slice(value=v, count=n, share=_share(n, len(values))) for v, n in counts.most_common()),
        smallest_to_largest=min(known) / max(known) if len(known) > 1 else None,
        guessed=guessed,
        measured=how_right(name, LETTERS) if guessed else (),
    )


def _openings(conversations: Sequence[Conversation]) -> Openings:
    groups = _places_by(conversations, _opening)
    answers = sum(map(len, groups.values()))
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return Openings(
        first_words=OPENING_WORDS,
        answers=answers,
        distinct=len(groups),
        commonest=tuple(
            Opening(
                words=words,
                count=len(places),
                share=_share(len(places), answers),
                example=Example(line=_line(first), id=first.id, text=_beginning(first.assistant_turns)),
            )
            for words, places in ranked[:_SHOWN_OPENINGS]
            for first in [conversations[places[0]]]
        ),
        refusals=measure_refusals(c.assistant_turns[0] for c in conversations if c.assistant_turns),
    )


def _opening(conversation: Conversation) -> str | None:
    return first_words(conversation.assistant_turns[0], OPENING_WORDS) if conversation.assistant_turns else None


def _line(conversation: Conversation) -> int | None:
    return conversation.source.line if conversation.source else None


def _beginning(texts: Sequence[str]) -> str:
    return shorten(texts[0], 100) if texts else ""
