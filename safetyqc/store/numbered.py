"""Conversations and verdicts by their number in the run, so that a command reads only what came since it last looked.

Numbers ascend in the order of writing and are never used again: a conversation never changes, and a verdict that is
replaced gets a new number. It decides nothing. The one surprising thing: most questions are answered from an index or
by number, because reading past a million texts takes seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from safetyqc.records import Conversation, Duplicate, Judgment

_KEPT_BITS = 31
"""A duplicate's place in its table is the number of the kept one, then its own: read in order, groups are in order."""
_AT_ONCE = 900
"""Values in one statement; older SQLites take 999."""


class Numbered:
    """Answers by number; see `Store.numbered`."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    def count(self) -> int:
        """How many conversations there are."""
        return int(self._reader.execute("SELECT count(*) FROM conversations").fetchone()[0])

    def count_after(self, number: int) -> int:
        """How many were added after the one with this number."""
        return int(self._reader.execute("SELECT count(*) FROM conversations WHERE seq > ?", (number,)).fetchone()[0])

    def after(self, number: int) -> Iterator[tuple[int, Conversation]]:
        """The conversations that were added after the one with this number, each with its own."""
        sql = "SELECT seq, body FROM conversations WHERE seq > ? ORDER BY seq"
        for found, body in self._reader.execute(sql, (number,)):
            yield found, Conversation.model_validate_json(body)

    def conversations(self, numbers: Sequence[int]) -> Iterator[tuple[int, Conversation]]:
        """The conversations with these numbers, in ascending order."""
        sql = "SELECT seq, body FROM conversations WHERE seq IN ({}) ORDER BY seq"
        for found, body in self._each(sql, sorted(numbers)):
            yield found, Conversation.model_validate_json(body)

    def names(self, numbers: Sequence[int]) -> dict[int, str]:
        """The ids of the conversations with these numbers."""
        return dict(self._each("SELECT seq, id FROM conversations WHERE seq IN ({})", numbers))

    def numbers(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of the conversations with these ids; ids that the run does not hold are left out."""
        return dict(self._each("SELECT id, seq FROM conversations WHERE id IN ({})", names))

    def rejected(self) -> list[int]:
        """The numbers of the conversations that a filter hit."""
        # CROSS: in this order, however few the rejections are; SQLite may walk over all conversations otherwise
        sql = "SELECT c.seq FROM rejections r CROSS JOIN conversations c ON c.id = r.conversation_id"
        return [number for (number,) in self._reader.execute(sql)]

    def last_judgment(self) -> int:
        """The number of the latest verdict, 0 where there is none."""
        return int(self._reader.execute("SELECT coalesce(max(seq), 0) FROM judgments").fetchone()[0])

    def judgments_after(self, number: int, judge: str | None) -> Iterator[tuple[int, Judgment]]:
        """Verdicts (of one judge) written after the one with this number, oldest first, each with its conversation's
        number."""
        sql = (
            "SELECT c.seq, j.body FROM judgments j CROSS JOIN conversations c ON c.id = j.conversation_id "
            "WHERE j.seq > ? AND j.judge = coalesce(?, j.judge) ORDER BY j.seq"
        )
        for found, body in self._reader.execute(sql, (number, judge)):
            yield found, Judgment.model_validate_json(body)

    def count_duplicates(self) -> tuple[int, int, int]:
        """How many groups the last dedup made, how many it dropped, and how many of those are the same text."""
        sql = (
            "SELECT count(DISTINCT kept_id), count(*), coalesce(sum(json_extract(body, '$.exact')), 0) FROM duplicates"
        )
        groups, dropped, exact = self._reader.execute(sql).fetchone()
        return groups, dropped, exact

    def duplicates(self, dropped: Iterable[str] | None = None) -> Iterator[tuple[str, Duplicate]]:
        """Drops of the last dedup, each with the id kept: all in their order, or those of these dropped ids."""
        sql = "SELECT kept_id, body FROM duplicates"
        every = self._reader.execute(f"{sql} ORDER BY rowid") if dropped is None else ()
        rows = every if dropped is None else self._each(f"{sql} WHERE dropped_id IN ({{}})", dropped)
        for kept, body in rows:
            yield kept, Duplicate.model_validate_json(body)

    def nearest_duplicates(self, count: int) -> list[tuple[str, Duplicate]]:
        """The least similar drops of the last dedup, each with the id kept."""
        sql = "SELECT kept_id, body FROM duplicates ORDER BY json_extract(body, '$.similarity'), rowid LIMIT ?"
        return [(kept, Duplicate.model_validate_json(body)) for kept, body in self._reader.execute(sql, (count,))]

    def _each(self, sql: str, values: Iterable[Any]) -> Iterator[Any]:
        """Ask with some of the values at a time, which stand in the statement's braces."""
        waiting = iter(values)
        while part := list(islice(waiting, _AT_ONCE)):
            yield from self._reader.execute(sql.format(",".join("?" * len(part))), part)


def duplicate_row(kept: str, kept_number: int, drop: Duplicate, number: int) -> tuple[int, str, str, str]:
    """The row of one drop: its place in the table, its id, the id kept, and the evidence."""
    return kept_number << _KEPT_BITS | number, drop.conversation_id, kept, drop.model_dump_json()
