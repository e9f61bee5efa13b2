"""Every printed hint is pasted, three levels deep: none is refused, and nobody else comes to write or to decide."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.store import Store
from safetyqc.store.standing import deciding_judge
from safetyqc.testing import conversation
from safetyqc.testing.server import FaultServer

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
