"""Make the cards of docs/cards: of the embedded judge, and of Qwen2.5-Coder 1.5B from its kept verdicts.

    python benchmarks/judge_card.py DATA --out docs/cards

DATA is the folder that holds gold_dev.jsonl and saferlhf_eval.jsonl.gz. Gold's labelled kind is given as the intent, as
it was to Qwen; Safe-RLHF's requests have none, and none of its rows is in the embedded judge's weights.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

KEPT = Path(__file__).parent / "kept" / "qwen2.5-coder-1.5b-q4.jsonl"


def planned_gold(folder: Path, out: Path) -> Path:
    rows = [json.loads(line) for line in (folder / "gold_dev.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        kind = row["labels"].pop("kind")
        if kind != "disputed":
            row["intent"] = kind
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return out


def every_fourth(path: Path, out: Path) -> Path:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        out.write_text("".join(list(lines)[::4]), encoding="utf-8")
    return out


def card(spec: str, labels: Path, scratch: Path) -> str:
    made = scratch / "card.md"
    words = [
        "judge",
        "card",
        "-m",
        spec,
        "--labels",
        str(labels),
        "--run",
        str(scratch / f"run-{labels.stem}-{spec[:5]}"),
    ]
    subprocess.run(
        [sys.executable, "-m", "safetyqc", *words, "--md", str(made), "-q"], check=True, stdout=subprocess.DEVNULL
    )
    return made.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/cards"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        gold = planned_gold(options.data, scratch / "gold.jsonl")
        safer = every_fourth(options.data / "saferlhf_eval.jsonl.gz", scratch / "saferlhf.jsonl")
        parts = [
            (gold, "On the gold set, with its intent given", "local", "embedded"),
            (safer, "On every fourth row of Safe-RLHF, which is in no weights, without intent", "local", "embedded"),
            (gold, "On the gold set, with its intent given", f"recorded:{KEPT}", "qwen2.5-coder-1.5b"),
        ]
        texts: dict[str, list[str]] = {}
        for labels, title, spec, name in parts:
            lines = card(spec, labels, scratch).splitlines()
            body = "\n".join(f"#{line}" if line.startswith("## ") else line for line in lines[1:]).strip()
            texts.setdefault(name, [f"{lines[0]}\n\nMade by `python benchmarks/judge_card.py DATA`."])
            texts[name].append(f"## {title}\n\n{body}")
    for name, sections in texts.items():
        (options.out / f"{name}.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
