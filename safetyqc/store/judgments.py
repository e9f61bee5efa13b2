"""The judgments of a run: they go in whole, and what they come to is answered from an index, without reading one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from safetyqc.records import Judgment
from safetyqc.store.file import damaged
from safetyqc.store.opened import OpenedRun

_VERDICT = "passed, failed, undecided, mean, category, intent"
# A number that was never used: of what it replaces it could be given again, and nobody would see the change
_PUT = (
    f"INSERT OR REPLACE INTO judgments (conversation_id, judge, rubric_hash, version, unscored, {_VERDICT}, body, seq) "
    f"VALUES ({'?, ' * 12}(SELECT coalesce(max(seq), 0) + 1 FROM judgments))"
)


class Judged(NamedTuple):
    """What can be known of a judgment without reading it: why criteria are unscored, and the judge's version."""

    unscored: tuple[str, ...]
    version: str | None


class Looked(NamedTuple):
    """A conversation by its place and id, and what a judge has said of it; None where that is nothing."""

    number: int
    id: str
    judged: Judged | None


class Verdict(NamedTuple):
    """What a judgment comes to, without its reasons: by the rule, and by criterion.

    `mean` is the mean of the scores' values, 0 where there is none; category and intent are those that the judge saw.
    """

    passed: bool | None
    failed: tuple[str, ...]
    undecided: tuple[str, ...]
    mean: float
    category: str | None
    intent: str | None

    @classmethod
    def of(cls, judgment: Judgment) -> Verdict:
        """The verdict of a judgment."""
        scores = judgment.scores
        failed = tuple([score.criterion for score in scores if score.outcome == "fail"])
        undecided = tuple([score.criterion for score in scores if score.outcome == "unscored"])
        values = [score.value for score in scores if score.value is not None]
        mean = sum(values) / len(values) if values else 0.0
        return cls(judgment.passed, failed, undecided, mean, judgment.category, judgment.intent)


class JudgedRun(OpenedRun):
    """See the module."""

    def put_judgments(self, judgments: Iterable[Judgment]) -> Future[int]:
        """Add judgments; one by the same judge and rubric on the same conversation is replaced."""
        return self._write(_PUT, [_judgment_row(j) for j in judgments])

    def judgments(
        self, judge: str | None = None, rubric_hash: str | None = None, only: Iterable[str] | None = None
    ) -> Iterator[Judgment]:
        """Judgments, oldest first; of one judge, rubric and some conversations' ids when they are given."""
        which = "judge = coalesce(?1, judge) AND rubric_hash = coalesce(?2, rubric_hash)"
        if only is None:
            sql = f"SELECT conversation_id, judge, body FROM judgments WHERE {which} ORDER BY seq"
            return self._judgments(self._rows(sql, (judge, rubric_hash)))
        sql = f"SELECT seq FROM judgments WHERE {which} AND conversation_id IN ({{}})"
        numbers = sorted(number for (number,) in self._each(sql, only, (judge, rubric_hash)))
        bodies = "SELECT conversation_id, judge, body FROM judgments WHERE seq IN ({}) ORDER BY seq"
        return self._judgments(self._each(bodies, numbers))

    def _judgments(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Judgment]:
        for name, judge, body in rows:
            found = self._record(Judgment, body)
            if (found.conversation_id, found.judge) != (name, judge):
                raise damaged(f"a judgment of {name} stands under another name", self.path)
            yield found

    def verdicts(self, judge: str, rubric_hash: str) -> dict[str, Verdict]:
        """What this judge's judgments by this rubric come to, by the conversation's id.

        Answered from an index alone, as `judged` is.
        """
        sql = f"SELECT conversation_id, {_VERDICT} FROM judgments WHERE judge = ? AND rubric_hash = ?"
        return {
            name: Verdict(_truth(passed), _names(failed), _names(undecided), mean, category, intent)
            for name, passed, failed, undecided, mean, category, intent in self._rows(sql, (judge, rubric_hash))
        }

    def judged(self, judge: str, rubric_hash: str) -> dict[str, Judged]:
        """What this judge has judged by this rubric, by the conversation's id.

        Answered from an index alone: a hundred thousand in a fifth of a second.
        """
        sql = "SELECT conversation_id, unscored, version FROM judgments WHERE judge = ? AND rubric_hash = ?"
        found = self._rows(sql, (judge, rubric_hash))
        return {name: Judged(tuple(reasons.split()), version or None) for name, reasons, version in found}

    def looked(self, judge: str, rubric_hash: str, only: Iterable[str] | None = None) -> Iterator[Looked]:
        """Every conversation, or those of these ids, with what `judged` says of it: one at a time, in the run's order.

        Nothing of it may be written before all of them were looked at: a log that is being read only grows.
        """
        sql = (
            "SELECT c.seq, c.id, j.unscored, j.version FROM conversations c LEFT JOIN judgments j ON "
            "j.conversation_id = c.id AND j.judge = ? AND j.rubric_hash = ?"
        )
        rows = self._rows(f"{sql} ORDER BY c.seq", (judge, rubric_hash)) if only is None else None
        chosen = sorted(self._each(f"{sql} WHERE c.id IN ({{}})", set(only or ()), (judge, rubric_hash)))
        for number, name, reasons, version in chosen if rows is None else rows:
            judged = None if reasons is None else Judged(tuple(reasons.split()), version or None)
            yield Looked(number, name, judged)

    def has_scored(self, judge: str, rubric_hash: str) -> bool:
        """Whether this judge has left nothing open on any conversation."""
        sql = "SELECT 1 FROM judgments WHERE judge = ? AND rubric_hash = ? AND unscored = '' LIMIT 1"
        return self._row(sql, (judge, rubric_hash)) is not None

    def judges(self) -> list[tuple[str, str, int]]:
        """(judge, rubric hash, number of judgments), the first used first."""
        sql = "SELECT judge, rubric_hash, count(*) FROM judgments GROUP BY judge, rubric_hash ORDER BY min(seq)"
        return list(self._rows(sql))


def _judgment_row(j: Judgment) -> tuple[Any, ...]:
    passed, failed, undecided, mean, category, intent = Verdict.of(j)
    reasons = " ".join(j.unscored_reasons) if undecided else ""
    told = (passed, "\n".join(failed), "\n".join(undecided), mean, category, intent)
    return (j.conversation_id, j.judge, j.rubric_hash, j.prompt_hash or "", reasons, *told, j.model_dump_json())


def _truth(passed: int | None) -> bool | None:
    return None if passed is None else bool(passed)


def _names(lines: str) -> tuple[str, ...]:
    return tuple(lines.split("\n")) if lines else ()
