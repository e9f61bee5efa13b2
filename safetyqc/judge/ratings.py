"""Judgments and labels in, one aligned table out: conversations by raters, a code for every cell.

Refuses to align what does not describe the same thing. Computes no statistics. Imports numpy at module top: only what
compares judges imports it. A cell that a rater was never asked for (`ABSENT`) is not
unscored; it belongs to no count at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from safetyqc.errors import NotComparableError, choose_from
from safetyqc.formats.labels import RECORDED, TRUTH
from safetyqc.records import Judgment, Label, Outcome, Score
from safetyqc.results.compare import OVERALL

FAIL, PASS, NA, UNSCORED, ABSENT = range(5)
CODES: dict[Outcome, int] = {"fail": FAIL, "pass": PASS, "na": NA, "unscored": UNSCORED}
OUTCOMES: dict[int, Outcome] = {code: outcome for outcome, code in CODES.items()}
MAJORITY = "majority"
LAST_WORD = (TRUTH, "final", "gold", "adjudicated", "consensus", MAJORITY)
"""Names of annotators whose label is the truth when several labelled the same cells."""

Codes = npt.NDArray[np.int8]
OverallRule = Callable[[Iterable[Score]], bool | None]
"""Scores of one conversation in, whether it passes out (None: open): `RubricSet.passed` is one."""


@dataclass(frozen=True)
class Ratings:
    """Cells of every rater, aligned: `codes[rater][criterion]` is an array over `ids`.

    `reasons[judge, criterion]` says why rows are unscored. `criteria` ends with OVERALL. `truth` is None without
    labels; a truth by majority is a rater of its own.
    """

    rubric: str
    rubric_hash: str
    ids: list[str]
    criteria: list[str]
    judges: list[str]
    annotators: list[str]
    truth: str | None
    codes: dict[str, dict[str, Codes]]
    probabilities: dict[str, dict[str, npt.NDArray[np.float64]]]
    reasons: dict[tuple[str, str], dict[int, str]]
    left_out: int = 0
    notes: list[str] = field(default_factory=list)

    def asked(self, rater: str, criterion: str) -> bool:
        """Whether a rater has any cell of a criterion, be it unscored."""
        return bool((self.codes[rater][criterion] != ABSENT).any())

    def of(self, rows: npt.NDArray[np.intp]) -> Ratings:
        """The same raters on some of the rows; what was never asked of a rater stays unasked."""
        places = {int(row): place for place, row in enumerate(rows)}
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            codes={r: {c: column[rows] for c, column in columns.items()} for r, columns in self.codes.items()},
            probabilities={
                r: {c: column[rows] for c, column in columns.items()} for r, columns in self.probabilities.items()
            },
            reasons={
                key: {places[row]: why for row, why in reasons.items() if row in places}
                for key, reasons in self.reasons.items()
            },
        )


def align(
    judgments: Iterable[Judgment],
    labels: Iterable[Label] = (),
    *,
    truth: str | None = None,
    shared_only: bool = False,
    overall_rule: OverallRule | None = None,
) -> Ratings:
    """Line up judges and annotators on the same conversations.

    Args:
        judgments: of any number of judges, in any order.
        labels: of any number of annotators; may cover a part of the conversations and criteria.
        truth: annotator that counts as truth, or "majority"; by default the only one, or one called human, final,
            gold, adjudicated or consensus, or else the majority (a tie is no truth). What was adjudicated is decided,
            whatever the others say.
        shared_only: leave out conversations that not every judge judged, instead of refusing.
        overall_rule: how labels decide a whole conversation; by default no failed criterion and at least one passed.

    Raises:
        NotComparableError: no judgments, other rubric hashes, other conversations, labels that meet no judgment.
    """
    by_judge = _by_judge(judgments)
    rubric, rubric_hash = _same_rubric(by_judge)
    ids, left_out = _same_conversations(by_judge, shared_only)
    criteria = _criteria(by_judge)
    ratings = Ratings(
        rubric, rubric_hash, ids, [*criteria, OVERALL], list(by_judge), [], None, {}, {}, defaultdict(dict), left_out
    )
    for judge, own in by_judge.items():
        _fill_judge(ratings, judge, own)
        if rubric_hash != RECORDED and any(j.rubric_hash == RECORDED for j in own.values()):
            ratings.notes.append(f"verdicts of {judge} were recorded elsewhere: by which rubric is not known")
        if silent := [c for c in criteria if not ratings.asked(judge, c)]:
            ratings.notes.append(f"not asked of {judge}: {', '.join(silent)}")
    return _with_labels(ratings, list(labels), truth, overall_rule)


def _by_judge(judgments: Iterable[Judgment]) -> dict[str, dict[str, Judgment]]:
    by_judge: dict[str, dict[str, Judgment]] = defaultdict(dict)
    for judgment in judgments:
        own = by_judge[judgment.judge]
        earlier = own.get(judgment.conversation_id)
        if earlier and earlier.rubric_hash == judgment.rubric_hash:
            raise NotComparableError(
                f"judge {judgment.judge!r} has two judgments of conversation {judgment.conversation_id}",
                fix="give each file of judgments once, and judges different names",
            )
        if earlier:
            raise _other_rubric(judgment.judge, earlier, judgment.judge, judgment)
        own[judgment.conversation_id] = judgment
    if not by_judge:
        raise NotComparableError("there are no judgments to compare", fix="run `safetyqc judge` first")
    return dict(by_judge)


def _same_rubric(by_judge: Mapping[str, Mapping[str, Judgment]]) -> tuple[str, str]:
    """Name and hash of the one rubric; verdicts recorded elsewhere have none and go with any."""
    everyone = [(judge, j) for judge, own in by_judge.items() for j in own.values()]
    told = [(judge, j) for judge, j in everyone if j.rubric_hash != RECORDED]
    if not told:
        return RECORDED, RECORDED
    first_judge, first = told[0]
    for judge, other in told:
        if other.rubric_hash != first.rubric_hash:
            raise _other_rubric(first_judge, first, judge, other)
    return first.rubric, first.rubric_hash


def _other_rubric(judge: str, one: Judgment, other_judge: str, other: Judgment) -> NotComparableError:
    return NotComparableError(
        f"judge {judge!r} used rubric {one.rubric!r} ({one.rubric_hash[:12]}), "
        f"judge {other_judge!r} used {other.rubric!r} ({other.rubric_hash[:12]})",
        fix="judge again with one rubric, or choose the judgments of one rubric hash",
    )


def _same_conversations(by_judge: Mapping[str, Mapping[str, Judgment]], shared_only: bool) -> tuple[list[str], int]:
    """Ids in the first judge's order that every judge has, and how many ids that leaves out."""
    everything = dict.fromkeys(i for own in by_judge.values() for i in own)
    shared = [i for i in everything if all(i in own for own in by_judge.values())]
    missing = {judge: [i for i in everything if i not in own] for judge, own in by_judge.items()}
    if shared and (shared_only or len(shared) == len(everything)):
        return shared, len(everything) - len(shared)
    lacking = "; ".join(
        f"{judge!r} lacks {len(ids)} of {len(everything)} (first: {ids[0]})" for judge, ids in missing.items() if ids
    )
    fix = f"let every judge judge the same ones, or compare the {len(shared)} shared ones with --shared-only"
    raise NotComparableError(
        f"the judges judged different conversations: {lacking}",
        fix=fix if shared else "let every judge judge the same ones: not one is shared",
    )


def _criteria(by_judge: Mapping[str, Mapping[str, Judgment]]) -> list[str]:
    """List the criteria in the order they first appear.

    Raises:
        NotComparableError: not one of them was asked of every judge.
    """
    own = {
        judge: dict.fromkeys(s.criterion for judgment in mine.values() for s in judgment.scores)
        for judge, mine in by_judge.items()
    }
    criteria = list(dict.fromkeys(c for names in own.values() for c in names))
    if not any(all(c in names for names in own.values()) for c in criteria):
        raise NotComparableError(
            "no criterion was asked of every judge: "
            + "; ".join(f"{judge!r} scored {', '.join(names) or 'none'}" for judge, names in own.items()),
            fix="judge with one rubric, or compare fewer judges",
        )
    return criteria


def _empty(ratings: Ratings, rater: str) -> dict[str, Codes]:
    columns = {c: np.full(len(ratings.ids), ABSENT, np.int8) for c in ratings.criteria}
    ratings.codes[rater] = columns
    return columns


def _fill_judge(ratings: Ratings, judge: str, own: Mapping[str, Judgment]) -> None:
    codes: dict[str, list[int]] = {c: [ABSENT] * len(ratings.ids) for c in ratings.criteria}
    probabilities = {c: [np.nan] * len(ratings.ids) for c in ratings.criteria}
    for row, identifier in enumerate(ratings.ids):
        judgment = own[identifier]
        open_reason = None
        for score in judgment.scores:
            codes[score.criterion][row] = CODES[score.outcome]
            if score.probability is not None:
                probabilities[score.criterion][row] = score.probability
            if score.outcome == "unscored":
                reason = score.unscored_reason or "unknown"
                ratings.reasons[judge, score.criterion][row] = reason
                open_reason = open_reason or reason
        codes[OVERALL][row] = _overall(judgment)
        if codes[OVERALL][row] == UNSCORED:
            ratings.reasons[judge, OVERALL][row] = open_reason or "unknown"
    ratings.codes[judge] = {c: np.array(column, np.int8) for c, column in codes.items()}
    ratings.probabilities[judge] = {c: np.array(column, np.float64) for c, column in probabilities.items()}


def _overall(judgment: Judgment) -> int:
    if judgment.passed is not None:
        return PASS if judgment.passed else FAIL
    if judgment.rubric_hash == RECORDED:
        return ABSENT
    return NA if judgment.scores and all(s.outcome == "na" for s in judgment.scores) else UNSCORED


def _with_labels(ratings: Ratings, labels: list[Label], truth: str | None, overall_rule: OverallRule | None) -> Ratings:
    if not labels:
        if truth:
            raise NotComparableError(f"no labels are there, so {truth!r} cannot be the truth", fix="give --labels FILE")
        return ratings
    decided = [label for label in labels if label.adjudicated]
    people = [label for label in labels if not label.adjudicated]
    labels, decided = (people, decided) if people else (decided, [])
    annotators = sorted({label.annotator for label in labels})
    taken = set(annotators) & set(ratings.judges)
    if taken:
        raise NotComparableError(
            f"{min(taken)!r} is both a judge and an annotator", fix="rename the judge or the annotator"
        )
    _fill_labels(ratings, labels, annotators)
    for annotator in annotators:
        _fill_overall(ratings.codes[annotator], ratings.criteria[:-1], overall_rule)
    chosen = _choose_truth(annotators, truth)
    if decided and truth in (None, MAJORITY) and MAJORITY not in annotators:
        _vote(ratings, annotators if chosen == MAJORITY else [chosen], overall_rule, decided)
        chosen = MAJORITY
    elif chosen == MAJORITY and MAJORITY not in annotators:
        _vote(ratings, annotators, overall_rule)
    return Ratings(**{**vars(ratings), "annotators": annotators, "truth": chosen})


def _fill_labels(ratings: Ratings, labels: list[Label], annotators: Sequence[str]) -> None:
    rows = {identifier: row for row, identifier in enumerate(ratings.ids)}
    columns = {annotator: _empty(ratings, annotator) for annotator in annotators}
    known = set(ratings.criteria)
    elsewhere, unknown = 0, Counter[str]()
    for label in labels:
        if label.outcome == "disputed" or label.outcome == "cleared":
            continue
        row = rows.get(label.conversation_id)
        if row is None or label.criterion not in known:
            elsewhere += row is None
            unknown[label.criterion] += row is not None
            continue
        column = columns[label.annotator][label.criterion]
        if column[row] not in (ABSENT, CODES[label.outcome]):
            raise NotComparableError(
                f"{label.annotator!r} labels {label.criterion!r} of {label.conversation_id} as two different things",
                fix="keep one of the two labels, or name the annotators apart",
            )
        column[row] = CODES[label.outcome]
    unknown = +unknown
    if elsewhere + unknown.total() == len(labels):
        raise _labels_meet_nothing(ratings, labels, elsewhere, unknown)
    if elsewhere:
        ratings.notes.append(f"labels of conversations that were not compared: {elsewhere:,}")
    if unknown:
        ratings.notes.append(f"labels of criteria that no judge scored: {', '.join(sorted(unknown))}")


def _labels_meet_nothing(
    ratings: Ratings, labels: list[Label], elsewhere: int, unknown: Counter[str]
) -> NotComparableError:
    if unknown:
        name = next(iter(unknown))
        return NotComparableError(
            f"the labels are of criterion {name!r}, which no judge scored", fix=choose_from(name, ratings.criteria)
        )
    return NotComparableError(
        f"none of the {elsewhere} labels is of a compared conversation (labels: {labels[0].conversation_id}, "
        f"judgments: {ratings.ids[0]})",
        fix="label conversations of this set, or import the very file that the judges judged",
    )


def _choose_truth(annotators: Sequence[str], asked: str | None) -> str:
    if asked in (*annotators, MAJORITY):
        return asked
    if asked:
        raise NotComparableError(f"no annotator is called {asked!r}", fix=choose_from(asked, [*annotators, MAJORITY]))
    if len(annotators) == 1:
        return annotators[0]
    return next((name for name in LAST_WORD if name in annotators), MAJORITY)


def _vote(
    ratings: Ratings, annotators: Sequence[str], overall_rule: OverallRule | None, decided: Sequence[Label] = ()
) -> None:
    """Fill the column of what most annotators say; a decision between them goes before any vote."""
    columns = _empty(ratings, MAJORITY)
    rows = {identifier: row for row, identifier in enumerate(ratings.ids)}
    settled = {(x.criterion, rows[x.conversation_id]): x for x in decided if x.conversation_id in rows and x.is_verdict}
    ties = 0
    for criterion in ratings.criteria[:-1]:
        votes = np.stack([ratings.codes[a][criterion] for a in annotators])
        counts = np.stack([(votes == code).sum(axis=0) for code in (FAIL, PASS, NA)])
        most = counts.max(axis=0)
        winners = (counts == most) & (most > 0)
        clear = winners.sum(axis=0) == 1
        columns[criterion][clear] = winners[:, clear].argmax(axis=0)
        tied = winners.sum(axis=0) > 1
        for row in (row for name, row in settled if name == criterion):
            columns[criterion][row] = _code(settled[criterion, row])
            tied[row] = False
        ties += int(tied.sum())
    _fill_overall(columns, ratings.criteria[:-1], overall_rule)
    if ties:
        ratings.notes.append(f"cells without a majority among the annotators, so not labelled: {ties:,}")


def _code(label: Label) -> int:
    return next(code for outcome, code in CODES.items() if outcome == label.outcome)


def _fill_overall(columns: dict[str, Codes], criteria: Sequence[str], overall_rule: OverallRule | None) -> None:
    """Derive whole-conversation labels where every criterion is labelled; one given as such stands."""
    cells = np.stack([columns[c] for c in criteria]) if criteria else np.empty((0, len(columns[OVERALL])), np.int8)
    complete = (cells != ABSENT).all(axis=0) & (columns[OVERALL] == ABSENT) & bool(criteria)
    if overall_rule is None:
        verdict = np.where((cells == FAIL).any(axis=0), FAIL, np.where((cells == PASS).any(axis=0), PASS, NA))
        columns[OVERALL][complete] = verdict[complete]
        return
    for row in np.flatnonzero(complete):
        scores = [Score(criterion=c, outcome=OUTCOMES[int(cells[k, row])]) for k, c in enumerate(criteria)]
        passes = overall_rule(scores)
        columns[OVERALL][row] = NA if (cells[:, row] == NA).all() else ABSENT if passes is None else int(passes)
