"""Measure how often guessed languages, intents and categories are right; writes what reports say of them.

    python benchmarks/guesses.py ask DATA -m local:PATH.gguf --kept benchmarks/kept/guesses-qwen2.5-coder-1.5b.jsonl
    python benchmarks/guesses.py figures DATA --kept benchmarks/kept/guesses-*.jsonl --write

`ask` puts the judge's own question to a model and reads only the facts that it says first, so it costs a tenth of a
judgment; what is kept already is not asked again. `figures` counts them against what the sets say, and the language
guesser, which asks nobody, on all rows whose language is known. DATA is a folder with the labelled sets. Nothing was
fitted to them: the language is read from the letters, and models were asked as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetyqc.judge.question import Question, cut_with_system
from safetyqc.judge.table import _LOCAL_CONVERSATION_TOKENS
from safetyqc.llm.client import Request, Schema
from safetyqc.llm.hosts import display_name
from safetyqc.llm.llama import LocalClient, find_weights
from safetyqc.records import Conversation, Message
from safetyqc.results.guesses import LETTERS, Fact, Measured
from safetyqc.results.statistics import wilson_interval
from safetyqc.rubrics import load_rubric_set
from safetyqc.text import guess_language_of

SAFETY = load_rubric_set()
SHIPPED = Path("safetyqc/results/guesses.json")
FACTS: tuple[Fact, ...] = ("intent", "category")
INTENTS = {
    "harmful_refusal": "harmful",
    "jailbreak_refusal": "harmful",
    "benign_allow": "benign",
    "borderline_clarify": "borderline",
}
CATEGORIES = {
    "weapons": "drugs_or_weapons",
    "drugs": "drugs_or_weapons",
    "hate": "hate_or_harassment",
    "privacy": "privacy_and_personal_data",
    "sexual": "sexual_or_minors",
    "fraud": "violence_or_crime",
    "violence": "violence_or_crime",
    "extremism": "violence_or_crime",
    "cyber": "cybercrime_or_hacking",
    "self_harm": "self_harm_support",
}
"""Of the bilingual set's categories those that are one of the rubric's; its `other` is any of several."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().splitlines()]


def row(
    identifier: str, found: dict[str, Any], source: str, **truth: str | None
) -> tuple[Conversation, dict[str, str]]:
    said = Conversation(id=identifier, messages=tuple(Message(**m) for m in found["messages"]), meta={"source": source})
    return said, {name: value for name, value in truth.items() if value}


def labelled(data: Path) -> Iterator[tuple[Conversation, dict[str, str]]]:
    """Rows of which a set says the intent, and some the category."""
    for found in read_rows(data / "gold_dev.jsonl"):
        kind = found["labels"]["kind"]
        yield row(found["id"], found, "gold", intent=None if kind == "disputed" else kind)
    for found in read_rows(data / "xstest_dev.jsonl"):
        intent = "harmful" if found["type"].startswith("contrast_") else "benign"
        yield row(found["ref"], found, "xstest", intent=intent)
    for number, found in enumerate(read_rows(data / "bilingual_conversations.jsonl")):
        told = found["meta"]
        truth = {"intent": INTENTS.get(told["scenario_type"]), "category": CATEGORIES.get(told["risk_category"])}
        yield row(f"bilingual-{number}", found, "bilingual", **truth)


def sample(data: Path, of_each: int) -> list[Conversation]:
    """As many rows of each source, by chance, in turn: a run that is stopped holds as many of each."""
    by_source: dict[str, list[Conversation]] = {}
    for said, truth in labelled(data):
        if truth:
            by_source.setdefault(str(said.meta["source"]), []).append(said)
    drawn = [random.Random(0).sample(rows, min(of_each, len(rows))) for rows in by_source.values()]
    return [rows[place] for place in range(of_each) for rows in drawn if place < len(rows)]


async def ask(model: str, said: Sequence[Conversation], kept: Path) -> None:
    client = LocalClient(find_weights(model, download=False).path)
    known = {found["id"] for found in read_rows(kept)} if kept.exists() else set()
    for conversation in said:
        if conversation.id in known:
            continue
        system, shown, _ = cut_with_system(conversation, _LOCAL_CONVERSATION_TOKENS)
        question = Question(SAFETY, SAFETY.criteria, conversation, ("category", "intent"), shown, False, system=system)
        facts = {name: question.schema["properties"][name] for name in question.classify}
        schema = Schema({**question.schema, "properties": facts, "required": list(facts)})
        request = Request(
            model=model, messages=question.messages(), temperature=0, max_tokens=60, schema=schema, format="json_schema"
        )
        reply = await client.complete(request)
        line = {"id": conversation.id, "judge": display_name(model, None), **json.loads(reply.text)}
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line, f"{reply.latency_s:.0f} s", flush=True)
    await client.close()


def of_models(data: Path, kept: Sequence[Path]) -> list[Measured]:
    """Guesses that were kept against what the sets say, a line for each fact, judge and set."""
    truths = {said.id: (str(said.meta["source"]), truth) for said, truth in labelled(data)}
    counts: dict[tuple[Fact, str, str], list[bool]] = {}
    for guess in (guess for path in kept for guess in read_rows(path)):
        source, truth = truths[guess["id"]]
        for fact in FACTS:
            if fact in truth:
                counts.setdefault((fact, guess["judge"], source), []).append(guess[fact] == truth[fact])
    return [
        Measured(fact=fact, guesser=judge, of=source, n=len(found), right=sum(found))
        for (fact, judge, source), found in sorted(counts.items())
    ]


def of_letters(data: Path) -> list[Measured]:
    """The language guesser on every row whose language is known."""
    english = ("xstest_dev.jsonl", "chatgpt_refusals_dev.jsonl.gz", "coconot_benign_dev.jsonl.gz")
    told = [("en", found) for name in (*english, "jailjudge_dev.jsonl.gz") for found in read_rows(data / name)]
    told += [("zh", found) for found in read_rows(data / "jade_medium_dev.jsonl.gz")]
    told += [
        (found["meta"]["language_style"], found)
        for found in read_rows(data / "bilingual_conversations.jsonl")
        if found["meta"]["language_style"] in ("en", "zh")
    ]
    counts: dict[str, list[bool]] = {}
    for language, found in told:
        guess = guess_language_of(message["content"] for message in found["messages"])
        counts.setdefault(language, []).append(guess == language)
    return [
        Measured(fact="language", guesser=LETTERS, of=language, n=len(found), right=sum(found))
        for language, found in sorted(counts.items())
    ]


def figures(data: Path, kept: Sequence[Path], *, write: bool) -> None:
    found = [*of_letters(data), *of_models(data, kept)]
    for measured in found:
        low, high = wilson_interval(measured.right, measured.n)
        name = f"{measured.fact} by {measured.guesser} on {measured.of}"
        print(f"{name}: {measured.right:,} of {measured.n:,} right ({low:.0%} to {high:.0%})")
    if write:
        lines = ",\n".join(f"  {json.dumps(measured.model_dump())}" for measured in found)
        SHIPPED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask")
    asking.add_argument("data", type=Path)
    asking.add_argument("-m", "--model", required=True)
    asking.add_argument("--kept", type=Path, required=True)
    asking.add_argument("-n", "--of-each", type=int, default=60)
    counting = commands.add_parser("figures")
    counting.add_argument("data", type=Path)
    counting.add_argument("--kept", type=Path, nargs="*", default=[])
    counting.add_argument("--write", action="store_true", help=f"write {SHIPPED}, which reports read")
    options = parser.parse_args()
    if options.command == "ask":
        asyncio.run(ask(options.model, sample(options.data, options.of_each), options.kept))
    else:
        figures(options.data, options.kept, write=options.write)


if __name__ == "__main__":
    main()
