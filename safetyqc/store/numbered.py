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
"""Read in the order of their keys, drops stand in groups, and groups in the order of those that they keep."""
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

    def count_drops(self) -> tuple[int, int]:
        """How many conversations the last dedup dropped, and the highest key of them (see `drop_key`)."""
        count, last = self._reader.execute("SELECT count(*), coalesce(max(rowid), 0) FROM duplicates").fetchone()
        return count, last

    def drops(self, keys: Iterable[int]) -> dict[int, str]:
        """What is stored of the drops with these keys, as JSON."""
        return dict(self._each("SELECT rowid, body FROM duplicates WHERE rowid IN ({})", keys))

    def nearest_duplicates(self, count: int) -> list[tuple[str, Duplicate]]:
        """The least similar drops of the last dedup, each with the id kept."""
        sql = "SELECT kept_id, body FROM duplicates ORDER BY json_extract(body, '$.similarity'), rowid LIMIT ?"
        return [(kept, Duplicate.model_validate_json(body)) for kept, body in self._reader.execute(sql, (count,))]

    def _each(self, sql: str, values: Iterable[Any]) -> Iterator[Any]:
        """Ask with some of the values at a time, which stand in the statement's braces."""
        waiting = iter(values)
        while part := list(islice(waiting, _AT_ONCE)):
            yield from self._reader.execute(sql.format(",".join("?" * len(part))), part)


def drop_key(kept: Any, number: Any) -> Any:
    """The place of a drop in its table, by the number of the one kept, then by its own: integers, or arrays of them."""
    return kept << _KEPT_BITS | number


def of_drop_key(key: Any) -> tuple[Any, Any]:
    """The number of the one kept, and that of the one dropped: of one key, or of an array of them."""
    return key >> _KEPT_BITS, key & ((1 << _KEPT_BITS) - 1)
