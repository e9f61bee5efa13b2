from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import safetyqc as sq
from safetyqc.errors import UserError
from safetyqc.records import Conversation, Message
from safetyqc.reports.summary import summarise
from safetyqc.reports.terminal import SECTIONS, render_report
from safetyqc.reports.wording import percent
from safetyqc.results.report import Summary
from safetyqc.store import Store
from tests.support.runs import RUBRIC, judgment, planned

Maker = Callable[..., Store]
HOSTILE = "\x1b[31mred\x1b]8;;http://evil\x07link\x9b2J [bold]markup[/bold] \u202eesrever\u200b [/nothing] :smile:"


def draw(summary: Summary, width: int = 80, *, terminal: bool = False, **options: object) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        highlight=False,
        color_system="truecolor" if terminal else "auto",
    )
    console.print(render_report(summary, **({} if options.get("sections") else {"full": True}) | options))
    return out.getvalue()


@pytest.fixture(scope="module")
def full(full_run: Store) -> Summary:
    return summarise(full_run)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal(full: Summary, width: int) -> None:
    assert max(len(line) for line in draw(full, width).splitlines()) <= width


def test_a_pipe_gets_no_escape_codes(full: Summary) -> None:
    assert "\x1b" not in draw(full)
    assert "\x1b[" in draw(full, terminal=True)


def test_no_color_is_respected(full: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=True, highlight=False).print(render_report(full))
    codes = set(re.findall(r"\x1b\[([\d;]*)m", out.getvalue()))
    assert not any(code.startswith(("3", "4", "9")) and code not in ("3", "4") for code in codes)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_can_be_shown_alone(full: Summary, name: str) -> None:
    alone = draw(full, sections=[name])
    assert alone.strip()
    assert len(alone) < len(draw(full))


def test_an_unknown_section_is_told_with_the_nearest_name(full: Summary) -> None:
    with pytest.raises(UserError, match="did you mean 'funnel'"):
        render_report(full, sections=["funel"])


def test_the_report_says_the_numbers_of_the_summary(full: Summary) -> None:
    text = draw(full)
    for said in (
        "26 of 36 conversations kept",
        "72.2%",
        "1 of your 2 bars missed",
        "29",
        "83.3–99.4",
        "refused_by_model",
    ):
        assert said in text
    assert "safetyqc generate -m openai/author" in text


def test_harmful_text_is_masked_until_asked_for(full: Summary) -> None:
    quote = next(r.example.text for r in full.reasons if r.example.text)
    assert quote not in draw(full, 140)
    assert "▒" in draw(full, 140)
    assert quote in draw(full, 140, unmask=True)


def test_hostile_strings_drive_neither_terminal_nor_markup(make_run: Maker) -> None:
    messages = (Message(role="user", content=HOSTILE), Message(role="assistant", content=HOSTILE))
    talks = [
        Conversation(id=f"c{i}", messages=messages, category=HOSTILE, author=HOSTILE, origin="generated")
        for i in range(3)
    ]
    verdicts = [judgment(c, judge=HOSTILE, empathy="fail") for c in talks]
    hostile_score = verdicts[0].scores[3].model_copy(update={"reason": HOSTILE, "quote": HOSTILE})
    verdicts[0] = verdicts[0].model_copy(update={"scores": (*verdicts[0].scores[:3], hostile_score)})
    summary = summarise(make_run(talks, verdicts, rubric=RUBRIC, plan={"count": 4, "per_category": {HOSTILE: 4}}))
    text = draw(summary, 140, unmask=True)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", text)
    assert "[bold]markup[/bold]" in text
    assert ":smile:" in text


def test_a_terminal_without_unicode_gets_ascii_bars(full: Summary) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    Console(file=out, width=80, highlight=False).print(render_report(full, sections=["funnel"]))
    out.flush()
    text = out.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "####" in text


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_run_or_one_conversation_gives_a_helpful_report(make_run: Maker, count: int) -> None:
    text = draw(summarise(make_run([planned(i, "privacy_and_personal_data") for i in range(count)])))
    assert "What to do next" in text
    assert ("safetyqc run" if count == 0 else "safetyqc judge") in text


def test_a_command_that_does_not_fit_can_still_be_pasted(full: Summary) -> None:
    text = draw(full, sections=["actions"])
    joined = re.sub(r" \\ *\n +", " ", text)
    assert next(a.command for a in full.actions if "--top-up" in a.command) in joined


def test_what_is_not_everything_is_never_shown_as_100_percent() -> None:
    assert percent(0.99999) == "99.9%"
    assert percent(0.00001) == "0.1%"
    assert (percent(1), percent(0), percent(None)) == ("100.0%", "0.0%", "–")


def test_probes_of_a_run_have_a_line_on_the_screen_and_a_section(make_run: Maker, tmp_path: Path) -> None:
    store = make_run([Conversation(id="c", messages=(Message(role="user", content="q"),))])
    store.close()
    rows = [{"prompt": f"thing {n}", "intent": "benign", "answer": "Sure, like this."} for n in range(9)]
    (tmp_path / "[bold]after.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):  # the same probe again is kept once
        sq.probe(f"answers:{tmp_path / '[bold]after.jsonl'}", store.folder, quiet=True)
    with Store.read(store.folder) as again:
        summary = summarise(again)
    brief, section = draw(summary, full=False), draw(summary, sections=["probes"])
    assert "1 probe kept: --section probes" in brief
    assert re.search(r"\[bold\]after\.jsonl  twins right –  one model", brief)
    assert re.search(r"harmless look-alikes: helped +100\.0% +70\.1–100\.0 +9", section)
    assert "one model, nothing to compare: helped 1.00" in section
    assert str(tmp_path) not in section
    for width in (80, 100):
        assert max(map(len, draw(summary, width, sections=["probes"]).splitlines())) <= width


def test_a_report_without_probes_has_no_word_of_them(make_run: Maker) -> None:
    summary = summarise(make_run([Conversation(id="c", messages=(Message(role="user", content="q"),))]))
    assert "What models did" not in draw(summary, full=False)
    assert "nothing to show here yet" in draw(summary, sections=["probes"])
    assert "nothing to show" not in draw(summary, sections=["probes"], say_empty=False)
