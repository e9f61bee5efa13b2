"""A run's draws -> what a person is to label next, in order, with what is to be stored beside each label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.review.draws import PLAN, Draw, read_draws
from safetyqc.review.items import OVERLAP_EVERY
from safetyqc.store.standing import read_standings

if TYPE_CHECKING:
    from safetyqc.store import Store

_IN_PLAY = frozenset({"kept", "failed", "unscored", "unjudged"})


@dataclass(frozen=True)
class DrawnItem:
    """A conversation that was drawn to be labelled; all but `criteria` and `overlap` is stored with the label."""

    conversation_id: str
    criteria: tuple[str, ...] | None
    """What is asked; None for every criterion of the rubric."""
    queue: str
    draw: str
    stratum: str
    probability: float
    overlap: bool
    """Whether every annotator is asked, whoever labelled it already."""


def current_draw(store: Store) -> Draw | None:
    """The newest draw of a run; None where none was made (`plan.plan_labels` makes one)."""
    return next(reversed(read_draws(store)), None)


def open_items(store: Store, annotator: str) -> list[DrawnItem]:
    """What this person has not labelled yet of the run's draws, in the order in which it is to be labelled.

    What somebody else has labelled is left out, unless it is in the overlap. The newest draw goes first, and what older
    ones still want follows. Reads no conversation.
    """
    own: dict[str, set[str]] = defaultdict(set)
    others: dict[str, set[str]] = defaultdict(set)
    for label in store.label_history():  # a cleared or disputed cell was looked at too
        (own if label.annotator == annotator else others)[label.conversation_id].add(label.criterion)
    every = {c["id"] for c in (store.meta("rubric") or {}).get("criteria", ())}

    def done(item: DrawnItem, given: Mapping[str, set[str]]) -> bool:
        wanted, found = set(item.criteria or every), given.get(item.conversation_id, set())
        return wanted <= found if wanted else bool(found)

    return [i for i in drawn_items(store) if not done(i, own) and (i.overlap or not done(i, others))]


def drawn_items(store: Store) -> Iterator[DrawnItem]:
    """Everything that is drawn and still counts, labelled or not: the newest draw's first, each conversation once."""
    standings = read_standings(store)
    asked: dict[str, set[str]] = {}
    for draw in reversed(read_draws(store)):
        for place, item in enumerate(draw.items):
            name, wanted = item.conversation_id, set(draw.criteria)
            if name in asked and (not asked[name] or (wanted and wanted <= asked[name])):
                continue
            asked[name] = wanted and wanted | asked.get(name, set())
            if name in standings and standings[name].status in _IN_PLAY:
                overlap = place % OVERLAP_EVERY == OVERLAP_EVERY - 1
                yield DrawnItem(
                    name, draw.criteria or None, PLAN, draw.id, item.stratum, item.probability, overlap=overlap
                )
