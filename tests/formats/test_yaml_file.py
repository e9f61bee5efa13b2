"""A hand-written YAML file is read whole, or refused with line, key and fix."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import field_validator

from safetyqc.errors import ConfigError
from safetyqc.formats.yaml_file import Misfit, parse_yaml, read_yaml
from safetyqc.records import Record


class Part(Record):
    colour: str
    sizes: Mapping[str, tuple[int, ...]] = {}

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
        for name, values in sizes.items():
            for position, (low, high) in enumerate(pairwise(values)):
                if low > high:
                    raise Misfit(f"{high} comes after {low}", at=(name, position + 1), fix="sort it")
        return sizes


class Box(Record):
    parts: tuple[Part, ...]
    by_name: Mapping[str, Part] | None = None


def failure(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, Box, where="box.yaml")
    return caught.value


def test_a_valid_file_becomes_a_record(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text("parts:\n  - colour: 红\n    sizes: {s: [1, 2]}\n", encoding="utf-8")
    assert read_yaml(path, Box) == Box(parts=(Part(colour="红", sizes={"s": (1, 2)}),))


def test_a_misfit_points_at_the_entry_itself() -> None:
    error = failure("parts:\n  - colour: red\n    sizes:\n      s: [1, 2]\n      m:\n        - 4\n        - 3\n")
    assert error.where == "box.yaml:7 (parts[0].sizes.m[1])"
    assert (error.what, error.fix) == ("3 comes after 4", "sort it")


def test_an_unknown_key_behind_a_mapping_gets_the_nearest_name() -> None:
    error = failure("parts: []\nby_name:\n  lid:\n    color: red\n")
    assert error.where == "box.yaml:4 (by_name.lid.color)"
    assert "did you mean 'colour'" in (error.fix or "")
    assert "1 more" in error.what


def test_a_repeated_key_is_refused_where_yaml_would_keep_the_last() -> None:
    error = failure("parts:\n  - colour: red\n    colour: blue\n")
    assert error.where == "box.yaml:3"
    assert "first in line 2" in error.what


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "is empty"), ("- a\n", "holds a list"), ("just text", "holds a str"), ("? [a]\n: b", "YAML")],
)
def test_anything_but_a_mapping_is_refused(text: str, what: str) -> None:
    assert what in failure(text).what


_ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2024-13-45\n", 2, "month"),
        ("a: !!int abc\n", 1, "'abc'"),
        ("a: 1\nb: " + "9" * 5000 + "\n", 2, "digits"),
        ("a: 1\nb: &x [*x]\n", 2, "holds itself"),
        (_ALIASES, 6, "aliases stand for more than"),
        ("a: 1\nb: !!timestamp x\n", 2, "'x' cannot be read as timestamp"),
        ("b: !!bool maybe\n", 1, "'maybe' cannot be read as bool"),
        ("b: !!float ''\n", 1, "'' cannot be read as float"),
    ],
    ids=["date", "int", "digits", "cycle", "bomb", "timestamp", "bool", "no digits"],
)
def test_what_cannot_be_made_is_told_with_its_line(text: str, line: int, what: str) -> None:
    error = failure(text)
    assert (error.where, what in error.what) == (f"box.yaml:{line}", True)


def test_deep_nesting_is_refused() -> None:
    assert "too deeply" in failure("a: " + "[" * 1000 + "]" * 1000).what


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_bytes(b"parts: [\xff]")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(path, Box)


def test_values_are_shown_shortened() -> None:
    error = failure(f"parts: {'x' * 500}")
    assert len(error.what) < 150
