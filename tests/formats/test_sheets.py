"""Tables that spreadsheets open without running anything, and that come back as they went."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.errors import InputError
from safetyqc.formats.sheets import guard, read_sheet, unguard, unused_name, write_sheet

RISKY = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\n=1",
    " =1",
    "＝1",
    "＋1",
    "－1",
    "＠a",
    "﹦1",
    "﹢1",
    "﹣1",
    "﹫a",
    "−1",
]


@pytest.mark.parametrize("cell", RISKY)
def test_what_may_be_a_formula_is_guarded_and_comes_back_as_it_was(cell: str) -> None:
    assert guard(cell) == f"'{cell}"
    assert unguard(guard(cell)) == cell


@pytest.mark.parametrize("cell", ["\r=1", "\n=cmd|'/C calc'!A0", "%0A=1", "|cmd", "\x00=1", "\ufeff=1"])
def test_what_importers_strip_or_run_is_guarded_too(cell: str) -> None:
    assert guard(cell).startswith("'")


def test_control_characters_are_removed() -> None:
    assert guard("a\x1b[31m\x07b\u202e") == "a[31mb"


@pytest.mark.parametrize("cell", ["'=1", "''=1", "'tis", "it's", "", "'", "我不能帮忙", "a=b", "'a"])
def test_apostrophes_of_the_text_itself_stay(cell: str) -> None:
    assert unguard(guard(cell)) == cell


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, separator: str) -> None:
    rows = [{"id": "=a", "text": 'two\nlines, a "quote"; a tab\tand 😀'}, {"id": "-b", "text": "中文"}]
    path = tmp_path / "t.csv"
    path.write_text("".join(write_sheet(["id", "text"], rows, separator)), encoding="utf-8", newline="")
    sheet = read_sheet(path)
    assert [row for _, row in sheet.rows] == rows
    assert [line for line, _ in sheet.rows] == [2, 4]


def test_semicolons_a_byte_order_mark_and_empty_lines_are_taken_as_excel_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffid;empathy\r\n\r\na;pass\r\n;\r\n".encode())
    assert [row for _, row in read_sheet(path).rows] == [{"id": "a", "empathy": "pass"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("id,a,a\n1,2,3\n", ":1: has the column 'a' twice"),
        ("id,a\n1,2,3\n", ":2: has 3 cells, its header 2"),
        ('id,a\n1,"two\n', ":2: is no table that can be read"),
    ],
)
def test_a_broken_table_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_sheet(path)


def test_a_table_in_another_encoding_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("id,note\n1,中文\n".encode("gb18030"))
    with pytest.raises(InputError, match=r"is not UTF-8(.|\n)*iconv"):
        read_sheet(path)


def test_a_command_is_proposed_with_a_file_that_it_would_not_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert unused_name() == "sheet.csv"
    for name in ("sheet.csv", "sheet-2.csv"):
        (tmp_path / name).touch()
    assert unused_name() == "sheet-3.csv"
