"""Commands that need no model: import, check, filter, dedup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import in_run, next_step, read, say, show, show_json, typed, write_jsonl
from safetyqc.cli.session import in_session
from safetyqc.config import load_config

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Conversation, DuplicateGroup

File = Annotated[str, typer.Argument(metavar="FILE", help="jsonl, json or jsonl.gz of conversations; - for stdin.")]
Patterns = Annotated[
    Path | None, typer.Option("--patterns", metavar="FILE", help="Your own filter patterns.", show_default=False)
]
AsciiEnglish = Annotated[
    bool | None,
    typer.Option("--ascii", help="Also reject English conversations with non-ASCII text.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(import_file)
    app.command()(check)
    app.command("filter")(filter_conversations)
    app.command()(dedup)


def import_file(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Conversation files; - for stdin.")],
    skip_bad_lines: o.SkipBadLines = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Bring conversation files into a run: nanochat arrays, OpenAI messages, ShareGPT.

    Example: safetyqc import mine.jsonl theirs.jsonl.gz
    """
    from safetyqc.pipeline.order import import_conversations

    config = load_config(config_file, {"run": run})
    results = [(name, read(name, skip_bad_lines=skip_bad_lines)) for name in files]

    async def work(session: Session) -> None:
        for name, result in results:
            say(import_conversations(session, name, result)[0])

    in_session(config, work, create=True)
    next_step(f"safetyqc judge{in_run(config)}", f"safetyqc dedup{in_run(config)}", f"safetyqc report{in_run(config)}")


def check(
    file: File,
    ascii_english: AsciiEnglish = None,
    patterns: Patterns = None,
    min_similarity: o.MinSimilarity = None,
    skip_bad_lines: o.SkipBadLines = False,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Check a file without any model: structure, rules, duplicates, balance, refusals that all open the same.

    Example: safetyqc check safety_conversations.jsonl
    """
    from safetyqc.pipeline.files import check_file

    flags = {
        "filters.ascii_english": ascii_english,
        "filters.patterns": patterns,
        "dedup.min_similarity": min_similarity,
    }
    report = check_file(load_config(config_file, flags), file, skip_bad_lines=skip_bad_lines)
    if as_json:
        show_json(report.model_dump(mode="json"))
        return
    from safetyqc.reports.check import render_check

    show(render_check(report))
    next_step(f"safetyqc judge {typed(file)}", f"safetyqc dedup {typed(file)} --show-pairs 10")


def filter_conversations(
    ascii_english: AsciiEnglish = None,
    patterns: Patterns = None,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Apply the cheap rules to a run; what they hit is not judged and not exported.

    Example: safetyqc filter --ascii
    """
    from safetyqc.pipeline.order import filter_conversations as filter_stage

    flags = {"run": run, "filters.ascii_english": ascii_english, "filters.patterns": patterns}
    config = load_config(config_file, flags)

    async def work(session: Session) -> None:
        say(filter_stage(session))

    in_session(config, work)
    next_step(f"safetyqc judge{in_run(config)}", f"safetyqc report{in_run(config)} --section filters")


def dedup(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A file instead of the run; - for stdin.", show_default=False)
    ] = None,
    min_similarity: o.MinSimilarity = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="all|requests|answers", help="Which turns count.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="tfidf|tf", help="tf does not depend on the rest of the corpus.", show_default=False
        ),
    ] = None,
    linkage: Annotated[
        str | None,
        typer.Option("--linkage", metavar="single|complete", help="How pairs become groups.", show_default=False),
    ] = None,
    within_category: Annotated[
        bool | None, typer.Option("--within-category", help="Only within a category.", show_default=False)
    ] = None,
    show_pairs: Annotated[int, typer.Option("--show-pairs", metavar="N", min=0, help="Show the N nearest pairs.")] = 0,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="OUT",
            help="Write a line per group: kept and dropped indices; - for stdout.",
            show_default=False,
        ),
    ] = None,
    skip_bad_lines: o.SkipBadLines = False,
    run: o.Run = None,
    config_file: o.ConfigFile = None,
) -> None:
    """Find near-duplicates by TF-IDF cosine, exactly; the best judged of a group is kept.

    Example: safetyqc dedup data.jsonl --min-similarity 0.85 --jsonl groups.jsonl
    """
    flags: dict[str, Any] = {
        "run": run,
        "dedup.min_similarity": min_similarity,
        "dedup.on": on,
        "dedup.weights": weights,
        "dedup.linkage": linkage,
        "dedup.within_category": within_category,
    }
    config = load_config(config_file, flags)
    from safetyqc.pipeline.files import dedup_conversations
    from safetyqc.pipeline.stages import dedup_run
    from safetyqc.reports.duplicates import render_duplicates

    conversations: Sequence[Conversation] = []
    groups: Sequence[DuplicateGroup] = []

    async def work(session: Session) -> None:
        nonlocal conversations, groups
        say(dedup_run(session))
        conversations, groups = list(session.store.conversations()), session.store.duplicate_groups()

    if file is not None:
        conversations = read(file, skip_bad_lines=skip_bad_lines).conversations
        groups = dedup_conversations(config, conversations).groups
    else:
        in_session(config, work)
    if jsonl:
        index = {c.id: i for i, c in enumerate(conversations)}
        write_jsonl(jsonl, [json.dumps(_group_line(group, index)) for group in groups], "groups")
    if str(jsonl) != "-":
        show(render_duplicates(groups, conversations, show_pairs))
    next_step(f"safetyqc report{in_run(config)}" if file is None else f"safetyqc judge {typed(file)}")


def _group_line(group: DuplicateGroup, index: dict[str, int]) -> dict[str, Any]:
    dropped = [{"index": index[d.conversation_id], "similarity": round(d.similarity, 6)} for d in group.dropped]
    return {"kept": index[group.kept], "dropped": dropped}
