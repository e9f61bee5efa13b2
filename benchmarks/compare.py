"""Measure how long comparing judges takes: `python benchmarks/compare.py [CONVERSATIONS] [JUDGES]`.

Draws random verdicts on the five bundled criteria, labels a tenth, and times alignment and everything else apart.
"""

from __future__ import annotations

import random
import sys
import time

from safetyqc.judge.compare import compare
from safetyqc.judge.ratings import align
from safetyqc.records import Judgment, Label, Score
from safetyqc.rubrics import load_rubric_set


def draw(conversations: int, judges: int) -> tuple[list[Judgment], list[Label]]:
    rng = random.Random(0)
    criteria = [c.id for c in load_rubric_set().criteria]
    score = {(c, o): Score(criterion=c, outcome=o) for c in criteria for o in ("pass", "fail", "na", "unscored")}
    judgments, labels = [], []
    for n in range(conversations):
        truth = [rng.choices(("pass", "fail", "na"), (70, 20, 10))[0] for _ in criteria]
        if n % 10 == 0:
            labels += [
                Label(conversation_id=f"c{n}", criterion=c, outcome=o) for c, o in zip(criteria, truth, strict=True)
            ]
        for judge in range(judges):
            said = [o if rng.random() < 0.85 else rng.choice(("pass", "fail", "unscored")) for o in truth]
            scores = tuple(score[c, o] for c, o in zip(criteria, said, strict=True))
            passed = False if "fail" in said else None if "unscored" in said else True
            judgments.append(
                Judgment(
                    conversation_id=f"c{n}",
                    judge=f"judge-{judge}",
                    rubric="safety",
                    rubric_hash="benchmark",
                    scores=scores,
                    passed=passed,
                    cost_usd=0.001 * judge,
                    latency_s=0.1,
                )
            )
    return judgments, labels


def main() -> None:
    conversations, judges = (int(x) for x in (*sys.argv[1:], *("20000", "5")[len(sys.argv) - 1 :]))
    judgments, labels = draw(conversations, judges)
    compare(judgments[: 100 * judges], labels[:50])  # imports and warm-up
    started = time.process_time()
    align(judgments, labels)
    aligned = time.process_time()
    found = compare(judgments, labels)
    ended = time.process_time()
    print(f"{conversations:,} conversations x {judges} judges, {len(labels):,} labels, {found.resamples:,} resamples")
    print(f"align    {aligned - started:6.2f} s")
    print(f"compare  {ended - aligned:6.2f} s CPU, alignment included")


if __name__ == "__main__":
    main()
