"""Whatever bytes a file holds, it gives values and broken lines with their places, or one error with a fix."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safetyqc.errors import InputError
from safetyqc.formats.json_values import Unreadable, Value, read_values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=6)


def never(_: Any) -> bool:
    return False


def read(folder: Path, raw: bytes, name: str = "a.jsonl") -> list[Value | Unreadable]:
    (folder / name).write_bytes(raw)
    return list(read_values(folder / name, never))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, indent=st.sampled_from([None, 0, 2]), lines=st.booleans(), zipped=st.booleans())
def test_every_value_comes_back_in_order(
    folder: Path, records: list[Any], indent: int | None, lines: bool, zipped: bool
) -> None:
    if lines:
        raw = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    else:
        raw = json.dumps(records, indent=indent).encode()
    found = read(folder, gzip.compress(raw) if zipped else raw, "a.jsonl" if lines else "a.json")
    assert [v.value for v in found if isinstance(v, Value)] == records


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300), name=st.sampled_from(["a.jsonl", "a.json"]))
def test_arbitrary_bytes_never_raise_anything_but_an_input_error(folder: Path, raw: bytes, name: str) -> None:
    try:
        found = read(folder, raw, name)
    except InputError:
        return
    assert all(v.line >= 1 for v in found)
    assert all(v.what and v.fix for v in found if isinstance(v, Unreadable))


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, at=st.integers(0, 10_000), damage=st.binary(max_size=4))
def test_damage_in_one_line_costs_only_that_line(folder: Path, records: list[Any], at: int, damage: bytes) -> None:
    lines = [json.dumps(r).encode() + b"\n" for r in records]
    hurt = at % len(lines)
    place = at % max(len(lines[hurt]) - 1, 1)
    damaged = lines[hurt][:place] + damage.replace(b"\n", b"") + lines[hurt][place + 1 :]
    assume(hurt > 0)  # the first line also decides what kind of file it is
    found = read(folder, b"".join([*lines[:hurt], damaged, *lines[hurt + 1 :]]))
    values = [v.value for v in found if isinstance(v, Value) and v.line != hurt + 1]
    assert values == [r for n, r in enumerate(records) if n != hurt]


def test_lines_are_counted_through_blank_ones(tmp_path: Path) -> None:
    found = read(tmp_path, b"\n\n{}\n\r\n{}\n \n{")
    assert [v.line for v in found] == [3, 5, 7]
    assert [type(v) for v in found] == [Value, Value, Unreadable]


def test_empty_cells_of_pandas_are_null(tmp_path: Path) -> None:
    (found,) = read(tmp_path, b'{"a": NaN, "b": -Infinity}')
    assert found == Value(1, {"a": None, "b": None})


@pytest.mark.parametrize(
    "text", [r'{"a": "\ud83d"}', r'{"a": "\uDE00 x"}', r'{"\ud83d": 1}', r'[{"a": ["\ud83d\ud83d"]}]']
)
def test_half_a_character_is_told_wherever_it_stands(tmp_path: Path, text: str) -> None:
    for name in ("a.jsonl", "a.json"):
        (found,) = read(tmp_path, text.encode(), name)
        assert isinstance(found, Unreadable)
        assert "half of a character" in found.what


@pytest.mark.parametrize("text", [r'{"a": "\ud83d\ude00"}', r'{"a": "\\ud83d"}', '{"a": "🙂"}'])
def test_whole_characters_are_fine(tmp_path: Path, text: str) -> None:
    (found,) = read(tmp_path, text.encode())
    assert isinstance(found, Value)


def test_many_broken_lines_of_a_document_take_linear_time(tmp_path: Path) -> None:
    """Looking at the rest of the file for each broken line would copy hundreds of megabytes."""
    found = read(tmp_path, b"{}\n" + b"{oops}\n" * 5_000, "a.json")
    assert len(found) == 5_001
    assert found[-1].line == 5_001
