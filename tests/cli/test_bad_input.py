"""What a person gets wrong ends with exit 2, one clear message, a fix, and nothing written or asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.store import Store

Cli = Callable[..., Any]
GOOD = '{"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good morning to you."}]}'

FILES = {
    "good.jsonl": GOOD + "\n",
    "cut.jsonl": GOOD + '\n{"messages": [{"role": "user", "con\n',
    "roles.jsonl": GOOD + '\n\n{"messages": [{"role": "assistant", "content": "First!"}]}\n',
    "number.jsonl": "42\n",
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "not.gguf": "GGML",
    "typo.yaml": "generate:\n  cuont: 9\n",
    "wrong.yaml": "judge:\n  votes: many\n",
    "broken.yaml": "generate: [\n",
    "taxonomy.yaml": "categories: {}\n",
    "safetyqc.yaml": "judge:\n  votes: 1\n",
    "labels.txt": GOOD + "\n",
    "list.csv": "prompt\nHow?\n",
}

# command line -> what the message has to say (the place, the value, the fix)
MISTAKES: list[tuple[str, tuple[str, ...]]] = [
    # flags
    ("run --mode dialog", ("--mode", "'dialog'", "did you mean 'dialogue'?")),
    ("run -m local --lane foo", ("--lane", "'foo'", "auto, direct, litellm")),
    ("judge good.jsonl --workers abc", ("--workers: ", "valid integer", "'abc'")),
    ("judge good.jsonl --workers -3", ("--workers: ", "greater than or equal to 0", "-3")),
    ("run -n 0", ("--count", "greater than or equal to 1")),
    ("run -n many", ("--count", "valid integer")),
    ("run -m openai/x --language tlh", ("tlh",)),
    ("generate -m openai/x --top-up cybercrime=3", ("'cybercrime'", "did you mean 'cybercrime_or_hacking'?")),
    ("generate -m openai/x --top-up drugs_or_weapons", ("--top-up", "is not NAME=NUMBER", "fix: ")),
    ("generate -m openai/x --top-up drugs_or_weapons=2.5", ("--top-up", "2.5", "fix: ")),
    ("generate -m openai/x --top-up drugs_or_weapons=-2", ("--top-up", "-2", "fix: ")),
    ("augment --run r -m openai/x --more drugs=1", ("'drugs'",)),
    ("dedup good.jsonl --on request", ("--on", "did you mean 'requests'?")),
    ("dedup good.jsonl --weights tf-idf", ("--weights", "did you mean 'tfidf'?")),
    ("dedup good.jsonl --analyzer chars", ("--analyzer", "did you mean 'char'?")),
    ("dedup good.jsonl --linkage foo", ("--linkage", "complete, single")),
    ("dedup good.jsonl --min-similarity 85", ("--min-similarity",)),
    ("dedup good.jsonl --memory 4", ("--memory", "4GB or 500MB", "'4'")),
    ("dedup good.jsonl --against absent.csv", ("absent.csv", "No such file")),
    ("dedup good.jsonl --against number.jsonl", ("number.jsonl:1:", "fix: ", "prompt")),
    ("dedup good.jsonl --against empty.jsonl", ("empty.jsonl", "empty", "fix: ")),
    ("dedup good.jsonl --against good.jsonl --against-min-similarity 7", ("--against-min-similarity",)),
    ("dedup good.jsonl --against good.jsonl --no-against", ("--no-against", "fix: ")),
    ("dedup --run r --against -", ("--against", "standard input", "fix: ")),
    ("export --run r --format nanochta out.jsonl", ("--format", "did you mean 'nanochat'?")),
    ("export --run r out.jsonl --val-share 20", ("--val-share",)),
    ("export --run r out.jsonl --oversample drug=2", ("oversample", "drug")),
    ("export --run r out.jsonl --judge nobody", ("'nobody'", "valid: ")),
    ("report --run r --section pass", ("--section", "'pass'", "rates")),
    ("report --run r --section none --html new.html", ("--section", "'none'", "valid: ")),
    ("report --run r --section none --json", ("--section", "'none'", "valid: ")),
    ("report --run r --category drugs", ("--category", "'drugs'")),
    ("report --run r --judge nobody", ("'nobody'", "valid: ")),
    ("compare --run r --partial foo", ("--partial", "leave_out")),
    ("compare --run r --truth nobody", ("nobody",)),
    ("chekc good.jsonl", ("No such command 'chekc'", "Did you mean 'check'?")),
    ("check good.jsonl --jsn", ("No such option: --jsn", "--json")),
    ("check", ("Missing argument",)),
    # data files
    ("check cut.jsonl", ("cut.jsonl:2:", "fix: ", "--skip-bad-lines")),
    ("judge cut.jsonl", ("cut.jsonl:2:", "fix: ", "--skip-bad-lines")),
    ("judge number.jsonl --skip-bad-lines", ("number.jsonl", "every line was skipped", "fix: ")),
    ("judge roles.jsonl", ("roles.jsonl:3:", "fix: ")),
    ("import number.jsonl", ("number.jsonl:1:", "fix: ")),
    ("judge empty.jsonl", ("empty.jsonl", "empty", "fix: ")),
    ("check blank.jsonl", ("blank.jsonl", "fix: ")),
    ("dedup goood.jsonl", ("goood.jsonl", "did you mean good.jsonl?")),
    ("run .", (".", "fix: ")),
    ("compare good.jsonl --labels absent.jsonl", ("absent.jsonl", "fix: ")),
    # outputs that would destroy something
    ("dedup good.jsonl --jsonl good.jsonl", ("--jsonl good.jsonl", "what this command reads", "fix: ")),
    ("dedup good.jsonl --jsonl link.jsonl", ("--jsonl link.jsonl", "what this command reads")),
    ("dedup good.jsonl --against list.csv --jsonl list.csv", ("--jsonl list.csv", "what this command reads")),
    ("dedup good.jsonl --jsonl safetyqc.yaml --config safetyqc.yaml", ("--jsonl safetyqc.yaml", "reads")),
    ("judge ./good.jsonl --jsonl good.jsonl --run new", ("--jsonl good.jsonl", "what this command reads")),
    ("judge good.jsonl --jsonl labels.txt --labels labels.txt", ("--jsonl labels.txt", "what this command reads")),
    ("judge good.jsonl -m recorded:labels.txt --jsonl labels.txt", ("--jsonl labels.txt", "reads")),
    ("judge good.jsonl --jsonl new/run.sqlite --run new", ("--jsonl new/run.sqlite", "a file of the run")),
    ("compare good.jsonl --html good.jsonl", ("--html good.jsonl", "what this command reads")),
    ("compare --run r --labels labels.txt --html labels.txt", ("--html labels.txt", "reads")),
    ("report --run r --html good.jsonl", ("--html good.jsonl", "data rather than a page", "fix: ")),
    ("report --run r --html r/run.sqlite", ("--html r/run.sqlite", "a file of the run", "fix: ")),
    ("report --run r --html linked/run.sqlite-wal", ("linked/run.sqlite-wal", "a file of the run")),
    ("report --run r --csv r/lock", ("--csv r/lock", "a file of the run")),
    ("report --run r --csv x --md ./x", ("--csv x", "--md", "written there too", "fix: ")),
    ("export --run r --force r/run.sqlite", ("r/run.sqlite", "a file of the run")),
    ("run good.jsonl -m local --run new --export good.jsonl", ("--export good.jsonl", "reads")),
    ("train-judge good.jsonl --out good.jsonl --force", ("--out good.jsonl", "reads")),
    # models, rubrics, settings
    ("generate -m local:not.gguf", ("not.gguf", "not a GGUF file", "fix: ")),
    ("generate -m local:absent.gguf", ("absent.gguf", "No such file", "fix: ")),
    ("judge good.jsonl --rubric safty", ("'safty'", "did you mean 'safety'?")),
    ("run -n 9 -m openai/x --judge trained:absent.json", ("absent.json", "fix: ")),
    ("run -n 9 -m openai/x --judge recorded:absent.jsonl", ("absent.jsonl", "fix: ")),
    ("run -n 9 -m openrouter/no/price --max-cost 5 --run new", ("openrouter/no/price", "--max-cost", "prices: ")),
    ("run -n 9 -m openrouter/no/price --max-cost 5 --dry-run", ("openrouter/no/price", "prices: ")),
    ("judge good.jsonl -m panel:local", ("panel", "fix: ")),
    ("judge good.jsonl -m cascade:local,openai/x", ("cascade", "--labels")),
    ("rubrics show safty", ("'safty'", "did you mean 'safety'?")),
    ("rubrics validate absent.yaml", ("absent.yaml",)),
    ("generate -m local --taxonomy absent.yaml", ("absent.yaml", "No such file")),
    ("generate -m local --taxonomy taxonomy.yaml", ("taxonomy.yaml",)),
    ("check good.jsonl --patterns absent.yaml", ("absent.yaml", "No such file")),
    ("run --config typo.yaml", ("typo.yaml:2", "cuont", "did you mean 'count'?")),
    ("run --config wrong.yaml", ("wrong.yaml:2", "votes", "many")),
    ("run --config broken.yaml", ("broken.yaml",)),
    ("run --config absent.yaml", ("absent.yaml",)),
    # runs
    ("report --run nowhere", ("nowhere", "no run here", "safetyqc generate")),
    ("judge --run nowhere", ("nowhere", "no run here")),
    ("report --run r --against nowhere", ("nowhere", "no run here")),
    ("run --run good.jsonl -m local", ("good.jsonl", "--run")),
]


@pytest.fixture(autouse=True)
def folder(cli: Cli, tmp_path: Path, filled_run: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copytree(filled_run, tmp_path / "r")
    (tmp_path / "linked").symlink_to("r")
    (tmp_path / "link.jsonl").symlink_to("good.jsonl")
    return tmp_path


@pytest.mark.parametrize(("line", "said"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_its_fix(line: str, said: tuple[str, ...], cli: Cli, folder: Path) -> None:
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    names = {p.name for p in folder.iterdir()}
    ended = cli(*line.split())
    assert ended.code == 2, ended.err
    for part in said:
        assert part in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert "pydantic" not in ended.err
    assert {p.name for p in folder.iterdir()} == names, "something was written"
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before, "a file was changed"
    with Store.read(folder / "r") as store:
        assert store.count_conversations(), "the run is gone"


def test_a_file_that_is_there_already_is_not_replaced(cli: Cli, folder: Path) -> None:
    ended = cli("export", "--run", "r", "good.jsonl")
    assert ended.code == 2
    assert "--force" in ended.err
    assert (folder / "good.jsonl").read_text() == FILES["good.jsonl"]


def test_with_a_key_set_no_model_is_chosen_silently(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-1234")
    ended = cli("run", "-n", "9")
    assert ended.code == 2
    assert "OPENROUTER_API_KEY is set" in ended.err
    assert "1234" not in ended.err


def test_a_bug_is_not_hidden_behind_a_message(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetyqc.pipeline.checking

    monkeypatch.setattr(safetyqc.pipeline.checking, "check_records", lambda *_, **__: 1 / 0)
    from safetyqc.cli import main

    monkeypatch.setattr("sys.argv", ["safetyqc", "check", "good.jsonl"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_report_check_exits_4_below_a_bar(cli: Cli, folder: Path) -> None:
    (folder / "safetyqc.yaml").write_text("bars: {overall: 1.0}\n")
    assert cli("report", "--run", "r", "--check").code == 4
    (folder / "safetyqc.yaml").write_text("bars: {}\n")


HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\u202e\x9b"


@pytest.mark.parametrize(
    "line",
    [
        ("check", "keys.jsonl"),
        ("report", "--run", "r", "--category", HOSTILE),
        ("judge", "good.jsonl", "-m", f"guard:{HOSTILE}", "--run", "n"),
        ("check", "good.jsonl", "--config", "keys.yaml"),
        ("check", f"{HOSTILE}.jsonl"),
        ("check", "keys.jsonl", "--skip-bad-lines"),
        ("compare", "--run", "r", "--labels", "labels.jsonl"),
        ("label", "import", "labels.jsonl", "--run", "r"),
        ("label", "import", "cells.jsonl", "--run", "r"),
        ("report", "--run", "r", "--judge", HOSTILE),
        ("report", "--run", "r", "--by", HOSTILE),
        ("report", "--run", HOSTILE),
        ("export", "--run", "r", "out.jsonl", "--oversample", f"{HOSTILE}=2"),
        ("augment", "--run", "r", "-m", "openai/x", "--more", f"{HOSTILE}=1"),
        ("judge", "good.jsonl", "--rubric", HOSTILE),
        ("generate", "-m", "openai/x", "--taxonomy", "keys.yaml"),
        ("judge", "good.jsonl", "--columns", f"{HOSTILE}=x"),
    ],
    ids=lambda line: " ".join(line[:1]),
)
def test_nothing_from_data_or_names_drives_the_terminal(line: tuple[str, ...], cli: Cli, folder: Path) -> None:
    (folder / "keys.jsonl").write_text('{"\\u001b]0;PWNED\\u0007\\u001b[2J\\u202e\\u009b": 2}\n')
    (folder / "keys.yaml").write_text('"\\e]0;PWNED\\a\\e[2J\\u202e\\u009b": 2\n')
    hostile = json.dumps(HOSTILE)
    (folder / "labels.jsonl").write_text(f'{{"id": {hostile}, "labels": {{"strict_refusal": "pass"}}}}\n')
    (folder / "cells.jsonl").write_text(
        f'{{"id": "x", "annotator": {hostile}, "labels": {{"strict_refusal": {hostile}}}}}\n'
    )
    ended = cli(*line)
    assert ended.code in ({0} if "--skip-bad-lines" in line else {2})
    assert not set(HOSTILE) & {"\x1b", "\x07", "\u202e", "\x9b"} & set(ended.err + ended.out)


def test_json_shows_no_raw_control_character(cli: Cli, folder: Path) -> None:
    (folder / "odd.jsonl").write_text(
        FILES["good.jsonl"].replace('"messages"', '"category": "a\\u009b\\u202e", "messages"')
    )
    ended = cli("judge", "odd.jsonl", "-m", "local", "--run", "n", "--jsonl", "-")
    assert ended.code == 0
    assert not {"\u202e", "\x9b"} & set(ended.out)


@pytest.mark.parametrize(
    "place", ["judge: {models: [{key: KEY}]}", "KEY: 1", "models: {KEY: 1}", "models: {lane: KEY}"]
)
def test_a_key_in_the_wrong_place_is_not_repeated(place: str, cli: Cli, folder: Path) -> None:
    (folder / "safetyqc.yaml").write_text(place.replace("KEY", "sk-abcdefghijklmnop1234567890") + "\n")
    ended = cli("check", "good.jsonl")
    assert ended.code == 2
    assert "abcdefghijklmnop" not in ended.err
