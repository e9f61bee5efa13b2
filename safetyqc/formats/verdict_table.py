"""Lines of verdicts -> a Parquet file with the same fields; criteria are a list, each with its name.

Two thousand lines are in memory at a time; the same lines give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from safetyqc.errors import UserError
from safetyqc.formats.writing import replacing

_ROWS = 2_000
"""In a group, which readers read at a time."""


def write_table(path: str | Path, lines: Iterable[dict[str, Any]]) -> int:
    """Write the lines of `judge --jsonl`; returns how many.

    Raises:
        UserError: pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        fix = "pip install 'safetyqc[parquet]', or take --jsonl"
        raise UserError("pyarrow, which writes Parquet, is not installed", where=str(path), fix=fix) from error
    schema, count = _schema(pyarrow), 0
    rows = map(_row, lines)
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while part := list(islice(rows, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(part, schema))
            count += len(part)
    return count


def _schema(pyarrow: Any) -> Any:
    text = pyarrow.string()
    fields = {"criterion": text, "outcome": text, "reason": text, "quote": text, "probability": pyarrow.float64()}
    criteria = pyarrow.list_(pyarrow.struct(list(fields.items())))
    classified = pyarrow.struct([("category", text), ("intent", text)])
    columns = [("index", pyarrow.int64()), ("id", text), ("passed", pyarrow.bool_())]
    return pyarrow.schema([*columns, ("criteria", criteria), ("classified", classified)])


def _row(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"criteria": list(_named(line["criteria"]))}


def _named(criteria: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, said in criteria.items():
        yield {"criterion": name, **said}
