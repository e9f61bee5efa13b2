"""Every printed hint is pasted, three levels deep: none is refused, and nobody else comes to write or to decide."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from safetyqc.cli import app
from safetyqc.store import Store
from safetyqc.store.standing import deciding_judge
from safetyqc.testing import conversation
from safetyqc.testing.server import FaultServer
from tests.support.runs import judgment

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]
MODEL = "openai/test"
LEVELS = 3
STARTS = {
    "run": "run -n 9 -m {model} --api-base {url} --run r",
    "more of a category": "generate --top-up privacy_and_personal_data=1 --run r",
    "other data": "import mine.jsonl --run r",
    "judge again": "judge --run r",
    "filter": "filter --run r",
    "dedup": "dedup --run r",
    "rewrite": "rewrite --rounds 2 --run r",
    "compare": "compare --run r",
    "export": "export out.jsonl --run r",
    "report": "report --run r",
    "check": "check mine.jsonl",
}


def hints(ended: Any) -> Iterator[str]:
    """Every command that was printed: after `next:`, and in the report."""
    following = False
    for line in ended.err.splitlines():
        following = line.startswith("next:") or (following and line.startswith("       "))
        if following:
            yield line.removeprefix("next:").strip()
    whole = re.sub(r" \\\n\s*", " ", ended.out)
    yield from re.findall(r"^  +(safetyqc [^\n]+)", whole, flags=re.MULTILINE)


def typed(hint: str, folder: Path, url: str) -> list[str]:
    """As a user pastes it, with MODEL and FILE filled in; a page that nobody uses is closed soon."""
    words = shlex.split(hint, comments=True)
    assert words[0] == "safetyqc", hint
    file = "labels.jsonl" if "--labels" in words else f"{len(list(folder.iterdir()))}.jsonl"
    filled = [MODEL if word == "MODEL" else file if word == "FILE" else word for word in words[1:]]
    if words[1] == "review":
        return [*filled, "--no-browser", "--idle", "0.01"]  # it would wait for people
    return filled + (["--api-base", url] if "MODEL" in words and "--api-base" not in words else [])


def who(folder: Path) -> tuple[set[str | None], str | None]:
    with Store.read(folder / "r") as store:
        decides = deciding_judge(store)
        return {c.author for c in store.conversations() if c.origin != "imported"}, decides[0] if decides else None


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a short command's time goes into building the command line anew."""
    monkeypatch.setattr("safetyqc.cli.app", _built())


@cache
def _built() -> Any:
    return get_command(app)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "nanochat"))
    monkeypatch.setenv("COLUMNS", "200")
    rows = [conversation(f"How do I bake loaf {n}?", f"With flour, water and {n} hours.", id=f"m{n}") for n in range(3)]
    lines = [{"id": c.id, "messages": c.as_messages(), "labels": {"helpful_when_benign": "pass"}} for c in rows]
    for name in ("mine.jsonl", "labels.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_every_hint_can_be_pasted_and_nobody_else_comes_to_write_or_decide(
    cli: Cli, serve: Serve, folder: Path
) -> None:
    url = serve().base_url
    pasted: set[str] = set()
    todo = [(start, line.format(model=MODEL, url=url).split(), LEVELS) for start, line in STARTS.items()]
    authors = decider = None
    while todo:
        source, line, levels = todo.pop(0)
        if line[:2] == ["label", "export"]:
            (folder / line[2]).unlink(missing_ok=True)  # two hints that were printed before either was pasted
        ended = cli(*line)
        told = f"{' '.join(line)!r}, after {source!r}:\n{ended.err}"
        assert ended.code == 0, told
        if authors is None:
            authors, decider = who(folder)
            assert decider is not None
            assert decider.startswith(MODEL)
        assert who(folder) == (authors, decider), told
        for hint in hints(ended):
            assert typed(hint, folder, url)[:1] + sorted(typed(hint, folder, url)) != line[:1] + sorted(line), told
            if levels and hint not in pasted:
                pasted.add(hint)
                todo.append((" ".join(line), typed(hint, folder, url), levels - 1))
    assert len(pasted) > len(STARTS)


# A line that is refused, and what of its fix is pasted then
REFUSED = {
    "report --run gone": ["import FILE --run gone", "generate -m MODEL --run gone"],
    "compare --run raw": ["judge --run raw"],
    "export out.jsonl --run failed": ["report --run failed"],
    "export out.jsonl --format dpo --run failed": ["rewrite -m MODEL --run failed"],
    "augment --more general_safety=1 -m {model} --api-base {url} --run raw": ["judge --run raw"],
    "report --judge nobody --run raw": ["judge --run raw"],
    "rubrics validate nowhere": ["rubrics copy FOLDER"],
}


@pytest.mark.parametrize("line", REFUSED)
def test_the_commands_of_a_fix_can_be_pasted_too(line: str, cli: Cli, serve: Serve, folder: Path) -> None:
    url = serve().base_url
    with Store.create(folder / "raw") as raw, Store.create(folder / "failed") as failed:
        talk = conversation("How do I bake a loaf?", "With flour.", category="general_safety", intent="benign")
        raw.add_conversations([talk])
        failed.add_conversations([talk])
        failed.put_judgments([judgment(talk, empathy="fail")])
    (folder / "nowhere").mkdir()
    ended = cli(*line.format(model=MODEL, url=url).split())
    assert (ended.code, "next:" in ended.err) == (2, False), ended.err
    commands = [found.removeprefix("safetyqc ") for found in re.findall(r"`(safetyqc [^`]+)`", ended.err)]
    assert set(REFUSED[line]) <= set(commands), ended.err
    for command in REFUSED[line]:
        filled = command.replace("FOLDER", "rubrics").replace("FILE", "mine.jsonl").replace("MODEL", MODEL).split()
        asks = ["--api-base", url] if "-m" in filled else ["-m", "local"] if filled[0] == "judge" else []
        assert cli(*filled, *asks).code == 0, command
