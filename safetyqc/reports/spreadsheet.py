"""Writes verdicts as CSV that is safe to open in a spreadsheet: one row per conversation and judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from safetyqc.formats.sheets import write_sheet
from safetyqc.reports.snapshot import Snapshot, read_snapshot

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment
    from safetyqc.store import Store

_FACTS = ("id", "category", "intent", "language", "origin", "status", "status_reason", "parent_id", "judge", "passed")


def render_csv(store: Store, judge: str | None = None, category: str | None = None) -> str:
    """Render every conversation with every judge's verdict; those that nobody judged have one row without.

    Raises:
        UserError: no such judge or category in this run.
    """
    snapshot = read_snapshot(store, judge, category)
    criteria = _criteria(snapshot)
    columns = [*_FACTS, *(f"{c}{part}" for c in criteria for part in ("", ".reason", ".quote")), "request", "answer"]
    return "".join(write_sheet(columns, _rows(snapshot, only=judge)))


def _criteria(snapshot: Snapshot) -> list[str]:
    known = [c["id"] for c in snapshot.rubric.get("criteria", ())]
    used = (s.criterion for found in snapshot.judgments.values() for j in found.values() for s in j.scores)
    return list(dict.fromkeys([*known, *used]))


def _rows(snapshot: Snapshot, only: str | None) -> Iterator[Mapping[str, object]]:
    for conversation, said in snapshot.all_whole():
        facts = _facts(snapshot, conversation)
        wanted = [said[key] for key in snapshot.judgments if key in said and only in (None, key[0])]
        for verdict in wanted:
            yield facts | _verdict(verdict)
        if not wanted:
            yield facts


def _facts(snapshot: Snapshot, conversation: Conversation) -> dict[str, object]:
    standing = snapshot.standings[conversation.id]
    return {
        "id": conversation.id,
        "category": snapshot.category_of(conversation),
        "intent": snapshot.intent_of(conversation),
        "language": conversation.language,
        "origin": conversation.origin,
        "status": standing.status,
        "status_reason": standing.reason,
        "parent_id": conversation.parent_id,
        "request": next(iter(conversation.user_turns), ""),
        "answer": next(iter(conversation.assistant_turns[-1:]), ""),
    }


def _verdict(judgment: Judgment) -> dict[str, object]:
    passed = "open" if judgment.passed is None else "yes" if judgment.passed else "no"
    cells: dict[str, object] = {"judge": judgment.judge, "passed": passed}
    for score in judgment.scores:
        unscored = f"unscored: {score.unscored_reason}" if score.outcome == "unscored" else score.outcome
        cells |= {score.criterion: unscored, f"{score.criterion}.reason": score.reason}
        cells[f"{score.criterion}.quote"] = score.quote
    return cells
