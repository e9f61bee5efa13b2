"""Judgments of several judges, and labels, in; a Comparison out: who agrees with whom, who is right, at what price.

Asks no model and draws nothing. Unscored is never a class here: such a cell is counted, bounds the pass rate, and is
in no agreement. Imports numpy at module top: only commands that compare import it. `POOLED`
treats all criteria's cells as one table, and its intervals resample whole conversations, since the cells of one
conversation stand or fall together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from safetyqc.errors import UserError, choose_from
from safetyqc.judge import agreement
from safetyqc.judge.corrected import corrected_rates, evenly_labelled
from safetyqc.judge.ratings import (
    ABSENT,
    FAIL,
    MAJORITY,
    NA,
    OUTCOMES,
    PASS,
    UNSCORED,
    Codes,
    OverallRule,
    Ratings,
    align,
)
from safetyqc.judge.recommendation import recommend
from safetyqc.records import Conversation, Judgment, Label, Outcome
from safetyqc.results.compare import (
    OVERALL,
    POOLED,
    Accuracy,
    Agreement,
    Calibration,
    Comparison,
    CriterionComparison,
    Disagreement,
    Estimate,
    Price,
    RaterCounts,
    Side,
)
from safetyqc.results.statistics import share


@dataclass(frozen=True)
class _Bootstrap:
    resamples: int
    seed: int
    confidence: float

    def kappa(self, counts: agreement.Counts) -> Estimate | None:
        return agreement.kappa_estimate(counts, resamples=self.resamples, seed=self.seed, confidence=self.confidence)


def compare(
    judgments: Iterable[Judgment],
    labels: Iterable[Label] = (),
    *,
    truth: str | None = None,
    shared_only: bool = False,
    overall_rule: OverallRule | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare judges with each other and, where there are labels, with the truth.

    `truth`, `shared_only` and `overall_rule` are those of `align`. Equal input and seed give equal intervals, and
    adding a judge does not move the others'. Asks no model.

    Raises:
        NotComparableError: other rubric hashes or conversations, or labels that meet no judgment; says what differs.
    """
    by_judge = list(judgments)
    ratings = align(by_judge, labels, truth=truth, shared_only=shared_only, overall_rule=overall_rule)
    criteria = compare_criteria(ratings, confidence=confidence, resamples=resamples, seed=seed)
    prices = tuple(price_of(judge, by_judge, set(ratings.ids)) for judge in ratings.judges)
    return Comparison(
        rubric=ratings.rubric,
        rubric_hash=ratings.rubric_hash,
        conversations=len(ratings.ids),
        left_out=ratings.left_out,
        judges=tuple(ratings.judges),
        annotators=tuple(ratings.annotators),
        truth=ratings.truth,
        labelled=_labelled(ratings),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        prices=prices,
        criteria=criteria,
        recommendation=recommend(_basis(ratings, criteria), prices),
        notes=tuple(ratings.notes),
    )


def compare_criteria(
    ratings: Ratings, *, confidence: float, resamples: int, seed: int
) -> tuple[CriterionComparison, ...]:
    """Compare on every criterion, on whole conversations where a judge decides them, and on all cells together."""
    bootstrap = _Bootstrap(resamples, seed, confidence)
    return tuple(_criterion(ratings, together, bootstrap) for together in compared_together(ratings))


def compared_together(ratings: Ratings) -> list[list[str]]:
    """Every criterion alone, overall where a judge has it, then all that every judge was asked for."""
    alone = [[c] for c in ratings.criteria if c != OVERALL or any(ratings.asked(j, c) for j in ratings.judges)]
    shared = _shared(ratings)
    return [*alone, shared] if len(shared) > 1 else alone


def _shared(ratings: Ratings) -> list[str]:
    return [c for c in ratings.criteria if c != OVERALL and all(ratings.asked(j, c) for j in ratings.judges)]


def _basis(ratings: Ratings, criteria: tuple[CriterionComparison, ...]) -> CriterionComparison:
    """Pick the comparison in which no judge has other cells than the rest."""
    shared = _shared(ratings)
    return next(c for c in criteria if c.criterion == (POOLED if len(shared) > 1 else shared[0]))


def _labelled(ratings: Ratings) -> int:
    if ratings.truth is None:
        return 0
    return int((codes_of(ratings, ratings.truth, ratings.criteria) <= NA).any(axis=1).sum())


def codes_of(ratings: Ratings, rater: str, criteria: list[str]) -> Codes:
    """Codes of one rater, of shape (conversations, criteria)."""
    return np.stack([ratings.codes[rater][c] for c in criteria], axis=1)


def _criterion(ratings: Ratings, group: list[str], bootstrap: _Bootstrap) -> CriterionComparison:
    """Compare on one criterion, or on the cells of several of them as one."""
    asked = [r for r in ratings.codes if any(ratings.asked(r, c) for c in group)]
    codes = {rater: codes_of(ratings, rater, group) for rater in asked}
    judges = [judge for judge in ratings.judges if judge in codes]
    truth = ratings.truth if ratings.truth in codes else None
    others = [a for a in ratings.annotators if a in codes and a != truth]
    people = others if len(others) > 1 else [a for a in ratings.annotators if a in codes]
    measured = [*judges, *(others if truth != MAJORITY else [])] if truth else []
    return CriterionComparison(
        criterion=group[0] if len(group) == 1 else POOLED,
        counts=tuple(_counts(ratings, rater, group, codes[rater], bootstrap.confidence) for rater in asked),
        agreements=tuple(
            _agreement(a, b, codes, bootstrap, codes[truth] if truth else None) for a, b in combinations(judges, 2)
        ),
        alpha=agreement.alpha([codes[judge] for judge in judges]),
        accuracies=tuple(_accuracy(ratings, r, group, codes[r], codes[truth or ""], bootstrap) for r in measured),
        human_ceiling=tuple(_agreement(a, b, codes, bootstrap) for a, b in combinations(people, 2)),
        corrected=corrected_rates(ratings, group[0], bootstrap.confidence) if truth and len(group) == 1 else (),
    )


def _counts(ratings: Ratings, rater: str, group: list[str], codes: Codes, confidence: float) -> RaterCounts:
    passed, failed, na, unscored = (int((codes == code).sum()) for code in (PASS, FAIL, NA, UNSCORED))
    scored = passed + failed
    applicable = scored + unscored
    reasons = Counter(why for c in group for why in ratings.reasons.get((rater, c), {}).values())
    return RaterCounts(
        rater=rater,
        applicable=applicable,
        passed=passed,
        failed=failed,
        unscored=unscored,
        na=na,
        unscored_by_reason=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        coverage=share(scored, applicable),
        pass_rate=agreement.pass_rate((codes == PASS).sum(axis=1), (codes <= PASS).sum(axis=1), confidence),
        worst=share(passed, applicable),
        best=share(passed + unscored, applicable),
    )


def _agreement(
    first: str, second: str, codes: Mapping[str, Codes], bootstrap: _Bootstrap, truth: Codes | None = None
) -> Agreement:
    a, b = codes[first], codes[second]
    counts = agreement.pair_counts(a, b)
    both_pass, only_first, only_second, both_fail = (int(c) for c in counts.sum(axis=0))
    n = both_pass + only_first + only_second + both_fail
    scored = (a <= PASS) & (b <= PASS)
    right = [(scored & (mine == truth) & (other != truth)).sum(axis=1) for mine, other in ((a, b), (b, a))]
    return Agreement(
        first=first,
        second=second,
        n=n,
        both_pass=both_pass,
        both_fail=both_fail,
        only_first_passes=only_first,
        only_second_passes=only_second,
        na_conflicts=int((((a == NA) & (b <= PASS)) | ((a <= PASS) & (b == NA))).sum()),
        agreement=share(both_pass + both_fail, n),
        kappa=bootstrap.kappa(counts),
        mcnemar_p=agreement.paired_p(counts[:, 1] - counts[:, 2]),
        more_often_right_p=agreement.paired_p(right[0] - right[1]) if truth is not None else None,
    )


def _accuracy(
    ratings: Ratings, rater: str, group: list[str], codes: Codes, truth: Codes, bootstrap: _Bootstrap
) -> Accuracy:
    counts = agreement.pair_counts(codes, truth)
    true_pass, missed_fail, false_alarm, true_fail = (int(c) for c in counts.sum(axis=0))
    n = true_pass + missed_fail + false_alarm + true_fail
    weights = _label_weights(ratings, group, truth)
    caught, missed = (float((weights * ((truth == FAIL) & (codes == code))).sum()) for code in (FAIL, PASS))
    precision, recall = share(true_fail, true_fail + false_alarm), share(caught, caught + missed)
    return Accuracy(
        rater=rater,
        n=n,
        conversations=int((counts.sum(axis=1) > 0).sum()),
        confusion=_confusion(codes, truth),
        agreement=share(true_pass + true_fail, n),
        kappa=bootstrap.kappa(counts),
        majority_baseline=share(max(true_pass + false_alarm, missed_fail + true_fail), n),
        precision_fail=precision,
        recall_fail=recall,
        reweighted=bool((weights != 1).any()),
        f1_fail=_f1(precision, recall),
        calibration=_calibration(ratings, rater, group, truth),
    )


def _f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None and recall is None:
        return None
    return share(2 * (precision or 0) * (recall or 0), (precision or 0) + (recall or 0)) or 0.0


def _label_weights(ratings: Ratings, group: list[str], truth: Codes) -> npt.NDArray[np.float64]:
    """How many conversations each labelled cell stands for; 1 where labels are spread evenly over what judges said.

    Returns:
        Shape (conversations, criteria). Labels that were chosen by a verdict, such as as many failures as passes, show
        too many of the failures that the judge saw.
    """
    weights = np.ones(truth.shape)
    for column, criterion in enumerate(group):
        said = np.stack([ratings.codes[judge][criterion] for judge in ratings.judges], axis=1)
        _, patterns = np.unique(said, axis=0, return_inverse=True)
        sizes = np.bincount(patterns)
        labelled = np.bincount(patterns[truth[:, column] <= NA], minlength=len(sizes))
        if not evenly_labelled(labelled, sizes):
            weights[:, column] = (sizes / np.maximum(labelled, 1))[patterns]
    return weights


def _confusion(codes: Codes, truth: Codes) -> dict[str, dict[Outcome, int]]:
    return {
        OUTCOMES[label]: {
            OUTCOMES[code]: int(((truth == label) & (codes == code)).sum()) for code in (PASS, FAIL, NA, UNSCORED)
        }
        for label in (PASS, FAIL, NA)
    }


def _calibration(ratings: Ratings, rater: str, group: list[str], truth: Codes) -> Calibration | None:
    own = ratings.probabilities.get(rater)
    if own is None:
        return None
    return agreement.calibration(np.stack([own[c] for c in group], axis=1), truth)


def price_of(judge: str, judgments: Iterable[Judgment], compared: Collection[str]) -> Price:
    """What a judge took on the compared conversations, per 1,000 of them."""
    own = [j for j in judgments if j.judge == judge and j.conversation_id in compared]
    costs = [j.cost_usd for j in own if j.cost_usd is not None]
    waits = [j.latency_s for j in own if j.latency_s is not None]
    return Price(
        judge=judge,
        judged=len(own),
        cost_usd_per_1000=1000 * sum(costs) / len(costs) if costs else None,
        unpriced=len(own) - len(costs),
        latency_s_per_1000=1000 * sum(waits) / len(waits) if waits else None,
    )


def disagreements(
    judgments: Iterable[Judgment],
    conversations: Iterable[Conversation],
    labels: Iterable[Label] = (),
    *,
    limit: int | None = 10,
    criterion: str | None = None,
    truth: str | None = None,
    shared_only: bool = False,
) -> list[Disagreement]:
    """List cells where one rater says pass and another fail, with what each of them gave as its reason.

    Judges that contradict the truth come first, then judges that contradict each other; criteria take turns, so that a
    short list shows all of them. Unscored and not applicable are no disagreement. Conversations whose text is not given
    are left out. Arguments and errors are those of `compare`; `limit` None gives all.
    """
    listed, marks = list(judgments), list(labels)
    ratings = align(listed, marks, truth=truth, shared_only=shared_only)
    texts = {c.id: c for c in conversations}
    names = [c for c in ratings.criteria if c != OVERALL]
    if criterion is not None and criterion not in names:
        raise UserError(f"no judge scored criterion {criterion!r}", fix=choose_from(criterion, names))
    queues = [_differing(ratings, c) for c in ([criterion] if criterion else names)]
    cells = sorted(
        (rank, turn, column, row, name)
        for column, (name, ranked) in enumerate(queues)
        for turn, (rank, row) in enumerate(ranked)
    )
    found = [(ratings.ids[row], name) for _, _, _, row, name in cells if ratings.ids[row] in texts][:limit]
    wanted = {identifier for identifier, _ in found}
    given = {(j.judge, j.conversation_id): j for j in listed if j.conversation_id in wanted}
    rows = {identifier: row for row, identifier in enumerate(ratings.ids)}
    return [
        Disagreement(conversation=texts[i], criterion=c, sides=_sides(ratings, given, rows[i], i, c)) for i, c in found
    ]


def _differing(ratings: Ratings, criterion: str) -> tuple[str, list[tuple[int, int]]]:
    """Rows where raters differ as (rank, row): rank 0 where a judge contradicts the truth, 1 where judges differ."""
    judges = np.stack([ratings.codes[judge][criterion] for judge in ratings.judges])
    between = (judges == PASS).any(axis=0) & (judges == FAIL).any(axis=0)
    wrong = np.zeros_like(between)
    if ratings.truth:
        truth = ratings.codes[ratings.truth][criterion]
        wrong = (((judges == PASS) & (truth == FAIL)) | ((judges == FAIL) & (truth == PASS))).any(axis=0)
    rows = np.flatnonzero(between | wrong)
    return criterion, sorted((0 if wrong[row] else 1, int(row)) for row in rows)


def _sides(
    ratings: Ratings, given: Mapping[tuple[str, str], Judgment], row: int, identifier: str, criterion: str
) -> tuple[Side, ...]:
    sides = []
    for judge in ratings.judges:
        score = given[judge, identifier].score(criterion)
        if score:
            fields = score.model_dump(include={"outcome", "level", "probability", "reason", "quote", "turn"})
            sides.append(Side(rater=judge, **fields))
    marks = dict.fromkeys([*ratings.annotators, *([ratings.truth] if ratings.truth else [])])
    for annotator in marks:
        code = int(ratings.codes[annotator][criterion][row])
        if code != ABSENT:
            sides.append(Side(rater=annotator, outcome=OUTCOMES[code], is_label=True))
    return tuple(sides)
