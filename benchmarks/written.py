"""What was written, against the plan and beside other sets: the figures of docs/generate.md.

    python benchmarks/written.py plan [-n 600] [--language en,zh]       # a plan, written by the test server
    python benchmarks/written.py beside RUN|FILE... [--language en]     # how varied, at the number of the smallest

`plan` generates against the test server and counts what the run then holds: balance, pairs, topics, and how often each
opener leads. `beside` draws as many conversations of every set as the smallest one has, and gives the effective number
of refusals' openings, the share of distinct word pairs, and the quartiles of the similarity to the nearest other one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import safetyqc as sq
from safetyqc.dedup.diversity import measure_diversity
from safetyqc.formats.readers import read_conversations
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.records import Conversation, Scenario
from safetyqc.results.openings import measure_refusals
from safetyqc.store import Store
from safetyqc.testing.server import serving
from safetyqc.text import guess_language

# ---- against the plan -----------------------------------------------------------------------------------------------


def plan(count: int, languages: str) -> None:
    """Generate against the test server, and say what the run holds."""
    with serving() as base, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "run")
        sq.generate(count, "openai/any", folder, api_base=base, languages=languages.split(","), quiet=True)
        with Store.read(folder) as store:
            scenarios = [c.scenario for c in store.conversations() if c.scenario]
    for line in counted(scenarios):
        print(line)


def counted(scenarios: Sequence[Scenario]) -> list[str]:
    """What a plan promises, counted in what was written."""
    taxonomy = load_taxonomy()
    categories = Counter(s.category for s in scenarios)
    cells = Counter((s.category, s.intent) for s in scenarios)
    tongues = Counter(s.language for s in scenarios)
    off = max(
        abs(cells[c.name, intent] - categories[c.name] * weight / sum(c.intents.values()))
        for c in taxonomy.categories
        for intent, weight in c.intents.items()
    )
    pairs = defaultdict(list)
    for s in scenarios:
        if s.pair:
            pairs[s.pair].append(s.intent)
    whole = sum(sorted(intents) == ["benign", "harmful"] for intents in pairs.values())
    topics = {(s.category, s.topic) for s in scenarios}
    offered = sum(len(c.topics) for c in taxonomy.categories)
    return [
        f"{len(scenarios)} written; a category {min(categories.values())} to {max(categories.values())}; "
        f"languages {dict(tongues)}; an intent of a category off its weight by at most {off:.2f}",
        f"pairs: {whole} of {len(pairs)} whole",
        f"topics: {len(topics)} of {offered}",
        *_leads(scenarios),
    ]


def _leads(scenarios: Sequence[Scenario]) -> list[str]:
    """How often openers lead, by the cells that they are dealt in."""
    led: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for s in scenarios:
        led[s.category, s.intent, s.language][s.openers[0]] += 1
    taxonomy = load_taxonomy()
    widest, most, used, there = 0, 0, 0, 0
    for (category, intent, language), times in led.items():
        pool = taxonomy.category(category).pool(language, intent)
        widest = max(widest, max(times.values()) - min(times[o] for o in pool))
        most, used, there = max(most, *times.values()), used + len(times), there + len(pool)
    return [
        f"openers: {used} of {there} lead, each {most} times at most; in a category, intent and language none leads "
        f"more than {widest} times oftener than another"
    ]


# ---- beside other sets ----------------------------------------------------------------------------------------------


def beside(names: Sequence[str], language: str | None, count: int | None) -> None:
    """Print a line a set, all drawn at one size."""
    sets = {name: held(name, language) for name in names}
    size = count or min(len(found) for found in sets.values())
    print(f"| {size} conversations of | refusals | effective openings | distinct word pairs | nearest: quartiles |")
    print("|---|---:|---:|---:|---|")
    for name, found in sets.items():
        drawn = random.Random(0).sample(found, size)
        said = [c.assistant_turns[0] for c in drawn if c.assistant_turns]
        measured = measure_refusals(said)
        diversity = measure_diversity(drawn)
        quartiles = " / ".join(f"{q:.2f}" for q in diversity.nearest)
        effective = f"{measured.effective:.1f} of {measured.drawn}" if measured.effective else "–"
        print(f"| {Path(name).name} | {measured.refusals} | {effective} | {diversity.distinct_2:.2f} | {quartiles} |")


def held(name: str, language: str | None) -> list[Conversation]:
    """The conversations of a run or a file, of one language where one is named."""
    if Path(name, "run.sqlite").exists():
        with Store.read(Path(name)) as store:
            found = list(store.conversations())
    else:
        found = list(read_conversations(name).conversations)
    return [c for c in found if language is None or (c.language or guess_language(c.user_turns[0])) == language]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True, dest="part")
    planned = parts.add_parser("plan", help="write a plan on the test server and count what it holds")
    planned.add_argument("-n", type=int, default=600)
    planned.add_argument("--language", default="en,zh")
    compared = parts.add_parser("beside", help="how varied sets are at one size")
    compared.add_argument("sets", nargs="+", metavar="RUN|FILE")
    compared.add_argument("--language")
    compared.add_argument("-n", type=int, help="conversations of each (default: as many as the smallest has)")
    options = parser.parse_args()
    if options.part == "plan":
        plan(options.n, options.language)
    else:
        beside(options.sets, options.language, options.n)


if __name__ == "__main__":
    main()
