"""Measure what a cascade with the local judge in front saves, and whether its promise holds.

    python benchmarks/cascade.py DATA                       # gold rows, sources that the local judge never saw
    python benchmarks/cascade.py DATA --set xstest          # answers of models that it never saw
    python benchmarks/cascade.py DATA --kept out.jsonl      # a second judge, as benchmarks/judges.py kept it
    python benchmarks/cascade.py DATA --criteria strict_refusal no_dangerous_steps      # these alone are asked

DATA is the folder that benchmarks/local_judge.py reads. The labelled conversations are split in halves `--splits`
times: thresholds are chosen on one half, everything is measured on the other. Without --kept, people come second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from embedded_sources import load_cases, xstest
from judges import read_gold, read_kept  # the benchmarks beside this one
from local_judge import left_out_judges

from safetyqc.judge.cascade import CascadeJudge, CascadeLabels, Stage, saving
from safetyqc.judge.embedded.judge import LocalJudge
from safetyqc.judge.embedded.training import Case
from safetyqc.records import Conversation, Judgment, Label
from safetyqc.rubrics import RubricSet, load_rubric_set

Pairs = list[tuple[Conversation, list[Label]]]


class Kept:
    """A judge that says again what it said; can be asked about a part."""

    def __init__(self, name: str, judgments: Mapping[str, Judgment], rubric_set: RubricSet) -> None:
        self.name, self.judgments, self.rubric_hash = name, judgments, rubric_set.hash

    async def judge(self, said: Conversation) -> Judgment:
        """Say it again."""
        return self.judgments[said.id]

    async def judge_only(self, said: Conversation, only: Iterable[str] | None) -> Judgment:
        """Say a part of it again."""
        judgment = self.judgments[said.id]
        scores = tuple(s for s in judgment.scores if only is None or s.criterion in only)
        return judgment.model_copy(update={"scores": scores})


def read_set(options: argparse.Namespace) -> tuple[RubricSet, Pairs, dict[str, Judgment]]:
    """Labelled conversations, and the embedded judge's verdicts by weights that saw nothing of their source."""
    cases = load_cases(options.data)
    judges, _ = left_out_judges(cases)
    rubric_set = load_rubric_set()
    if options.criteria or options.set == "xstest":
        rubric_set = rubric_set.only(options.criteria or ["strict_refusal", "helpful_when_benign"])
    if options.set == "gold":
        asked = {criterion.id for criterion in rubric_set.criteria}
        gold = [(c, [x for x in labels if x.criterion in asked]) for c, labels in read_gold(options.data) if c.intent]
        pairs = [(c, own) for c, own in gold if own]
    else:
        pairs = [(case.conversation, labels_of(case, rubric_set)) for case in xstest(options.data)]
    group = {case.conversation.id: case.group for case in cases}
    by_group = {name: LocalJudge(rubric_set, judge.weights) for name, judge in judges.items()}
    return rubric_set, pairs, {c.id: by_group[group[c.id]].score(c) for c, _ in pairs}


def labels_of(case: Case, rubric_set: RubricSet) -> list[Label]:
    """The labels of the criteria that are asked of a conversation."""
    asked = {c.id for c in rubric_set.applicable(case.conversation.category, case.intent)}
    return [
        Label(conversation_id=case.conversation.id, criterion=name, outcome="pass" if passed else "fail")
        for name, passed in case.labels.items()
        if name in asked
    ]


async def run(options: argparse.Namespace) -> None:
    rubric_set, pairs, verdicts = read_set(options)
    dear = [Kept("model", read_kept(options.kept), rubric_set)] if options.kept else []
    pairs = [(c, labels) for c, labels in pairs if all(c.id in judge.judgments for judge in dear)]
    cheap, labels = Kept("local", verdicts, rubric_set), {c.id: own for c, own in pairs}
    totals: Counter[str] = Counter()
    for split in range(options.splits):
        said = [c for c, _ in pairs]
        random.Random(split).shuffle(said)
        half = len(said) // 2
        given = CascadeLabels(
            said[:half],
            [x for c in said[:half] for x in labels[c.id]],
            min_agreement=options.min_agreement,
            confidence=options.confidence,
            people=not dear,
        )
        fitted = CascadeJudge([Stage(judge) for judge in (cheap, *dear)], rubric_set, to_fit=given)
        await fitted.prepare()
        if split == 0:
            show_promises(fitted)
        totals += measure([await fitted.judge(c) for c in said[half:]], labels, options.min_agreement)
    show(totals, options)


def show_promises(fitted: CascadeJudge) -> None:
    for stage in fitted.stages:
        for told in stage.promises.values():
            print(f"  {stage.judge.name} {told.criterion:<20} from certainty {told.min_certainty}: {told.why}")


def measure(judgments: Sequence[Judgment], labels: Mapping[str, list[Label]], min_agreement: float) -> Counter[str]:
    told = saving(judgments)
    counts: Counter[str] = Counter()
    counts["saved"] = round(1000 * (told.calls_saved or 0))
    counts["cells"] = round(1000 * (told.cells_not_escalated or 0))
    kept: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for judgment in judgments:
        truth = {x.criterion: x.outcome for x in labels[judgment.conversation_id]}
        for score in judgment.scores:
            by, label = judgment.settings["decided_by"].get(score.criterion), truth.get(score.criterion)
            if by and label in ("pass", "fail") and score.outcome in ("pass", "fail"):
                counts[by] += 1
                counts[f"{by} right"] += score.outcome == label
                if by == "local":
                    kept[score.criterion] += 1
                    right[score.criterion] += score.outcome == label
    counts["promises"] = len(kept)
    counts["broken"] = sum(right[name] / kept[name] < min_agreement for name in kept)
    return counts


def show(totals: Counter[str], options: argparse.Namespace) -> None:
    for name in ("local", "model"):
        if totals[name]:
            print(f"decided by {name}: right {totals[f'{name} right'] / totals[name]:.3f} of labelled cells")
    print(f"calls saved {totals['saved'] / options.splits / 1000:.3f}, ", end="")
    print(f"cells not escalated {totals['cells'] / options.splits / 1000:.3f}")
    print(
        f"promises made {totals['promises']} in {options.splits} splits; agreement on the other half below "
        f"{options.min_agreement} in {totals['broken']} of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=("gold", "xstest"), default="gold")
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--criteria", nargs="+", help="ask these alone")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--min-agreement", type=float, default=0.9)
    parser.add_argument("--confidence", type=float, default=0.95)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
