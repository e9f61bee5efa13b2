"""Gathers what is to be compared: a run's judgments, verdicts and labels that a file recorded, label files.

It computes nothing itself. The one surprising thing: of a judge that used several rubrics in this run, only the
judgments by the run's present rubric are taken; judgments by another one would not be comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetyqc.errors import InputError, UserError, choose_from
from safetyqc.formats.labels import Partial, read_labels, read_recorded
from safetyqc.records import AGAIN
from safetyqc.store import FILE_NAME, Store

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.records import Conversation, Judgment, Label
    from safetyqc.results.compare import Comparison, Disagreement


@dataclass(frozen=True)
class Gathered:
    """A comparison and what it was made from."""

    comparison: Comparison
    judgments: Sequence[Judgment]
    labels: Sequence[Label]
    conversations: Sequence[Conversation]
    truth: str | None
    shared_only: bool

    def disagreements(self, limit: int | None) -> list[Disagreement]:
        """Where raters differ, those that contradict the truth first; None gives all."""
        from safetyqc.judge.compare import disagreements

        return disagreements(
            self.judgments,
            self.conversations,
            self.labels,
            limit=limit,
            truth=self.truth,
            shared_only=self.shared_only,
        )


def gather(
    config: Config,
    file: str | None,
    label_files: Sequence[Path],
    *,
    truth: str | None = None,
    partial: str = "pass",
    shared_only: bool = False,
) -> Gathered:
    """Compare everybody who judged the run, or the file's conversations.

    Args:
        file: conversations that may hold recorded verdicts and labels of their own; None for the whole run.
        label_files: further labels, matched by messages or id.

    Raises:
        NotComparableError: there is nothing to compare, or it does not describe the same thing.
    """
    if partial not in ("pass", "fail", "leave_out"):
        raise UserError(
            f"unknown value {partial!r}", where="--partial", fix=choose_from(partial, ("pass", "fail", "leave_out"))
        )
    way = cast(Partial, partial)
    conversations, judgments, labels = _of_file(file, way) if file else ([], [], [])
    if file is None or (config.run / FILE_NAME).exists():
        with Store.read(config.run) as store:
            conversations = conversations or [c for c in store.conversations() if c.origin != "canary"]
            ids = {c.id for c in conversations}
            judgments += [j for j in _by_present_rubric(store) if j.conversation_id in ids]
            labels += [label for label in store.labels() if label.conversation_id in ids]
    for path in label_files:
        labels += read_labels(path, conversations, partial=way)
    from safetyqc.judge.compare import compare
    from safetyqc.rubrics import load_rubric_set

    rule = load_rubric_set(config.judge.rubric).passed
    comparison = compare(judgments, labels, truth=truth, shared_only=shared_only, overall_rule=rule)
    return Gathered(comparison, judgments, labels, conversations, truth, shared_only)


def _of_file(file: str, partial: Partial) -> tuple[list[Conversation], list[Judgment], list[Label]]:
    from safetyqc.formats.readers import read_conversations

    conversations = list(read_conversations(file).conversations)
    try:
        labels = read_labels(file, conversations, partial=partial)
    except InputError as error:
        if error.line is not None:
            raise
        labels = []  # a file without labels is no mistake here: the judges are compared with each other
    return conversations, read_recorded(file, conversations, partial=partial), labels


def _by_present_rubric(store: Store) -> list[Judgment]:
    rubric = store.meta("rubric") or {}
    # A judge asked afresh saw only a sample of rewrites: that is the report's control group, not another judge
    return [j for j in store.judgments(rubric_hash=rubric.get("hash")) if not j.judge.endswith(AGAIN)]
