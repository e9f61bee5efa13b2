"""Progress says what a person watching a run wants to know, where it can be seen."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from safetyqc.llm.door import Counters
from safetyqc.pipeline import progress as progress_module
from safetyqc.pipeline.progress import Line, Progress, duration, facts, short_number, showing, shown, speed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_stage_that_ends_before_anything_is_done_is_told_once() -> None:
    out = io.StringIO()
    with pytest.raises(OSError, match="no key"), Progress(stream=out).stage("judge", 60):
        raise OSError("no key")
    assert out.getvalue() == "judge: 0/60 (0%)\n"


def test_a_plain_line_at_once_and_at_the_end() -> None:
    out = io.StringIO()
    with Progress(stream=out).stage("judge", 600, done=412) as line:
        assert out.getvalue() == "judge: 412/600 (69%)\n"
        line.advance(failed="bad_json")
        line.advance(count=187)
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("judge: 600/600 (100%)")
    assert "bad_json 1" in last


def test_a_plain_line_again_and_again_while_the_stage_runs() -> None:
    out = io.StringIO()
    with Progress(stream=out, every_s=0.001).stage("judge", 5) as line:
        while out.getvalue().count("\n") < 4:
            pass
        line.advance()
    assert out.getvalue().count("\n") >= 5


def test_quiet_and_empty_stages_say_nothing() -> None:
    out = io.StringIO()
    with Progress(stream=out, quiet=True).stage("judge", 5) as line:
        line.advance()
    with Progress(stream=out).stage("judge", 0) as line:
        line.advance()
    assert out.getvalue() == ""


def test_a_terminal_gets_a_live_line() -> None:
    out = Terminal()
    with Progress(stream=out).stage("judge", 10) as line:
        line.advance(count=10)
    assert "10/10" in out.getvalue()


def test_a_stage_goes_on_when_its_terminal_went_away() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    with Progress(stream=Gone(), every_s=0.01).stage("judge", 2) as line:
        line.advance(count=2)
    assert line.done == 2


def test_what_the_door_counts_is_shown_and_zeros_are_not() -> None:
    line = Line("judge", 10)
    line.advance(failed="truncated")
    counters = Counters(in_flight=3, retries=2, prompt_tokens=1500, completion_tokens=500, cost_usd=0.125, unpriced=1)
    assert facts(line, counters) == ["3 in flight", "2 retries", "truncated 1", "2.0k tokens", "$0.1250+"]
    assert facts(Line("judge", 10), Counters()) == []
    assert facts(Line("judge", 10), Counters(trouble=lambda: "nobody answers")) == ["nobody answers"]


def test_a_watched_client_is_counted_and_one_that_counts_nothing_is_not() -> None:
    out = io.StringIO()
    progress = Progress(stream=out)
    progress.watch(object())
    progress.watch(SimpleNamespace(counters=Counters(retries=7)))
    with progress.stage("judge", 1):
        pass
    assert "7 retries" in out.getvalue()


def test_the_rate_leaves_out_what_was_done_before() -> None:
    line = Line("judge", 100, done=60, done_before=50)
    line.started -= 10
    assert line.rate() == pytest.approx(1.0, rel=0.01)
    assert line.left_s() == pytest.approx(40, rel=0.01)
    assert speed(line) == ["1.0/s", "40 s left"]
    assert speed(Line("judge", 100)) == []


def test_the_rate_forgets_a_slow_start_and_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    line, rates = Line("judge", 10_000, started=now), []
    for done_in_10_s in (0, 0, 0, 500, 500, 500, 0, 0, 0, 0, 500, 500):
        now += 10
        line.advance(count=done_in_10_s)
        rates.append(line.rate())
    assert rates[:6] == [0, 0, 0, 50, 50, 50]
    assert rates[9] == 0
    assert rates[10:] == pytest.approx([500 / 30, 1000 / 30])
    line.advance(count=10_000 - line.done)
    assert line.rate() == pytest.approx(10_000 / 120)  # of all of it, once it is over


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (12_345, "12.3k"), (999_960, "1.0M"), (4_100_000, "4.1M")])
def test_short_numbers(count: int, text: str) -> None:
    assert short_number(count) == text


def test_a_phase_that_is_over_at_once_says_nothing() -> None:
    out = io.StringIO()
    with Progress(stream=out).phase("read a.jsonl") as line:
        line.advance(count=3)
    assert out.getvalue() == ""


@pytest.mark.parametrize(("total", "told"), [(50, "dedup: 50/50, 0 s"), (0, "dedup: 50, 0 s")])
def test_a_phase_that_takes_longer_is_shown_with_its_rate(
    monkeypatch: pytest.MonkeyPatch, total: int, told: str
) -> None:
    monkeypatch.setattr(progress_module, "_PATIENCE_S", 0.001)
    out = io.StringIO()
    with Progress(stream=out, every_s=0.001).phase("dedup", total) as line:
        while out.getvalue().count("\n") < 2:
            pass
        assert out.getvalue().startswith("dedup: 0 s\n")
        line.advance(count=50)
    assert out.getvalue().splitlines()[-1].startswith(told)
    assert "/s" in out.getvalue().splitlines()[-1]


def test_a_phase_on_a_terminal_is_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_PATIENCE_S", 0.001)
    out = Terminal()
    with Progress(stream=out).phase("dedup") as line:
        while "dedup" not in out.getvalue():
            pass
        line.advance(count=50)
    assert "50, " in out.getvalue()


def test_phases_are_shown_where_the_command_that_runs_shows_them() -> None:
    command = Progress(stream=io.StringIO())
    with showing(command):
        assert shown() is command
    assert shown().quiet


def test_rich_is_imported_on_a_terminal_only() -> None:
    code = (
        "import io, sys; from safetyqc.pipeline.progress import Progress\n"
        "with Progress(stream=io.StringIO()).stage('x', 1) as line: line.advance()\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
