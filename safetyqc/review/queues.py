"""Which conversations the page shows, by the name of a queue.

Only `plan` and `all` go by chance. What stands in the queues of suspects was picked for what a judge said of it, so its
labels carry no probability and say nothing of rates. What is labelled once more stays in the sample that it was in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from safetyqc.errors import UserError, choose_from
from safetyqc.records import AGAIN
from safetyqc.review.agreement import disputes, open_for
from safetyqc.review.drawn import drawn_items
from safetyqc.review.draws import PLAN
from safetyqc.review.items import ALL, BY_CHANCE, Item, by_chance, is_shared
from safetyqc.store.standing import deciding_judge, read_standings

if TYPE_CHECKING:
    from safetyqc.records import Label
    from safetyqc.rubrics import RubricSet
    from safetyqc.store import Store, Verdict

_IN_PLAY = frozenset({"kept", "failed", "unscored", "unjudged"})


CHOSEN = "chosen"
"""The queue of conversations that were named one by one."""


@dataclass(frozen=True)
class Asked:
    """Who is to be shown what: the run, the rubric whose words are shown, the annotator, and the ids of `--id`."""

    store: Store
    rubric: RubricSet
    annotator: str
    ids: tuple[str, ...] = ()

    @cached_property
    def in_play(self) -> dict[str, None]:
        """Ids of the conversations that count, in the run's order."""
        standings = read_standings(self.store)
        return dict.fromkeys(name for name, standing in standings.items() if standing.status in _IN_PLAY)


@dataclass(frozen=True)
class Queue:
    """How a queue is filled, and what it is for."""

    fill: Callable[[Asked], list[Item]]
    about: str


def queue_items(name: str, asked: Asked) -> list[Item]:
    """The items of a queue, in the order in which this annotator meets them.

    Raises:
        UserError: no such queue.
    """
    if name not in QUEUES or (name == CHOSEN and not asked.ids):
        fix = choose_from(name, [queue for queue in QUEUES if queue != CHOSEN])
        raise UserError(f"no queue {name!r}", where="--queue", fix=fix)
    return QUEUES[name].fill(asked)


def _chance(item: Item) -> int:
    return by_chance(item.conversation_id)


def _everything(asked: Asked) -> list[Item]:
    numbered = sorted((by_chance(name), name) for name in asked.in_play)
    return [Item(name, ALL, shared=is_shared(number)) for number, name in numbered]


def _drawn(asked: Asked) -> list[Item]:
    return [
        Item(x.conversation_id, x.queue, x.criteria, x.stratum, x.probability, x.overlap)
        for x in drawn_items(asked.store)
    ]


def _verdicts(asked: Asked) -> Iterator[dict[str, Verdict]]:
    """Of every judge by the run's rubric; a judge that was asked afresh saw a sample only, and is no other judge."""
    own = deciding_judge(asked.store)
    for judge, rubric_hash, _ in asked.store.judges():
        if own and rubric_hash == own[1] and not judge.endswith(AGAIN):
            yield asked.store.verdicts(judge, rubric_hash)


def _disagreements(asked: Asked) -> list[Item]:
    everybody = list(_verdicts(asked))
    found = []
    for name in asked.in_play:
        given = [own[name] for own in everybody if name in own]
        failed = {c for verdict in given for c in verdict.failed}
        differ = tuple(sorted(c for c in failed if any(c not in (*v.failed, *v.undecided) for v in given)))
        if differ:
            found.append(Item(name, "disagreement", differ))
    return sorted(found, key=lambda item: (-len(item.criteria or ()), _chance(item)))


def _missed_canaries(asked: Asked) -> list[Item]:
    deciding = deciding_judge(asked.store)
    verdicts = asked.store.verdicts(*deciding) if deciding else {}
    planted = {c.id for c in asked.store.placed() if c.origin == "canary" and c.id in verdicts}
    return [
        Item(canary.id, "canary", tuple(missed))
        for canary in asked.store.conversations(planted)
        if (missed := [c for c in canary.meta.get("fails", ()) if c not in verdicts[canary.id].failed])
    ]


def _escalated(asked: Asked) -> list[Item]:
    open_cells: dict[str, set[str]] = {}
    for judge, rubric_hash, _ in asked.store.judges():
        unsure = {n for n, judged in asked.store.judged(judge, rubric_hash).items() if "unsure" in judged.unscored}
        verdicts = asked.store.verdicts(judge, rubric_hash) if unsure else {}
        for name in unsure & asked.in_play.keys():
            open_cells.setdefault(name, set()).update(verdicts[name].undecided)
    items = [Item(name, "escalation", tuple(sorted(criteria))) for name, criteria in open_cells.items()]
    return sorted(items, key=_chance)


def _of_others(asked: Asked) -> list[Item]:
    by_others = [x for x in asked.store.labels() if x.annotator != asked.annotator and not x.adjudicated]
    return sorted((item for item in _labelled(by_others) if item.conversation_id in asked.in_play), key=_chance)


def _older_wording(asked: Asked) -> list[Item]:
    own = {(x.conversation_id, x.criterion): x for x in asked.store.labels() if x.annotator == asked.annotator}
    return list(_labelled(open_for(own, asked.rubric.hash).values()))


def _disputed(asked: Asked) -> list[Item]:
    return list(_labelled(x for said in disputes(asked.store.label_history()).values() for x in said))


def _labelled(labels: Iterable[Label]) -> Iterator[Item]:
    """What has labels already, as it came to be labelled at first: by chance where any label says so."""
    by_name: dict[str, list[Label]] = {}
    for label in labels:
        by_name.setdefault(label.conversation_id, []).append(label)
    for name, own in by_name.items():
        first = next((x for x in own if x.queue in BY_CHANCE), own[0])
        criteria = tuple(dict.fromkeys(x.criterion for x in own))
        yield Item(name, first.queue, criteria, first.stratum, first.probability)


def _chosen(asked: Asked) -> list[Item]:
    held = {c.id for c in asked.store.placed()}
    for name in asked.ids:
        if name not in held:
            fix = "copy the id from a report of this run, or give another --run"
            raise UserError(f"no conversation {name!r} in this run", where="--id", fix=fix)
    return [Item(name, CHOSEN) for name in dict.fromkeys(asked.ids)]


QUEUES: dict[str, Queue] = {
    PLAN: Queue(_drawn, "what `safetyqc label plan` drew"),
    ALL: Queue(_everything, "everything that counts, in an order drawn by chance"),
    "disagreement": Queue(_disagreements, "what two judges disagree on"),
    "canary": Queue(_missed_canaries, "planted flaws that the deciding judge missed"),
    "escalation": Queue(_escalated, "what a judge or a cascade left to people"),
    "overlap": Queue(_of_others, "what others have labelled: how far people agree"),
    "older": Queue(_older_wording, "your labels of another wording of the rubric"),
    "adjudicate": Queue(_disputed, "where annotators differ: decide, with a reason"),
    CHOSEN: Queue(_chosen, "the conversations of --id"),
}
"""Queues by name; open to additions."""
