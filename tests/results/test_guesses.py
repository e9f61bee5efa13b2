from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from safetyqc.results.guesses import LETTERS, Measured, _measured, how_right, share_right, shares_right
from safetyqc.text import guess_language_of

JUDGE = "openai/nobody-measured-it"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (
        Measured(fact="intent", guesser="j", of="one", n=30, right=18),
        Measured(fact="intent", guesser="j", of="other", n=10, right=2),
    )
    monkeypatch.setattr("safetyqc.results.guesses._measured", lambda: found)


def test_what_nobody_measured_has_no_figure() -> None:
    assert how_right("intent", JUDGE) == how_right("language", JUDGE) == how_right("intent", None) == ()
    assert shares_right({"intent": "harmful", "category": "fraud"}, JUDGE) == {"intent": None, "category": None}
    assert share_right("persona", LETTERS) is None


def test_a_share_is_over_all_sets_that_a_judge_was_measured_on(measured: None) -> None:
    assert share_right("intent", "j") == 20 / 40
    assert share_right("category", "j") is None


def test_the_shipped_figures_are_possible_and_stand_once() -> None:
    found = [*how_right("language", LETTERS)]
    assert {m.of for m in found} == {"en", "zh"}
    assert all(0 <= m.right <= m.n and m.n >= 1_000 for m in found)
    # romanised Chinese is called English, and that is in the figure
    assert share_right("language", LETTERS) != 1


def test_the_shipped_figure_of_languages_is_what_the_guesser_does(shared_data: Path) -> None:
    bilingual = (shared_data / "bilingual_conversations.jsonl").read_text(encoding="utf-8").splitlines()
    chinese = [row for row in map(json.loads, bilingual) if row["meta"]["language_style"] == "zh"]
    jade = gzip.decompress((shared_data / "jade_medium_dev.jsonl.gz").read_bytes()).decode().splitlines()
    texts = [[m["content"] for m in row["messages"]] for row in (*chinese, *map(json.loads, jade))]
    (found,) = (m for m in how_right("language", LETTERS) if m.of == "zh")
    assert (found.n, found.right) == (len(texts), sum(guess_language_of(t) == "zh" for t in texts))


def test_docs_hold_every_shipped_figure_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    table = text.partition("| guessed | by | on | right |\n")[2].partition("\n\n")[0].splitlines()[1:]
    told = [line.strip() for line in table if line.startswith("  |")]
    assert told == [f"| {m.fact} | {m.guesser} | {m.of} | {m.right:,} of {m.n:,} |" for m in _measured()]
