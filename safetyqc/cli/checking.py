"""Commands that need no model: import, check, filter, dedup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, refuse_overwriting, say, show, show_json, typed, write_jsonl
from safetyqc.cli.reading import Reading
from safetyqc.cli.reading import reading as reading_options
from safetyqc.cli.session import called, hints_of, in_session, is_unjudged, read_files
from safetyqc.config import load_config
from safetyqc.errors import UserError

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session

File = Annotated[
    str, typer.Argument(metavar="FILE", help="Conversations: JSON, CSV, Parquet, Arrow, a folder; - for stdin.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Also say how the file was read: form, columns, what was set aside.")
]
Patterns = Annotated[
    Path | None, typer.Option("--patterns", metavar="FILE", help="Your own filter patterns.", show_default=False)
]
AsciiEnglish = Annotated[
    bool | None,
    typer.Option("--ascii", help="Also reject English conversations with non-ASCII text.", show_default=False),
]

Deduplicated = Annotated[
    str | None, typer.Argument(metavar="FILE", help="A file instead of the run; - for stdin.", show_default=False)
]
On = Annotated[
    str | None, typer.Option("--on", metavar="all|requests|answers", help="Which turns count.", show_default=False)
]
Analyzer = Annotated[
    str | None,
    typer.Option(
        "--analyzer",
        metavar="word|char",
        help="What texts are split into: words and pairs, or runs of 3 and 4 characters.",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="tfidf|tf", help="tf does not depend on the rest of the corpus.", show_default=False
    ),
]
Linkage = Annotated[
    str | None,
    typer.Option("--linkage", metavar="single|complete", help="How pairs become groups.", show_default=False),
]
WithinCategory = Annotated[
    bool | None, typer.Option("--within-category", help="Only within a category.", show_default=False)
]
AgainstMinSimilarity = Annotated[
    float | None,
    typer.Option(
        "--against-min-similarity",
        metavar="SHARE",
        min=0,
        max=1,
        help="Cosine from which one is near a reference (default: 0.6).",
        show_default=False,
    ),
]
AgainstMark = Annotated[
    bool | None,
    typer.Option("--against-mark", help="Only mark what is near a reference, and keep it.", show_default=False),
]
NoAgainst = Annotated[bool, typer.Option("--no-against", help="Forget the references that the run remembers.")]
Refit = Annotated[
    bool | None,
    typer.Option(
        "--refit",
        help="Count anew how rare words are; without it a run keeps its first count, so that old pairs keep their "
        "similarity.",
        show_default=False,
    ),
]
ShowPairs = Annotated[
    int, typer.Option("--show-pairs", metavar="N", min=0, help="Show the N drops nearest to the threshold.")
]
Groups = Annotated[
    Path | None,
    typer.Option(
        "--jsonl",
        metavar="OUT",
        help="Write a line per group (kept and dropped indices) and per match; - for stdout.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(import_file)
    app.command()(check)
    app.command("filter")(filter_conversations)
    app.command()(dedup)


@reading_options
def import_file(
    reading: Reading,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Conversation files; - for stdin.")],
    skip_bad_lines: o.SkipBadLines = False,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Bring conversation files into a run, in any form that docs/formats.md names.

    Example: safetyqc import mine.jsonl theirs.parquet pairs/ --side both
    """
    config = load_config(config_file, {"run": run, **reading})
    with called(config, saves=False):
        results = read_files(files, config, skip_bad_lines=skip_bad_lines, apart=True)

    async def work(session: Session) -> None:
        from safetyqc.pipeline.importing import import_conversations

        for name, result in results:
            say(import_conversations(session, name, result)[0])

    in_session(config, work, create=True)
    next_step(hints_of(config).judge(), f"safetyqc dedup{in_run(config)}", f"safetyqc report{in_run(config)}")


@reading_options
def check(
    reading: Reading,
    file: File,
    ascii_english: AsciiEnglish = None,
    patterns: Patterns = None,
    skip: o.Skip = None,
    min_similarity: o.MinSimilarity = None,
    memory: o.Memory = None,
    skip_bad_lines: o.SkipBadLines = False,
    explain: Explain = False,
    _quiet: o.Quiet = False,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Check a file without any model: structure, rules, duplicates, balance, refusals that all open the same.

    Example: safetyqc check safety_conversations.jsonl
    """
    from safetyqc import api

    flags = {
        "filters.ascii_english": ascii_english,
        "filters.patterns": patterns,
        "filters.skip": tuple(skip) if skip else None,
        "dedup.min_similarity": min_similarity,
        "dedup.memory": memory,
        **reading,
    }
    config = load_config(config_file, flags)
    with called(config, saves=False):
        checked = api.check(file, skip_bad=skip_bad_lines, config=config)
    if as_json:
        show_json(checked.report.model_dump(mode="json"))
        return
    show(checked.render(explain=explain))
    same = typed(file) + (" --skip-bad-lines" if skip_bad_lines else "") + reading.typed
    found = (checked.report.exact, checked.report.near)
    copies = (f"safetyqc dedup {same} --show-pairs 10",) if any(c and c.dropped for c in found) else ()
    next_step(f"safetyqc judge {same}", *copies)


def filter_conversations(
    ascii_english: AsciiEnglish = None,
    patterns: Patterns = None,
    skip: o.Skip = None,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    engine: o.Engine = None,
    workers: o.Workers = None,
    ray_address: o.RayAddress = None,
) -> None:
    """Apply the cheap rules to a run; what they hit is not judged and not exported.

    Example: safetyqc filter --ascii
    """
    from safetyqc import api

    flags = {
        "run": run,
        "filters.ascii_english": ascii_english,
        "filters.patterns": patterns,
        "filters.skip": tuple(skip) if skip else None,
    }
    config = load_config(config_file, flags | o.model_flags(engine=engine, workers=workers, ray_address=ray_address))
    with called(config):
        api.filter(run=config.run, config=config)
    hints = hints_of(config)
    unjudged = (hints.judge(),) if is_unjudged(config) else ()
    next_step(*unjudged, f"safetyqc report{in_run(config)} --section filters")


@reading_options
def dedup(
    reading: Reading,
    file: Deduplicated = None,
    min_similarity: o.MinSimilarity = None,
    on: On = None,
    analyzer: Analyzer = None,
    weights: Weights = None,
    linkage: Linkage = None,
    within_category: WithinCategory = None,
    against: o.Against = None,
    against_min_similarity: AgainstMinSimilarity = None,
    against_mark: AgainstMark = None,
    no_against: NoAgainst = False,
    memory: o.Memory = None,
    refit: Refit = None,
    show_pairs: ShowPairs = 0,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show harmful text.")] = False,
    jsonl: Groups = None,
    skip_bad_lines: o.SkipBadLines = False,
    _quiet: o.Quiet = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
    engine: o.Engine = None,
    workers: o.Workers = None,
    ray_address: o.RayAddress = None,
) -> None:
    """Find near-duplicates by TF-IDF cosine, exactly; the best judged of a group is kept.

    Example: safetyqc dedup data.jsonl --min-similarity 0.85 --jsonl groups.jsonl
    """
    from safetyqc import api

    if no_against and against:
        raise UserError("contradicts --against", where="--no-against", fix="give one of the two")
    flags: dict[str, Any] = {
        "run": run,
        "dedup.min_similarity": min_similarity,
        "dedup.on": on,
        "dedup.analyzer": analyzer,
        "dedup.weights": weights,
        "dedup.linkage": linkage,
        "dedup.within_category": within_category,
        "dedup.against": () if no_against else tuple(against) if against else None,
        "dedup.against_min_similarity": against_min_similarity,
        "dedup.against_mark": against_mark,
        "dedup.memory": memory,
        "dedup.refit": refit,
        **reading,
    }
    config = load_config(config_file, flags | o.model_flags(engine=engine, workers=workers, ray_address=ray_address))
    refuse_overwriting({"--jsonl": jsonl}, file, config_file, config=config)
    with called(config, saves=False):
        found = api.dedup(file, run=config.run if file is None else None, skip_bad=skip_bad_lines, config=config)
    if jsonl:
        write_jsonl(jsonl, map(json.dumps, found.lines()), "line")
    if str(jsonl) != "-":
        show(found.render(show_pairs, unmask=unmask))
    same = f"{typed(file or '')}{' --skip-bad-lines' if skip_bad_lines else ''}{reading.typed}"
    next_step(f"safetyqc report{in_run(config)}" if file is None else f"safetyqc judge {same}")
