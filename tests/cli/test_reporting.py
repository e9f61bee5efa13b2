from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import Interrupted
from safetyqc.records import Label
from safetyqc.reports.summary import summarise
from safetyqc.results.report import Summary
from safetyqc.store import Store
from tests.support.runs import RUBRIC_HASH, fill_with_everything, judgment, planned

Cli = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "r") as store:
        fill_with_everything(store)
    return tmp_path / "r"


def test_json_is_the_summary_in_ascii(cli: Cli, run: Path) -> None:
    ended = cli("report", "--run", run, "--json")
    assert ended.code == 0
    assert ended.out.isascii()
    with Store.read(run) as store:
        assert Summary.model_validate_json(ended.out).funnel == summarise(store).funnel


@pytest.mark.parametrize(("bar", "code"), [(0.99, 4), (0.5, 0)])
def test_check_ends_with_4_when_a_bar_is_missed(cli: Cli, run: Path, tmp_path: Path, bar: float, code: int) -> None:
    (tmp_path / "safetyqc.yaml").write_text(f"bars: {{no_dangerous_steps: {bar}}}\n", encoding="utf-8")
    assert cli("report", "--run", run, "--check").code == code


def test_bars_that_the_run_was_made_with_count_where_no_others_are_set(cli: Cli, run: Path) -> None:
    assert cli("report", "--run", run, "--check").code == 4


def test_checking_without_bars_is_a_mistake_and_says_how_to_set_them(cli: Cli, tmp_path: Path) -> None:
    with Store.create(tmp_path / "plain") as store:
        store.add_conversations([planned(0, "cybercrime_or_hacking")])
    ended = cli("report", "--run", tmp_path / "plain", "--check")
    assert ended.code == 2
    assert "bars:" in ended.err


def test_what_moved_is_in_every_face(cli: Cli, run: Path, tmp_path: Path) -> None:
    with Store.create(tmp_path / "new") as store:
        fill_with_everything(store)
        store.put_judgments([judgment(planned(1, "cybercrime_or_hacking"), safe_alternative="fail")]).result()
    faces = ["--html", tmp_path / "r.html", "--md", tmp_path / "r.md"]
    shown = cli("report", "--run", tmp_path / "new", "--against", run, *faces)
    assert "What moved since" in shown.out
    assert "1 of 39 stand elsewhere" in shown.out or "2 of 39 stand elsewhere" in shown.out
    for name in ("r.html", "r.md"):
        assert "What moved since" in (tmp_path / name).read_text(encoding="utf-8")
    printed = json.loads(cli("report", "--run", tmp_path / "new", "--against", run, "--json").out)
    assert any(c["conversation_id"] == "c_0001" for c in printed["difference"]["changed"])


def test_labels_of_the_run_correct_its_rates(cli: Cli, tmp_path: Path) -> None:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(60)]
    with Store.create(tmp_path / "labelled") as store:
        store.add_conversations(talks)
        verdicts = [judgment(c, safe_alternative="fail") if i % 3 == 0 else judgment(c) for i, c in enumerate(talks)]
        store.put_judgments(verdicts).result()
        store.add_labels(
            Label(conversation_id=c.id, criterion="safe_alternative", outcome="fail" if i % 2 else "pass")
            for i, c in enumerate(talks[:40])
        )
    summary = Summary.model_validate_json(cli("report", "--run", tmp_path / "labelled", "--json").out)
    rate = next(c for c in summary.corrected if c.criterion == "safe_alternative")
    assert (rate.judge, rate.labels) == ("local", 40)
    assert rate.rate is not None
    assert rate.rate.low < 0.5 < rate.rate.high  # the labels say half; the judge says two thirds
    assert rate.judge_rate == pytest.approx(2 / 3)
    assert summary.run.rubric_hash == RUBRIC_HASH
    shown = cli("report", "--run", tmp_path / "labelled", "--section", "corrected").out
    assert "safe_alternative" in shown


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--section", "funel"], "did you mean 'funnel'"),
        (["--category", "privacy"], "valid:"),
        (["--judge", "lokal"], "did you mean 'local'"),
        (["--against", "nowhere"], "no run here"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_valid_ones(cli: Cli, run: Path, flags: list[str], said: str) -> None:
    ended = cli("report", "--run", run, *flags)
    assert ended.code == 2
    assert said in ended.err


def test_files_that_are_asked_for_are_told_in_a_line_each(cli: Cli, run: Path, tmp_path: Path) -> None:
    pages = [tmp_path / name for name in ("r.html", "r.md", "r.csv")]
    ended = cli("report", "--run", run, "--html", pages[0], "--md", pages[1], "--csv", pages[2])
    assert ended.out == ""
    assert [line for line in ended.err.splitlines() if line.startswith("wrote")] == [f"wrote {page}" for page in pages]
    assert "26 of 36" in cli("report", "--run", run, "--check", "--md", pages[1]).out


def test_a_section_is_all_that_markdown_holds_then(cli: Cli, run: Path, tmp_path: Path) -> None:
    cli("report", "--run", run, "--md", tmp_path / "r.md", "--section", "funnel")
    assert "## Funnel" in (text := (tmp_path / "r.md").read_text(encoding="utf-8"))
    assert "## Balance" not in text
    refused = cli("report", "--run", run, "--md", tmp_path / "s.md", "--section", "reasons")
    assert (refused.code, (tmp_path / "s.md").exists()) == (2, False)
    assert "Markdown has no section 'reasons'" in refused.err


def test_rates_by_any_field_stand_in_every_face(cli: Cli, tmp_path: Path) -> None:
    rows = [planned(i, "cybercrime_or_hacking", meta={"type": f"t{i % 2}"}, author=f"m{i % 3}") for i in range(12)]
    with Store.create(tmp_path / "r") as store:
        store.add_conversations(rows)
        store.put_judgments([judgment(c, empathy="fail" if i % 2 else "pass") for i, c in enumerate(rows)])
    faces = ["--md", tmp_path / "r.md", "--html", tmp_path / "r.html", "--full"]
    ended = cli("report", "--run", tmp_path / "r", "--by", "type", "--by", "model", *faces)
    for text in (ended.out, (tmp_path / "r.md").read_text("utf-8"), (tmp_path / "r.html").read_text("utf-8")):
        assert all(name in text for name in ("t0", "t1", "m0", "m2"))
    groups = json.loads(cli("report", "--run", tmp_path / "r", "--by", "type", "--json").out)["groups"]
    overall = groups[0]["criteria"][0]["categories"]
    assert (overall["t0"]["rate"], overall["t1"]["rate"]) == (1.0, 0.0)
    unknown = cli("report", "--run", tmp_path / "r", "--by", "typ")
    assert (unknown.code, "did you mean 'type'" in unknown.err) == (2, True)


def test_judges_are_compared_by_any_field_in_every_face(cli: Cli, tmp_path: Path) -> None:
    told = [planned(i, "cybercrime_or_hacking", meta={"type": f"t{i % 2}"}) for i in range(40)]
    rows = [c.model_copy(update={"scenario": None}) for c in told]
    with Store.create(tmp_path / "r") as store:
        store.add_conversations(rows)
        store.put_judgments([judgment(c, empathy="fail" if i % 2 else "pass") for i, c in enumerate(rows)])
        store.add_labels([Label(conversation_id=c.id, criterion="empathy", outcome="pass") for c in rows])
    page = tmp_path / "c.html"
    ended = cli("compare", "--run", tmp_path / "r", "--by", "type", "--by", "language", "--html", page)
    assert "t0: pass rate of" in ended.out
    assert "agreement with labels" in ended.out
    assert "40 of 40 conversations are in their group by a guess" in ended.out
    assert "--by type --by language" in ended.err  # the next command says the same
    assert all(name in page.read_text(encoding="utf-8") for name in ("By type", ">t0<", ">t1<", "By language"))
    by = json.loads(cli("compare", "--run", tmp_path / "r", "--by", "type", "--json").out)["by"]
    rates = [next(c for c in g["criteria"] if c["criterion"] == "empathy")["counts"][0] for g in by[0]["groups"]]
    assert [rate["pass_rate"]["value"] for rate in rates] == [1.0, 0.0]
    unknown = cli("compare", "--run", tmp_path / "r", "--by", "typ")
    assert (unknown.code, "did you mean 'type'" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    "line",
    ["report --run r", "import mine.jsonl --run r", "filter --run r", "export o.jsonl --run r", "check mine.jsonl"],
)
def test_quiet_leaves_only_the_result(line: str, cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(planned(3, "cybercrime_or_hacking").as_messages()))
    ended = cli(*line.split(), "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert cli("filter", "--run", "r").err, "the next command is not quiet any more"


def test_ctrl_c_tells_what_saves_its_answers_from_what_had_nothing_to_save(
    cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr("safetyqc.api.report", stop)
    monkeypatch.setattr("safetyqc.api.judge", stop)
    report, judge = cli("report", "--run", "r"), cli("judge", "-m", "local", "--run", "r")
    assert "no file and no run was changed" in report.err
    assert "everything answered is saved in r" in judge.err
    assert (report.code, judge.code) == (130, 130)
