from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from safetyqc.errors import NotComparableError
from safetyqc.reports.diff import compare_runs, compare_stores, render_diff
from safetyqc.reports.summary import summarise
from safetyqc.results.statistics import difference_interval
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
