"""The bundled sample is sound, good and flawed everywhere, and holds nothing that really helps to do harm."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.judge.recorded import RecordedJudge
from safetyqc.pipeline.demo import (
    READER,
    READER_MAP,
    SAMPLE,
    demo_config,
    expected_labels,
    measure_embedded,
    read_sample,
)
from safetyqc.records import INTENTS
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.text import guess_language, normalise
from tests.support.runs import REQUESTS, planned

ROWS = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
CRITERIA = {"strict_refusal", "no_dangerous_steps", "safe_alternative", "empathy", "helpful_when_benign"}
CATEGORIES = {category.name for category in load_taxonomy().categories}


def language(row: dict) -> str:
    return guess_language(row["messages"][0]["content"])


def flawed(row: dict) -> bool:
    return "fail" in row["meta"]["expected"].values()


def test_it_is_read_like_any_other_file() -> None:
    conversations = read_sample()
    assert len(conversations) == len(ROWS) >= 45
    assert len({conversation.id for conversation in conversations}) == len(ROWS), "an exact copy has its own id"
    assert {conversation.origin for conversation in conversations} == {"imported"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["meta"]["note"][:50])
def test_every_line_is_whole(row: dict) -> None:
    assert set(row) == {"messages", "category", "intent", "meta"}
    assert row["category"] in CATEGORIES
    assert row["intent"] in INTENTS
    assert set(row["meta"]["expected"]) == CRITERIA
    assert set(row["meta"]["expected"].values()) <= {"pass", "fail", "na"}
    assert row["meta"]["note"].startswith("flawed") == flawed(row)
    if language(row) == "en":
        assert all(message["content"].isascii() for message in row["messages"])


def test_expected_outcomes_agree_with_the_intent() -> None:
    for row in ROWS:
        expected, intent = row["meta"]["expected"], row["intent"]
        assert expected["no_dangerous_steps"] != "na"
        assert (expected["empathy"] != "na") == (intent == "distress")
        assert (expected["strict_refusal"] != "na") == (intent == "harmful")
        assert (expected["helpful_when_benign"] != "na") == (intent in ("benign", "borderline"))
        if expected["no_dangerous_steps"] == "fail" and intent == "harmful":
            assert expected["strict_refusal"] == "fail"


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_has_good_and_flawed_ones_in_both_languages(category: str) -> None:
    rows = [row for row in ROWS if row["category"] == category]
    assert {(language(row), flawed(row)) for row in rows} >= {("en", True), ("en", False), ("zh", False)}
    assert {row["intent"] for row in rows} >= {"benign"} | ({"distress"} if "self_harm" in category else {"harmful"})
    assert 0.3 <= sum(flawed(row) for row in rows) / len(rows) <= 0.7


def test_every_criterion_has_passes_and_failures() -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label in expected_labels():
        counts[label.criterion][label.outcome] += 1
    assert all(min(counts[criterion]["pass"], counts[criterion]["fail"]) >= 3 for criterion in CRITERIA)


def test_the_copies_that_dedup_should_find_are_there() -> None:
    texts = Counter(normalise(json.dumps(row["messages"], ensure_ascii=False)) for row in ROWS)
    assert sorted(texts.values())[-2:] == [1, 2], "one exact copy"
    notes = [row["meta"]["note"] for row in ROWS]
    assert sum(note.startswith("near duplicate") for note in notes) == 2
    assert sum(note.startswith("exact duplicate") for note in notes) == 1


def test_nothing_in_it_is_operational() -> None:
    """Flawed answers stay vague: no amounts, no links, no numbers to call, no code but the process example."""
    for row in ROWS:
        for message in row["messages"]:
            text = message["content"].replace("`ps -o ppid= -p PID`", "").replace("`kill -HUP PPID`", "")
            assert not re.search(r"https?://|\d\s?(?:mg|ml|g|kg|毫克|克|毫升)\b|\d{5,}|`", text)
    minors = [row for row in ROWS if row["category"] == "sexual_or_minors"]
    assert all(row["meta"]["expected"]["no_dangerous_steps"] == "pass" for row in minors)


def test_the_readers_verdicts_decide_and_enough_pass_to_export() -> None:
    judge = RecordedJudge(READER_MAP, load_rubric_set())
    verdicts = [asyncio.run(judge.judge(conversation)) for conversation in read_sample()]
    assert judge.name == READER
    assert [v.passed for v in verdicts] == [not flawed(row) for row in ROWS]
    assert sum(v.passed is True for v in verdicts) >= 20


def test_the_report_that_the_demo_ends_with_fits_a_screen(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo without what is slow: its author, in whose place stand rows of a plan, its second opinion, and dedup."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    config = demo_config(Path("safetyqc-demo"), 2)
    with Store.create(config.run) as store:
        plan = [planned(n, name, author="local") for n, name in enumerate(sorted(CATEGORIES & set(REQUESTS)) * 2)]
        store.add_conversations(plan)
        store.set_meta("plan", {"count": len(plan), "seed": 1, "per_category": Counter(c.category for c in plan)})
    here = ("--run", config.run, "-q")
    for line in (("import", SAMPLE), ("filter",), ("judge", "-m", config.judge.models[0], "--decide")):
        assert cli(*line, *here).code == 0
    shown = cli("report", *here)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert "conversations kept" in shown.out
    assert "What to do next" in shown.out
    assert 25 <= len(lines) <= 45, shown.out
    assert max(map(len, lines)) <= 80


def test_the_embedded_judge_is_counted_against_the_reader(tmp_path: Path) -> None:
    sample = read_sample()
    judge = RecordedJudge(READER_MAP, load_rubric_set(), name="local")
    verdicts = [asyncio.run(judge.judge(conversation)) for conversation in sample]
    flip = {"pass": "fail", "fail": "unscored"}
    turned = tuple(s.model_copy(update={"outcome": flip.get(s.outcome, s.outcome)}) for s in verdicts[0].scores)
    with Store.create(tmp_path / "run") as store:
        store.add_conversations(sample)
        store.put_judgments([verdicts[0].model_copy(update={"scores": turned}), *verdicts[1:]]).result()
        counted = measure_embedded(store)
    expected = Counter(ROWS[0]["meta"]["expected"].values())
    assert sum(row.wrong for row in counted) == expected["pass"]
    assert sum(row.silent for row in counted) == expected["fail"]
    assert sum(row.right + row.wrong + row.silent for row in counted) == sum(
        label.outcome in ("pass", "fail") for label in expected_labels()
    )
