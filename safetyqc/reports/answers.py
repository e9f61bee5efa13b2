"""What `safetyqc.dedup`, `check` and `compare` hand back: the findings, as rows, a data frame or a block of HTML.

They hold what was found; only the duplicates of a run are read from it when they are asked for, since there may be a
million.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc.reports.notebook import Folder, Rows, to_html
from safetyqc.results.lines import duplicate_lines, places

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.records import Conversation, Duplicate, DuplicateGroup, ReferenceMatch
    from safetyqc.results.compare import Comparison, CriterionComparison, Disagreement
    from safetyqc.results.findings import BadLine, CheckReport, DedupFacts, Dropped

_DROPS = 5


@dataclass(frozen=True)
class Duplicates(Rows):
    """What one dedup found.

    Args:
        counts: how many conversations, groups and drops there are.
        matches: what is near a reference set.
        facts: how near everything is.
        skipped: rows that are no conversation and were left out, each with its index and what is wrong.
        folder: of the run; None where there was none, and places are those in the data.
        read_groups: reads all groups.
        read_conversations: reads everything that was compared, in order.
    """

    counts: Dropped
    matches: tuple[ReferenceMatch, ...]
    facts: DedupFacts
    skipped: tuple[BadLine, ...]
    folder: Folder | None
    read_groups: Callable[[], Sequence[DuplicateGroup]]
    read_conversations: Callable[[], Sequence[Conversation]]

    @cached_property
    def groups(self) -> tuple[DuplicateGroup, ...]:
        """Conversations that say nearly the same: the one kept, and those dropped for it with their similarity."""
        return tuple(self.read_groups())

    @property
    def kept(self) -> list[Conversation]:
        """What stays: no duplicate of another, and not near a reference."""
        gone = {drop.conversation_id for group in self.groups for drop in group.dropped}
        gone |= {match.conversation_id for match in self.matches if match.removed}
        return [c for c in self.read_conversations() if c.id not in gone]

    def nearest(self, count: int) -> list[tuple[str, Duplicate]]:
        """The drops nearest to the threshold, each with the id of the one kept."""
        drops = ((group.kept, drop) for group in self.groups for drop in group.dropped)
        return nsmallest(count, drops, key=lambda pair: pair[1].similarity)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A group each, then a match each: the lines of `safetyqc dedup --jsonl`."""
        return list(self.lines())

    def lines(self) -> Iterator[dict[str, Any]]:
        """The same, one by one."""
        everything = self.read_conversations()
        at = places(everything, of_data=self.folder is None)
        index = {c.id: place for c, place in zip(everything, at, strict=True)}
        return duplicate_lines(self.groups, self.matches, index)

    def _table(self) -> list[dict[str, Any]]:
        """A row a drop."""
        return [
            {"kept": line["kept"], **drop} for line in self.lines() if "dropped" in line for drop in line["dropped"]
        ]

    def render(self, show: int = 0, *, unmask: bool = False) -> RenderableType:
        """Draw the counts, and `show` of the drops nearest to the threshold with their texts."""
        from safetyqc.reports.duplicates import MATCHES, render_duplicates

        drops = self.nearest(show) if show else []
        wanted = {name for kept, drop in drops for name in (kept, drop.conversation_id)}
        texts = {c.id: c for c in self.read_conversations() if c.id in wanted} if wanted else {}
        most = max(show, MATCHES)
        return render_duplicates(self.counts, self.facts, drops, texts, self.matches, most=most, unmask=unmask)

    def __len__(self) -> int:
        return self.counts.groups

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        found = self.counts
        counts = f"{found.conversations:,} conversations, {found.groups:,} groups, {found.dropped:,} dropped"
        return f"<Duplicates: {counts}>"

    def _repr_html_(self) -> str:
        return to_html(self.render(_DROPS), _left_out(self.skipped))


@dataclass(frozen=True)
class Checked(Rows):
    """What a check without any model found; `report` has everything, as typed records."""

    report: CheckReport

    def to_dicts(self) -> list[dict[str, Any]]:
        """A kind of finding each: of what (`structure` or `rules`), its name, how often, and where."""
        found = {"structure": self.report.structure, "rules": self.report.rules}
        return [{"of": of, **finding.model_dump(mode="json")} for of, all_ in found.items() for finding in all_]

    @property
    def skipped(self) -> tuple[BadLine, ...]:
        """Records that could not be read at all."""
        return self.report.unreadable

    def __repr__(self) -> str:
        report = self.report
        copies = report.exact.dropped + (report.near.dropped if report.near else 0)
        found = f"{report.clean:,} clean, {report.rejected:,} rejected, {copies:,} copies"
        return f"<Checked: {report.records:,} records, {report.conversations:,} conversations, {found}>"

    def render(self, *, explain: bool = False) -> RenderableType:
        """Draw everything that was found; with `explain`, also how the data was read."""
        from safetyqc.reports.check import render_check

        return render_check(self.report, explain=explain)

    def _repr_html_(self) -> str:
        return to_html(self.render())


@dataclass(frozen=True)
class Compared(Rows):
    """Judges beside each other and beside labels; `comparison` has everything, as typed records."""

    comparison: Comparison
    disagree: Callable[[int | None], list[Disagreement]]

    def disagreements(self, limit: int | None = None) -> list[Disagreement]:
        """Where judges differ, those that contradict the labels first; None gives all."""
        return self.disagree(limit)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write all disagreements as one page.

        Raises:
            OutputError: it cannot be written.
        """
        from safetyqc.formats.writing import write_text
        from safetyqc.reports.compare_page import comparison_page

        write_text(Path(path), comparison_page(self.comparison, self.disagreements()))

    def to_dicts(self) -> list[dict[str, Any]]:
        """A row a criterion and judge: its counts and pass rate, and how it does against the labels, if there are."""
        return [row for criterion in self.comparison.criteria for row in _rows(criterion)]

    def __repr__(self) -> str:
        compared = self.comparison
        judges = ", ".join(compared.judges)
        return f"<Compared: {judges} on {compared.conversations:,} conversations, {compared.labelled:,} labelled>"

    def _repr_html_(self) -> str:
        from safetyqc.reports.compare import render_comparison

        return to_html(render_comparison(self.comparison))


def _rows(criterion: CriterionComparison) -> Iterator[dict[str, Any]]:
    accuracies = {accuracy.rater: accuracy for accuracy in criterion.accuracies}
    for counts in criterion.counts:
        rate, found = counts.pass_rate, accuracies.get(counts.rater)
        yield {
            "criterion": criterion.criterion,
            **counts.model_dump(mode="json", include={"rater", "applicable", "passed", "failed", "unscored", "na"}),
            "rate": rate.value if rate else None,
            "low": rate.low if rate else None,
            "high": rate.high if rate else None,
            "labels": found.n if found else 0,
            "agreement": found.agreement if found else None,
            "kappa": found.kappa.value if found and found.kappa else None,
            "recall_fail": found.recall_fail if found else None,
            "precision_fail": found.precision_fail if found else None,
        }


def _left_out(skipped: Sequence[BadLine]) -> list[str]:
    return [f"{bad.path}[{bad.index}]: {bad.what}" for bad in skipped]
