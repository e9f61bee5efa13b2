"""What a file holds -> a run: new conversations, labels beside them, and what it tells anew of those that are there.

A conversation is known by its id and text; one that came without an id by its text alone. Facts (category, intent,
language) that are told later take the place of the earlier ones, also in what was made from that conversation; verdicts
that were given for other facts go. A file that tells no fact takes none away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safetyqc.formats.labels import LabelFile
from safetyqc.pipeline.labelling import store_labels
from safetyqc.pipeline.stages import Tally
from safetyqc.records import Conversation, conversation_id

if TYPE_CHECKING:
    from safetyqc.formats.readers import ReadResult
    from safetyqc.pipeline.session import Session
    from safetyqc.store import Store

_FACTS = ("category", "intent", "language")


def import_conversations(session: Session, name: str, read: ReadResult) -> tuple[Tally, list[Conversation]]:
    """Add a file's conversations to the run, and the labels that stand beside them.

    Returns:
        What was new or changed, and the conversations in input order as the run knows them: an id that the run already
        uses for another text is made unique.
    """
    store = session.store
    known = {c.id: c for c in store.conversations({c.id for c in read.conversations})}
    known |= _by_text(store, [c for c in read.conversations if c.id not in known])
    conversations = [distinct(c, known) for c in read.conversations]
    held = _already_holds(store, name)
    added = store.add_conversations(conversations)
    changed = list(_changed(store, conversations, known))
    store.change_facts(changed)
    same = len(conversations) - added - len(changed)
    tally = Tally(f"import {name}", same, added, changed=len(changed), told=held if added else ())
    if read.labels:
        ids = {c.id: own.id for c, own in zip(read.conversations, conversations, strict=True)}
        own = [x.model_copy(update={"conversation_id": ids[x.conversation_id]}) for x in read.labels]
        labels = store_labels(store, session.config, LabelFile(name, tuple(own)))
        tally = replace(tally, told=(*tally.told, _say(labels), *labels.told))
    return tally, conversations


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


def _by_text(store: Store, strangers: Iterable[Conversation]) -> dict[str, Conversation]:
    """What the run holds, under ids of its own, of texts that came without one: by the id that was made for them."""
    unnamed = {c.id for c in strangers if c.id == conversation_id(c.messages, system=c.system)}
    named = {p.id for p in store.placed() if not p.id.startswith("c_") and p.origin == "imported"} if unnamed else set()
    held: dict[str, Conversation] = {}
    for conversation in store.conversations(named) if named else ():
        held.setdefault(conversation_id(conversation.messages, system=conversation.system), conversation)
    return {made: conversation for made, conversation in held.items() if made in unnamed}


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
    store: Store, conversations: Iterable[Conversation], known: Mapping[str, Conversation]
) -> Iterator[Conversation]:
    """Conversations of the run with the facts that are told of them now, and what was made from them."""
    held = {c.id: c for c in known.values()}
    told = {c.id: _told(c, held[c.id]) for c in conversations if c.id in held}
    told = {name: facts for name, facts in told.items() if facts}
    if not told:
        return
    made = defaultdict[str, list[str]](list)
    for place in store.placed():
        if place.parent_id:
            made[place.parent_id].append(place.id)
    for name, facts in told.items():
        yield from _with_facts(store, held[name], facts, made)


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
