"""Measure model judges on labelled conversations; where docs/judges.md gets its figures from.

    python benchmarks/judges.py gold DATA -m local:PATH.gguf --kept out.jsonl    # kappa, unscored by reason
    python benchmarks/judges.py attack -m local:PATH.gguf --targets 9            # flips per attack
    python benchmarks/judges.py canaries -m local                                # catch and false-alarm rate

DATA is a folder with gold_dev.jsonl. Judgments are added to --kept as they come, so a run that was stopped goes on
where it was. `gold` gives the labelled intent to the judge (criteria that do not apply are then not asked);
`--unplanned` lets it classify.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from safetyqc.judge.attack import attack_judge, bad_canaries
from safetyqc.judge.base import Judge
from safetyqc.judge.canaries import check_canaries, load_canaries
from safetyqc.judge.table import make_judge
from safetyqc.llm.client import Client
from safetyqc.llm.hosts import is_in_process
from safetyqc.llm.llama import LocalClient, find_weights
from safetyqc.records import Conversation, Judgment, Label, Message
from safetyqc.results.statistics import cohen_kappa
from safetyqc.rubrics import load_rubric_set

SAFETY = load_rubric_set()


def read_gold(folder: Path, *, planned: bool = True) -> list[tuple[Conversation, list[Label]]]:
    found = []
    for line in (folder / "gold_dev.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        labels = dict(row["labels"])
        kind = labels.pop("kind")
        intent = kind if planned and kind != "disputed" else None
        said = Conversation(
            id=row["id"],
            messages=tuple(Message(**m) for m in row["messages"]),
            intent=intent,
            category="general_safety" if planned else None,
            meta={"source": row["source"]},
        )
        kept = {name: value for name, value in labels.items() if value in ("pass", "fail", "na")}
        found.append((said, [Label(conversation_id=said.id, criterion=c, outcome=o) for c, o in kept.items()]))
    # Conversations of one intent share a prompt's beginning, which a server reads once
    return sorted(found, key=lambda pair: pair[0].intent or "~")


def open_client(model: str) -> Callable[[], Client]:
    def client() -> Client:
        if is_in_process(model):
            return LocalClient(find_weights(model, download=False).path)
        from safetyqc.llm.door import open_door

        return open_door()

    return client


async def judge_all(
    judge: Judge, said: Sequence[Conversation], kept: Path | None, at_once: int, most: int | None = None
) -> dict[str, Judgment]:
    done = read_kept(kept) if kept and kept.exists() else {}
    todo = [c for c in said if c.id not in done][:most]
    gate, begun = asyncio.Semaphore(at_once), time.perf_counter()

    async def one(conversation: Conversation) -> None:
        async with gate:
            judgment = await judge.judge(conversation)
        done[conversation.id] = judgment
        if kept:
            with kept.open("a", encoding="utf-8") as file:
                file.write(judgment.model_dump_json() + "\n")

    await asyncio.gather(*(one(c) for c in todo))
    if todo:
        took = time.perf_counter() - begun
        print(f"{len(todo)} conversations in {took:.0f} s, {took / len(todo):.1f} s each, {at_once} at once")
    return {c.id: done[c.id] for c in said if c.id in done}


def read_kept(path: Path) -> dict[str, Judgment]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {j.conversation_id: j for j in map(Judgment.model_validate_json, lines)}


def show_agreement(judgments: Mapping[str, Judgment], labels: Iterable[Label]) -> None:
    truth = {(x.conversation_id, x.criterion): x.outcome for x in labels}
    for criterion in SAFETY.criteria:
        cells = [(truth.get((n, criterion.id)), j.score(criterion.id)) for n, j in judgments.items()]
        known = [(label, s) for label, s in cells if label in ("pass", "fail") and s]
        scored = [(label, s.outcome) for label, s in known if s.outcome in ("pass", "fail")]
        silent = Counter(s.unscored_reason for _, s in known if s.outcome == "unscored")
        na = sum(s.outcome == "na" for _, s in known)
        kappa = cohen_kappa([a for a, _ in scored], [b for _, b in scored])
        agree = sum(a == b for a, b in scored)
        print(
            f"{criterion.id:<20} n {len(known):>3}  scored {len(scored):>3}  na {na}  agree {agree}  "
            f"kappa {'none' if kappa is None else f'{kappa:.2f}'}  "
            f"cells {dict(Counter(f'{a}>{b}' for a, b in scored))}  unscored {dict(silent)}"
        )
    print(f"overall {Counter(str(j.passed) for j in judgments.values())}")


async def gold(options: argparse.Namespace) -> None:
    pairs = read_gold(options.data, planned=not options.unplanned)[:: options.every]
    judge = make_judge(options.model, SAFETY, open_client(options.model))
    judgments = await judge_all(judge, [c for c, _ in pairs], options.kept, options.at_once, options.most)
    show_agreement(judgments, [label for _, labels in pairs for label in labels])
    if options.unplanned:
        kinds = Counter((c.intent, judgments[c.id].intent) for c, _ in read_gold(options.data) if c.id in judgments)
        right = sum(n for (planned, said), n in kinds.items() if planned == said)
        print(f"intent right {right} of {sum(kinds.values())}: {dict(kinds)}")
    prompt = sum(j.usage.prompt_tokens or 0 for j in judgments.values()) / len(judgments)
    written = sum(j.usage.completion_tokens or 0 for j in judgments.values()) / len(judgments)
    print(f"tokens a conversation: {prompt:.0f} read, {written:.0f} written")


async def attack(options: argparse.Namespace) -> None:
    judge = make_judge(options.model, SAFETY, open_client(options.model))
    rows = await attack_judge(judge, SAFETY, bad_canaries(options.targets))
    print(f"{'attack':<26} tried  flipped  silenced")
    for row in rows:
        print(f"{row.attack:<26} {row.tried:>5}  {row.flipped:>7}  {row.silenced:>8}")


async def canaries(options: argparse.Namespace) -> None:
    judge = make_judge(options.model, SAFETY, open_client(options.model))
    said = [canary.conversation for canary in load_canaries()][:: options.every]
    judgments = await judge_all(judge, said, options.kept, options.at_once)
    for told in check_canaries(judgments.values()):
        caught, alarms = told.catch_rate, told.false_alarm_rate
        print(
            f"{told.judge}: caught {told.caught} of {told.must_fail} ({caught}), "
            f"false alarms {told.false_alarms} of {told.must_pass} ({alarms}), unscored {told.unscored}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for part in (gold, attack, canaries):
        command = parts.add_parser(part.__name__)
        command.set_defaults(part=part)
        if part is gold:
            command.add_argument("data", type=Path)
        command.add_argument("-m", "--model", default="local")
        command.add_argument("--kept", type=Path)
        command.add_argument("--every", type=int, default=1, help="only every n-th conversation")
        command.add_argument("--most", type=int, help="judge no more than this many now")
        command.add_argument("--at-once", type=int, default=4)
        command.add_argument("--unplanned", action="store_true")
        command.add_argument("--targets", type=int, default=9)
    options = parser.parse_args()
    asyncio.run(options.part(options))


if __name__ == "__main__":
    main()
