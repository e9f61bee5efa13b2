"""Labels of a run with their history, and the draws that say which conversations people were asked about.

A label is never overwritten: what counts for a cell is the latest of each annotator, and what was said before stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from safetyqc.llm.client import fast_json
from safetyqc.records import Label
from safetyqc.store.opened import OpenedRun

_LATEST = "SELECT max(seq) FROM labels GROUP BY conversation_id, criterion, annotator"


class LabelledRun(OpenedRun):
    """The tables `labels` and `draws`."""

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Add labels; those that say again what their annotator says of the cell already are left out.

        Returns:
            How many were added. One without a time gets the present one.
        """
        now, rows = time.time(), []
        said = {_cell(label): label for label in self._latest_labels()}
        for label in labels:
            before = said.get(_cell(label))
            stamped = label if label.at is not None else label.model_copy(update={"at": now})
            if before is not None and before == stamped.model_copy(update={"at": before.at}):
                continue
            said[_cell(label)] = stamped
            rows.append((*_cell(label), stamped.outcome, stamped.at, stamped.model_dump_json(exclude_defaults=True)))
        sql = "INSERT INTO labels (conversation_id, criterion, annotator, outcome, at, body) VALUES (?, ?, ?, ?, ?, ?)"
        self._write(sql, rows).result()
        return len(rows)

    def labels(self) -> Iterator[Label]:
        """The labels that count: the latest of each annotator on a cell, unless it was cleared or is disputed."""
        return (label for label in self._latest_labels() if label.is_verdict)

    def label_history(self) -> Iterator[Label]:
        """Every label that was ever given, oldest first."""
        return self._bodies("SELECT body FROM labels ORDER BY seq", Label)

    def _latest_labels(self) -> Iterator[Label]:
        return self._bodies(f"SELECT body FROM labels WHERE seq IN ({_LATEST}) ORDER BY seq", Label)

    def put_draw(self, name: str, body: Any) -> None:
        """Remember a plan of what people are asked about, as a JSON value, so that it can be continued."""
        row = (name, time.time(), fast_json(body).decode())
        self._write("INSERT OR REPLACE INTO draws (id, at, body) VALUES (?, ?, ?)", [row]).result()

    def draws(self) -> dict[str, Any]:
        """The plans by their names, the oldest first."""
        found = self._rows("SELECT id, body FROM draws ORDER BY at, id")
        return {name: self._json(body, "draws") for name, body in found}


def _cell(label: Label) -> tuple[str, str, str]:
    return label.conversation_id, label.criterion, label.annotator
