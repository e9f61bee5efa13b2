"""What a program holds in memory -> ReadResult, as if it had been read from a file: a list, a data frame, a dataset.

A row is whatever a line of a file may be: messages, or an object with messages. Neither pandas nor datasets is
imported: a data frame is known by what it can do. Nothing is left out: equal rows stay two conversations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable
from safetyqc.formats.plain import plain_value
from safetyqc.formats.readers import Account, ReadResult, collect, from_values
from safetyqc.formats.turns import AS_IT_IS, Reading
from safetyqc.records import Conversation

NAME = "data"
"""What rows in memory are called where a file's name would stand."""


def read_rows(
    data: Iterable[Any], *, skip_bad: bool = False, strict: bool = True, how: Reading = AS_IT_IS
) -> ReadResult:
    """Read rows: lists of messages, dictionaries, Conversations, a pandas or polars DataFrame, a `datasets.Dataset`.

    Args:
        skip_bad: collect every row that is no conversation in `skipped` instead of stopping at the first.
        strict: stop at conversations of bad structure too, unless they are skipped.

    Raises:
        InputError: there is no row, or one that is no conversation; names its index.
    """
    account = Account()
    found = from_values((_plain(row) for row in _rows(data)), NAME, how, account)
    return collect(found, NAME, skip_bad=skip_bad, strict=strict, account=account)


def _rows(data: Any) -> Iterator[Any]:
    if hasattr(data, "columns") and hasattr(data, "to_dicts"):  # polars
        return iter(data.to_dicts())
    if hasattr(data, "columns") and hasattr(data, "to_dict"):  # pandas
        return iter(data.to_dict(orient="records"))
    if isinstance(data, Mapping):
        raise InputError(f"is one object with the keys {_shown(data)}, not a list of rows", path=NAME, fix=_one(data))
    if isinstance(data, (bytes, bytearray)) or not isinstance(data, Iterable):
        raise InputError(f"is {_kind(data)}, not conversations", path=NAME, fix=_FIX)
    rows = list(data)
    if rows and all(isinstance(row, Mapping) and "content" in row and "role" in row for row in rows):
        raise InputError("is the messages of one conversation", path=NAME, fix="put them into a list: [messages]")
    return iter(rows)


_FIX = "give a path, a list with one conversation an item, a DataFrame or a Dataset"


def _one(data: Mapping[Any, Any]) -> str:
    splits = [name for name, value in data.items() if hasattr(value, "column_names")]
    return f"choose a split, such as data[{splits[0]!r}]" if splits else "put it into a list: [data]"


def _shown(data: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, list(data)[:5])) or "(none)"


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _plain(row: Any) -> Any | Unreadable:
    return row.model_dump(mode="json") if isinstance(row, Conversation) else plain_value(row)
