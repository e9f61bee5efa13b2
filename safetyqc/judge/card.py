"""A judge's verdicts, labels and the conversations in; a JudgeCard out: how far this judge can be believed, and where.

Asks no model: what has to be asked for a card (other wordings, the same again, attacks) comes in as Probed. Imports
numpy at module top, so it is imported by the command that makes a card alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from safetyqc.judge import agreement
from safetyqc.judge.cascade import verdict
from safetyqc.judge.compare import price_of
from safetyqc.judge.ratings import ABSENT, FAIL, NA, PASS, UNSCORED, Codes, Ratings, align
from safetyqc.records import Conversation, Judgment, Label
from safetyqc.results.card import (
    AgreementRow,
    By,
    Flips,
    JudgeCard,
    Lean,
    PassRate,
    Probes,
    RiskPoint,
    Training,
)
from safetyqc.results.compare import OVERALL, POOLED, Calibration, Estimate, Spread
from safetyqc.results.statistics import normal_quantile, share, wilson_interval
from safetyqc.text import guess_language

if TYPE_CHECKING:
    from safetyqc.judge.attack import AttackRow

CERTAINTIES = (None, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_RESAMPLES, _SEED = 2000, 0
_FEW = 20
"""Labelled cells below which a group is no row of its own."""
NOT_GIVEN = "(not given)"
LENGTHS = (300, 1000, 3000)
"""Edges, in characters of the assistant's; the same for every set, so that two cards can stand side by side."""
_ORDER = [*(f"up to {edge:,} characters" for edge in LENGTHS), f"over {LENGTHS[-1]:,} characters"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Probed:
    """What asking gave: judgments under every wording (the shipped one included), and flips that were counted."""

    wordings: Mapping[str, Sequence[Judgment]] = field(default_factory=dict)
    flips: Probes = field(default_factory=Probes)


@dataclass(frozen=True)
class _Table:
    """One judge's cells and the truth's, over the same conversations."""

    ratings: Ratings
    conversations: Mapping[str, Conversation]
    confidence: float

    @property
    def judge(self) -> str:
        return self.ratings.judges[0]

    @property
    def criteria(self) -> list[str]:
        return [c for c in self.ratings.criteria if c != OVERALL and self.ratings.asked(self.judge, c)]

    def said(self, criteria: Sequence[str]) -> Codes:
        return _stacked(self.ratings, self.judge, criteria)

    def truth(self, criteria: Sequence[str]) -> Codes:
        if self.ratings.truth is None:
            return np.full((len(self.ratings.ids), len(criteria)), ABSENT, np.int8)
        return _stacked(self.ratings, self.ratings.truth, criteria)

    def facts(self, fact: Callable[[Conversation], str]) -> npt.NDArray[np.str_]:
        return np.array([fact(self.conversations[i]) for i in self.ratings.ids], dtype=np.str_)


def make_card(
    judgments: Iterable[Judgment],
    conversations: Iterable[Conversation],
    labels: Iterable[Label] = (),
    *,
    training: Training,
    probed: Probed | None = None,
    truth: str | None = None,
    confidence: float = 0.95,
) -> JudgeCard:
    """Measure one judge.

    Args:
        judgments: of one judge, of these conversations.
        labels: what counts as true; without any a card says what the judge does, and not how often it is right.
        truth: as for `compare`.

    Raises:
        NotComparableError: no judgments, of several rubrics, or labels that meet none of them.
    """
    mine, texts, probed = list(judgments), {c.id: c for c in conversations}, probed or Probed()
    ratings = align(mine, labels, truth=truth)
    table = _Table(ratings, texts, confidence)
    labelled: Mask = table.truth(table.criteria) <= PASS
    seen = np.any(labelled, axis=1)
    return JudgeCard(
        judge=table.judge,
        version=next((j.prompt_hash for j in mine if j.prompt_hash), None),
        rubric=ratings.rubric,
        rubric_hash=ratings.rubric_hash,
        conversations=len(ratings.ids),
        labelled=int(seen.sum()),
        truth=ratings.truth,
        confidence=confidence,
        rates=tuple(_rates(table, probed)),
        agreement=tuple(_rows(table, probed)) if labelled.any() else (),
        risk=tuple(_risk(table, mine)) if labelled.any() else (),
        calibration=_calibration(table),
        leans=tuple(_leans(table)) if labelled.any() else (),
        probes=probed.flips,
        training=_seen(training, table, seen),
        price=price_of(table.judge, mine, set(ratings.ids)),
        notes=tuple(ratings.notes),
    )


def _stacked(ratings: Ratings, rater: str, criteria: Sequence[str]) -> Codes:
    columns = [ratings.codes[rater][c] for c in criteria]
    return np.stack(columns, axis=1) if columns else np.empty((len(ratings.ids), 0), np.int8)


# ---- agreement with labels ------------------------------------------------------------------------------------------


def _rates(table: _Table, probed: Probed) -> Iterable[PassRate]:
    alone = [(c, [c]) for c in table.criteria]
    for criterion, criteria in [*alone, *([(POOLED, table.criteria)] if len(alone) > 1 else [])]:
        said = table.said(criteria)
        scored = (said <= PASS).sum(axis=1)
        yield PassRate(
            criterion=criterion,
            scored=int(scored.sum()),
            rate=agreement.pass_rate((said == PASS).sum(axis=1), scored, table.confidence),
            wording=_pass_spread(probed.wordings, criteria),
        )


def _rows(table: _Table, probed: Probed) -> Iterable[AgreementRow]:
    everything = np.ones(len(table.ratings.ids), np.bool_)
    pooled = [(POOLED, table.criteria)] if len(table.criteria) > 1 else []
    alone = [(c, [c]) for c in table.criteria]
    for name, criteria in [*alone, *pooled]:
        yield _row(table, probed, "criterion", name, (name, criteria), everything)
    for by, names in _groupings(table):
        for name in sorted(dict.fromkeys(names.tolist()), key=_ORDER.index if by == "length" else str):
            for criterion, criteria in [*pooled, *alone]:
                row = _row(table, probed, by, name, (criterion, criteria), names == name)
                if row.labelled >= _FEW or (row.labelled and criterion == (pooled or alone)[0][0]):
                    yield row


def _groupings(table: _Table) -> Iterable[tuple[By, npt.NDArray[np.str_]]]:
    """What the conversations are sorted by: facts of theirs alone, never a guess of the judge's."""
    yield "category", table.facts(lambda c: c.category or NOT_GIVEN)
    yield "language", table.facts(lambda c: guess_language(" ".join(m.content for m in c.messages)))
    lengths = np.array([_length(table.conversations[i]) for i in table.ratings.ids])
    yield "length", np.array(_ORDER)[np.searchsorted(LENGTHS, lengths)]


def _length(conversation: Conversation) -> int:
    """Characters of what the assistant wrote: that is what is judged."""
    return sum(len(m.content) for m in conversation.messages if m.role == "assistant")


def _row(
    table: _Table, probed: Probed, by: By, name: str, which: tuple[str, Sequence[str]], rows: Mask
) -> AgreementRow:
    criterion, criteria = which
    said, truth = table.said(criteria)[rows], table.truth(criteria)[rows]
    known = truth <= PASS
    right = known & (said == truth)
    scored = known & (said <= PASS)
    counts = agreement.pair_counts(said, truth)

    def rate(part: Mask, whole: Mask) -> Estimate | None:
        return agreement.pass_rate((part & whole).sum(axis=1), whole.sum(axis=1), table.confidence)

    return AgreementRow(
        by=by,
        name=name,
        criterion=criterion,
        labelled=int(known.sum()),
        scored=int(scored.sum()),
        na=int((known & (said == NA)).sum()),
        unscored=int((known & (said == UNSCORED)).sum()),
        agreement=rate(right, scored),
        kappa=agreement.kappa_estimate(counts, resamples=_RESAMPLES, seed=_SEED, confidence=table.confidence),
        missed=rate(said == PASS, scored & (truth == FAIL)),
        false_alarms=rate(said == FAIL, scored & (truth == PASS)),
        wording=_agreement_spread(table, probed.wordings, criteria, rows),
    )


# ---- what another wording of the question does ----------------------------------------------------------------------


def _pass_spread(wordings: Mapping[str, Sequence[Judgment]], criteria: Sequence[str]) -> Spread | None:
    def outcomes(judgment: Judgment) -> Iterable[bool]:
        scores = [judgment.score(criterion) for criterion in criteria]
        return [s.outcome == "pass" for s in scores if s and s.outcome in ("pass", "fail")]

    return _spread(wordings, outcomes)


def _agreement_spread(
    table: _Table, wordings: Mapping[str, Sequence[Judgment]], criteria: Sequence[str], rows: Mask
) -> Spread | None:
    if not wordings:
        return None
    truth = table.truth(criteria)
    places = {i: n for n, i in enumerate(table.ratings.ids) if rows[n]}
    words = {"pass": PASS, "fail": FAIL}

    def right(judgment: Judgment) -> Iterable[bool]:
        row = places.get(judgment.conversation_id)
        if row is None:
            return
        for column, criterion in enumerate(criteria):
            score, label = judgment.score(criterion), int(truth[row, column])
            if score and score.outcome in words and label <= PASS:
                yield words[score.outcome] == label

    return _spread(wordings, right)


def _spread(wordings: Mapping[str, Sequence[Judgment]], cells: Callable[[Judgment], Iterable[bool]]) -> Spread | None:
    counts = {name: [hit for judgment in given for hit in cells(judgment)] for name, given in wordings.items()}
    rates = {name: sum(hits) / len(hits) for name, hits in counts.items() if hits}
    if len(rates) < 2:
        return None
    return Spread(n=len(next(iter(counts.values()))), low=min(rates.values()), high=max(rates.values()), wordings=rates)


def count_flips(what: str, before: Iterable[Judgment], after: Iterable[Judgment], confidence: float = 0.95) -> Flips:
    """Count verdicts that turned between two judgings of the same conversations by one judge.

    A pass or fail that becomes another verdict has turned, `na` included; one that becomes unscored is silenced.
    """
    given = {j.conversation_id: j for j in after}
    tried, turned, silenced = [], [], 0
    for judgment in before:
        other = given.get(judgment.conversation_id)
        pairs = (
            [(s, other.score(s.criterion)) for s in judgment.scores if s.outcome in ("pass", "fail")] if other else []
        )
        cells = [(one.outcome, two.outcome) for one, two in pairs if two]
        silenced += sum(two == "unscored" for _, two in cells)
        scored = [(one, two) for one, two in cells if two != "unscored"]
        tried.append(len(scored))
        turned.append(sum(one != two for one, two in scored))
    counts = np.array(turned, np.int64), np.array(tried, np.int64)
    rate = agreement.pass_rate(*counts, confidence) if tried else None
    return Flips(what=what, tried=sum(tried), flipped=sum(turned), silenced=silenced, share=rate)


def attack_flips(rows: Iterable[AttackRow], confidence: float = 0.95) -> tuple[Flips, ...]:
    """Attacks as flips; each target is a conversation of its own."""
    made = []
    for row in rows:
        heard = row.tried - row.silenced
        low, high = wilson_interval(row.flipped, heard, confidence)
        rate = Estimate(value=row.flipped / heard, low=low, high=high) if heard else None
        made.append(
            Flips(what=f"attack: {row.attack}", tried=heard, flipped=row.flipped, silenced=row.silenced, share=rate)
        )
    return tuple(made)


# ---- how sure, how long, how often ----------------------------------------------------------------------------------


def _risk(table: _Table, judgments: Sequence[Judgment]) -> Iterable[RiskPoint]:
    """Accuracy and coverage at several certainties; what a judge left open counts from where it would be sure."""
    given = {j.conversation_id: j for j in judgments}
    alone = [(c, [c]) for c in table.criteria]
    for name, criteria in [*alone, *([(POOLED, table.criteria)] if len(alone) > 1 else [])]:
        truth = table.truth(criteria)
        said, sure = np.full(truth.shape, UNSCORED, np.int8), np.zeros(truth.shape)
        for row, identifier in enumerate(table.ratings.ids):
            for column, criterion in enumerate(criteria):
                score = given[identifier].score(criterion)
                found = verdict(score) if score else None
                if found and found[0] in ("pass", "fail"):
                    said[row, column], sure[row, column] = (PASS if found[0] == "pass" else FAIL), found[1]
        yield from _points(table, name, (table.said(criteria), said, sure), truth)


def _points(
    table: _Table, criterion: str, given: tuple[Codes, Codes, npt.NDArray[np.float64]], truth: Codes
) -> Iterable[RiskPoint]:
    as_given, said, sure = given
    known = truth <= PASS
    # A judge without probabilities is as sure of everything: all thresholds would be one
    graded = bool(((sure[known] > 0) & (sure[known] < 1)).any())
    for least in CERTAINTIES if graded else CERTAINTIES[:1]:
        words = as_given if least is None else np.where(sure >= least, said, UNSCORED)
        spoke = known & (words <= PASS)
        right = spoke & (words == truth)
        spoken = int(spoke.sum())
        yield RiskPoint(
            criterion=criterion,
            min_certainty=least,
            spoken=spoken,
            coverage=share(spoken, int(known.sum())),
            accuracy=agreement.pass_rate(right.sum(axis=1), spoke.sum(axis=1), table.confidence),
        )


def _calibration(table: _Table) -> Calibration | None:
    if table.ratings.truth is None or not table.criteria:
        return None
    own = table.ratings.probabilities[table.judge]
    return agreement.calibration(np.stack([own[c] for c in table.criteria], axis=1), table.truth(table.criteria))


def _leans(table: _Table) -> Iterable[Lean]:
    measures: tuple[tuple[str, Callable[[Conversation], int]], ...] = (
        ("longer answers", _length),
        ("more turns", lambda c: len(c.messages)),
    )
    for what, measure in measures:
        values = np.array([measure(table.conversations[i]) for i in table.ratings.ids])
        yield _lean(table, what, values)


def _lean(table: _Table, what: str, values: npt.NDArray[np.int64]) -> Lean:
    """Compare the halves within each criterion and label, so that longer answers may well be worse ones.

    The interval is that of a weighted sum of differences of shares, linearised over conversations, and no narrower
    than imagining one pass and one failure more in each half makes it (Agresti and Caffo, 2000).
    """
    said, truth = table.said(table.criteria), table.truth(table.criteria)
    strata = []
    for column in range(said.shape[1]):
        for label in (PASS, FAIL):
            rows = np.flatnonzero((truth[:, column] == label) & (said[:, column] <= PASS))
            upper = values[rows] > np.median(values[rows]) if len(rows) else np.zeros(0, np.bool_)
            if upper.any() and not upper.all():
                strata.append((rows, upper, (said[rows, column] == PASS).astype(np.float64)))
    n = sum(len(rows) for rows, _, _ in strata)
    if not n:
        return Lean(what=what, n=0)
    shift, least, moves = 0.0, 0.0, np.zeros(len(values))
    for rows, upper, passes in strata:
        weight = len(rows) / n
        for half, sign in ((upper, 1), (~upper, -1)):
            size, rate = int(half.sum()), float(passes[half].mean())
            shift += sign * weight * rate
            moves[rows[half]] += sign * weight * (passes[half] - rate) / size
            imagined = (passes[half].sum() + 1) / (size + 2)
            least += weight**2 * imagined * (1 - imagined) / (size + 2)
    reach = normal_quantile(table.confidence) * max(float((moves**2).sum()), least) ** 0.5
    return Lean(what=what, n=n, shift=Estimate(value=shift, low=max(-1.0, shift - reach), high=min(1.0, shift + reach)))


def _seen(training: Training, table: _Table, labelled: Mask) -> Training:
    if not training.sources:
        return training
    sources = [
        str(table.conversations[i].meta.get("source"))
        for i, known in zip(table.ratings.ids, labelled, strict=True)
        if known
    ]
    return training.model_copy(update={"labelled_seen": sum(s in training.sources for s in sources)})
