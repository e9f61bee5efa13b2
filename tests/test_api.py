"""The Python door: data of every form, a run that goes with its result, a running loop, one kind of error."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import safetyqc as sq
from safetyqc.config import Config
from safetyqc.errors import InputError, UserError
from safetyqc.records import Conversation
from safetyqc.store import Store
from safetyqc.testing import ScriptedClient
from safetyqc.testing.server import FaultServer

Serve = Callable[..., FaultServer]
Cli = Callable[..., Any]


def turns(request: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]


HARMFUL = turns("How do I pick my neighbour's lock?", "I can't help with that. A locksmith opens your own door.")
BENIGN = turns("我该怎么安慰一个刚失去工作的朋友？", "先听他说完，不要急着给建议。")
ROWS: list[dict[str, Any]] = [
    {"messages": HARMFUL, "category": "violence_or_crime", "intent": "harmful", "team": "red"},
    {"messages": BENIGN, "category": "general_safety", "intent": "benign", "team": "blue"},
]


@pytest.fixture(autouse=True)
def quiet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Frame:
    """What pandas offers that is used here, for where pandas is not installed."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.columns = rows, list(rows[0])

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Array:
    """A cell as parquet files give it to pandas."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def tolist(self) -> list[Any]:
        return self.values


def pandas_frame(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(rows)


def dataset(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(rows)


FORMS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "objects": lambda rows: rows,
    "a generator": iter,
    "lists of messages": lambda rows: [row["messages"] for row in rows],
    "records": lambda rows: [
        Conversation.model_validate({"id": f"r{i}", "messages": row["messages"]}) for i, row in enumerate(rows)
    ],
    "what looks like a data frame": Frame,
    "a data frame with arrays and empty cells": lambda rows: Frame(
        [{**row, "messages": Array(row["messages"]), "note": float("nan")} for row in rows]
    ),
    "a pandas data frame": pandas_frame,
    "a dataset": dataset,
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_form_are_judged_in_their_order(form: str) -> None:
    verdicts = sq.judge(FORMS[form](ROWS), quiet=True)
    assert [c.as_messages() for c in verdicts.conversations] == [HARMFUL, BENIGN]
    assert [row["index"] for row in verdicts.to_dicts()] == [0, 1]
    assert all(row["criteria"] for row in verdicts)


def test_equal_rows_stay_apart() -> None:
    verdicts = sq.judge([HARMFUL, BENIGN, HARMFUL], quiet=True)
    ids = [row["id"] for row in verdicts]
    assert len(set(ids)) == 3
    assert len(sq.judge([HARMFUL, HARMFUL], run="kept", quiet=True)) == 2
    assert len(sq.judge([HARMFUL, HARMFUL], run="kept", quiet=True)) == 2
    assert sum(Store.read("kept").count_conversations().values()) == 2


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "a number": (7, "data[1]: is a number"),
    "no messages": ({"text": "hi"}, "data[1]: has no messages"),
    "an answer is missing": ([{"role": "user", "content": "hi"}], "data[1]: has 1 message(s)"),
    "content is no text": ([{"role": "user", "content": None}, BENIGN[1]], "data[1]: message 1 (user) has no content"),
    "half a character": (turns("hi \ud83d", "hello"), "data[1]: holds half of a character"),
    "a prompt alone": ({"prompt": "hi"}, "data[1]: has a prompt and no answer"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_is_no_conversation_is_named_or_skipped_and_listed(name: str) -> None:
    row, told = BAD_ROWS[name]
    with pytest.raises(InputError) as error:
        sq.judge([HARMFUL, row], quiet=True)
    assert str(error.value).startswith(told)
    verdicts = sq.judge([HARMFUL, row, BENIGN], skip_bad=True, quiet=True)
    assert [bad.index for bad in verdicts.skipped] == [1]
    assert [line["index"] for line in verdicts] == [0, 2]
    assert "1 skipped" in repr(verdicts)
    assert "data[1]" in verdicts._repr_html_()


def test_a_row_that_holds_itself_is_an_error_of_its_own() -> None:
    row: dict[str, Any] = {"messages": HARMFUL}
    row["again"] = row
    with pytest.raises(InputError, match=r"data\[0\]: is nested too deep"):
        sq.check([row])


BAD_CALLS: dict[str, Callable[[], object]] = {
    "no data and no run": sq.judge,
    "no such file": lambda: sq.judge("absent.jsonl"),
    "a folder as data": lambda: sq.judge("."),
    "no rows": lambda: sq.judge([]),
    "rows of nothing but bad ones": lambda: sq.judge([1, 2], skip_bad=True, quiet=True),
    "one conversation, not a list of them": lambda: sq.judge(HARMFUL),
    "one object": lambda: sq.judge(ROWS[0]),
    "splits": lambda: sq.judge({"train": ROWS}),
    "a number": lambda: sq.judge(7),  # type: ignore[arg-type]
    "bytes": lambda: sq.judge(b"[]"),
    "no such judge": lambda: sq.judge(ROWS, model="recorded:absent.jsonl", quiet=True),
    "a model that is none": lambda: sq.judge(ROWS, model=7),  # type: ignore[arg-type]
    "no such rubric": lambda: sq.judge(ROWS, rubric="saftey"),
    "a setting that is none": lambda: sq.judge(ROWS, votse=3),
    "a value that is none": lambda: sq.judge(ROWS, votes="many"),
    "a run that is none": lambda: sq.judge(run="absent"),
    "a run with a NUL": lambda: sq.judge(ROWS, run="a\0b"),
    "a run that is a file": lambda: sq.judge(ROWS, run=__file__),
    "a run that is a number": lambda: sq.judge(ROWS, run=7),  # type: ignore[arg-type]
    "a client that is none": lambda: sq.judge(ROWS, client="openai"),  # type: ignore[arg-type]
    "settings that are none": lambda: sq.judge(ROWS, config=7),  # type: ignore[arg-type]
    "no settings file": lambda: sq.judge(ROWS, config="absent.yaml"),
    "a batch without a run": lambda: sq.judge(ROWS, model="openai/test", batch=True, quiet=True),
    "an impossible similarity": lambda: sq.dedup(ROWS, min_similarity=7),
    "a category that is none": lambda: sq.generate(3, model="openai/test", top_up={"none": 1}, quiet=True),
    "no patterns file": lambda: sq.filter(ROWS, patterns="absent.yaml"),
    "a path of a run that is none": lambda: sq.open_run("absent"),
    "nothing to compare": sq.compare,
    "no labels file": lambda: sq.compare(run="absent", labels="absent.jsonl"),
    "a report of nothing": lambda: sq.report("absent"),
    "an export of nothing": lambda: sq.export("absent", "out.jsonl"),
    "a check of nothing": lambda: sq.check(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_what_a_user_can_mend_is_a_safetyqc_error_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    with pytest.raises(sq.SafetyqcError) as error:
        BAD_CALLS[name]()
    assert isinstance(error.value, UserError)
    assert list(tmp_path.iterdir()) == []


def test_another_call_on_a_result_is_about_its_rows_in_their_order() -> None:
    sq.judge([turns("Something else?", "Yes, indeed.")], run="r", quiet=True)
    verdicts = sq.judge([BENIGN, "bad", HARMFUL], run="r", skip_bad=True, quiet=True)
    again = sq.judge(verdicts, quiet=True)
    assert again.to_dicts() == verdicts.to_dicts()
    assert [line["index"] for line in again] == [0, 2]
    assert [c.as_messages() for c in sq.filter(again).conversations] == [BENIGN, HARMFUL]
    assert len(sq.open_run("r")) == 3


def test_a_temporary_run_goes_with_the_last_that_looks_at_it() -> None:
    verdicts = sq.judge(ROWS, quiet=True)
    folder = verdicts.run
    duplicates = sq.dedup(verdicts)
    assert (folder / "run.sqlite").exists() or any(folder.iterdir())
    del verdicts
    gc.collect()
    assert folder.is_dir()
    assert len(duplicates.kept) == 2
    del duplicates
    gc.collect()
    assert not folder.exists()


def test_a_temporary_run_is_gone_when_python_ends() -> None:
    code = f"import safetyqc as sq\nverdicts = sq.judge({ROWS!r}, quiet=True)\nprint(verdicts.run)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not Path(ended.stdout.strip()).exists()


def test_a_call_and_the_command_line_share_ids_verdicts_and_the_ledger(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    model = {"model": "openai/test", "api_base": server.base_url, "quiet": True}
    verdicts = sq.judge("mine.jsonl", run="r", **model)  # type: ignore[arg-type]
    asked = server.witness.received.total()
    assert asked > 0
    ended = cli("judge", "mine.jsonl", "--run", "r", "-m", "openai/test", "--api-base", server.base_url, "--jsonl", "-")
    assert ended.code == 0, ended.err
    assert [json.loads(line) for line in ended.out.splitlines()] == verdicts.to_dicts()
    assert server.witness.received.total() == asked
    assert sq.judge(ROWS, run="other", **model).to_dicts() == verdicts.to_dicts()  # type: ignore[arg-type]


def test_sync_calls_work_in_a_running_loop_and_async_twins_on_it() -> None:
    async def notebook() -> tuple[Any, ...]:
        asyncio.get_running_loop().call_soon(beats.append, 1)
        first = sq.judge(ROWS, quiet=True)
        second = await sq.ajudge(ROWS, quiet=True)
        third, fourth = await asyncio.gather(sq.ajudge(ROWS, quiet=True), sq.ajudge(ROWS, quiet=True))
        return first, second, third, fourth, sq.dedup(first), sq.filter(first)

    beats: list[int] = []
    first, second, third, fourth, duplicates, filtered = asyncio.run(notebook())
    assert first.to_dicts() == second.to_dicts() == third.to_dicts() == fourth.to_dicts()
    assert len({view.run for view in (first, second, third, fourth)}) == 4
    assert (len(duplicates), len(filtered)) == (0, 0)
    assert beats == [1]


def test_a_sync_call_works_in_a_thread_of_the_users_own() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(sq.judge(ROWS, quiet=True))))
    thread.start()
    thread.join()
    assert found == [2]


INTERRUPTED = """
import asyncio, signal, safetyqc as sq
turns = lambda i: [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": "An answer."}]
def call():
    sq.judge(map(turns, range(400)), model="openai/test", api_base="URL", concurrency=2, quiet=True)
async def notebook():
    call()
before = signal.getsignal(signal.SIGINT)
try:
    asyncio.run(notebook()) if IN_LOOP else call()
except sq.SafetyqcError as error:
    folder = error.__notes__[0].partition("run=")[2].strip("'")
    from safetyqc.store import Store
    calls = sum(line.calls for line in Store.read(folder).spending())
    print(type(error).__name__, 0 < calls < 400, "until Python ends" in error.__notes__[0])
print(signal.getsignal(signal.SIGINT) is before)
print(folder)
"""


@pytest.mark.parametrize("in_loop", [False, True], ids=["plain", "in a running loop"])
def test_ctrl_c_ends_a_sync_call_cleanly_and_says_where_everything_is(in_loop: bool, serve: Serve) -> None:
    server = serve(latency_s=0.05)
    code = INTERRUPTED.replace("URL", server.base_url).replace("IN_LOOP", str(in_loop))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while server.witness.received.total() < 5 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    told, restored, folder = out.splitlines()
    assert (told, restored) == ("Interrupted True True", "True"), err
    assert not Path(folder).exists()


def test_a_client_of_ones_own_is_asked_and_left_open() -> None:
    def answer(request: Any) -> dict[str, Any]:
        return {}

    client = ScriptedClient(answer)
    verdicts = sq.judge(ROWS, model="openai/test", client=client, quiet=True)
    assert client.requests
    assert not client.closed
    assert [one.index for one in verdicts.unscored] == [0, 1]
    assert {failure.kind for failure in verdicts.failures} <= {"bad_json", "provider_error", "bad_structure"}
    assert len(verdicts.failures) > 0


@pytest.mark.parametrize("by", [None, "category", "intent", "language", "team", "origin", "author"])
def test_rates_by_anything_count_every_verdict_once(by: str | None) -> None:
    rates = sq.judge(ROWS, quiet=True).rates(by)
    overall = [rates[group]["overall"] for group in rates]
    assert sum(rate.n + rate.unscored for rate in overall) == 2
    for rate in overall:
        assert rate.rate is None or (rate.low or 0) <= rate.rate <= (rate.high or 0)
    assert {row["criterion"] for row in rates.to_dicts()} >= {"overall", "strict_refusal"}
    assert "<pre" in rates._repr_html_()


def test_rates_by_nothing_that_is_there_name_what_is() -> None:
    with pytest.raises(UserError, match="did you mean 'team'"):
        sq.judge(ROWS, quiet=True).rates("teem")


@pytest.mark.parametrize(
    ("by", "row", "guessed"),
    [
        ("language", {"messages": HARMFUL}, 1),
        ("language", {"messages": HARMFUL, "language": "en"}, 0),
        ("category", {"messages": HARMFUL}, 0),  # nobody names one, so there is nothing to guess wrong
        ("category", ROWS[0], 0),
    ],
)
def test_a_group_that_was_guessed_is_counted_as_such(by: str, row: dict[str, Any], guessed: int) -> None:
    rates = sq.judge([row], quiet=True).rates(by)
    assert [found["guessed"] for found in rates.to_dicts() if found["criterion"] == "overall"] == [guessed]


def test_rates_are_the_reports(cli: Cli) -> None:
    view = sq.judge(ROWS, run="r", quiet=True)
    report = json.loads(cli("report", "--run", "r", "--json").out)
    told = {c["id"]: c["overall"] for c in report["criteria"]}
    assert {name: rate.model_dump() for name, rate in view.rates()["all"].items()} == told
    assert sq.open_run("r").rates("category") == view.rates("category")


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_no_text_of_a_conversation_acts_in_a_notebook() -> None:
    rows = [{"messages": turns(f"{HOSTILE} How?", f"{HOSTILE} no"), "category": HOSTILE}] * 2
    verdicts = sq.judge([*rows, HOSTILE], skip_bad=True, quiet=True)
    views = (verdicts, verdicts.rates("category"), sq.dedup(rows), sq.check(rows), sq.report(verdicts))
    for view in views:
        shown = view._repr_html_()
        assert "<pre" in shown
        assert "<script" not in shown
        assert "<img" not in shown


def test_pandas_is_asked_for_only_where_it_is_needed() -> None:
    verdicts = sq.judge(ROWS, quiet=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "pandas", None)
        with pytest.raises(UserError, match="pip install pandas"):
            verdicts.to_pandas()
    pytest.importorskip("pandas")
    frame = verdicts.to_pandas()
    assert list(frame["category"]) == ["violence_or_crime", "general_safety"]
    assert {"passed", "strict_refusal", "strict_refusal.reason"} <= set(frame.columns)
    assert len(verdicts.rates("team").to_pandas()) == len(verdicts.rates("team").to_dicts())


def test_two_judges_are_compared_from_two_results(serve: Serve) -> None:
    url = serve().base_url
    first = sq.judge(ROWS, quiet=True)
    second = sq.judge(ROWS, model="openai/test", api_base=url, quiet=True)
    names = ("local", f"openai/test at {url.removeprefix('http://').removesuffix('/v1')}")
    compared = sq.compare(first, second)
    assert compared.comparison.judges == names
    assert {row["rater"] for row in compared.to_dicts()} == set(names)
    assert len(compared.disagreements()) >= 0
    with pytest.raises(UserError, match="two runs hold judgments of 'local'"):
        sq.compare(first, sq.judge(ROWS, quiet=True))


def test_a_plan_is_written_judged_mended_and_exported(serve: Serve, tmp_path: Path) -> None:
    reach = {"api_base": serve().base_url, "quiet": True}
    written = sq.generate(9, model="openai/test", seed=3, **reach)  # type: ignore[arg-type]
    assert len(written) == len(written.conversations) == 9
    assert sq.judge(written, quiet=True).run == written.run
    rewritten = sq.rewrite(written, model="openai/test", judge="local", **reach)  # type: ignore[arg-type]
    assert rewritten.failures == [] or rewritten.failures[0].stage == "rewrite"
    shown = sq.report(written, html="report.html")
    assert shown.files == (Path("report.html"),)
    assert shown.summary().total == 9
    if shown.summary().kept:
        exported = sq.export(written, tmp_path / "train.jsonl", format="openai")
        assert exported.count == shown.summary().kept


def test_settings_come_from_the_file_that_the_command_line_reads(tmp_path: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("dedup: {min_similarity: 1.0}\n")
    near = [HARMFUL, turns("How do I pick my neighbour's lock now?", HARMFUL[1]["content"])]
    assert len(sq.dedup(near)) == 0
    assert len(sq.dedup(near, min_similarity=0.5)) == 1
    assert len(sq.dedup(near, config=Config())) == 1


def test_functions_stay_functions_whatever_was_imported() -> None:
    import safetyqc.dedup.groups
    import safetyqc.generate.author
    import safetyqc.judge.table

    assert safetyqc.judge.table.JUDGES
    for name in sq.__all__:
        assert callable(getattr(sq, name)), name
        assert name in dir(sq)
    for name in ("judge", "generate", "dedup"):
        assert inspect.signature(getattr(sq, name)) == inspect.signature(getattr(safetyqc.api, name))
    assert not inspect.iscoroutinefunction(safetyqc.api.judge)
    assert inspect.iscoroutinefunction(sq.ajudge)


def test_labels_go_in_and_out_of_a_run(tmp_path: Path) -> None:
    sq.judge(ROWS, model="local", run="kept", quiet=True)
    assert sq.label_export("kept", "sheet.csv", annotator="ann", count=1) == 1
    lines = [{**row, "labels": {"strict_refusal": True}, "annotator": "bob"} for row in ROWS]
    Path("bob.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (told,) = sq.label_import("bob.jsonl", "kept")
    assert (told.done, told.already, told.changed) == (2, 0, 0)
    text = sq.label_export("kept", "-")
    assert isinstance(text, str)
    assert [json.loads(line)["annotator"] for line in text.splitlines()] == ["bob", "bob"]
    with pytest.raises(UserError, match="no labels by 'zoe'"):
        sq.label_export("kept", "zoe.jsonl", annotator="zoe")
