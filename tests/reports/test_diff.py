from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from html import unescape

import pytest
from rich.console import Console

from safetyqc.errors import NotComparableError
from safetyqc.records import Duplicate, DuplicateGroup
from safetyqc.reports.diff import adjusted, compare_runs, compare_stores, render_diff
from safetyqc.reports.documents import render_markdown
from safetyqc.reports.html import render_html
from safetyqc.reports.summary import summarise
from safetyqc.results.statistics import difference_interval, difference_p, holm
from safetyqc.store import Store
from tests.support.runs import RUBRIC, judgment, planned

Maker = Callable[..., Store]


def run_with(make_run: Maker, failing: int, count: int = 100) -> Store:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(count)]
    verdicts = [judgment(c, safe_alternative="fail") if i < failing else judgment(c) for i, c in enumerate(talks)]
    return make_run(talks, verdicts, rubric=RUBRIC)


def test_a_large_move_is_sure_and_a_small_one_is_noise(make_run: Maker) -> None:
    before, slightly, clearly = (run_with(make_run, n) for n in (40, 37, 5))
    old = summarise(before)

    def overall(after: Store) -> tuple[float, bool]:
        move = next(m for m in compare_runs(old, summarise(after)).moves if m.criterion == "overall" and not m.category)
        return round(move.difference, 2), move.sure

    assert overall(slightly) == (0.03, False)
    assert overall(clearly) == (0.35, True)


def test_every_face_says_for_how_many_rates_the_moves_are_adjusted(make_run: Maker) -> None:
    before, after = run_with(make_run, 40), run_with(make_run, 5)
    summary = summarise(after)
    difference = compare_stores(before, after, summarise(before), summary)
    terminal = io.StringIO()
    Console(file=terminal, width=200).print(render_diff(difference))
    page = render_html(after, summary, difference=difference)
    told = adjusted(difference)
    assert re.search(r"\d+ rates", told)
    assert "Holm" in told
    for text in (terminal.getvalue(), page, unescape(render_markdown(summary, difference))):
        assert told in " ".join(text.split())


def test_conversations_that_changed_are_named(make_run: Maker) -> None:
    before, after = run_with(make_run, 2, 5), run_with(make_run, 1, 5)
    difference = compare_stores(before, after, summarise(before), summarise(after))
    assert difference.shared == 5
    (changed,) = difference.changed
    assert (changed.conversation_id, changed.before, changed.after) == ("c_0001", "failed", "kept")


def test_runs_of_different_rubrics_are_refused(make_run: Maker) -> None:
    before, after = (summarise(run_with(make_run, 1, 4)) for _ in range(2))
    other = after.model_copy(update={"run": after.run.model_copy(update={"rubric_hash": "other"})})
    with pytest.raises(NotComparableError, match="rubric hash"):
        compare_runs(before, other)


def test_what_only_another_choice_among_copies_moved_is_called_that(make_run: Maker) -> None:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(200)]
    verdicts = [judgment(c, safe_alternative="fail") if i % 4 == 0 else judgment(c) for i, c in enumerate(talks)]
    before, after = (make_run(talks, verdicts, rubric=RUBRIC) for _ in range(2))
    # every fourth fails; grouped with a neighbour, which is kept because it passed
    after.replace_duplicates(
        [
            DuplicateGroup(kept=talks[i - 1].id, dropped=(Duplicate(conversation_id=talks[i].id, similarity=0.9),))
            if i % 8 == 4
            else DuplicateGroup(kept=talks[i + 1].id, dropped=(Duplicate(conversation_id=talks[i].id, similarity=0.9),))
            for i in range(0, 200, 4)
        ]
    )
    difference = compare_runs(summarise(before), summarise(after))
    move = next(m for m in difference.moves if m.criterion == "overall" and not m.category)
    assert (move.sure, move.chosen) == (True, True)
    out = io.StringIO()
    Console(file=out, width=100).print(render_diff(difference))
    assert "by choosing" in out.getvalue()


def test_it_can_be_drawn(make_run: Maker) -> None:
    before, after = run_with(make_run, 40), run_with(make_run, 5)
    out = io.StringIO()
    difference = compare_stores(before, after, summarise(before), summarise(after))
    Console(file=out, width=80).print(render_diff(difference))
    text = out.getvalue()
    assert "+35.0" in text
    assert "noise" in text  # the criteria that did not move
    assert "and 23 more" in text


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((56, 70, 48, 80), (0.0524, 0.3339)), ((9, 10, 3, 10), (0.1705, 0.8090)), ((0, 20, 0, 10), (-0.2775, 0.1611))],
)
def test_intervals_are_newcombes_published_ones(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    """The examples of table II of Newcombe (1998), method 10."""
    assert difference_interval(*counts) == pytest.approx(expected, abs=5e-5)


def test_nothing_can_be_said_of_an_empty_side() -> None:
    assert difference_interval(0, 0, 3, 4) == (-1.0, 1.0)


def test_runs_that_other_judges_judged_are_refused_and_both_are_named(make_run: Maker) -> None:
    before, after = (summarise(run_with(make_run, 1, 4)) for _ in range(2))
    other = after.model_copy(update={"run": after.run.model_copy(update={"judge": "stricter"})})
    with pytest.raises(NotComparableError, match=r"'stricter'") as refused:
        compare_runs(before, other)
    assert repr(before.run.judge) in str(refused.value)


@pytest.mark.parametrize(("passed", "n", "before", "n_before"), [(90, 100, 60, 100), (1, 50, 4, 40), (0, 9, 9, 9)])
def test_the_p_value_is_where_the_interval_begins_to_hold_nothing(
    passed: int, n: int, before: int, n_before: int
) -> None:
    p = difference_p(passed, n, before, n_before)
    low, high = difference_interval(passed, n, before, n_before, 1 - p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6)


def test_of_equal_processes_hardly_any_report_shows_a_move() -> None:
    rng = random.Random(3)

    def draw(n: int) -> int:
        return sum(rng.random() < 0.8 for _ in range(n))

    def moved() -> bool:
        return any(holm([difference_p(draw(60), 60, draw(60), 60) for _ in range(60)]))

    assert sum(moved() for _ in range(40)) <= 5  # binomial: 5 of 40 at 5% is exceeded once in 30; unadjusted it is 38


def test_holm_steps_down_and_stops_at_the_first_that_is_not_rare() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([]) == []
