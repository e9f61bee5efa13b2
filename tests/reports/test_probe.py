from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import safetyqc as sq
from safetyqc.reports.probed import Probed

HOSTILE = "<script>alert(1)</script>\x1b[31m I can't help with that."


@pytest.fixture
def probed(tmp_path: Path) -> Probed:
    import json

    for name in ("before", "after", "control"):
        rows = [
            {
                "prompt": f"{kind} thing {n}",
                "intent": kind,
                "pair": str(n),
                "answer": HOSTILE if kind == "harmful" and name != "before" and n % 4 else "Sure, this is how.",
            }
            for kind in ("harmful", "benign")
            for n in range(24)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = {name: f"answers:{tmp_path / name}.jsonl" for name in ("before", "after", "control")}
    return sq.probe(named["after"], against=named["before"], control=named["control"], quiet=True)


def drawn(probed: Probed, width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(probed.render())
    return console.export_text()


def test_the_terminal_says_word_measures_changes_and_judges_within_80_columns(probed: Probed) -> None:
    text = drawn(probed)
    assert "better than before" in text
    for part in ("Measures", "Against before", "Against control", "Outcomes", "Judges", "Notes"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text.replace("\n", "")


def test_the_page_masks_escapes_and_draws_every_arm(probed: Probed, tmp_path: Path) -> None:
    probed.write_html(tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert '<body class="masked">' in page
    assert "\x1b" not in page
    assert page.count("<circle") == 3
    assert '<circle class="control"' in page
    assert page.count("<ellipse") == 3
    assert '<line class="arrow model"' in page
    assert not re.search(r'(src|href)="http|style="', page)


def test_rows_and_frame_hold_every_answer(probed: Probed) -> None:
    rows = probed.to_dicts()
    assert len(rows) == 3 * 48
    assert {row["arm"] for row in rows} == {"model", "before", "control"}
    assert rows[0]["words"] in ("refuses", "complies_with_harm")
