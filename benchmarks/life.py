"""What a run costs in CPU beside its calls: `run FILE` against a test server, for one or two checkouts in turn.

    python benchmarks/life.py --count 2000
    python benchmarks/life.py --count 8000 --against ../older-checkout

Stages that ask models (generate, judge, rewrite) are the calls; everything else is the house. With `--against`, says
how many verdicts and exported lines of the two are the same too. The figures depend on the machine: compare one run's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetyqc.store.file import FILE_NAME

HERE = Path(__file__).resolve().parent.parent
CALLS = ("generate", "dialogue", "judge", "rewrite")
TIMED = ("session", "mapper", "duplicates")
"""Modules of `pipeline` that time a stage, in this and in earlier versions."""


def measure(arguments: list[str]) -> None:
    """Run a command of the checkout that Python finds first; stage times become CPU times."""
    began = time.process_time()
    for name in TIMED:
        try:
            module = importlib.import_module(f"safetyqc.pipeline.{name}")
        except ImportError:
            continue
        if hasattr(module, "time"):
            module.time = SimpleNamespace(monotonic=time.process_time, time=time.time)  # type: ignore[attr-defined]
    from safetyqc.cli import main

    sys.argv = ["safetyqc", *arguments]
    try:
        main()
    except SystemExit as error:
        if error.code:
            raise
    print(json.dumps({"cpu_s": time.process_time() - began}), file=sys.stderr)


def write(base: str, count: int, folder: Path) -> Path:
    """A file of so many conversations that the test server wrote."""
    command = [sys.executable, "-m", "safetyqc", "generate", "-n", str(count), "-m", "openai/any", "--quiet"]
    command += ["--api-base", base, "--run", str(folder / "written"), "--concurrency", "64"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(HERE)}, check=True, stdout=subprocess.DEVNULL)
    path = folder / "written.jsonl"
    with sqlite3.connect(folder / "written" / FILE_NAME) as db, path.open("w", encoding="utf-8") as lines:
        for (body,) in db.execute("SELECT body FROM conversations ORDER BY seq"):
            told = json.loads(body)
            kept = {key: told[key] for key in ("messages", "category", "intent", "language")}
            lines.write(json.dumps(kept, ensure_ascii=False) + "\n")
    return path


def live(checkout: Path, folder: Path, base: str, written: Path) -> dict[str, float]:
    """One `run` of a file by a checkout: CPU seconds in all, and by stage."""
    command = [sys.executable, __file__, "--measure", "run", str(written), "-m", "openai/any", "--judge", "openai/any"]
    command += ["--api-base", base, "--run", str(folder / "run"), "--export", str(folder / "out.jsonl")]
    command += ["--concurrency", "64", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    total = json.loads(done.stderr.strip().splitlines()[-1])["cpu_s"]
    with sqlite3.connect(folder / "run" / FILE_NAME) as db:
        stages = dict(db.execute("SELECT stage, sum(wall_s) FROM timings GROUP BY stage"))
    return {"all": total, **stages, "beside calls": total - sum(stages.get(stage, 0.0) for stage in CALLS)}


def results(folder: Path) -> tuple[set[tuple[Any, ...]], list[str]]:
    """The verdicts of a run, and the lines that it exported."""
    with sqlite3.connect(folder / "run" / FILE_NAME) as db:
        verdicts = set()
        for conversation, body in db.execute("SELECT conversation_id, body FROM judgments"):
            told = json.loads(body)
            verdicts |= {(conversation, s["criterion"], s["outcome"], s["level"]) for s in told["scores"]}
    return verdicts, (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    from safetyqc.testing.server import serving  # here, since older checkouts are measured through this file

    with serving() as base, tempfile.TemporaryDirectory() as scratch:
        written, kept = write(base, options.count, Path(scratch)), {}
        for checkout in [path.resolve() for path in (options.against, HERE) if path]:
            folder = Path(scratch, str(len(kept)))
            folder.mkdir()
            figures = live(checkout, folder, base, written)
            kept[checkout] = results(folder)
            print(checkout.name, " ".join(f"{name} {figure:.2f}" for name, figure in figures.items()), flush=True)
        if len(kept) == 2:
            (verdicts, lines), (others, other_lines) = kept.values()
            print(f"verdicts {len(verdicts)} and {len(others)}, of both {len(verdicts & others)}")
            print(f"lines {len(lines)} and {len(other_lines)}, of both {len(set(lines) & set(other_lines))}")


if __name__ == "__main__":
    measure(sys.argv[2:]) if sys.argv[1:2] == ["--measure"] else main()
