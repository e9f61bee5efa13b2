from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from safetyqc.errors import NotComparableError, UserError
from safetyqc.judge.corrected import (
    MIN_LABELS,
    Floats,
    corrected_rates,
    prediction_powered,
    rogan_gladen,
    stratified,
    transferred_rates,
)
from safetyqc.judge.ratings import align
from safetyqc.records import Judgment, Label, Outcome, Score
from safetyqc.results.compare import Estimate

SIMULATIONS = 400
COVERAGE = 0.93


@dataclass(frozen=True)
class World:
    """How often conversations pass, and how often a judge says so of those that do and fails those that do not."""

    rate: float
    hit: float
    rejection: float
    unscored: float = 0.03

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats, np.ndarray]:
        """Draw truth, prediction and stratum (what the judge said) of n conversations."""
        truth = (rng.random(n) < self.rate).astype(np.float64)
        said = np.where(truth == 1, rng.random(n) < self.hit, rng.random(n) >= self.rejection).astype(np.int64)
        said[rng.random(n) < self.unscored] = 3
        return truth, np.where(said == 3, 0.5, said), said


WORLDS = [
    World(rate, hit, rejection)
    for rate in (0.5, 0.8, 0.95)
    for hit, rejection in ((0.97, 0.97), (0.9, 0.7), (0.98, 0.5))
]


def covers(estimate: Estimate, rate: float) -> bool:
    return estimate.low <= rate <= estimate.high


@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize("labels", [40, 120])
def test_intervals_of_a_random_sample_cover_the_truth(world: World, labels: int) -> None:
    rng = np.random.default_rng(labels)
    whole = parts = 0
    for _ in range(SIMULATIONS):
        truth, predicted, said = world.draw(rng, 1000)
        known, rest = slice(None, labels), slice(labels, None)
        whole += covers(prediction_powered(truth[known], predicted[known], predicted[rest]), world.rate)
        some = np.where(np.arange(1000) < labels, truth, np.nan)
        parts += covers(stratified(some, predicted, said), world.rate)
    assert whole / SIMULATIONS >= COVERAGE
    assert parts / SIMULATIONS >= COVERAGE


@pytest.mark.parametrize("world", [World(0.8, 0.9, 0.7), World(0.95, 0.98, 0.5), World(0.6, 0.97, 0.97)], ids=str)
def test_stratified_intervals_cover_when_failures_are_labelled_more_often(world: World) -> None:
    rng = np.random.default_rng(7)
    covered, naive = 0, 0
    for _ in range(SIMULATIONS):
        truth, predicted, said = world.draw(rng, 1000)
        chosen = np.concatenate([np.flatnonzero(said == stratum)[:40] for stratum in (0, 1, 3)])
        some = np.full(1000, np.nan)
        some[chosen] = truth[chosen]
        covered += covers(stratified(some, predicted, said), world.rate)
        naive += abs(truth[chosen].mean() - world.rate) < 0.05
    assert covered / SIMULATIONS >= COVERAGE
    assert naive / SIMULATIONS < 0.5, "the labels' own mean must be biased here, or the test shows nothing"


@pytest.mark.parametrize("world", [World(0.8, 0.9, 0.7, 0), World(0.95, 0.97, 0.97, 0)], ids=str)
def test_intervals_cover_with_probabilities_too(world: World) -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(SIMULATIONS):
        truth, predicted, said = world.draw(rng, 1000)
        sure = np.clip(0.2 + 0.6 * predicted + 0.2 * (truth - 0.5) + rng.normal(0, 0.1, 1000), 0, 1)
        some = np.where(np.arange(1000) < 150, truth, np.nan)
        covered += covers(stratified(some, sure, said), world.rate)
    assert covered / SIMULATIONS >= COVERAGE


@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize(("passes", "failures"), [(60, 30), (200, 200)])
def test_rates_carried_over_from_another_set_cover_the_truth(world: World, passes: int, failures: int) -> None:
    rng = np.random.default_rng(passes)
    estimates = []
    for _ in range(SIMULATIONS):
        said = rng.binomial(800, world.rate * world.hit + (1 - world.rate) * (1 - world.rejection))
        hits = (int(rng.binomial(passes, world.hit)), passes)
        rejections = (int(rng.binomial(failures, world.rejection)), failures)
        estimates.append(rogan_gladen(int(said), 800, hits, rejections))
    assert np.mean([covers(e, world.rate) for e in estimates]) >= COVERAGE


def test_the_correction_is_unbiased_where_the_judge_is_not() -> None:
    rng = np.random.default_rng(3)
    world = World(0.7, 0.95, 0.5)
    draws = [world.draw(rng, 2000) for _ in range(300)]
    judge = np.mean([p.mean() for _, p, _ in draws])
    found = [prediction_powered(t[:100], p[:100], p[100:]).value for t, p, _ in draws]
    assert judge > 0.78
    assert np.mean(found) == pytest.approx(0.7, abs=0.01)


def test_a_good_judge_narrows_the_interval_and_a_useless_one_does_not_widen_it() -> None:
    rng = np.random.default_rng(5)

    def widths(world: World) -> tuple[float, float, float]:
        found = []
        for _ in range(200):
            truth, predicted, _ = world.draw(rng, 2000)
            none = np.full(2000, 0.5)
            rest = predicted[100:]
            alone = prediction_powered(truth[:100], none[:100], none[100:])
            tuned = prediction_powered(truth[:100], predicted[:100], rest)
            plain = prediction_powered(truth[:100], predicted[:100], rest, tune=False)
            found.append([e.high - e.low for e in (alone, tuned, plain)])
        alone_width, tuned_width, plain_width = np.mean(found, axis=0)
        return float(alone_width), float(tuned_width), float(plain_width)

    alone, tuned, _ = widths(World(0.6, 0.95, 0.95, 0))
    assert tuned < 0.7 * alone
    alone, tuned, plain = widths(World(0.6, 0.5, 0.5, 0))
    assert tuned < 1.05 * alone < plain


def test_all_labelled_gives_the_labels_own_rate() -> None:
    truth = np.array([1.0, 1, 1, 0] * 20)
    said = np.array([1, 1, 0, 0] * 20)
    assert stratified(truth, said.astype(float), said).value == pytest.approx(0.75)


def test_a_stratum_without_labels_adds_its_full_doubt() -> None:
    said = np.repeat([1, 0], [900, 100])
    labels = np.full(1000, np.nan)
    labels[:200] = 1.0
    found = stratified(labels, said.astype(float), said)
    assert found.value == pytest.approx(1.0)
    assert 0.88 < found.low < 0.91


def test_no_labels_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="no labels"):
        prediction_powered(np.array([]), np.array([]), np.ones(5))
    with pytest.raises(UserError, match="no labels"):
        stratified(np.full(4, np.nan), np.ones(4), np.ones(4, int))


@pytest.mark.parametrize(
    ("hits", "rejections", "said"),
    [
        ((9, 9), (50, 50), "9 passes and 50 failures"),
        ((50, 50), (0, 0), "50 passes and 0 failures"),
        ((25, 50), (25, 50), "do not tell the judge from chance"),
        ((28, 50), (28, 50), "do not tell the judge from chance"),
        ((5, 50), (5, 50), "do not tell the judge from chance"),
    ],
)
def test_weak_evidence_elsewhere_is_refused(hits: tuple[int, int], rejections: tuple[int, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rogan_gladen(80, 100, hits, rejections)


def judgments(outcomes: str, prefix: str = "c", judge: str = "x", rubric_hash: str = "h") -> list[Judgment]:
    names: dict[str, Outcome] = {"p": "pass", "f": "fail", "n": "na", "u": "unscored"}
    return [
        Judgment(
            conversation_id=f"{prefix}{n}",
            judge=judge,
            rubric="r",
            rubric_hash=rubric_hash,
            scores=(Score(criterion="a", outcome=names[o]),),
            passed=None,
        )
        for n, o in enumerate(outcomes)
    ]


def labels(outcomes: str, prefix: str = "c") -> list[Label]:
    names = {"p": "pass", "f": "fail", "n": "na"}
    return [
        Label.model_validate({"conversation_id": f"{prefix}{n}", "criterion": "a", "outcome": names[o]})
        for n, o in enumerate(outcomes)
        if o in names
    ]


def test_too_few_labels_refuse_the_rate_and_say_how_many_are_needed() -> None:
    ratings = align(judgments("pf" * 50), labels("pf" * 14))
    (found,) = corrected_rates(ratings, "a")
    assert found.rate is None
    assert found.refused == f"28 labels, at least {MIN_LABELS} are needed"
    assert found.judge_rate == 0.5


def test_a_judge_that_passes_too_much_is_corrected_down() -> None:
    # the judge passes 80 of 100; of its passes every other one is labelled a failure
    ratings = align(judgments("ppppf" * 20), labels("pfpff" * 8))
    (found,) = corrected_rates(ratings, "a")
    assert (found.judge_rate, found.labels, found.n) == (0.8, 40, 100)
    assert found.rate is not None
    assert found.rate.value == pytest.approx(0.4)
    assert found.rate.high < 0.6


def test_unscored_cells_are_corrected_by_their_own_labels() -> None:
    outcomes = "pppppppppu" * 20
    (found,) = corrected_rates(align(judgments(outcomes), labels("pppppppppf" * 10)), "a")
    assert (found.judge_rate, found.n) == (1.0, 200)
    assert found.rate is not None
    assert found.rate.value == pytest.approx(0.9)


def test_not_applicable_cells_are_outside() -> None:
    (found,) = corrected_rates(align(judgments("pfn" * 40), labels("pfn" * 20)), "a")
    assert (found.n, found.labels) == (80, 40)


def test_labels_of_another_set_correct_this_one() -> None:
    there, truth = judgments("ppppf" * 20, "old"), labels("ppppf" * 18 + "pppff" * 2, "old")
    (found,) = [r for r in transferred_rates(judgments("ppf" * 40), there, truth) if r.criterion == "a"]
    assert found.method == "Rogan-Gladen"
    assert found.rate is not None
    assert found.rate.value < found.judge_rate == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("there", "truth", "said"),
    [
        (judgments("pf", "old", rubric_hash="other"), labels("pf", "old"), "judged with rubric other"),
        (judgments("pf", "old", judge="y"), labels("pf", "old"), "'x' did not judge"),
        (judgments("pf", "old"), [], "no labels"),
    ],
)
def test_another_set_must_be_comparable(there: list[Judgment], truth: list[Label], said: str) -> None:
    with pytest.raises(NotComparableError, match=said):
        transferred_rates(judgments("ppf"), there, truth)


def test_a_criterion_with_weak_evidence_elsewhere_is_refused_alone() -> None:
    found = transferred_rates(judgments("ppf"), judgments("pf", "old"), labels("pf", "old"))
    assert [r.refused for r in found if r.criterion == "a"] == ["too few labels: 1 passes and 1 failures"]
