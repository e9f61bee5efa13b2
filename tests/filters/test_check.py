"""A check counts what is wrong with a file, says where, and asks nobody."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import InputError
from safetyqc.filters import FilterSettings, apply_filters
from safetyqc.filters.check import PROPERTIES, check_conversations
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation, Duplicate, DuplicateGroup, Rejection
from safetyqc.results.findings import CheckReport
from safetyqc.results.openings import RefusalOpenings, measure_refusals
from safetyqc.testing import conversation


def short(case: Conversation) -> list[Rejection]:
    """A rule for these tests: an answer of one word."""
    hit = Rejection(conversation_id=case.id, filter="short", reason="one word")
    return [hit] if any(" " not in a for a in case.assistant_turns) else []


def check(folder: Path, *records: Any, **options: Any) -> CheckReport:
    path = folder / "data.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    read = read_conversations(path, strict=False, skip_bad_lines=options.pop("skip_bad_lines", False))
    return check_conversations(read, rules=options.pop("rules", short), **options)


def record(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    return {"messages": conversation(question, answer).as_messages(), **fields}


def test_bad_structure_is_a_finding_with_its_lines_and_no_stop(tmp_path: Path) -> None:
    alone = {"messages": [{"role": "user", "content": "Hi"}]}
    report = check(tmp_path, record("a", "b c"), alone, alone, alone, alone, {"messages": []}, record("d", "e f"))
    assert (report.records, report.conversations, report.clean) == (7, 2, 2)
    (finding,) = report.structure
    assert (finding.name, finding.count, finding.share) == ("too_few_messages", 5, 5 / 7)
    assert [e.line for e in finding.examples] == [2, 3, 4]
    assert finding.examples[0].text == "has 1 message(s)"


def test_an_unreadable_line_stops_unless_skipped_and_is_then_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.jsonl:1: is not JSON"):
        check(tmp_path, "{", record("a", "b c"))
    report = check(tmp_path, "{", record("a", "b c"), skip_bad_lines=True)
    assert [(bad.line, bad.kind) for bad in report.unreadable] == [(1, "unreadable")]
    assert (report.records, report.structure) == (2, ())


def test_rules_are_counted_the_commonest_first_with_places(tmp_path: Path) -> None:
    def two_rules(case: Conversation) -> Sequence[Rejection]:
        asks = Rejection(conversation_id=case.id, filter="question", reason="asks")
        return [*short(case), asks] if case.user_turns[0].endswith("?") else short(case)

    cases = [record("a?", "no", id="x"), record("b", "no"), record("c", "no"), record("d", "long enough")]
    report = check(tmp_path, *cases, rules=two_rules)
    assert [(f.name, f.count, f.share) for f in report.rules] == [("short", 3, 0.75), ("question", 1, 0.25)]
    assert (report.rules[1].examples[0].line, report.rules[1].examples[0].id) == (1, "x")
    assert (report.rejected, report.clean) == (3, 1)


def test_equal_conversations_are_found_through_case_and_typography(tmp_path: Path) -> None:
    cases = [
        record("It's?", "Yes it is."),
        record("IT’S? ", "yes it\tis."),
        record("It's?", "Yes it is."),
        record("x", "y z"),
    ]
    report = check(tmp_path, *cases)
    assert (report.exact.groups, report.exact.dropped, report.exact.share) == (1, 2, 0.5)
    (example,) = report.exact.examples
    assert (example.kept_line, example.dropped_line, example.similarity) == (1, 2, 1.0)
    assert (report.clean, report.near, report.min_similarity) == (2, None, None)


def test_a_swap_of_roles_is_no_copy(tmp_path: Path) -> None:
    assert check(tmp_path, record("a b", "c d"), record("c d", "a b")).exact.groups == 0


def test_similar_conversations_are_counted_without_the_equal_ones(tmp_path: Path) -> None:
    def finder(conversations: Sequence[Conversation]) -> list[DuplicateGroup]:
        one, same, like, _ = conversations
        equal = Duplicate(conversation_id=same.id, similarity=1.0, exact=True)
        near = Duplicate(conversation_id=like.id, similarity=0.9)
        return [DuplicateGroup(kept=one.id, dropped=(equal, near))]

    cases = [record("a", "b c"), record("a", "b c"), record("a", "b c d"), record("x", "y z")]
    report = check(tmp_path, *cases, near_duplicates=finder, min_similarity=0.85)
    assert report.near is not None
    assert (report.exact.dropped, report.near.dropped, report.near.groups) == (1, 1, 1)
    assert (report.near.examples[0].dropped_line, report.near.examples[0].similarity) == (3, 0.9)
    assert (report.clean, report.min_similarity) == (2, 0.85)


def test_a_copy_that_the_finder_calls_similar_is_counted_once_as_equal(tmp_path: Path) -> None:
    def finder(conversations: Sequence[Conversation]) -> list[DuplicateGroup]:
        one, same = conversations
        return [DuplicateGroup(kept=one.id, dropped=(Duplicate(conversation_id=same.id, similarity=0.99),))]

    report = check(tmp_path, record("a", "b c"), record("A", "B c"), near_duplicates=finder, min_similarity=0.8)
    assert report.near is not None
    assert (report.exact.dropped, report.near.dropped, report.clean) == (1, 0, 1)


def test_balance_counts_every_property_and_what_is_not_said(tmp_path: Path) -> None:
    cases = [
        record("How?", "Like so.", category="a", intent="harmful", language="en"),
        record("怎么？", "这样 做。", category="a", kind="benign"),
        record("Why?", "Just because.", category="b"),
        record("Who?", "Nobody knows."),
    ]
    balance = {b.of: b for b in check(tmp_path, *cases).balance}
    assert set(balance) == set(PROPERTIES)
    assert [(s.value, s.count, s.share) for s in balance["category"].slices] == [
        ("a", 2, 0.5),
        ("b", 1, 0.25),
        (None, 1, 0.25),
    ]
    assert balance["category"].smallest_to_largest == 0.5
    assert {s.value: s.count for s in balance["intent"].slices} == {"harmful": 1, "benign": 1, None: 2}
    assert {s.value: s.count for s in balance["language"].slices} == {"en": 3, "zh": 1}
    assert balance["language"].guessed == 3
    assert {m.of for m in balance["language"].measured} == {"en", "zh"}
    assert (balance["intent"].guessed, balance["intent"].measured) == (0, ())  # nothing guesses it here
    assert {s.value: s.count for s in balance["turns"].slices} == {"1": 4}
    assert balance["turns"].smallest_to_largest is None


def test_refusals_that_begin_alike_are_called_collapsed(tmp_path: Path) -> None:
    alike = [record(f"q{n}", f"I cannot provide {n} kinds of it.") for n in range(12)]
    others = [record(f"r{n}", f"{n} different words begin this one here") for n in range(60)]
    openings = check(tmp_path, *alike, *others).openings
    assert openings.commonest[0].words == "i cannot provide 0 kinds of"
    assert (openings.answers, openings.distinct, openings.collapsed) == (72, 72, True)
    assert (openings.refusals.refusals, openings.refusals.effective) == (12, 1.0)
    assert check(tmp_path, *others).openings.refusals.effective is None


def test_answers_that_begin_alike_without_refusing_are_not_called_collapsed(tmp_path: Path) -> None:
    same = [record(f"q{n}", f"Here is how you mend window number {n}.") for n in range(40)]
    openings = check(tmp_path, *same).openings
    assert (openings.commonest[0].share, openings.collapsed) == (1.0, False)


def test_openings_of_chinese_answers_count_characters(tmp_path: Path) -> None:
    cases = [record(f"问题{n}", f"很抱歉，我不能提供这个内容{n}。") for n in range(12)]
    openings = check(tmp_path, *cases).openings
    assert openings.commonest[0].count == 12
    assert openings.collapsed


def test_notes_of_the_reader_are_passed_on(tmp_path: Path) -> None:
    report = check(tmp_path, record("a", "b c", intent="unsafe"))
    assert list(report.notes.values()) == [1]


def test_a_report_survives_json(tmp_path: Path) -> None:
    report = check(tmp_path, record("a", "b"), record("a", "b"), {"messages": []}, "{", skip_bad_lines=True)
    assert CheckReport.model_validate_json(report.model_dump_json()) == report


def test_real_data_gives_a_sensible_report(shared_data: Path) -> None:
    settings = FilterSettings()
    read = read_conversations(shared_data / "bilingual_conversations.jsonl", strict=False)
    report = check_conversations(read, rules=lambda c: apply_filters(c, settings))
    assert (report.records, report.conversations, report.structure) == (360, 360, ())
    assert report.clean >= 355
    by = {b.of: {s.value: s.count for s in b.slices} for b in report.balance}
    assert by["intent"] == {"harmful": 232, "benign": 71, "borderline": 57}
    assert by["category"][None] == 30
    assert not report.openings.collapsed


def test_conversations_that_lie_in_a_file_are_counted_as_those_in_memory_and_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["I can't help with that.", "I won't, sorry.", "Press the button."]
    records = [record(f"How do I do it, {n % 40}?", said[n % 3], category="abc"[n % 3]) for n in range(120)]
    whole = check(tmp_path, *records)
    monkeypatch.setattr("safetyqc.formats.readers.reading._HELD", 10)
    held = []

    def measured(answers: Iterable[str]) -> RefusalOpenings:
        found = measure_refusals(answers)
        held.append(sum(isinstance(one, Conversation) for one in gc.get_objects()))
        return found

    monkeypatch.setattr("safetyqc.filters.check.measure_refusals", measured)
    before = sum(isinstance(one, Conversation) for one in gc.get_objects())
    assert check(tmp_path, *records) == whole
    assert held[0] - before < 10
