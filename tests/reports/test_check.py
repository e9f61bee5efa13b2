from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from safetyqc.filters import FilterSettings, apply_filters
from safetyqc.filters.check import check_conversations
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Duplicate, DuplicateGroup
from safetyqc.reports.check import render_check
from safetyqc.results.findings import CheckReport


def check(path: Path, *, near: bool = False) -> CheckReport:
    read = read_conversations(str(path), strict=False, skip_bad_lines=True)

    def first_two(conversations: object) -> list[DuplicateGroup]:
        ids = [c.id for c in read.conversations]
        return [DuplicateGroup(kept=ids[0], dropped=(Duplicate(conversation_id=ids[1], similarity=0.91),))]

    return check_conversations(
        read,
        rules=lambda c: apply_filters(c, FilterSettings()),
        near_duplicates=first_two if near else None,
        min_similarity=0.85 if near else None,
    )


def draw(report: CheckReport, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_check(report))
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twelve conversations with one opening, one copy, one bad structure, one hostile category, one unreadable line."""
    path = tmp_path / "data.jsonl"

    def line(i: int, **fields: object) -> str:
        turns = [f"Tell me about garden plant number {i}, please.", f"I'm sorry, I can't help with plant {i} today."]
        messages = [{"role": r, "content": t} for r, t in zip(("user", "assistant"), turns, strict=True)]
        return json.dumps({"messages": messages, "category": "general_safety", **fields})

    lines = [line(i) for i in range(12)]
    lines += [line(0), '{"messages": [{"role": "assistant", "content": "x"}]}', '{"broken']
    lines += [line(40, category="\x1b[31mevil\u202e [bold]x[/bold]")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_is_wrong_is_counted_and_where_is_told(file: Path) -> None:
    text = draw(check(file, near=True))
    assert "of 16 records clean" in text
    assert "line 15" in text  # the unreadable one
    assert "similar (≥ 0.85)" in text
    assert "collapsed" in text


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_and_carries_no_escape_codes(file: Path, width: int) -> None:
    text = draw(check(file, near=True), width)
    assert max(map(len, text.splitlines())) <= width
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "[bold]x[/bold]" in text


def test_texts_of_copies_are_masked(file: Path) -> None:
    assert "garden plant" not in draw(check(file, near=True), 140).split("Copies")[1].split("Balance")[0]


def test_a_clean_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    turns = [{"role": "user", "content": "How do I keep my account safe?"}]
    turns.append(
        {"role": "assistant", "content": "Use a long passphrase and a second factor, and keep software up to date."}
    )
    path.write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    text = draw(check(path))
    assert "1 of 1 record clean  100.0%" in text
    assert "none found" in text


def test_a_file_without_one_conversation_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("[]", encoding="utf-8")
    read = read_conversations(str(path), strict=False, skip_bad_lines=True)
    assert "0 of 1 record clean  0.0%" in draw(check_conversations(read, rules=lambda c: ()))
