"""Tables for spreadsheets: rows to a CSV or TSV that no program takes for formulas, and such a file back to rows.

A cell of a hostile conversation could be read as a formula and run; such cells get a leading apostrophe, which says
"this is text", and reading takes it off again. Cells that begin with white space are guarded too, because importers
strip it first. What a row means is its readers' business.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from safetyqc.errors import InputError
from safetyqc.formats.opened import name_of, read_text
from safetyqc.text import printable

SUFFIXES = {".csv": ",", ".tsv": "\t"}
"""What a file's name tells: its separator."""
_FORMULA_STARTS = tuple("=+-@|%＝＋－＠﹦﹢﹣﹫−")
"""As typed, in full and in small width, and the minus sign: spreadsheets fold some of them before they look."""
_FORMULA_SPACE = ("\t", "\r", "\n")
_LONGEST_CELL = 32_000
"""Spreadsheets cut at 32,767 characters."""
BOM = "\ufeff"
"""Without it Excel takes UTF-8 for the local encoding, and breaks everything that is not English."""


@dataclass(frozen=True)
class Sheet:
    """A table with a header: its columns, and the rows that hold anything, each with its first line in the file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def is_sheet(path: str | Path) -> bool:
    """Whether a file's name says that it is a table, also a gzipped one."""
    return any(suffix.lower() in SUFFIXES for suffix in Path(str(path)).suffixes[-2:])


def read_sheet(path: str | Path) -> Sheet:
    """Read a table with a header; its separator (comma, semicolon or tab) is the commonest one of the header.

    Raises:
        InputError: it cannot be read, has no header, a column twice, or a row longer than its header.
    """
    name, text = name_of(path), read_text(path).removeprefix(BOM)
    if len(text) > csv.field_size_limit():
        csv.field_size_limit(len(text))  # of the process; many-shot prompts are longer than its 128 kB
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    found: list[tuple[int, list[str]]] = []
    line = 1
    while True:
        try:
            cells = next(lines, None)
        except csv.Error as error:
            fix = 'quote cells that hold separators or line breaks, and double the quotes inside: "a ""b"""'
            raise InputError(f"is no table that can be read: {error}", path=name, line=line, fix=fix) from error
        if cells is None:
            break
        if any(cell.strip() for cell in cells):
            found.append((line, cells))
        line = lines.line_num + 1
    if not found:
        raise InputError("is empty", path=name, fix="give a table whose first line names its columns")
    return _with_header(name, *found[0], found[1:])


def _with_header(name: str, line: int, header: list[str], rows: Iterable[tuple[int, list[str]]]) -> Sheet:
    columns = [unguard(cell).strip() for cell in header]
    named = [column for column in columns if column]
    if twice := next((column for column in named if named.count(column) > 1), None):
        raise InputError(f"has the column {twice!r} twice", path=name, line=line, fix="rename or remove one of the two")
    kept = []
    for number, cells in rows:
        if any(cell.strip() for cell in cells[len(columns) :]):
            what = f"has {len(cells)} cells, its header {len(columns)}"
            raise InputError(what, path=name, line=number, fix="quote cells that hold the separator")
        by_column = zip(columns, cells, strict=False)
        kept.append((number, {column: unguard(cell) for column, cell in by_column if column}))
    return Sheet(tuple(named), tuple(kept))


def _separator(text: str) -> str:
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return max((",", ";", "\t"), key=header.count)


def write_sheet(columns: Sequence[str], rows: Iterable[Mapping[str, object]], separator: str = ",") -> Iterator[str]:
    """Yield the lines of a table, every cell guarded and quoted, so that no other separator splits it."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    for cells in (columns, *([row.get(column) for column in columns] for row in rows)):
        writer.writerow([guard(cell) for cell in cells])
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def guard(value: object) -> str:
    """Make a value harmless in a cell; numbers of our own need none of it and are never passed here as text."""
    text = printable("" if value is None else str(value))[:_LONGEST_CELL]
    return f"'{text}" if _is_risky(text.lstrip("'")) else text


def unguard(cell: str) -> str:
    """Take off what `guard` put on; any other apostrophe stays."""
    return cell[1:] if cell.startswith("'") and _is_risky(cell.lstrip("'")) else cell


def _is_risky(text: str) -> bool:
    return text.startswith(_FORMULA_SPACE) or text.lstrip().startswith(_FORMULA_STARTS)


def unused_name(name: str = "sheet.csv") -> str:
    """A name that no file here has, for a command that is proposed: it would not replace one."""
    path = Path(name)
    free = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    return name if not path.exists() else next(other for other in free if not Path(other).exists())
