"""A path -> the files of records behind it, each with its values: JSON, tables, Parquet, Arrow, or a folder of these.

The content decides what a file is, but for tables, which only their name tells (`.csv`, `.tsv`). Parquet and Arrow need
pyarrow. A folder, also one behind a URL (`remote`), is read shard by shard in the order of names; what is no data in it
(cards, descriptions, what `datasets` caches) is passed over, and so is all that a `save_to_disk` folder of this machine
does not name as its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from safetyqc.errors import InputError, UserError
from safetyqc.formats.json_values import Unreadable, Value, read_values
from safetyqc.formats.opened import STDIN, name_of, read_errors
from safetyqc.formats.plain import plain_value
from safetyqc.formats.remote import Remote, place_of
from safetyqc.formats.sheets import is_sheet, read_sheet

Values = Iterator[Value | Unreadable]
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
_NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_ARROW, _PARQUET = (b"ARROW1", b"\xff\xff\xff\xff"), b"PAR1"
_ROWS = 256
"""Rows that are in memory at a time."""


def read_sources(
    path: str | Path, is_turn: Callable[[Any], bool], only_files: Collection[str] | None = None
) -> Iterator[tuple[str, Values]]:
    """Yield each file behind a path, by the name that messages show, with the values that it holds.

    Args:
        only_files: of a folder, by those names; no other is opened.

    Raises:
        InputError: there is nothing to read, or it cannot be read.
        UserError: Parquet or Arrow without pyarrow, or a URL without what reads it.
    """
    if not is_folder(path):
        yield name_of(path), _values(path, is_turn)
        return
    for file in files_of(path):
        if only_files is None or file in only_files:
            yield file, _values(file, is_turn)


def is_folder(path: str | Path) -> bool:
    """Whether a path or a URL is a folder.

    Raises:
        InputError: its store cannot be asked.
    """
    if str(path) == STDIN:
        return False
    place = place_of(path)
    with read_errors(path):
        return place.is_folder() if isinstance(place, Remote) else place.is_dir()


def files_of(folder: str | Path) -> list[str]:
    """The files of records in a folder, in the order in which they are read, by the names that messages show.

    Raises:
        InputError: it holds none.
    """
    place = place_of(folder)
    with read_errors(folder):
        files = _shards_of(place) if isinstance(place, Remote) else [str(file) for file in _shards(place)]
    if not files:
        known = ", ".join(_SUFFIXES)
        fix = f"give one that holds {known} files"
        raise InputError("is a folder without a file of records", path=name_of(folder), fix=fix)
    return files


def holds_rows(path: str | Path) -> bool:
    """Whether a path is a folder of files, or a file of columns, rather than text."""
    return str(path) != STDIN and (is_folder(path) or _head(path).startswith((*_ARROW, _PARQUET)))


def _values(path: str | Path, is_turn: Callable[[Any], bool]) -> Values:
    if str(path) == STDIN:
        return read_values(path, is_turn)
    if is_sheet(path):
        return _rows_of_sheet(path)
    head = _head(path)
    if head.startswith(_PARQUET):
        return _rows_of_batches(path, _parquet_batches)
    if head.startswith(_ARROW):
        return _rows_of_batches(path, _arrow_batches)
    return read_values(path, is_turn)


def _head(path: str | Path) -> bytes:
    place = place_of(path)
    try:
        with place.open() if isinstance(place, Remote) else place.open("rb") as file:
            return file.read(8)
    except OSError:
        return b""  # said by whoever reads it


def _shards_of(folder: Remote) -> list[str]:
    """The same of a folder behind a URL."""
    found: list[tuple[tuple[str, ...], str]] = []
    for file in folder.below():
        parts = tuple(file.path.removeprefix(folder.path).strip("/").split("/"))
        if not any(part.startswith((".", "_")) for part in parts) and _is_data(parts[-1]):
            found.append((parts, file.url))
    return [url for _, url in sorted(found)]


def _shards(folder: Path) -> Iterator[Path]:
    """The files of records in a folder and below it, in the order of their names."""
    state = folder / "state.json"
    if state.is_file():
        yield from _of_dataset(folder, state)
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _shards(entry)
        elif _is_data(entry.name):
            yield entry


def _is_data(name: str) -> bool:
    name = name.casefold()
    plain = name.removesuffix(".gz")
    is_named = plain.endswith(_SUFFIXES) and plain not in _NO_DATA and not plain.endswith(".manifest.json")
    return is_named and not (name.startswith("cache-") and name.endswith(".arrow"))


def _of_dataset(folder: Path, state: Path) -> Iterator[Path]:
    """What a folder of `save_to_disk` names as its data."""
    try:
        names = [str(entry["filename"]) for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "save the dataset again, or give its .arrow files"
        raise InputError("does not name the files of a dataset", path=state, fix=fix) from error
    for name in names:
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise InputError(f"names {name!r}, which is not there", path=state, fix="copy the folder as a whole")
        yield file


def _rows_of_sheet(path: str | Path) -> Values:
    for line, row in read_sheet(path).rows:
        yield Value(line, {column: cell if cell.strip() else None for column, cell in row.items()})


def _rows_of_batches(path: str | Path, batches: Callable[[Any, str], Iterator[Any]]) -> Values:
    try:
        import pyarrow
    except ImportError as error:
        what = "is a Parquet or Arrow file, and pyarrow, which reads it, is not installed"
        fix = "pip install 'safetyqc[parquet]', or convert it: datasets.load_from_disk(FOLDER).to_json(FILE)"
        raise UserError(what, where=name_of(path), fix=fix) from error
    row = 0
    try:
        for batch in batches(pyarrow, str(path)):
            for values in batch.to_pylist():
                row += 1
                found = plain_value(values)
                yield found if isinstance(found, Unreadable) else Value(row, found)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        kind = "a Parquet file" if _head(path).startswith(_PARQUET) else "an Arrow file, not JSON"
        fix = "is it damaged? copy it again, or convert it: datasets.load_from_disk(FOLDER).to_json(FILE)"
        where = f" (after row {row})" if row else ""
        raise InputError(f"is {kind}, and cannot be read{where}: {error}", path=name_of(path), fix=fix) from error


def _parquet_batches(_: Any, path: str) -> Iterator[Any]:
    from pyarrow import parquet

    place = place_of(path)
    with contextlib.ExitStack() as ends:
        source = ends.enter_context(place.open()) if isinstance(place, Remote) else str(place)
        yield from ends.enter_context(parquet.ParquetFile(source)).iter_batches(batch_size=_ROWS)


def _arrow_batches(pyarrow: Any, path: str) -> Iterator[Any]:
    """Batches of an Arrow file, or of a stream as `datasets` writes it."""
    place = place_of(path)
    with place.open() if isinstance(place, Remote) else pyarrow.memory_map(str(place)) as source:
        if _head(path).startswith(_ARROW[0]):
            reader = pyarrow.ipc.open_file(source)
            whole = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            whole = iter(pyarrow.ipc.open_stream(source))
        for batch in whole:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)
