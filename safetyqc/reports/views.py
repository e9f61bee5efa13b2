"""A run as Python objects: what `safetyqc.judge`, `generate`, `rewrite`, `filter`, `report` and `open_run` hand back.

Each is a view of its run: asked again after another call, it says what stands then. The numbers are the report's: what
is unscored is in no rate, and a duplicate counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safetyqc.records import Failure
from safetyqc.reports.notebook import Folder, Rows, to_html
from safetyqc.results.lines import places, verdict_line
from safetyqc.store import Store

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.formats.readers import ReadResult
    from safetyqc.records import Conversation, DuplicateGroup, Judgment
    from safetyqc.reports.diff import Difference
    from safetyqc.reports.grouping import Rates
    from safetyqc.results.findings import BadLine
    from safetyqc.results.report import Summary

_ABSTAINED = frozenset({"not_reliable", "unsure", "not_shown", "tie", "not_recorded"})
"""Reasons for an unscored criterion with which nothing went wrong: the judge would not guess."""
_AT_A_TIME = 900
_PASSED = {True: "passed", False: "failed", None: "open"}


@dataclass(frozen=True)
class Call:
    """What one call did.

    Args:
        done: results that it gave.
        missing: what was tried and gave none.
        waiting: items that wait for a batch.
        cost_usd: what it cost, as far as prices are known; None where nothing was called.
        read: what it was given, if that was not a run.
    """

    done: int = 0
    missing: int = 0
    waiting: int = 0
    cost_usd: float | None = None
    read: ReadResult | None = None


@dataclass(frozen=True)
class Unscored:
    """A conversation on which the deciding judge left something open; `reasons` by criterion."""

    index: int
    id: str
    reasons: dict[str, str]


class Run(Rows):
    """A run, or some of its conversations.

    Args:
        folder: of the run.
        call: what was done.
        ids: of the conversations to look at, in input order; None for all but canaries, in that of the run.
        judge: whose verdicts; None for those of the judge that decides.
    """

    sections: ClassVar[tuple[str, ...] | None] = None
    """Of the report, which a notebook shows; None for all."""
    stage: ClassVar[str | None] = None
    """Whose failures `failures` names; None for every stage's."""

    def __init__(
        self, folder: Folder, call: Call | None = None, ids: Sequence[str] | None = None, judge: str | None = None
    ) -> None:
        self.folder, self.ids, self.judge = folder, ids, judge
        self.call = call or Call()

    @property
    def run(self) -> Path:
        """The run's folder; a temporary one is there as long as anything that looks at it."""
        return self.folder.path

    @property
    def skipped(self) -> tuple[BadLine, ...]:
        """Rows that are no conversation and were left out, each with its index and what is wrong."""
        return self.call.read.skipped if self.call.read else ()

    @property
    def waiting(self) -> int:
        """How many items wait for a batch."""
        return self.call.waiting

    @property
    def cost_usd(self) -> float:
        """What this call cost, or all that the run cost where it was only opened, as far as prices are known."""
        if self.call.cost_usd is not None:
            return self.call.cost_usd
        with self._open() as store:
            return store.spent_usd()

    @property
    def conversations(self) -> list[Conversation]:
        """The conversations."""
        with self._open() as store:
            return self._conversations(store)

    @property
    def groups(self) -> list[DuplicateGroup]:
        """Duplicate groups of the run's last dedup."""
        with self._open() as store:
            return store.duplicate_groups()

    @property
    def failures(self) -> list[Failure]:
        """What was tried and gave nothing: drafts, rewrites, and criteria on which a call to the judge went wrong."""
        with self._open() as store:
            of_stages = list(store.failures(self.stage))
            of_judge = [f for pair in self._judged(store) for f in _failures(*pair)]
        return [*of_stages, *(of_judge if self.stage in (None, "judge") else ())]

    @property
    def unscored(self) -> list[Unscored]:
        """Conversations without a whole verdict: never judged, or with criteria on which the judge gave nothing."""
        found = (Unscored(index, c.id, _open_cells(judgment)) for index, c, judgment in self._verdicts())
        return [one for one in found if one.reasons]

    def rates(self, by: str | None = None) -> Rates:
        """How often what is in passed, by criterion, with 95% intervals; the report's numbers.

        Args:
            by: `category`, `intent`, `language`, `author`, `origin`, or any key of the rows' `meta`; None for all
                together.

        Raises:
            UserError: no conversation has such a key.
        """
        from safetyqc.reports.grouping import count_rates
        from safetyqc.reports.snapshot import read_snapshot

        with self._open() as store:
            return count_rates(read_snapshot(store, self.judge, only=self.ids, bars={}), by)

    def summary(self) -> Summary:
        """Everything that a report says of these conversations, as typed records."""
        from safetyqc.reports.summary import summarise

        with self._open() as store:
            return summarise(store, self.judge, only=self.ids)

    def judgments(self) -> list[Judgment]:
        """All judgments of the run, by every judge, canaries' among them."""
        with self._open() as store:
            return list(store.judgments())

    @property
    def judges(self) -> int:
        """How many judges have judged the run, found without reading a judgment."""
        with self._open() as store:
            return len({name for name, _, _ in store.judges()})

    def render(self) -> RenderableType:
        """Draw what the terminal shows of this."""
        from safetyqc.reports.terminal import render_report

        sections = list(self.sections) if self.sections is not None else None
        return render_report(self.summary(), sections=sections, say_empty=False)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A verdict a conversation: the lines of `safetyqc judge --jsonl`."""
        return list(self.lines())

    def lines(self) -> Iterator[dict[str, Any]]:
        """The same, read some hundreds at a time: those of millions need not be held."""
        from safetyqc.store.standing import deciding_judge

        with self._open() as store:
            chosen = deciding_judge(store, self.judge)
            ids = [p.id for p in store.placed() if p.origin != "canary"] if self.ids is None else self.ids
            index = self._places(len(ids))
            for start in range(0, len(ids), _AT_A_TIME):
                part = ids[start : start + _AT_A_TIME]
                found = {c.id: c for c in store.conversations(set(part))}
                judgments = {j.conversation_id: j for j in store.judgments(*chosen, only=part)} if chosen else {}
                for place, name in zip(index[start : start + _AT_A_TIME], part, strict=True):
                    yield verdict_line(place, found[name], judgments.get(name))

    def _table(self) -> list[dict[str, Any]]:
        return [_flat(*row) for row in self._verdicts()]

    def __len__(self) -> int:
        return len(self.to_dicts())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        facts = ", ".join(f"{count:,} {name}" for name, count in self._counts().items() if count)
        return f"<{type(self).__name__}: {facts or 'nothing'}; run {str(self.run)!r}>"

    def _repr_html_(self) -> str:
        return to_html(self.render(), [f"{bad.path}[{bad.index}]: {bad.what}" for bad in self.skipped])

    def _counts(self) -> dict[str, int]:
        verdicts = list(self._verdicts())
        passed = Counter(_PASSED[j.passed] if j else "not judged" for _, _, j in verdicts)
        return {"conversations": len(verdicts), **passed, "skipped": len(self.skipped), "waiting": self.waiting}

    def _open(self) -> Store:
        return Store.read(self.run)

    def _conversations(self, store: Store) -> list[Conversation]:
        if self.ids is None:
            return [c for c in store.conversations() if c.origin != "canary"]
        found = {c.id: c for c in store.conversations(set(self.ids))}
        return [found[name] for name in self.ids]

    def _judged(self, store: Store) -> list[tuple[Conversation, Judgment | None]]:
        from safetyqc.store.standing import deciding_judgments

        verdicts = {j.conversation_id: j for j in deciding_judgments(store, self.judge)}
        return [(c, verdicts.get(c.id)) for c in self._conversations(store)]

    def _verdicts(self) -> Iterator[tuple[int, Conversation, Judgment | None]]:
        with self._open() as store:
            judged = self._judged(store)
        index = self._places(len(judged))
        return ((i, c, j) for i, (c, j) in zip(index, judged, strict=True))

    def _places(self, count: int) -> list[int]:
        """Places in what was handed in: the run may know a conversation from another file, at another place."""
        return places(self.call.read.conversations, of_data=True) if self.call.read else list(range(count))


class Verdicts(Run):
    """What the judge that was asked says of each conversation, in input order."""

    sections = ("headline", "rates", "reasons")
    stage = "judge"
    manifest: dict[str, Any] | None = None
    """Of the files that verdicts were written into, where a folder was judged file by file."""


class Written(Run):
    """Conversations that were written by a plan; `failures` names the drafts that became none."""

    sections = ("headline", "balance", "missing")
    stage = "generate"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Every conversation with where it came from."""
        return [c.model_dump(mode="json") for c in self.conversations]

    def _table(self) -> list[dict[str, Any]]:
        return self.to_dicts()

    def _counts(self) -> dict[str, int]:
        return {"written": len(self.conversations), "without a result": self.call.missing, "waiting": self.waiting}


class Rewritten(Run):
    """What rewriting tried: every attempt of the run, whether it was kept, and why."""

    sections = ("headline", "rewrites")
    stage = "rewrite"

    def to_dicts(self) -> list[dict[str, Any]]:
        """An attempt each."""
        with self._open() as store:
            return [rewrite.model_dump(mode="json") for rewrite in store.rewrites()]

    def _table(self) -> list[dict[str, Any]]:
        return self.to_dicts()

    def _counts(self) -> dict[str, int]:
        kept = Counter("kept" if attempt["kept"] else "not kept" for attempt in self.to_dicts())
        return {"attempts": kept.total(), **kept, "waiting": self.waiting}


class Filtered(Run):
    """Which cheap rules hit which conversation."""

    sections = ("headline", "filters")

    def to_dicts(self) -> list[dict[str, Any]]:
        """A hit each, with the index of its conversation."""
        with self._open() as store:
            conversations, hits = self._conversations(store), list(store.rejections())
        place = {c.id: i for i, c in zip(self._places(len(conversations)), conversations, strict=True)}
        return [{"index": place[h.conversation_id], **h.model_dump()} for h in hits if h.conversation_id in place]

    def _table(self) -> list[dict[str, Any]]:
        return self.to_dicts()

    def _counts(self) -> dict[str, int]:
        hit = len({row["index"] for row in self.to_dicts()})
        total = len(self.conversations)
        return {"conversations": total, "pass": total - hit, "rejected": hit, "skipped": len(self.skipped)}


class Report(Run):
    """Everything that a report says about a run.

    Args:
        files: the pages that were written.
        difference: what moved since another run, if that was asked.
    """

    def __init__(
        self, folder: Folder, summary: Summary, files: Sequence[Path] = (), difference: Difference | None = None
    ) -> None:
        super().__init__(folder)
        self._summary, self.files, self.difference = summary, tuple(files), difference

    def summary(self) -> Summary:
        """Everything, as typed records."""
        return self._summary

    def to_json(self) -> str:
        """The JSON of `safetyqc report --json`."""
        from safetyqc.reports.summary import to_json

        return to_json(self._summary, self.difference)


def _open_cells(judgment: Judgment | None) -> dict[str, str]:
    if judgment is None:
        return {"overall": "not judged"}
    return {s.criterion: s.unscored_reason or "unscored" for s in judgment.scores if s.outcome == "unscored"}


def _failures(conversation: Conversation, judgment: Judgment | None) -> Iterator[Failure]:
    for score in judgment.scores if judgment else ():
        kind = score.unscored_reason
        if judgment and score.outcome == "unscored" and kind and kind not in _ABSTAINED:
            reason = f"{score.criterion}: {score.reason}"
            model = judgment.model or judgment.judge
            yield Failure(
                stage="judge",
                record_id=conversation.id,
                kind=kind,
                reason=reason,
                category=conversation.category,
                model=model,
            )


def _flat(index: int, conversation: Conversation, judgment: Judgment | None) -> dict[str, Any]:
    """One row of a data frame: what is known of the conversation, then two columns a criterion."""
    category, intent = (judgment.category, judgment.intent) if judgment else (None, None)
    row: dict[str, Any] = {
        "index": index,
        "id": conversation.id,
        "category": conversation.category or category,
        "intent": conversation.intent or intent,
        "language": conversation.language,
        "passed": judgment.passed if judgment else None,
    }
    for score in judgment.scores if judgment else ():
        row[score.criterion] = score.outcome
        row[f"{score.criterion}.reason"] = score.reason or score.unscored_reason or ""
    return row
