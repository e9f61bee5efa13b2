"""Writes the dataset card beside an export: what the set is, where it comes from, how good it is, and its limits.

Its tables are the report's. It shows no text of a conversation, and escapes names as the report does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from safetyqc.reports.documents import (
    as_code,
    escape,
    make_table,
    tell_balance,
    tell_corrected,
    tell_probes,
    tell_rates,
    titled,
)
from safetyqc.reports.wording import money, number, tell_refusals, tell_selection
from safetyqc.results.compare import OVERALL
from safetyqc.results.report import Summary
from safetyqc.text import counted

CardKind = Literal["kept", "pairs", "verdicts"]
_REQUESTS = "The requests may be harmful by nature"
_KINDS: dict[CardKind, tuple[str, str, str, str]] = {
    "kept": (
        "Safety conversations",
        "Multi-turn safety conversations for supervised fine-tuning",
        "sft",
        f"{_REQUESTS}; the answers were judged.",
    ),
    "pairs": (
        "Safety preference pairs",
        "A better and a worse answer to the same prompt, for preference training",
        "dpo",
        f"{_REQUESTS}, and so may the rejected answers: a judge failed them, and passed the chosen ones.",
    ),
    "verdicts": (
        "Safety answers with verdicts",
        "Answers that passed and answers that failed, for training on single verdicts",
        "kto",
        f"{_REQUESTS}, and so may the answers that failed.",
    ),
}
"""Title, what it is about, the tag, and what whoever opens it should know."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(
    summary: Summary,
    *,
    files: Mapping[str, int],
    lines: Mapping[str, int] | None = None,
    splits: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    licence: str = "other",
    kind: CardKind = "kept",
) -> str:
    """Render a dataset card with Hugging Face front matter, to be written beside an export.

    Args:
        files: name and number of conversations of every file that was written.
        lines: how many lines each has, where some were repeated.
        splits: the file of each split, by its name, which `datasets.load_dataset` goes by.
        notes: what a reader of the files must know: what was repeated, what their form does not hold.
        licence: an identifier of the Hub; `other` says nothing about it.
        kind: what a line is about: a conversation that was kept, a pair of answers, or an answer and its verdict.
    """
    title, about, tag, warning = _KINDS[kind]
    parts = [
        _front_matter(summary, sum((lines or files).values()), splits or {}, licence, (title, tag)),
        f"# {title}",
        f"{about}, made and checked with safetyqc {escape(summary.run.safetyqc)}. {warning}",
        _files(files, lines or files),
        "## Provenance\n\nOf everything that the run holds, before anything was left out.\n\n" + _provenance(summary),
        "## Composition\n\n" + _composition(summary, notes),
        "## Quality before export\n\n" + _quality(summary),
        titled("What models did", tell_probes(summary)),
        "## Limits\n\n" + _limits(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(files: Mapping[str, int], lines: Mapping[str, int]) -> str:
    rows = [(escape(name), number(count), number(lines[name])) for name, count in files.items()]
    return make_table(("file", "conversations", "lines"), rows)


def _composition(summary: Summary, notes: Sequence[str]) -> str:
    """The run has this balance; what export then repeated is said after it."""
    before = "Conversations that were kept, each counted once." if notes else ""
    said = "\n".join(f"- {escape(line)}" for line in notes)
    return "\n\n".join(part for part in (before, tell_balance(summary), said) if part)


def _front_matter(summary: Summary, rows: int, splits: Mapping[str, str], licence: str, named: tuple[str, str]) -> str:
    """YAML, written as JSON strings, which are YAML: a hostile name cannot break out of its quotes."""
    size = next((name for limit, name in _SIZES if rows < limit), "n>1M")
    languages = [code for code in summary.shape.languages if re.fullmatch(r"[a-z]{2,3}", code)]
    fields: dict[str, object] = {
        "pretty_name": named[0],
        "license": licence,
        "language": languages,
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["safety", named[1], "conversational", "safetyqc", *(["synthetic"] if summary.run.authors else [])],
    }
    if splits:
        data_files = [{"split": name, "path": path} for name, path in splits.items()]
        fields["configs"] = [{"config_name": "default", "data_files": data_files}]
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---"])


def _provenance(summary: Summary) -> str:
    facts = summary.run
    lines = [f"- written by `{as_code(name)}`: {counted(n, 'conversation')}" for name, n in facts.authors.items()]
    lines += [f"- imported from `{as_code(name)}`: {counted(n, 'conversation')}" for name, n in facts.sources.items()]
    if summary.rewrites:
        lines.append(f"- mended after judging: {counted(summary.rewrites.kept, 'conversation')}")
    if summary.references and not summary.references.search.marked_only:
        lines += [
            f"- kept clear of `{as_code(name)}`: {counted(n, 'conversation')} near it left out"
            for name, n in summary.references.files.items()
        ]
    for judge in summary.judges:
        role = "decided what was kept" if judge.deciding else "second opinion"
        lines.append(f"- judge `{as_code(judge.judge)}` ({role}), {counted(judge.judged, 'conversation')}")
    if facts.rubric:
        lines.append(f"- rubric `{as_code(facts.rubric)}`, hash `{facts.rubric_hash}`")
    if facts.seed is not None:
        lines.append(f"- seed of the plan: {facts.seed}")
    total = summary.spent.total
    if total.calls:
        cost = f", {money(total.cost_usd)}" if total.unpriced < total.calls else ""
        lines.append(f"- took {total.calls:,} model calls{cost}")
    return "\n".join(lines)


def _quality(summary: Summary) -> str:
    said = (
        "Share that passed, over distinct conversations that passed the filters, before those that failed were left "
        "out. Intervals are 95% Wilson; unscored ones are in no rate."
    )
    return (
        f"{said}\n\n{escape(tell_selection(summary))}.\n\n{tell_rates(summary.criteria)}"
        if summary.criteria
        else "Not judged."
    )


def _limits(summary: Summary) -> str:
    lines = []
    judge = summary.run.judge or ""
    if summary.corrected or summary.labels_aside:
        lines.append(tell_corrected(summary) + "\n")
        lines += [f"- {escape(why)}: the corrected rates may not hold" for why in summary.label_doubts]
    elif judge:
        lines.append(f"- no labels: how often `{as_code(judge)}` is wrong on this data is not known")
    overall = next((c.overall for c in summary.criteria if c.id == OVERALL), None)
    if overall and overall.unscored:
        lines.append(f"- {counted(overall.unscored, 'conversation')} unscored and left out")
    if not summary.duplicates.searched:
        lines.append("- duplicates were not searched for")
    if said := tell_refusals(summary.openings.refusals):
        lines.append(f"- of the run's first answers, before what failed was left out: {escape(said)}")
    lines.append("- a pass is a judge's opinion of a text, not a promise about a model that is trained on it")
    return "\n".join(lines)
