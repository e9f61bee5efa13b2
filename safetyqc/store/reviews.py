"""What annotators did on the review page, act by act: so undo and what they saw outlast the page and its server.

The labels themselves stand in `labels`; an act and the label that comes of it are written together or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from safetyqc.llm.client import fast_json
from safetyqc.records import Label
from safetyqc.store.opened import OpenedRun

_ADD_LABEL = "INSERT INTO labels (conversation_id, criterion, annotator, outcome, at, body) VALUES (?, ?, ?, ?, ?, ?)"
_ADD_ACT = "INSERT INTO review_acts (at, annotator, conversation_id, act, body) VALUES (?, ?, ?, ?, ?)"


class Act(NamedTuple):
    """One thing that an annotator did to a conversation; what the body holds is the review room's business."""

    annotator: str
    conversation_id: str
    act: str
    body: Mapping[str, Any]
    at: float = 0.0
    """When, in seconds since 1970; set as it is stored."""


class ReviewedRun(OpenedRun):
    """The table `review_acts`, and labels as they are given one by one."""

    def add_act(self, act: Act, label: Label | None = None) -> Future[int]:
        """Remember an act, with the label that comes of it; both are durable when the future resolves."""
        row = (time.time(), act.annotator, act.conversation_id, act.act, fast_json(dict(act.body)).decode())
        statements: list[tuple[str, list[tuple[Any, ...]]]] = [(_ADD_ACT, [row])]
        if label is not None:
            cell = (label.conversation_id, label.criterion, label.annotator)
            body = label.model_dump_json(exclude_defaults=True)
            statements.append((_ADD_LABEL, [(*cell, label.outcome, label.at, body)]))
        return self._open_writer().put_all(statements)

    def acts_since(self, seq: int) -> Iterator[tuple[int, Act]]:
        """Acts by their numbers, those alone that came after the one of this number."""
        sql = "SELECT seq, annotator, conversation_id, act, body, at FROM review_acts WHERE seq > ? ORDER BY seq"
        for number, annotator, conversation_id, act, body, at in self._rows(sql, (seq,)):
            yield number, Act(annotator, conversation_id, act, self._json(body, "review_acts"), at)

    def labels_since(self, seq: int) -> Iterator[tuple[int, Label]]:
        """Labels by their numbers, those alone that were added after the one of this number."""
        for number, body in self._rows("SELECT seq, body FROM labels WHERE seq > ? ORDER BY seq", (seq,)):
            yield number, self._record(Label, body)

    def search_conversations(self, text: str) -> Iterator[str]:
        """Ids of conversations whose stored text may hold this (any case of ASCII letters), in their order."""
        quoted = fast_json(text).decode()[1:-1]
        pattern = "%" + "".join("\\" + c if c in "\\%_" else c for c in quoted) + "%"
        sql = "SELECT id FROM conversations WHERE body LIKE ? ESCAPE '\\' ORDER BY seq"
        return (name for (name,) in self._rows(sql, (pattern,)))
