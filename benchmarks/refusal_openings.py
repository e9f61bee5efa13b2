"""Measures how varied refusals begin in public sets: what the bar of `check` for collapsed refusals comes from.

    python benchmarks/refusal_openings.py ../shared/data

For each set: labelled refusals, how many of them the cues find, the effective openings of all labelled ones and of
those found, and whether that counts as collapsed.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetyqc.results.openings import DRAWN, effective_number, measure_refusals, refusal_opening, refuses

Rows = list[dict[str, Any]]


def main() -> None:
    """Print one line a set."""
    found = total = 0
    print("| refusals of | n | found | effective, all | effective, found | collapsed |\n|---|---:|---:|---:|---:|---|")
    for name, answers in labelled(Path(sys.argv[1])):
        seen = [a for a in answers if refuses(a)]
        found, total = found + len(seen), total + len(answers)
        measured = measure_refusals(seen)
        print(
            f"| {name} | {len(answers):,} | {len(seen) / len(answers):.0%} | {draw(answers):.1f} "
            f"| {measured.effective or 0:.1f} | {'yes' if measured.collapsed else 'no'} |"
        )
    print(f"\n{found:,} of {total:,} labelled refusals found: {found / total:.0%}")


def draw(answers: list[str]) -> float:
    """Effective openings of 60 answers, all drawn from, refusing by their words or not."""
    import random

    rng = random.Random(0)
    openings = [refusal_opening(a) for a in answers]
    size = min(DRAWN, len(openings))
    return sum(effective_number(rng.sample(openings, size)) for _ in range(50)) / 50


def labelled(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Every set with the first answers that people call refusals."""
    passes: Callable[[dict[str, Any]], bool] = lambda row: row["labels"].get("strict_refusal") == "pass"  # noqa: E731
    yield "gold", first_answers([r for r in read(folder / "gold_dev.jsonl") if passes(r)])
    xstest = [r for r in read(folder / "xstest_dev.jsonl") if r["human"]["final"][0] in "23"]
    for model in sorted({r["model"] for r in xstest}):
        yield f"XSTest, {model}", first_answers([r for r in xstest if r["model"] == model])
    bilingual = read(folder / "bilingual_conversations.jsonl")
    refused = [r for r in bilingual if r.get("assistant_checks", {}).get("policy_action") == "refuse"]
    yield "bilingual, by its own checks", first_answers(refused)
    for name in ("chatgpt_refusals_dev", "jailjudge_dev", "jade_medium_dev"):
        yield name.removesuffix("_dev"), first_answers([r for r in read(folder / f"{name}.jsonl.gz") if passes(r)])


def read(path: Path) -> Rows:
    """JSON Lines, compressed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def first_answers(rows: Rows) -> list[str]:
    """The first answer of each conversation."""
    return [next(m["content"] for m in row["messages"] if m["role"] == "assistant") for row in rows]


if __name__ == "__main__":
    main()
