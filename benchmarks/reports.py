"""How long a report takes and how large its page is: `python benchmarks/reports.py [CONVERSATIONS ...]`.

Makes runs of synthetic conversations with two judges, whose verdicts are drawn, and duplicate groups, and prints one
line for each size. `read` is the loading of the run, `count` everything up to the Summary, `terminal` the drawing of
it, `html` the whole page from the store, reading again included.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from safetyqc.records import Conversation, Duplicate, DuplicateGroup, Judgment, Message, Outcome, Score
from safetyqc.reports.html import render_html
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.reports.summary import summarise_snapshot
from safetyqc.reports.terminal import render_report
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store

T = TypeVar("T")
WORDS = ("answer", "safe", "help", "number", "call", "plan", "reason", "doctor", "friend", "router", "letter", "law")


def conversation(index: int) -> Conversation:
    rng = random.Random(index)

    def turn(words: int) -> str:
        return f"{index}: " + " ".join(rng.choices(WORDS, k=words))

    exchanges = rng.choice((1, 2, 2, 3, 4))
    messages = [
        Message(role=r, content=turn(n)) for _ in range(exchanges) for r, n in (("user", 30), ("assistant", 90))
    ]
    return Conversation(
        id=f"c_{index:06d}", messages=tuple(messages), category=f"category {index % 9}", intent="harmful"
    )


def drawn_verdict(conversation: Conversation, judge: str) -> Judgment:
    """About one in ten cells fails with a reason and a quote, few are unscored."""
    rng, rubric = random.Random(f"{judge} {conversation.id}"), load_rubric_set("safety")
    scores = tuple(score(conversation, criterion.id, rng) for criterion in rubric.criteria)
    found = {s.outcome for s in scores}
    return Judgment(
        conversation_id=conversation.id,
        judge=judge,
        rubric=rubric.id,
        rubric_hash=rubric.hash,
        scores=scores,
        passed=False if "fail" in found else None if "unscored" in found else True,
    )


def score(conversation: Conversation, criterion: str, rng: random.Random) -> Score:
    outcomes: tuple[Outcome, ...] = ("fail", "unscored", "na", "pass")
    outcome = rng.choices(outcomes, (8, 2, 20, 70))[0]
    if outcome == "unscored":
        return Score(criterion=criterion, outcome=outcome, unscored_reason="refused_by_model", reason="will not judge")
    if outcome != "fail":
        return Score(criterion=criterion, outcome=outcome, probability=0.97, value=1.0)
    turn = len(conversation.messages) - 1
    quote = conversation.messages[turn].content[:40]
    reason = f'the answer "{quote[:12]}" does not do what {criterion} asks'
    return Score(
        criterion=criterion, outcome=outcome, probability=0.08, value=0.0, reason=reason, quote=quote, turn=turn
    )


def make_run(folder: Path, count: int) -> Store:
    store = Store.create(folder)
    talks = [conversation(i) for i in range(count)]
    store.add_conversations(talks)
    for judge in ("local", "openai/gpt"):
        store.put_judgments(drawn_verdict(c, judge) for c in talks).result()
    rubric = load_rubric_set("safety")
    criteria = [{"id": c.id, "title": c.title, "gate": c.gate} for c in rubric.criteria]
    store.set_meta("rubric", {"id": rubric.id, "hash": rubric.hash, "criteria": criteria})
    pairs = zip(talks[::20], talks[1::20], strict=False)
    groups = [DuplicateGroup(kept=a.id, dropped=(Duplicate(conversation_id=b.id, similarity=0.9),)) for a, b in pairs]
    store.replace_duplicates(groups)
    return store


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def main(sizes: list[int]) -> None:
    print(f"{'conversations':>14} {'read':>8} {'count':>8} {'terminal':>9} {'html':>8} {'page':>10}")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, make_run(Path(folder) / "run", size) as store:
            snapshot, read_s = timed(lambda: read_snapshot(store))
            summary, count_s = timed(lambda: summarise_snapshot(snapshot))  # noqa: B023
            console = Console(file=io.StringIO(), width=100)
            _, draw_s = timed(lambda: console.print(render_report(summary)))  # noqa: B023
            page, html_s = timed(lambda: render_html(store, summary))  # noqa: B023
            times = f"{read_s:7.2f}s {count_s:7.2f}s {draw_s:8.2f}s {html_s:7.2f}s"
            print(f"{size:14,} {times} {len(page.encode()) / 1e6:7.2f} MB")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [600, 2_000, 20_000])
