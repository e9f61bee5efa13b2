"""What a file holds -> a run: new conversations, labels beside them, and what it tells anew of those that are there.

A conversation is known by its id and text; one that came without an id by its text alone. Facts (category, intent,
language) that are told later take the place of the earlier ones, also in what was made from that conversation; verdicts
that were given for other facts go. A file that tells no fact takes none away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from safetyqc.formats.labels import LabelFile
from safetyqc.pipeline.labelling import store_labels
from safetyqc.pipeline.progress import shown
from safetyqc.pipeline.stages import Tally
from safetyqc.records import Conversation, conversation_id

if TYPE_CHECKING:
    from safetyqc.formats.readers import ReadResult
    from safetyqc.pipeline.session import Session
    from safetyqc.store import Store

_AT_A_TIME = 5_000
_FACTS = ("category", "intent", "language")


def import_conversations(session: Session, name: str, read: ReadResult) -> tuple[Tally, list[str]]:
    """Add a file's conversations to the run, some thousands at a time, and the labels that stand beside them.

    Returns:
        What was new or changed, and the ids under which the run knows the conversations, in input order: one that the
        run already uses for another text is made unique.
    """
    store = session.store
    held = _already_holds(store, name)
    there = _There(store)
    ids: list[str] = []
    added = changed = 0
    waiting = iter(read.conversations)
    with shown().phase(f"import {name}") as line:
        while part := list(islice(waiting, _AT_A_TIME)):
            known = there.known(part)
            conversations = [distinct(c, known) for c in part]
            added += store.add_conversations(conversations)
            told = list(_changed(there, conversations, known))
            store.change_facts(told)
            changed += len(told)
            ids += [c.id for c in conversations]
            line.advance(count=len(part))
    tally = Tally(f"import {name}", len(ids) - added - changed, added, changed=changed, told=held if added else ())
    if read.labels:
        own = dict(zip((c.id for c in read.conversations), ids, strict=True))
        labels = tuple(x.model_copy(update={"conversation_id": own[x.conversation_id]}) for x in read.labels)
        stored = store_labels(store, session.config, LabelFile(name, labels))
        tally = replace(tally, told=(*tally.told, _say(stored), *stored.told))
    return tally, ids


class _There:
    """What the run held before an import; looked up as far as it is needed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._named = {p.id for p in store.placed() if not p.id.startswith("c_") and p.origin == "imported"}

    def known(self, part: Sequence[Conversation]) -> dict[str, Conversation]:
        """What the run holds of these conversations, by their ids."""
        known = {c.id: c for c in self.store.conversations({c.id for c in part})}
        unnamed = {c.id for c in part if c.id not in known and c.id.startswith("c_")}
        unnamed = {c.id for c in part if c.id in unnamed and c.id == conversation_id(c.messages, system=c.system)}
        if wanted := {made: self.by_text[made] for made in unnamed if made in self.by_text}:
            found = {c.id: c for c in self.store.conversations(set(wanted.values()))}
            known |= {made: found[name] for made, name in wanted.items()}
        return known

    @cached_property
    def by_text(self) -> dict[str, str]:
        """Ids that the run has from elsewhere, by those that would be made for their texts."""
        held: dict[str, str] = {}
        for conversation in self.store.conversations(self._named) if self._named else ():
            held.setdefault(conversation_id(conversation.messages, system=conversation.system), conversation.id)
        return held

    @cached_property
    def made_of(self) -> dict[str, list[str]]:
        """What was made from each conversation."""
        made = defaultdict[str, list[str]](list)
        for place in self.store.placed():
            if place.parent_id:
                made[place.parent_id].append(place.id)
        return made


def _already_holds(store: Store, name: str) -> tuple[str, ...]:
    """Say what else is in the run that a file is brought into: two data sets in one run are rarely meant."""
    held = store.sources()
    others = {source: count for source, count in held.items() if source != name}
    if not others:
        return ()
    told = ", ".join(f"{count:,} from {source}" for source, count in others.items())
    return (f"{store.folder} already holds {told}; for a run of its own give --run NEW",)


def _say(labels: Tally) -> str:
    counts = ((labels.done, "new"), (labels.already, "already there"), (labels.changed, "changed"))
    return "labels: " + "; ".join(f"{count:,} {what}" for count, what in counts if count)


def distinct(conversation: Conversation, known: Mapping[str, Conversation]) -> Conversation:
    """The conversation under the id by which its text is known, and under none that another text has."""
    other = known.get(conversation.id)
    if other is None:
        return conversation
    if (other.messages, other.system) == (conversation.messages, conversation.system):
        return conversation if other.id == conversation.id else conversation.model_copy(update={"id": other.id})
    own = conversation_id(conversation.messages, system=conversation.system).removeprefix("c_")
    return conversation.model_copy(update={"id": f"{conversation.id}~{own}"})


def _changed(
    there: _There, conversations: Iterable[Conversation], known: Mapping[str, Conversation]
) -> Iterator[Conversation]:
    """Conversations of the run with the facts that are told of them now, and what was made from them."""
    held = {c.id: c for c in known.values()}
    told = {c.id: _told(c, held[c.id]) for c in conversations if c.id in held}
    for name, facts in told.items():
        if facts:
            yield from _with_facts(there.store, held[name], facts, there.made_of)


def _told(conversation: Conversation, held: Conversation) -> dict[str, Any]:
    facts = {fact: getattr(conversation, fact) for fact in _FACTS}
    return {fact: value for fact, value in facts.items() if value not in (None, getattr(held, fact))}


def _with_facts(
    store: Store, held: Conversation, facts: Mapping[str, Any], made: Mapping[str, list[str]]
) -> Iterator[Conversation]:
    yield held.model_copy(update=dict(facts))
    for child in store.conversations(set(made.get(held.id, ()))):
        shared = {f: value for f, value in facts.items() if getattr(child, f) == getattr(held, f) and f != "language"}
        if shared and child.id != held.id:
            yield from _with_facts(store, child, shared, made)
