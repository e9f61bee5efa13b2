"""What the page is told, as plain JSON values: the rubric, an item, judges' verdicts after the answer, agreement.

Characters that hide or reorder text are shown by their code; everything else goes out as it is, and the page makes text
nodes of it. Of whoever said something between whom one must decide, no name goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.review.agreement import agreements, confusions, consistencies
from safetyqc.review.items import by_chance
from safetyqc.text import reveal, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetyqc.records import Conversation, Judgment, Score
    from safetyqc.review.desk import Desk, Place
    from safetyqc.review.items import Item
    from safetyqc.rubrics.criterion import Criterion

_HITS = 50


def tell_rubric(desk: Desk) -> list[dict[str, Any]]:
    """The criteria with their levels, as the rubric words them."""
    return [
        {
            "id": c.id,
            "title": c.title,
            "question": c.question,
            "levels": [{"name": x.name, "meaning": x.meaning, "passes": x.passes} for x in c.levels],
            "guidance": list(c.guidance),
        }
        for c in desk.rubric.criteria
    ]


def tell_progress(desk: Desk) -> dict[str, int]:
    """How far the work on the queue is."""
    others = sum(name not in desk.finished for name in desk.by_others)
    deferred = sum(name in desk.positions and name not in desk.finished for name in desk.own.deferred)
    return {"of": len(desk.items), "done": len(desk.finished), "others": others, "deferred": deferred}


def tell_item(desk: Desk, place: Place) -> dict[str, Any]:
    """An item with its text, what is asked of it, and what this annotator said so far."""
    item = desk.items[place.at]
    conversation = desk.store.conversation(item.conversation_id)
    if conversation is None:
        raise UserError(f"conversation {item.conversation_id!r} is not in the run any more", where=str(desk.store.path))
    return {
        "at": place.at,
        "again": place.again,
        "id": conversation.id,
        "system": reveal(conversation.system) if conversation.system else None,
        "messages": [{"role": m.role, "content": reveal(m.content)} for m in conversation.messages],
        "facts": _facts(conversation),
        "hidden": conversation.intent != "benign",
        "criteria": [_criterion(desk, item, c, conversation, again=place.again) for c in desk.asked(item)],
        "deferred": item.conversation_id in desk.own.deferred,
        "finished": desk.is_finished(item, again=place.again),
    }


def _facts(conversation: Conversation) -> dict[str, str]:
    """The plan's or the file's own words; what a judge guessed is a verdict of its own, and not told."""
    told = {"category": conversation.category, "intent": conversation.intent, "language": conversation.language}
    return {name: reveal(word) for name, word in told.items() if word}


def _criterion(
    desk: Desk, item: Item, criterion: Criterion, conversation: Conversation, *, again: bool
) -> dict[str, Any]:
    label = desk.said(item.conversation_id, criterion.id, again=again)
    told: dict[str, Any] = {
        "id": criterion.id,
        "condition": criterion.condition(conversation.intent),
        "said": (label.level or label.outcome) if label else None,
        "older": bool(label and not desk.is_current(label)),
        "note": "" if again else desk.own.notes.get((item.conversation_id, criterion.id), ""),
    }
    return told | {"others": list(_others(desk, item, criterion))} if desk.decides else told


def _others(desk: Desk, item: Item, criterion: Criterion) -> Iterator[dict[str, str]]:
    """What annotators said, in an order that tells nothing of who."""
    cell = item.conversation_id, criterion.id
    people = sorted(desk.memory.own, key=lambda name: by_chance(name, item.conversation_id))
    for name in people:
        label = desk.memory.own[name].labels.get(cell)
        if label and label.is_verdict and not label.adjudicated:
            yield {"said": label.level or label.outcome, "outcome": label.outcome, "note": reveal(label.note)}


def tell_verdicts(desk: Desk, conversation_id: str) -> list[dict[str, Any]]:
    """What judges said of a conversation, and remember that the annotator has seen it.

    Raises:
        UserError: something that is asked of it has no answer yet.
    """
    if not desk.may_see(conversation_id):
        what = "judges' verdicts are shown when you have answered, so that yours is your own"
        raise UserError(what, where=conversation_id, fix="answer what is asked of this conversation first")
    found = list(desk.store.judgments(only=[conversation_id]))
    desk.see(conversation_id, sorted({judgment.judge for judgment in found}))
    return [_verdict(judgment) for judgment in found]


def _verdict(judgment: Judgment) -> dict[str, Any]:
    return {
        "judge": reveal(judgment.judge),
        "passed": judgment.passed,
        "scores": [_score(score) for score in judgment.scores],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "criterion": score.criterion,
        "outcome": score.outcome,
        "level": score.level,
        "reason": reveal(score.reason or score.unscored_reason or ""),
        "quote": reveal(score.quote),
    }


def search(desk: Desk, text: str) -> dict[str, Any]:
    """Items of the queue whose id or text holds all these words, and how many conversations elsewhere do."""
    words = text.casefold().split()
    if not words:
        return {"hits": [], "more": 0, "elsewhere": 0}
    hits: list[dict[str, Any]] = []
    more = elsewhere = 0
    longest = max(words, key=len)
    candidates = dict.fromkeys(desk.store.search_conversations(longest))
    for conversation in desk.store.conversations(candidates.keys()):
        told = "\n".join((conversation.id, conversation.system or "", *(m.content for m in conversation.messages)))
        if not all(word in told.casefold() for word in words):
            continue
        at = desk.positions.get(conversation.id)
        if at is None:
            elsewhere += 1
        elif len(hits) == _HITS:
            more += 1
        else:
            hits.append({"at": at, "id": conversation.id, "text": shorten(conversation.messages[0].content, 140)})
    return {"hits": hits, "more": more, "elsewhere": elsewhere}


def tell_agreement(desk: Desk) -> dict[str, Any]:
    """How far people agree, also with themselves, and where the rubric's wording seems to be why they do not."""
    history = list(desk.store.label_history())
    return {
        "criteria": [vars(x) | {} for x in agreements(history)],
        "again": [vars(x) | {} for x in consistencies(history) if x.annotator == desk.annotator],
        "confusions": [vars(x) | {} for x in confusions(history)],
    }
