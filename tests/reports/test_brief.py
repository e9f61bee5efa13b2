from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from safetyqc.records import Conversation
from safetyqc.reports.documents import render_markdown
from safetyqc.reports.summary import summarise
from safetyqc.reports.terminal import SECTIONS, render_report
from safetyqc.results.report import Summary
from safetyqc.store import Store
from tests.support.runs import RUBRIC, judgment, planned

Maker = Callable[..., Store]
TITLES = ("Funnel", "Pass rates", "Categories unlike the rest", "What to do next")


def draw(summary: Summary, width: int = 80, **options: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_report(summary, **options))
    return out.getvalue()


@pytest.fixture(scope="module")
def brief(full_run: Store) -> str:
    return draw(summarise(full_run))


def test_the_usual_report_fits_one_screen_and_begins_with_what_is_kept(brief: str) -> None:
    lines = brief.strip().splitlines()
    assert len(lines) <= 58, brief  # the run holds every kind of problem
    assert lines[0].startswith("26 of 36 conversations kept")
    assert [line for line in lines if line in TITLES] == list(TITLES)


def test_the_usual_report_has_a_line_for_each_criterion(full_run: Store, brief: str) -> None:
    for criterion in summarise(full_run).criteria[1:]:
        assert re.search(rf"^  {criterion.id}( \(gate\))?  +\d", brief, re.MULTILINE)


def test_full_has_every_section_that_has_something_to_say(full_run: Store) -> None:
    summary = summarise(full_run)
    whole = draw(summary, full=True)
    for name in set(SECTIONS) - {"criteria"}:
        alone = draw(summary, sections=[name]).strip()
        assert alone in whole or alone == "nothing to show here yet", name


def run_of(make_run: Maker, failed: dict[str, int], n: int = 40) -> Summary:
    talks: list[Conversation] = []
    verdicts = []
    for category, failures in failed.items():
        own = [planned(len(talks) + i, category) for i in range(n)]
        talks += own
        verdicts += [judgment(c, empathy="fail" if i < failures else "pass") for i, c in enumerate(own)]
    return summarise(make_run(talks, verdicts, rubric=RUBRIC))


def test_a_category_that_passes_less_often_than_the_rest_is_named(make_run: Maker) -> None:
    rates = {"cybercrime_or_hacking": 2, "self_harm_support": 2, "privacy_and_personal_data": 20}
    said = draw(run_of(make_run, rates), sections=["unlike"])
    assert "✗ privacy_and_personal_data" in said
    assert "50.0%" in said
    assert "95.0%" in said


def test_categories_that_only_chance_sets_apart_are_not_named(make_run: Maker) -> None:
    rates = {"cybercrime_or_hacking": 2, "self_harm_support": 4, "privacy_and_personal_data": 5}
    said = draw(run_of(make_run, rates), sections=["unlike"])
    assert "none of 3 surely passes more or less often" in " ".join(said.split())
    assert not any(name in said for name in rates)


def test_markdown_can_be_narrowed_to_a_section(full_run: Store) -> None:
    text = render_markdown(summarise(full_run), sections=["funnel"])
    assert "## Funnel" in text
    assert "## Balance" not in text
    assert "What to do next" not in text
