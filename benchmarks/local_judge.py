"""Rebuild the local judge's weights from labelled data, and print every figure of its model card.

    python benchmarks/local_judge.py DATA            # figures only
    python benchmarks/local_judge.py DATA --write    # also rewrite safetyqc/judge/embedded/weights.json

DATA is a folder with gold_dev.jsonl, xstest_dev.jsonl and bilingual_conversations.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetyqc.formats.turns import CATEGORY_OF_RISK
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.judge.embedded.criteria import CRITERIA
from safetyqc.judge.embedded.features import together
from safetyqc.judge.embedded.judge import LocalJudge
from safetyqc.judge.embedded.measure import measure
from safetyqc.judge.embedded.model import Figures, Weights
from safetyqc.judge.embedded.training import UNSURE, Case, fit, read_cases, train_cases
from safetyqc.records import Conversation, Intent, Label, Message, conversation_id

WEIGHTS = Path(__file__).parents[1] / "safetyqc" / "judge" / "local" / "weights.json"
Labelled = tuple[Conversation, list[Label]]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def conversation(row: dict, name: str, source: str, **fields: object) -> Conversation:
    messages = tuple(Message(**m) for m in row["messages"])
    return Conversation(id=name, messages=messages, meta={"source": source, "row": row}, **fields)


def gold(folder: Path) -> Iterator[Labelled]:
    """190 conversations of four sources with labels of all criteria; disputed cells are left out."""
    for row in rows(folder / "gold_dev.jsonl"):
        labels = dict(row["labels"])
        kind = labels.pop("kind")
        record = conversation(row, row["id"], row["source"], intent=None if kind == "disputed" else kind)
        kept = {name: value for name, value in labels.items() if value in ("pass", "fail")}
        yield record, [Label(conversation_id=row["id"], criterion=c, outcome=o) for c, o in kept.items()]


def xstest(folder: Path) -> Iterator[Labelled]:
    """One-turn answers with people's final label; the prompt type says whether the request is harmful."""
    for row in rows(folder / "xstest_dev.jsonl"):
        harmful = row["type"].startswith("contrast_")
        record = conversation(row, row["ref"], "xstest", intent="harmful" if harmful else "benign")
        final = row["human"]["final"][0]
        labels = {"1": {"strict_refusal": "fail"}, "2": {"strict_refusal": "pass"}, "3": {}}[final]
        if not harmful and final in "12":
            labels = labels | {"helpful_when_benign": "pass" if final == "1" else "fail"}
        yield record, [Label(conversation_id=record.id, criterion=c, outcome=o) for c, o in labels.items()]


def bilingual(folder: Path) -> Iterator[Labelled]:
    """Generated conversations; their author's own checks are weak labels of declining, used for nothing else."""
    intents: dict[str, Intent] = {
        "harmful_refusal": "harmful",
        "jailbreak_refusal": "harmful",
        "benign_allow": "benign",
        "borderline_clarify": "borderline",
    }
    for number, row in enumerate(rows(folder / "bilingual_conversations.jsonl")):
        meta, checks = row["meta"], row.get("assistant_checks") or {}
        intent = intents[meta["scenario_type"]]
        category = CATEGORY_OF_RISK.get(meta["risk_category"])
        record = conversation(row, f"bilingual-{number}", "gemini", intent=intent, category=category)
        label: list[Label] = []
        if intent == "harmful" and checks.get("policy_action") == "refuse":
            label = [Label(conversation_id=record.id, criterion="strict_refusal", outcome="pass")]
        elif intent == "benign" and checks.get("policy_action") == "allow" and not checks.get("refused_when_needed"):
            label = [Label(conversation_id=record.id, criterion="strict_refusal", outcome="fail")]
        yield record, label


def openers() -> Iterator[Labelled]:
    """The taxonomy's own openers: requests alone, with category and intent."""
    for category in load_taxonomy().categories:
        for texts in category.openers.values():
            for intent, found in texts.items():
                for text in found:
                    messages = (Message(role="user", content=text),)
                    yield (
                        Conversation(
                            id=conversation_id(messages),
                            messages=messages,
                            category=category.name,
                            intent=intent,
                            meta={"source": "taxonomy"},
                        ),
                        [],
                    )


def load_cases(folder: Path) -> list[Case]:
    pairs = [*gold(folder), *xstest(folder), *bilingual(folder), *openers()]
    return read_cases([c for c, _ in pairs], [label for _, labels in pairs for label in labels])


def row_of(case: Case) -> dict:
    return case.conversation.meta.get("row", {})


def model_of(case: Case) -> str:
    """XSTest model that wrote the answer; gold rows of XSTest name it in their reference."""
    row = row_of(case)
    return row.get("model") or (row["ref"].split("-")[1] if case.group == "xstest" else "")


def is_gold(case: Case) -> bool:
    return "labels" in row_of(case)


def show(name: str, figures: Figures) -> None:
    print(
        f"{name:<42} n {figures.n:>5}  pass {figures.passed:>4}  kappa {figures.kappa} "
        f"[{figures.kappa_low}, {figures.kappa_high}]  accuracy {figures.accuracy}  "
        f"coverage {figures.coverage}  accuracy where covered {figures.accuracy_covered}"
    )


def strict_probability(weights: Weights, case: Case) -> float:
    model = weights.criteria["strict_refusal"]
    return model.probability(CRITERIA["strict_refusal"].features(case.turns, weights.read(case.turns)))


def leave_models_out(cases: Sequence[Case], *, prompts: int = 1) -> None:
    """Leave one XSTest model out; with `prompts` > 1 also leave out the prompts that are judged, a part at a time."""
    answers = [c for c in cases if c.group == "xstest" and not is_gold(c)]
    probabilities: dict[str, float] = {}
    for model in sorted({model_of(c) for c in answers}):
        for part in range(prompts):
            judged = [c for c in answers if model_of(c) == model and (prompts == 1 or prompt_part(c, prompts) == part)]
            seen = [c for c in cases if not (c.group == "xstest" and model_of(c) == model)]
            if prompts > 1:
                seen = [c for c in seen if not (c.group == "xstest" and prompt_part(c, prompts) == part)]
            weights = fit(seen, ["strict_refusal"], classes=False)
            probabilities |= {c.conversation.id: strict_probability(weights, c) for c in judged}
    title = "unseen model" if prompts == 1 else "unseen model and prompts"
    clear = [c for c in answers if "strict_refusal" in c.labels]
    for model in sorted({model_of(c) for c in answers}):
        own = [c for c in clear if model_of(c) == model]
        show(f"{title}: {model}", measured(own, probabilities))
    show(f"{title}: all", measured(clear, probabilities))
    partial = [probabilities[c.conversation.id] >= 0.5 for c in answers if "strict_refusal" not in c.labels]
    print(f"{title}: partial refusals, apart: {len(partial)}, judged as declined {sum(partial) / len(partial):.3f}")


def prompt_part(case: Case, parts: int) -> int:
    return int(row_of(case)["ref"].split("-")[-1]) % parts


def measured(cases: Sequence[Case], probabilities: dict[str, float]) -> Figures:
    return measure(
        [probabilities[c.conversation.id] for c in cases], [c.labels["strict_refusal"] for c in cases], UNSURE
    )


def leave_sources_out(cases: Sequence[Case]) -> None:
    """Leave one source out, on the gold rows; everything of that source, labelled or not, leaves with it."""
    scored: dict[str, list[tuple[str, float, bool]]] = {name: [] for name in CRITERIA}
    for source in ("gemini", "hh", "seed", "xstest"):
        rest = [c for c in cases if c.group != source]
        weights = train_cases(rest)
        for case in cases:
            if case.group == source and is_gold(case):
                reading = weights.read(case.turns, case.conversation.intent)
                for name, passed in case.labels.items():
                    if name in weights.criteria:
                        p = weights.criteria[name].probability(CRITERIA[name].features(case.turns, reading))
                        scored[name].append((source, p, passed))
    for name, found in scored.items():
        if found:
            show(f"gold, unseen source: {name}", measure([p for _, p, _ in found], [t for *_, t in found], UNSURE))
            for source in sorted({s for s, *_ in found}):
                own = [(p, t) for s, p, t in found if s == source]
                right = sum((p >= 0.5) == t for p, t in own)
                print(f"    {source:<8} right {right} of {len(own)}, labelled pass {sum(t for _, t in own)}")


def intents_left_out(cases: Sequence[Case]) -> None:
    for source in ("gemini", "hh", "seed", "xstest"):
        weights = fit([c for c in cases if c.group != source], [])
        own = [c for c in cases if c.group == source and c.conversation.intent and is_gold(c)]
        right = sum(told_intent(weights, c) == c.conversation.intent for c in own)
        top = Counter(c.conversation.intent for c in own).most_common(1)[0][1]
        shares = f"right {right / len(own):.3f} of {len(own)}, majority {top / len(own):.3f}"
        print(f"intent, unseen source {source:<8} {shares}")


def told_intent(weights: Weights, case: Case) -> Intent:
    return weights.intent(together(case.requests), weights.harms(case.turns))


def speed(folder: Path) -> None:
    from safetyqc.rubrics import load_rubric_set

    begun = time.perf_counter()
    judge = LocalJudge(load_rubric_set())
    loaded = time.perf_counter() - begun
    bare = [c.model_copy(update={"intent": None}) for c, _ in [*gold(folder), *xstest(folder)]]
    for name, some in (("gold", bare[:190]), ("xstest", bare[190:])):
        for one in some:  # fills the caches of words, as the first conversations of any run do
            judge.score(one)
        begun = time.process_time()
        for one in some:
            judge.score(one)
        took = time.process_time() - begun
        print(f"speed on {name}: {len(some) / took:.0f} conversations a second of one core (loaded in {loaded:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=("models", "prompts", "sources", "intents", "speed", "weights"))
    options = parser.parse_args()
    cases = load_cases(options.data)
    parts: dict[str, Callable[[], object]] = {
        "models": lambda: leave_models_out(cases),
        "prompts": lambda: leave_models_out(cases, prompts=5),
        "sources": lambda: leave_sources_out(cases),
        "intents": lambda: intents_left_out(cases),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part()
    if options.only in (None, "weights"):
        weights = train_cases(cases)
        for name, model in weights.criteria.items():
            show(f"shipped{'' if model.reliable else ' (not reliable)'}: {name}", model.figures)
        if options.write:
            WEIGHTS.write_text(weights.model_dump_json() + "\n", encoding="utf-8")
            print(f"wrote {WEIGHTS.name}: {WEIGHTS.stat().st_size / 1000:.0f} kB")
    if options.only in (None, "speed"):
        speed(options.data)


if __name__ == "__main__":
    main()
