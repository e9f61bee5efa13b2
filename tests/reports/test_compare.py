from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from safetyqc.judge.compare import compare
from safetyqc.records import Judgment, Label, Outcome, Score
from safetyqc.reports.compare import render_comparison, render_disagreements
from safetyqc.reports.compare_page import comparison_page
from safetyqc.results.compare import Comparison, Disagreement, Side
from safetyqc.testing import conversation

HOSTILE = "secret recipe [bold red]markup[/] \x1b[31mred\x1b[0m \u202egnirts <script>document.title='pwned'</script>"


def draw(renderable: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(renderable)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def verdicts(judge: str, cells: str, **fields: object) -> list[Judgment]:
    names: dict[str, Outcome] = {"p": "pass", "f": "fail", "n": "na", "u": "unscored"}
    return [
        Judgment.model_validate(
            {
                "conversation_id": f"c{n}",
                "judge": judge,
                "rubric": "safety",
                "rubric_hash": "abcdef0123456789",
                "scores": (
                    Score(
                        criterion="strict_refusal",
                        outcome=names[o],
                        probability=0.9 if o == "p" else None,
                        unscored_reason="truncated" if o == "u" else None,
                    ),
                ),
                "passed": {"p": True, "f": False}.get(o),
                "cost_usd": 0.0015,
                "latency_s": 0.25,
                **fields,
            }
        )
        for n, o in enumerate(cells)
    ]


def labels(cells: str, annotator: str = "human") -> list[Label]:
    outcome = {"p": "pass", "f": "fail"}
    return [
        Label.model_validate(
            {
                "conversation_id": f"c{n}",
                "criterion": "strict_refusal",
                "outcome": outcome[o],
                "annotator": annotator,
            }
        )
        for n, o in enumerate(cells)
    ]


def comparison() -> Comparison:
    marks = [label for who in ("anna", "ben", "human") for label in labels("ppff" * 15, who)]
    return compare([*verdicts("local", "pppf" * 30), *verdicts("openai/gpt-x", "ppfu" * 30)], marks)


def disagreement(text: str = HOSTILE) -> Disagreement:
    return Disagreement(
        conversation=conversation(text, text, category="drugs_or_weapons", intent="harmful"),
        criterion="strict_refusal",
        sides=(
            Side(rater="local", outcome="pass", probability=0.97, reason=text, quote=text, turn=1),
            Side(rater=text, outcome="fail", level="gave_in"),
            Side(rater="human", outcome="fail", is_label=True),
        ),
    )


def page_of(found: Disagreement) -> str:
    return comparison_page(compare([*verdicts("<b>mine</b>", "pf"), *verdicts("y", "ff")]), [found])


def test_every_number_of_a_comparison_stands_in_the_terminal() -> None:
    text = draw(render_comparison(comparison()))
    for shown in (
        "2 judges on 120 conversations, rubric safety abcdef012345",
        "labels on 60 conversations by anna, ben, human",
        "openai/gpt-x: unscored: truncated 30",
        "Krippendorff's alpha over all judges",
        "corrected pass rate",
        "openai/gpt-x: 15 labelled cells left unscored",
        "$1.50",
        "recommended",
    ):
        assert shown in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    text = draw(render_comparison(comparison()), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("openrouter/meta-llama/llama-3.3-70b", "llama-3.3-70b"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o-mini-2024-07-18", "gpt-4o-…2024-07-18"),
        ("local:/models/qwen.gguf/", "local:/mo…qwen.gguf/"),
    ],
)
def test_long_names_keep_the_end_by_which_models_differ(name: str, shown: str) -> None:
    text = draw(render_comparison(compare([*verdicts(name, "pf"), *verdicts("y", "ff")])))
    assert any(line.split()[0] == shown for line in text.splitlines() if line.strip())


def test_piped_output_holds_no_escape_codes() -> None:
    text = draw(render_comparison(comparison())) + draw(render_disagreements([disagreement()], unmask=True))
    assert "\x1b" not in text


def test_hostile_names_are_plain_text() -> None:
    text = draw(render_comparison(compare([*verdicts("[bold]x[/]\x1b[2J", "pf"), *verdicts("y\u202ez", "ff")])))
    assert "[bold]x[/][2J" in text
    assert "yz" in text
    assert "\u202e" not in text


def test_without_labels_nothing_is_said_about_truth() -> None:
    text = draw(render_comparison(compare([*verdicts("x", "ppf"), *verdicts("y", "pff")])))
    assert "against" not in text
    assert "no labels: agreement shows that judges agree" in " ".join(text.split())


def test_disagreements_are_masked_until_asked_for() -> None:
    found = [disagreement('first second third poisonous words "quoted by the judge as evidence"')]
    masked, shown = draw(render_disagreements(found), 200), draw(render_disagreements(found, unmask=True), 200)
    messages = [line for line in masked.splitlines() if line.strip().startswith(("message", "quotes"))]
    assert len(messages) == 3
    assert not any("poisonous" in line for line in messages)
    assert "as evidence" not in "".join(line for line in masked.splitlines() if "judge" not in line)
    assert "--unmask" in masked
    assert shown.count("poisonous words") >= 3
    assert "P(pass) 0.97" in masked
    assert "fail (gave_in)" in masked
    assert "human (label): fail" in masked


def test_shown_hostile_text_cannot_drive_the_terminal() -> None:
    text = draw(render_disagreements([disagreement()], unmask=True), 300)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold red]markup[/]" in text


def test_no_disagreement_says_so() -> None:
    assert "no disagreement" in draw(render_disagreements([]))


def test_the_page_escapes_every_text_and_holds_no_script() -> None:
    page = page_of(disagreement())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert not re.search(r"src\s*=|href=\"[^#]|https?://|\son\w+=", page)


def test_the_page_shows_the_main_figures_first() -> None:
    page = comparison_page(comparison(), [disagreement()])
    assert page.index("recommended:") < page.index("<h2") < page.index("P(pass) 0.97")
    assert '<td class="n">75.0%</td>' in page
    assert "message 2, assistant" in page


def test_a_rubric_that_is_not_known_is_named_once() -> None:
    unknown = comparison().model_copy(update={"rubric": "recorded", "rubric_hash": "recorded"})
    page = " ".join(comparison_page(unknown, []).split())
    assert ("<dd>recorded</dd>" in page, page.count("recorded")) == (True, 1)


def test_the_page_allows_its_own_style_only() -> None:
    page = page_of(disagreement())
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    own = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].replace("&#39;", "'").startswith(f"default-src 'none'; style-src 'sha256-{own}'")


def test_texts_and_quotes_are_blurred_in_the_page() -> None:
    page = page_of(disagreement("poisonous words"))
    plain = re.sub(r'<(span|blockquote|p) class="[^"]*hostile[^"]*".*?</\1>', "", page, flags=re.DOTALL)
    assert "poisonous" in page
    named = re.sub(r"<(strong|summary)>.*?</\1>", "", plain, flags=re.DOTALL)  # a judge's name is no harmful text
    assert "poisonous" not in named


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_runs_nothing_and_applies_the_style(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(disagreement(HOSTILE + "<img src=x onerror=alert(1)>")), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "<title>safetyqc: judges compared</title>" in done.stdout
    assert "<img" not in done.stdout
    assert "Refused to apply" not in done.stderr


def test_the_comparison_begins_with_what_to_choose_and_cuts_no_name_in_two_ways() -> None:
    long = ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-4o-mini-2024-07-18")
    out = io.StringIO()
    compared = compare([*verdicts(long[0], "pfpf"), *verdicts(long[1], "pppf")])
    Console(file=out, width=80, highlight=False).print(render_comparison(compared))
    lines = out.getvalue().strip().splitlines()
    assert lines[0].strip() == "recommended"
    shown = {word for line in lines for word in line.split() if "…" in word and "/" not in word}
    assert shown == {"Llama-3.3…-Turbo", "gpt-4o-…2024-07-18"}
    assert sum(line.endswith(long[0]) for line in lines) == 1, "what is cut is named once in full"
