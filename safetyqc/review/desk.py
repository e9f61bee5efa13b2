"""One annotator at one queue: which item comes next, what a key does, and how far the work is.

Every act is stored before it is answered; what was done so far is read from the run alone (`memory`). No judge's
verdict leaves the desk before all that is asked of a conversation is answered, and then it is remembered as seen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from safetyqc.errors import UserError, choose_from
from safetyqc.records import Label, Record
from safetyqc.results.compare import OVERALL
from safetyqc.review.agreement import ADJUDICATED, AGAIN
from safetyqc.review.draws import PLAN
from safetyqc.review.items import ALL, BY_CHANCE, Item
from safetyqc.review.memory import Memory, Own
from safetyqc.store import Act

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from safetyqc.records import Intent
    from safetyqc.rubrics import RubricSet
    from safetyqc.rubrics.criterion import Criterion
    from safetyqc.store import Store

NA = "na"
_REPEAT_EVERY = 10
_REPEAT_AFTER = 5
"""So many others were finished since, or it would be answered from memory."""
_REPEATING, _SHARING = (PLAN, ALL), (PLAN, ALL, "disagreement", "canary", "escalation")


class Given(Record):
    """A level that was chosen; `level` is one of the criterion's, or `na`."""

    id: str
    criterion: str
    level: str
    seconds: float = Field(default=0, ge=0)
    note: str | None = Field(default=None, max_length=10_000)
    again: bool = False


class Noted(Record):
    """A note on a criterion of a conversation."""

    id: str
    criterion: str
    note: str = Field(max_length=10_000)


@dataclass(frozen=True)
class Place:
    """Where the annotator is: an item of the queue, or one that comes again between two items."""

    at: int
    again: bool = False


@dataclass
class Desk:
    """The work of one annotator on the items of one queue; `only` narrows what is asked to some criteria."""

    store: Store
    rubric: RubricSet
    annotator: str
    queue: str
    items: list[Item]
    only: tuple[str, ...] = ()
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.store)
        self._facts = {c.id: (c.category, cast("Intent | None", c.intent)) for c in self.store.placed()}
        self._asked: dict[object, tuple[Criterion, ...]] = {}
        self.items = [item for item in self.items if self.asked(item)]
        self.positions = {item.conversation_id: at for at, item in enumerate(self.items)}
        self.finished: dict[str, None] = {}
        self.by_others: set[str] = set()
        self.refresh()

    # ---- what stands -----------------------------------------------------------------------------------------------

    @property
    def decides(self) -> bool:
        """Whether this is adjudication: what is said here decides between others."""
        return self.queue == "adjudicate"

    @property
    def own(self) -> Own:
        """What this annotator did here."""
        return self.memory.own[f"{self.annotator} (adjudicating)" if self.decides else self.annotator]

    def refresh(self) -> None:
        """Take in what anybody stored since."""
        for name in self.memory.refresh():
            at = self.positions.get(name)
            if at is None:
                continue
            if not self.is_finished(self.items[at]):
                self.finished.pop(name, None)
            elif name not in self.finished:
                self.finished[name] = None
            others = self.memory.is_labelled_by_others(name, self.annotator, self.asked_names(self.items[at]))
            (self.by_others.add if others else self.by_others.discard)(name)

    def asked(self, item: Item) -> tuple[Criterion, ...]:
        """The criteria that are asked of an item."""
        facts = self._facts[item.conversation_id]
        known = self._asked.get((facts, item.criteria))
        if known is None:
            known = self._asked[facts, item.criteria] = self._asked_of(*facts, item.criteria)
        return known

    def _asked_of(
        self, category: str | None, intent: Intent | None, criteria: tuple[str, ...] | None
    ) -> tuple[Criterion, ...]:
        wanted = None if criteria is None or OVERALL in criteria else criteria
        return tuple(
            c
            for c in self.rubric.criteria
            if (wanted is None or c.id in wanted)
            and (not self.only or c.id in self.only)
            and (self.decides or c.applicability(category, intent) != "never")
        )

    def asked_names(self, item: Item) -> tuple[str, ...]:
        """Their names."""
        return tuple(c.id for c in self.asked(item))

    def said(self, name: str, criterion: str, *, again: bool = False) -> Label | None:
        """This annotator's verdict on a cell; with `again` only one that was given when it was shown again."""
        labels = self.memory.own[ADJUDICATED].labels if self.decides else self.own.labels
        label = labels.get((name, criterion))
        return label if label and label.is_verdict and (not again or label.source == AGAIN) else None

    def is_current(self, label: Label) -> bool:
        """Whether a label was given for the wording that is shown."""
        return label.rubric_hash in (None, self.rubric.hash)

    def is_finished(self, item: Item, *, again: bool = False) -> bool:
        """Whether everything that is asked of an item has an answer for the present wording."""
        given = [self.said(item.conversation_id, name, again=again) for name in self.asked_names(item)]
        return all(label is not None and self.is_current(label) for label in given)

    # ---- what comes next -------------------------------------------------------------------------------------------

    def first(self) -> Place | None:
        """Where to begin: at what was before the annotator when they left, if it is open, else at the first open."""
        shown = self.own.shown
        at = self.positions.get(shown.conversation_id) if shown else None
        if shown and at is not None and shown.conversation_id not in self.own.deferred:
            again = bool(shown.body.get("again"))
            if not self.is_finished(self.items[at], again=again):
                return Place(at, again)
        return self.next_open(-1)

    def next_open(self, after: int) -> Place | None:
        """The next item without an answer; now and then one that comes again; what was put off comes last."""
        repeat = self._repeat_due()
        if repeat is not None:
            return Place(repeat, again=True)
        now = time.time()
        deferred = None
        for at in chain(range(after + 1, len(self.items)), range(after + 1)):
            name = self.items[at].conversation_id
            if name in self.finished or self._is_taken(self.items[at], now):
                continue
            if name not in self.own.deferred:
                return Place(at)
            deferred = at if deferred is None else deferred
        return None if deferred is None else Place(deferred)

    def _is_taken(self, item: Item, now: float) -> bool:
        if self.queue not in _SHARING or item.shared:
            return False
        name = item.conversation_id
        return name in self.by_others or self.memory.is_before_others(name, self.annotator, now)

    def _repeat_due(self) -> int | None:
        repeated = sum(name in self.positions for name in self.own.repeated)
        if self.queue not in _REPEATING or len(self.finished) // (_REPEAT_EVERY - 1) <= repeated:
            return None
        long_ago = list(self.finished)[:-_REPEAT_AFTER]
        return next((self.positions[name] for name in long_ago if name not in self.own.repeated), None)

    # ---- what keys do ----------------------------------------------------------------------------------------------

    def show(self, place: Place) -> None:
        """Remember that an item is before the annotator."""
        shown = self.own.shown
        name = self.items[place.at].conversation_id
        if shown is None or (shown.conversation_id, bool(shown.body.get("again"))) != (name, place.again):
            self._act(name, "show", {"again": True} if place.again else {})  # nobody waits for it to be durable

    def label(self, given: Given) -> None:
        """Store a level.

        Raises:
            UserError: it is not asked here, there is no such level, or a decision between others without its reason.
        """
        item = self._drawn_as(self._item(given.id, given.criterion), given.criterion)
        outcome = self._outcome(given.criterion, given.level)
        cell = given.id, given.criterion
        noted = self.own.notes.get(cell, "")
        note = noted if given.note is None else given.note.strip()
        if self.decides and not note:
            raise UserError("a decision between annotators needs its reason", where=given.id, fix="write a note: n")
        if note != noted:
            self._do(given.id, "note", {"criterion": given.criterion, "note": note, "before": noted})
        label = Label(
            conversation_id=given.id,
            criterion=given.criterion,
            outcome=outcome,
            level=None if given.level == NA else given.level,
            annotator=ADJUDICATED if self.decides else self.annotator,
            source=f"review, decided by {self.annotator}" if self.decides else AGAIN if given.again else "review",
            at=time.time(),
            rubric_hash=self.rubric.hash,
            note=note,
            seconds=round(min(given.seconds, 3600.0), 1),
            queue=item.queue,
            stratum=item.stratum,
            probability=item.probability,
            seen=self.own.seen.get(given.id, ()),
            adjudicated=self.decides,
        )
        again = {"again": True} if given.again else {}
        self._do(given.id, "label", {"criterion": given.criterion, "before": self._before(cell), **again}, label)

    def _drawn_as(self, item: Item, criterion: str) -> Item:
        """The item as its cell came to be labelled at first: what was drawn stays drawn, whatever shows it again."""
        cell = item.conversation_id, criterion
        if item.queue in BY_CHANCE:
            return item
        said = [self.own, *self.memory.own.values()]
        labels = [label for own in said if (label := own.labels.get(cell)) and label.is_verdict]
        first = next((label for label in labels if label.queue in BY_CHANCE), None)
        if first is None:
            return item
        return replace(item, queue=first.queue, stratum=first.stratum, probability=first.probability)

    def note(self, noted: Noted) -> None:
        """Store a note; with the label, where there is one.

        Raises:
            UserError: the criterion is not asked here.
        """
        self._item(noted.id, noted.criterion)
        cell = noted.id, noted.criterion
        note, label = noted.note.strip(), self.said(*cell)
        changed = label.model_copy(update={"note": note, "at": time.time()}) if label else None
        body = {"criterion": noted.criterion, "note": note, "before": self.own.notes.get(cell, "")}
        self._do(noted.id, "note", body, changed)

    def defer(self, name: str) -> None:
        """Put an item off until the others are done.

        Raises:
            UserError: it is not in this queue.
        """
        self._item(name)
        self._do(name, "defer", {})

    def undo(self) -> tuple[Place, str | None]:
        """Take the annotator's last act in this queue back; returns where it was, and on which criterion.

        Raises:
            UserError: there is nothing to take back.
        """
        acts = [(number, act) for number, act in self.own.undoable.items() if act.conversation_id in self.positions]
        if not acts:
            raise UserError("nothing to undo")
        number, act = acts[-1]
        criterion = act.body.get("criterion")
        restored = None
        if act.act == "label":
            restored = self._restored(act)
        elif act.act == "note" and (label := self.said(act.conversation_id, act.body["criterion"])):
            restored = label.model_copy(update={"note": act.body["before"], "at": time.time()})
        self._do(act.conversation_id, "undo", {"of": number}, restored)
        return Place(self.positions[act.conversation_id], bool(act.body.get("again"))), criterion

    def _restored(self, act: Act) -> Label:
        before = act.body["before"]
        if before:
            return Label.model_validate(before | {"at": time.time()})
        return Label(
            conversation_id=act.conversation_id,
            criterion=act.body["criterion"],
            outcome="cleared",
            annotator=ADJUDICATED if self.decides else self.annotator,
            source="review",
            at=time.time(),
            rubric_hash=self.rubric.hash,
            adjudicated=self.decides,
        )

    def see(self, name: str, judges: list[str]) -> None:
        """Remember whose verdicts are shown now."""
        if set(judges) - set(self.own.seen.get(name, ())):
            self._do(name, "seen", {"judges": judges})

    def may_see(self, name: str) -> bool:
        """Whether judges' verdicts may be shown: all that is asked has an answer, and nobody decides here."""
        at = self.positions.get(name)
        return at is not None and not self.decides and name in self.finished

    def _before(self, cell: tuple[str, str]) -> object:
        own = self.memory.own[ADJUDICATED].labels if self.decides else self.own.labels
        label = own.get(cell)
        return label.model_dump(mode="json", exclude_defaults=True) if label else None

    def _do(self, name: str, act: str, body: Mapping[str, object], label: Label | None = None) -> None:
        self._act(name, act, body, label).result()
        self.refresh()

    def _act(self, name: str, act: str, body: Mapping[str, object], label: Label | None = None) -> Future[int]:
        actor = f"{self.annotator} (adjudicating)" if self.decides else self.annotator
        return self.store.add_act(Act(actor, name, act, body), label)

    def _item(self, name: str, criterion: str | None = None) -> Item:
        at = self.positions.get(name)
        if at is None:
            raise UserError(f"conversation {name!r} is not in this queue", fix="go on with the page that you opened")
        item = self.items[at]
        if criterion is not None and criterion not in (names := self.asked_names(item)):
            raise UserError(f"{criterion!r} is not asked of {name}", fix=choose_from(criterion, names))
        return item

    def _outcome(self, criterion: str, level: str) -> Literal["pass", "fail", "na"]:
        found = self.rubric.criterion(criterion)
        if level == NA:
            return "na"
        known = found.level(level)
        if known is None:
            fix = choose_from(level, [NA, *(x.name for x in found.levels)])
            raise UserError(f"no level {level!r} of {criterion}", fix=fix)
        return "pass" if known.passes else "fail"
