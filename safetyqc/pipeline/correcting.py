"""A run's labels -> what they correct: which of them count, which were drawn with known probabilities, and the rates.

Labels of another wording of the rubric correct nothing, nor do those that were given because something looked wrong;
both are counted and said. The estimates themselves are `judge.corrected`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.formats.labels import RECORDED
from safetyqc.pipeline.labelling import meeting
from safetyqc.results.compare import OVERALL
from safetyqc.results.labelled import doubts
from safetyqc.review.draws import Draw, draws_of
from safetyqc.review.items import BY_CHANCE
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.judge.corrected import Drawn
    from safetyqc.judge.ratings import Ratings
    from safetyqc.records import Label
    from safetyqc.reports.snapshot import Snapshot
    from safetyqc.results.compare import Comparison, CorrectedRate


@dataclass(frozen=True)
class Corrections:
    """Corrected rates, why they may not hold, and which labels are not in them."""

    rates: tuple[CorrectedRate, ...] = ()
    doubts: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def correct(snapshot: Snapshot, config: Config) -> Corrections:
    """Correct the deciding judge's rates by labels on the conversations that the rates are about."""
    if not snapshot.labels:
        return Corrections()
    draws, judge = draws_of(snapshot.draws), snapshot.judge
    usable, aside = usable_labels(snapshot.labels, judge[1] if judge else None, draws)
    said = {j.conversation_id: j for j in snapshot.store.judgments(*judge)} if judge else {}
    judgments = [said[c.id] for c in snapshot.in_play if c.id in said]
    labels = meeting(usable, judgments)
    if not any(label.queue in BY_CHANCE for label in labels):
        return Corrections(aside=aside)
    from safetyqc.judge.corrected import corrected_rates
    from safetyqc.judge.ratings import align
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(config.judge.rubric)
    rule = rubric.passed if judge and rubric.hash == judge[1] else None
    ratings = align(judgments, labels, overall_rule=rule)
    samples = {criterion: sample_of(draws, ratings, labels, criterion) for criterion in ratings.criteria}
    rates = [rate for c, sample in samples.items() for rate in corrected_rates(ratings, c, drawn=sample)]
    by_whom = [x for x in labels if x.queue in BY_CHANCE]
    unknown = any(rate.labels and rate.draw is None for rate in rates)
    doubted = (*(doubts(snapshot.in_play, by_whom) if unknown else ()), *_gaps(samples.values()))
    return Corrections(tuple(rates), doubted, aside)


def by_draws(comparison: Comparison, ratings: Ratings, labels: Sequence[Label], draws: Sequence[Draw]) -> Comparison:
    """A comparison with the rates corrected by what was drawn with known probabilities, where that is enough."""
    from safetyqc.judge.corrected import corrected_rates

    criteria = []
    for found in comparison.criteria:
        if found.corrected:
            sample = sample_of(draws, ratings, labels, found.criterion)
            rates = corrected_rates(ratings, found.criterion, comparison.confidence, drawn=sample)
            found = found.model_copy(update={"corrected": rates})
        criteria.append(found)
    return comparison.model_copy(update={"criteria": tuple(criteria)})


def usable_labels(
    labels: Iterable[Label], rubric_hash: str | None, draws: Sequence[Draw] = ()
) -> tuple[list[Label], tuple[str, ...]]:
    """The labels that may say something of rates, and what is to be said of the others.

    A cell that somebody was asked about by chance counts with all that people say of it, and so does one that was
    labelled out of suspicion and was drawn by chance besides.
    """
    own: list[Label] = []
    others = 0
    for label in labels:
        other = label.rubric_hash and rubric_hash not in (None, RECORDED, label.rubric_hash)
        others += bool(other)
        if not other:
            own.append(label)
    by_chance = {(x.conversation_id, x.criterion) for x in own if x.queue in BY_CHANCE}
    drawn = {(item.conversation_id, c) for draw in draws for item in draw.items for c in draw.criteria or ("",)}
    by_chance |= {
        (x.conversation_id, x.criterion)
        for x in own
        if {(x.conversation_id, x.criterion), (x.conversation_id, "")} & drawn
    }
    usable = [x for x in own if (x.conversation_id, x.criterion) in by_chance]
    said = []
    queues = Counter(x.queue for x in own if (x.conversation_id, x.criterion) not in by_chance)
    if others:
        were, they = ("was", "it holds") if others == 1 else ("were", "they hold")
        said.append(
            f"{counted(others, 'label')} {were} given for another wording of the rubric: label again (safetyqc review "
            f"--queue older), or import the file again if {they} for this one too"
        )
    if queues:
        why = ", ".join(f"{queue} {count:,}" for queue, count in queues.most_common())
        said.append(f"{counted(queues.total(), 'label')} given where something looked wrong, not by chance ({why})")
    return usable, tuple(said)


def sample_of(draws: Sequence[Draw], ratings: Ratings, labels: Sequence[Label], criterion: str) -> Drawn:
    """The draw by which most labels of a criterion were given, as far as people came.

    Below 30 of its labels, all that were not given out of suspicion: how they were drawn is not known then.
    """
    from safetyqc.judge.corrected import MIN_LABELS, Drawn
    from safetyqc.judge.ratings import NA

    truth = ratings.codes[ratings.truth or ""][criterion] <= NA
    known = {name for name, there in zip(ratings.ids, truth, strict=True) if there}
    told = [x for x in labels if x.criterion == criterion or criterion == OVERALL]
    # where annotators differ, the cell was reached although it has no truth
    seen = known | ({x.conversation_id for x in told} if criterion != OVERALL else set())
    by_chance = seen & {x.conversation_id for x in told if x.queue in BY_CHANCE}
    best = Drawn(name=None, strata={}, reached=by_chance)
    most = MIN_LABELS - 1
    for draw in draws:
        reached = frozenset(draw.reached(seen, by_chance)) if not draw.criteria or criterion in draw.criteria else set()
        if len(reached & known) > most:
            strata = draw.stratum_of
            most = len(reached & known)
            newcomers = sum(name not in strata for name in ratings.ids)
            best = Drawn(draw.id, strata, reached, len(reached - seen), newcomers)
    return best


def _gaps(samples: Iterable[Drawn]) -> list[str]:
    used = {sample.name: sample for sample in samples if sample.name}
    said = []
    for name, sample in used.items():
        if sample.passed_over:
            were = counted(sample.passed_over, "conversation")
            said.append(f"{were} of draw {name} passed over while others behind were labelled")
        if sample.newcomers:
            came = counted(sample.newcomers, "conversation")
            said.append(f"{came} came after draw {name} (safetyqc label plan again draws of them too)")
    return said
