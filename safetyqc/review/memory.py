"""What annotators did so far, replayed from the run: labels, notes, what was put off, seen, and can be undone.

It is never written to: an act goes to the store, and comes back from there. So several tabs, servers and annotators see
the same, and a server that is killed forgets nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetyqc.review.agreement import ADJUDICATED, Cell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safetyqc.records import Label
    from safetyqc.store import Act, Store

_HELD_S = 600
"""So long a conversation is taken to be before the one to whom it was shown last."""
UNDOABLE = ("label", "note", "defer")


@dataclass
class Own:
    """What one annotator did."""

    labels: dict[Cell, Label] = field(default_factory=dict)
    """The latest of each cell, cleared ones too."""
    notes: dict[Cell, str] = field(default_factory=dict)
    deferred: dict[str, None] = field(default_factory=dict)
    seen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Judges whose verdicts were shown, by conversation."""
    repeated: set[str] = field(default_factory=set)
    """Conversations that were shown a second time, for consistency."""
    undoable: dict[int, Act] = field(default_factory=dict)
    """By their numbers, the latest last."""
    shown: Act | None = None
    """The last that was shown."""

    def take(self, number: int, act: Act) -> None:
        """Do what an act says, its label aside."""
        name, body = act.conversation_id, act.body
        if act.act in UNDOABLE:
            self.undoable[number] = act
        if act.act == "undo":
            self._take_back(self.undoable.pop(body["of"], None))
        elif act.act == "note":
            self.notes[name, body["criterion"]] = body["note"]
        elif act.act == "defer":
            self.deferred[name] = None
        elif act.act == "label":
            self.deferred.pop(name, None)
        elif act.act == "seen":
            self.seen[name] = tuple(dict.fromkeys((*self.seen.get(name, ()), *body["judges"])))
        elif act.act == "show":
            self.shown = act
            if body.get("again"):
                self.repeated.add(name)

    def _take_back(self, act: Act | None) -> None:
        if act is None:
            return
        if act.act == "note":
            self.notes[act.conversation_id, act.body["criterion"]] = act.body["before"]
        elif act.act == "defer":
            self.deferred.pop(act.conversation_id, None)


@dataclass
class Memory:
    """All annotators, as far as `refresh` has read; the adjudicator's decisions are of an annotator of their own."""

    store: Store
    own: dict[str, Own] = field(default_factory=lambda: defaultdict(Own))
    labelled_by: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """Criteria with a verdict, by conversation and annotator."""
    _label: int = 0
    _act: int = 0

    def refresh(self) -> Iterable[str]:
        """Take in what was stored since, by whomever; returns the conversations that it was about, in that order."""
        touched: dict[str, None] = {}
        for number, act in self.store.acts_since(self._act):
            self._act = number
            self.own[act.annotator].take(number, act)
            touched[act.conversation_id] = None
        for number, label in self.store.labels_since(self._label):
            self._label = number
            self.own[label.annotator].labels[label.conversation_id, label.criterion] = label
            criteria = self.labelled_by[label.conversation_id][label.annotator]
            (criteria.add if label.is_verdict else criteria.discard)(label.criterion)
            touched[label.conversation_id] = None
        return touched

    def is_labelled_by_others(self, conversation_id: str, annotator: str, criteria: Iterable[str]) -> bool:
        """Whether others have answered all of these criteria between them."""
        by = self.labelled_by.get(conversation_id, {}).items()
        told = {c for who, own in by if who not in (annotator, ADJUDICATED) for c in own}
        return told.issuperset(criteria) if told else False

    def is_before_others(self, conversation_id: str, annotator: str, now: float) -> bool:
        """Whether another annotator has a conversation before them at this moment."""
        shown = (own.shown for who, own in self.own.items() if who != annotator)
        return any(act and act.conversation_id == conversation_id and now - act.at < _HELD_S for act in shown)
