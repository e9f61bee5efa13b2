"""Kills every command at random moments (kill -9) and lets it be typed again: nothing lost, nothing asked twice.

    python benchmarks/kills.py                 # three kills a command
    python benchmarks/kills.py --kills 10      # a hundred and more moments, some ten minutes of one core

Two runs get the same commands from the same server, one undisturbed and one killed. At the end the exports have to be
the same bytes, the runs have to hold the same conversations, verdicts and labels, and no answer that a ledger holds may
have been asked for again. Ends with 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetyqc.store.file import FILE_NAME
from safetyqc.testing.server import serving

CONVERSATIONS = 40


def commands(base: str, folder: Path) -> list[list[str]]:
    """What is typed, in this order; each command goes into the same run."""
    model = ["-m", "openai/any", "--api-base", base, "-q"]
    judged = [*model, "--judge", "openai/any"]
    return [
        ["generate", "-n", str(CONVERSATIONS), *model],
        ["generate", "-n", str(CONVERSATIONS + 6), "--mode", "dialogue", *model],
        ["import", str(folder / "more.jsonl")],
        ["filter"],
        ["judge", *model],
        ["dedup"],
        ["rewrite", *judged],
        ["augment", "--more", "general_safety=60", *judged],
        ["label", "import", str(folder / "labels.jsonl")],
        ["dedup", "--min-similarity", "0.7"],
        ["run", "-n", str(CONVERSATIONS + 12), *judged, "--export", "OUT"],
        ["export", "OUT", "--force"],
    ]


def typed(line: list[str], run: Path) -> list[str]:
    out = str(run.with_suffix(".jsonl"))
    return [sys.executable, "-m", "safetyqc", *(out if part == "OUT" else part for part in line), "--run", str(run)]


def live(base: str, folder: Path, run: Path, kills: int, rng: random.Random) -> int:
    """Type every command until it ends, killed so often; returns how many kills hit a command that was at work."""
    hit = 0
    environment = os.environ | {"OPENAI_API_KEY": "none"}
    for line in commands(base, folder):
        took = 0.0
        for attempt in range(kills + 1):
            began = time.monotonic()
            process = subprocess.Popen(
                typed(line, run), env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                wait_s = None if attempt == kills else rng.uniform(0.2, max(took, 2.0))
                _, told = process.communicate(timeout=wait_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                hit += 1
                took = max(took, time.monotonic() - began + 0.5)
                continue
            if process.returncode:
                raise SystemExit(f"{' '.join(line)}: exit {process.returncode}: {told.decode()[-2000:]}")
            took = time.monotonic() - began
            if attempt < kills and line[0] != "export":
                continue  # it ended before the kill: typed again it has nothing to do, and may be killed doing that
        print(f"{' '.join(line[:2]):20} done, {hit} kills so far", file=sys.stderr, flush=True)
    return hit


def held(run: Path) -> dict[str, Any]:
    """What a run holds, without times and the order in which it came."""
    with sqlite3.connect(run / FILE_NAME) as db:
        conversations = {body for (body,) in db.execute("SELECT body FROM conversations")}
        verdicts = set()
        for conversation, judge, body in db.execute("SELECT conversation_id, judge, body FROM judgments"):
            scores = [(s["criterion"], s["outcome"], s["level"]) for s in json.loads(body)["scores"]]
            verdicts.add((conversation, judge, tuple(scores)))
        labels = set(db.execute("SELECT conversation_id, criterion FROM labels"))
        dropped = set(db.execute("SELECT dropped_id, kept_id FROM duplicates"))
        twice = db.execute(
            "SELECT count(*) FROM (SELECT key FROM calls WHERE good GROUP BY key HAVING count(*) > 1)"
        ).fetchone()[0]
        [(sound,)] = db.execute("PRAGMA integrity_check")
    return {
        "conversations": conversations,
        "verdicts": verdicts,
        "labels": labels,
        "duplicates": dropped,
        "export": run.with_suffix(".jsonl").read_bytes(),
        "asked twice": twice,
        "sound": sound,
    }


def write_inputs(folder: Path) -> None:
    """A file of conversations with labels, and a file of labels alone."""
    told, labels = [], []
    for number in range(60):
        said = [f"Somebody asked me {number} times how it is done.", f"I will not help with that, number {number}."]
        roles = ("user", "assistant")
        messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
        told.append({"id": f"mine-{number}", "messages": messages, "category": "general_safety", "intent": "harmful"})
        labels.append({"id": f"mine-{number}", "labels": {"strict_refusal": "pass"}, "annotator": "ann"})
    for name, lines in (("more", told), ("labels", labels)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, help="for each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    write_inputs(folder)
    with serving() as base:
        live(base, folder, folder / "whole", 0, random.Random(0))
        hit = live(base, folder, folder / "killed", options.kills, random.Random(options.seed))
    whole, killed = held(folder / "whole"), held(folder / "killed")
    wrong = [name for name in whole if whole[name] != killed[name]]
    print(f"{hit} kills; {len(killed['conversations'])} conversations, {len(killed['verdicts'])} judgments")
    print(f"asked again though answered: {killed['asked twice']}; different: {', '.join(wrong) or 'nothing'}; {folder}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
