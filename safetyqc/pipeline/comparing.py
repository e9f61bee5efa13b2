"""Gathers what is to be compared: a run's judgments, verdicts and labels that a file recorded, label files.

It computes nothing itself. Of a judge that used several rubrics in this run, only the
judgments by the run's present rubric are taken; judgments by another one would not be comparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import InputError, UserError
from safetyqc.formats.labels import Partial, read_labels, read_recorded
from safetyqc.pipeline.cards import read_cards
from safetyqc.pipeline.correcting import by_draws, usable_labels
from safetyqc.pipeline.labelling import check_partial, meeting, read_label_files
from safetyqc.records import AGAIN
from safetyqc.reports.grouping import guesser_of, name_groups
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.results.compare import Counted
from safetyqc.results.labelled import doubts
from safetyqc.review.draws import Draw, read_draws
from safetyqc.store import FILE_NAME, Store
from safetyqc.store.standing import deciding_judge

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.judge.ratings import Ratings
    from safetyqc.records import Conversation, Judgment, Label
    from safetyqc.reports.views import Run
    from safetyqc.results.card import JudgeCard
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
    runs: Sequence[Run],
    *,
    truth: str | None = None,
    partial: str = "pass",
    shared_only: bool = False,
    by: Sequence[str] = (),
) -> Gathered:
    """Compare everybody who judged the runs, or the file's conversations.

    Args:
        file: conversations that may hold recorded verdicts and labels of their own; None for those of the runs.
        label_files: further labels, matched by messages or id.
        runs: whose judgments count; of a file's conversations alone where there is one, and a run that is not there
            then says nothing.
        by: facts or keys of the conversations by which the same is compared.

    Raises:
        UserError: two runs hold judgments of one judge, or no conversation has such a key.
        NotComparableError: it does not describe the same thing, or there is nothing.
    """
    way = check_partial(partial)
    conversations, judgments, labels = _of_file(file, way) if file else ([], [], [])
    aside, draws = list[str](), list[Draw]()
    views = list({view.run: view for view in runs}.values())
    for run in (view for view in views if file is None or (view.run / FILE_NAME).exists()):
        told, drawn = _add_run(run, conversations, judgments, labels, of_file=file is not None)
        aside, draws = [*aside, *told], [*draws, *drawn]
    if label_files:
        files = read_label_files(label_files, conversations, config, partial=way)
        labels = _latest([*labels, *(label for found in files for label in found.labels)])
    from safetyqc.judge.compare import compare
    from safetyqc.judge.ratings import align
    from safetyqc.judge.spread import with_differences
    from safetyqc.rubrics import load_rubric_set

    rule = load_rubric_set(config.judge.rubric).passed
    comparison = compare(judgments, labels, truth=truth, shared_only=shared_only, overall_rule=rule)
    if by or (draws and labels):
        ratings = align(judgments, labels, truth=truth, shared_only=shared_only, overall_rule=rule)
        comparison = by_draws(comparison, ratings, labels, draws) if draws and labels else comparison
        comparison = _by_fields(comparison, ratings, by, conversations, judgments, views)
    shared = {j.conversation_id for j in judgments}
    about = _about_labels([c for c in conversations if c.id in shared], labels, aside)
    counted = tuple(_counted(run, shared) for run in views) if file is None else ()
    comparison = comparison.model_copy(update={"notes": (*comparison.notes, *about), "counted": counted})
    return Gathered(with_differences(comparison, _cards(views)), judgments, labels, conversations, truth, shared_only)


def _by_fields(
    comparison: Comparison,
    ratings: Ratings,
    fields: Iterable[str],
    conversations: Sequence[Conversation],
    judgments: Iterable[Judgment],
    runs: Iterable[Run],
) -> Comparison:
    """Compare by each field; what neither plan nor file tells is what the deciding judge of the run saw."""
    from safetyqc.judge.grouped import compare_groups

    deciding = {name for run in runs if (name := _decider(run))}
    verdicts = {j.conversation_id: j for j in judgments if j.judge in deciding}
    rated, found = set(ratings.ids), []
    for by in fields:
        groups = name_groups(by, conversations, verdicts)
        names, guessed = {i: name for i, name in groups.names.items() if i in rated}, groups.guessed & rated
        grouped = compare_groups(comparison, ratings, by, names, guessed)
        who = guesser_of(by, ", ".join(sorted(deciding)) or None) if guessed else None
        found.append(grouped.model_copy(update={"guesser": who}))
    return comparison.model_copy(update={"by": tuple(found)})


def _decider(run: Run) -> str | None:
    if not (run.run / FILE_NAME).exists():
        return None
    with Store.read(run.run) as store:
        chosen = deciding_judge(store)
    return chosen[0] if chosen else None


def _about_labels(conversations: Sequence[Conversation], labels: Sequence[Label], aside: Sequence[str]) -> list[str]:
    said = [f"{why}: recall and corrected rates may not hold for the rest" for why in doubts(conversations, labels)]
    return said + [f"not counted: {why}" for why in aside]


def _add_run(
    run: Run, conversations: list[Conversation], judgments: list[Judgment], labels: list[Label], *, of_file: bool
) -> tuple[tuple[str, ...], list[Draw]]:
    """Add what a run holds; says which of its labels do not count, and what was drawn to be labelled."""
    known = {c.id for c in conversations}
    with Store.read(run.run) as store:
        if not of_file:
            conversations += [c for c in run.conversations if c.id not in known]
        ids = known if of_file else {c.id for c in run.conversations}
        found = [j for j in _by_present_rubric(store) if j.conversation_id in ids]
        own = [label for label in store.labels() if label.conversation_id in ids]
        draws = read_draws(store) if own else []
        own, aside = usable_labels(own, (store.meta("rubric") or {}).get("hash"), draws)
        labels += meeting(own, found) if found else own
    twice = {j.judge for j in judgments} & {j.judge for j in found} if not of_file else set()
    if twice:
        fix = "compare runs of different judges; what moved between two runs says report(run, against=other)"
        raise UserError(f"two runs hold judgments of {sorted(twice)[0]!r}", where=str(run.run), fix=fix)
    judgments += found
    return aside, draws


def _cards(runs: Sequence[Run]) -> dict[str, JudgeCard]:
    """The cards that these runs keep, the first run's first."""
    found: dict[str, JudgeCard] = {}
    for run in runs:
        if (run.run / FILE_NAME).exists():
            with Store.read(run.run) as store:
                found = {**read_cards(store), **found}
    return found


def _latest(labels: Iterable[Label]) -> list[Label]:
    """One label of each annotator on a cell: files speak after the run, which could not always be written."""
    cells = {(label.conversation_id, label.criterion, label.annotator): label for label in labels}
    return [label for label in cells.values() if label.is_verdict]


def _counted(run: Run, compared: set[str]) -> Counted:
    """Where the compared conversations of a run stand, as its report counts them."""
    with Store.read(run.run) as store:
        snapshot = read_snapshot(store, bars={})
    found = [c.id for c in snapshot.conversations if c.id in compared]
    return Counted(
        run=str(run.run),
        compared=len(found),
        reported=len(compared & {c.id for c in snapshot.in_play}),
        first_versions=len(compared & {c.id for c in snapshot.first_versions}),
        standings=dict(Counter(snapshot.standings[i].status for i in found).most_common()),
    )


def _of_file(file: str, partial: Partial) -> tuple[list[Conversation], list[Judgment], list[Label]]:
    from safetyqc.formats.readers import read_conversations

    conversations = list(read_conversations(file).conversations)
    try:
        # What a set's makers say is compared here like any judge; as labels it would be held against itself
        labels = read_labels(file, conversations, partial=partial, of_sets=False)
    except InputError as error:
        if error.line is not None:
            raise
        labels = []  # a file without labels is no mistake here: the judges are compared with each other
    return conversations, read_recorded(file, conversations, partial=partial), labels


def _by_present_rubric(store: Store) -> list[Judgment]:
    rubric = store.meta("rubric") or {}
    # A judge asked afresh saw only a sample of rewrites: that is the report's control group, not another judge
    return [j for j in store.judgments(rubric_hash=rubric.get("hash")) if not j.judge.endswith(AGAIN)]
