"""Who wants to label what -> a desk that is ready, and what is worth saying before the page opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.errors import UserError, choose_from
from safetyqc.review.agreement import ADJUDICATED
from safetyqc.review.desk import Desk
from safetyqc.review.drawn import current_draw
from safetyqc.review.draws import PLAN
from safetyqc.review.items import ALL
from safetyqc.review.queues import CHOSEN, QUEUES, Asked, queue_items
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.rubrics import RubricSet
    from safetyqc.store import Store


@dataclass(frozen=True)
class Wanted:
    """Who labels, and what: a queue by its name (None: the run's plan, or all), or some conversations."""

    annotator: str
    queue: str | None = None
    ids: tuple[str, ...] = ()
    criteria: tuple[str, ...] = ()


def open_desk(store: Store, rubric_name: str, wanted: Wanted) -> tuple[Desk, list[str]]:
    """Fill a queue for an annotator; also says what they should know.

    Raises:
        UserError: no such queue, criterion or conversation, a name that is taken, or nothing to label.
    """
    rubric = _rubric_of(store, rubric_name)
    for name in wanted.criteria:
        rubric.criterion(name)
    _check_name(store, wanted.annotator)
    queue = _queue_of(wanted, store)
    items = queue_items(queue, Asked(store, rubric, wanted.annotator, wanted.ids))
    desk = Desk(store, rubric, wanted.annotator, queue, items, wanted.criteria)
    if not desk.items:
        why = "its criteria apply to none of the conversations" if items else QUEUES[queue].about
        fix = choose_from("", [name for name in QUEUES if name not in (queue, CHOSEN)])
        raise UserError(f"queue {queue!r} is empty ({why})", where=str(store.path), fix=f"another --queue; {fix}")
    return desk, list(_notes(store, rubric, desk))


def _rubric_of(store: Store, name: str) -> RubricSet:
    """The rubric that is asked for; of the default, the one by which the run was judged where the package has it."""
    from safetyqc.rubrics import load_rubric_set
    from safetyqc.rubrics.rubric_set import DEFAULT_SET, bundled_files

    own = store.meta("rubric") or {}
    if name == DEFAULT_SET and f"{own.get('id')}.yaml" in bundled_files():
        found = load_rubric_set(own["id"])
        if found.hash == own.get("hash"):
            return found
    return load_rubric_set(name)


def _queue_of(wanted: Wanted, store: Store) -> str:
    if not wanted.ids:
        return wanted.queue or (PLAN if current_draw(store) else ALL)
    if wanted.queue:
        raise UserError("--id and --queue cannot both be given", fix="leave one of them out")
    return CHOSEN


def _check_name(store: Store, annotator: str) -> None:
    judges = {judge for judge, _, _ in store.judges()}
    if annotator in judges or annotator == ADJUDICATED:
        what = "is a judge of this run" if annotator in judges else "is the name of decisions between annotators"
        told = f"{annotator!r} {what}, and cannot be a person who labels it"
        raise UserError(told, where="--annotator", fix="give people names of their own: --annotator ann")


def _notes(store: Store, rubric: RubricSet, desk: Desk) -> Iterator[str]:
    yield f"queue {desk.queue!r}: {counted(len(desk.items), 'conversation')}, {len(desk.finished):,} labelled by you"
    own = store.meta("rubric") or {}
    if own and own.get("hash") != rubric.hash:
        yield (
            f"the page shows rubric {rubric.id!r} ({rubric.hash[:8]}); the run was judged by {own.get('id')!r} "
            f"({str(own.get('hash'))[:8]}): these labels are of another wording than its verdicts"
        )
    older = [x for x in desk.own.labels.values() if x.is_verdict and not desk.is_current(x)]
    if older and desk.queue != "older":
        count = counted(len(older), "label")
        yield f"{count} of yours are of another wording of the rubric: see them again with --queue older"
