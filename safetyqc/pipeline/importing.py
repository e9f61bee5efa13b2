"""What a file holds -> a run: new conversations, labels beside them, and what it tells anew of those that are there.

A conversation is known by its id and text; one that came without an id by its text alone. Of a folder that is read file
by file, equal ids in two files are two conversations, which get the ids that they would get if all were read at once:
so a file's ids depend on the run alone, and are the same whenever it is read. Facts (category, intent, language) that
are told later take the place of the earlier ones, also in what was made from that conversation; verdicts that were
given for other facts go. A file that tells no fact takes none away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from safetyqc.formats.labels import LabelFile
from safetyqc.pipeline.labelling import store_labels, with_labels
from safetyqc.pipeline.progress import shown
from safetyqc.pipeline.stages import Tally, together
from safetyqc.records import Conversation, Source, conversation_id

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
        run already uses for another text is made unique. Of a folder that was read file by file there are none.
    """
    held = already_holds(session.store, name)
    if read.is_apart:
        labelled, there = bool(read.labels), There(session.store, read.path)
        parts = (with_labels(file, session.config) if labelled else file for file in read.by_file())
        tally, ids = together([import_file(session, name, part, there)[0] for part in parts]), list[str]()
    else:
        tally, ids = import_file(session, name, read, There(session.store))
    return replace(tally, told=(*(held if tally.done else ()), *tally.told)), ids


def import_file(session: Session, name: str, read: ReadResult, there: There) -> tuple[Tally, list[str]]:
    """Do the same with one of several files, of which `there` knows what the run held before the first."""
    store = session.store
    ids: list[str] = []
    added = changed = 0
    waiting = iter(read.conversations)
    there.begin_file()
    with shown().phase(f"import {name}") as line:
        while part := list(islice(waiting, _AT_A_TIME)):
            known = there.known(part)
            conversations = [distinct(there.apart(c, known), known) for c in part]
            added += store.add_conversations(conversations)
            told = list(_changed(there, conversations, known))
            store.change_facts(told)
            changed += len(told)
            ids += [c.id for c in conversations]
            line.advance(count=len(part))
    tally = Tally(f"import {name}", len(ids) - added - changed, added, changed=changed)
    if read.labels:
        own = dict(zip((c.id for c in read.conversations), ids, strict=True))
        labels = tuple(x.model_copy(update={"conversation_id": own[x.conversation_id]}) for x in read.labels)
        stored = store_labels(store, session.config, LabelFile(name, labels))
        tally = replace(tally, told=(_say(stored), *stored.told))
    return tally, ids


class There:
    """What the run held before an import; looked up as far as it is needed.

    Args:
        folder: whose files are brought in one by one; None for data that is read as a whole.
    """

    def __init__(self, store: Store, folder: str | None = None) -> None:
        self.store, self._folder = store, folder and f"{folder.rstrip('/')}/"
        self._named = store.named_elsewhere(None) if folder is None else None
        self._given: set[str] = set()

    def begin_file(self) -> None:
        """Let go of the ids that the file before was given."""
        self._given.clear()

    def apart(self, conversation: Conversation, known: dict[str, Conversation]) -> Conversation:
        """The conversation under an id that no other file of its folder has used, nor an earlier line of its own.

        `known` then names what the run holds under that id.
        """
        if conversation.id not in self._given and not self._is_of_another_file(conversation, known):
            return conversation
        made, copies = conversation_id(conversation.messages, system=conversation.system), 0
        own = len(made) != len(conversation.id) or not conversation.id.startswith("c_")
        meta = {"id": conversation.id, **conversation.meta} if own else conversation.meta
        name = made
        while (name == made and not own) or name in self._given or self._is_of_another_place(name, conversation):
            copies += 1
            name = conversation_id(conversation.messages, salt=f"copy {copies}", system=conversation.system)
        self._given.add(name)
        known.pop(name, None)
        known |= {c.id: c for c in self.store.conversations({name})}
        return conversation.model_copy(update={"id": name, "meta": meta})

    def _is_of_another_file(self, conversation: Conversation, known: Mapping[str, Conversation]) -> bool:
        held, source = known.get(conversation.id), conversation.source
        if self._folder is None or held is None or held.source is None or source is None:
            return False
        return held.source.path.startswith(self._folder) and held.source.path != source.path

    def _is_of_another_place(self, name: str, conversation: Conversation) -> bool:
        held, source = self.store.conversation(name), conversation.source
        if held is None:
            return False
        return None in (held.source, source) or _place(held.source) != _place(source)

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
        named = self.store.named_elsewhere(self._folder) if self._named is None else self._named
        for conversation in self.store.conversations(named):
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


def _place(source: Source | None) -> tuple[str, int] | None:
    return (source.path, source.index) if source else None


def already_holds(store: Store, name: str) -> tuple[str, ...]:
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
    there: There, conversations: Iterable[Conversation], known: Mapping[str, Conversation]
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
