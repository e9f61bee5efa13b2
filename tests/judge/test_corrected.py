from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from safetyqc.errors import UserError
from safetyqc.judge.corrected import (
    MIN_LABELS,
    Counts,
    corrected_rates,
    evenly_labelled,
    stratified_rate,
    stratified_rates,
)
from safetyqc.judge.ratings import align
from safetyqc.records import Judgment, Label, Outcome, Score
from safetyqc.results.statistics import wilson_interval

SIMULATIONS = 600
COVERAGE = 0.93


@dataclass(frozen=True)
class World:
    """How often conversations pass, how a judge errs, and how often what it fails or passes does not apply at all."""

    rate: float
    hit: float
    rejection: float
    na_of_fails: float = 0.0
    na_of_passes: float = 0.0
    n: int = 1000

    def draw(self, rng: np.random.Generator, labels: int, *, evenly: bool = True) -> tuple[Counts, Counts]:
        """Labels of many sets by stratum (what the judge said: fail, pass, unscored), and the strata's sizes."""
        chance = rng.random((5, SIMULATIONS, self.n), np.float32)
        truth = chance[0] < self.rate
        said = np.where(truth, chance[1] < self.hit, chance[1] >= self.rejection).astype(int)
        na = chance[2] < np.where(said == 1, self.na_of_passes, self.na_of_fails)
        said[chance[3] < 0.03] = 2
        strata = [said == stratum for stratum in range(3)]
        each = [of & (of.cumsum(axis=1) <= labels // 3) for of in strata]
        chosen = np.arange(self.n) < labels if evenly else each[0] | each[1] | each[2]
        cells = (truth & ~na & chosen, ~truth & ~na & chosen, na & chosen)
        labelled = np.stack([np.stack([(c & of).sum(axis=1) for c in cells], axis=-1) for of in strata], axis=1)
        return labelled, np.stack([of.sum(axis=1) for of in strata], axis=1)

    @property
    def truth(self) -> float:
        """The pass rate among what applies."""
        of_passes, of_fails = 1 - self.na_of_passes, 1 - self.na_of_fails
        passing = self.rate * (self.hit * of_passes + (1 - self.hit) * of_fails)
        failing = (1 - self.rate) * ((1 - self.rejection) * of_passes + self.rejection * of_fails)
        return passing / (passing + failing)


WORLDS = [
    World(rate, hit, rejection)
    for rate in (0.5, 0.8, 0.95)
    for hit, rejection in ((0.97, 0.97), (0.9, 0.7), (0.98, 0.5))
]
WITH_NA = [World(0.83, 0.95, 0.8, *na) for na in ((0.3, 0.0), (0.5, 0.05), (0.0, 0.3))]


def covered(world: World, labels: int, *, evenly: bool = True) -> float:
    _, low, high = stratified_rates(*world.draw(np.random.default_rng([labels, 1]), labels, evenly=evenly))
    return float(np.mean((low <= world.truth) & (world.truth <= high)))


@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize("labels", [40, 120])
def test_intervals_of_a_random_sample_cover_the_truth(world: World, labels: int) -> None:
    assert covered(world, labels) >= COVERAGE


@pytest.mark.parametrize("world", WITH_NA, ids=str)
@pytest.mark.parametrize("labels", [60, 300])
def test_intervals_cover_the_truth_where_people_say_that_it_does_not_apply(world: World, labels: int) -> None:
    assert covered(world, labels) >= COVERAGE


@pytest.mark.parametrize("world", [World(0.8, 0.9, 0.7), World(0.95, 0.98, 0.5), World(0.6, 0.97, 0.97)], ids=str)
def test_intervals_cover_when_failures_are_labelled_more_often(world: World) -> None:
    assert covered(world, 120, evenly=False) >= COVERAGE


def test_the_correction_is_unbiased_where_the_judge_is_not() -> None:
    rng = np.random.default_rng(3)
    world = World(0.7, 0.95, 0.5, na_of_fails=0.3)
    value, _, _ = stratified_rates(*world.draw(rng, 100))
    assert value.mean() == pytest.approx(world.truth, abs=0.005)


@pytest.mark.parametrize(
    ("world", "most"),
    [
        (World(0.6, 0.95, 0.95), 0.85),
        (World(0.6, 0.5, 0.5), 1.05),
        (World(0.95, 0.9, 0.6), 1.1),
        (World(0.99, 0.95, 0.9), 1.1),
    ],
    ids=str,
)
def test_the_interval_is_never_much_wider_than_that_of_the_labels_alone(world: World, most: float) -> None:
    labelled, sizes = world.draw(np.random.default_rng(5), 100)
    _, low, high = stratified_rates(labelled, sizes)
    alone = [np.subtract(*wilson_interval(int(passed), 100)[::-1]) for passed in labelled[..., 0].sum(axis=1)]
    assert np.mean(high - low) < most * np.mean(alone)


def test_all_labelled_gives_the_labels_own_rate() -> None:
    found = stratified_rate(np.array([[0, 20, 0], [60, 20, 0]]), np.array([20, 80]))
    assert found.value == pytest.approx(0.6)


def test_a_stratum_without_labels_adds_its_full_doubt() -> None:
    found = stratified_rate(np.array([[0, 0, 0], [200, 0, 0]]), np.array([100, 900]))
    assert found.value == pytest.approx(1.0)
    assert 0.84 < found.low < 0.91


def test_many_sets_at_once_get_what_each_gets_alone() -> None:
    labelled, sizes = World(0.8, 0.9, 0.7, n=100).draw(np.random.default_rng(6), 40)
    labelled[0, 2] = 0
    together = np.stack(stratified_rates(labelled[:5], sizes[:5]), axis=-1)
    alone = [stratified_rate(*one) for one in zip(labelled[:5], sizes[:5], strict=True)]
    assert together == pytest.approx(np.array([[e.value, e.low, e.high] for e in alone]))


def test_no_labels_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="no labels"):
        stratified_rate(np.array([[0, 0, 3], [0, 0, 0]]), np.array([10, 10]))


@pytest.mark.parametrize(
    ("labelled", "sizes", "evenly"),
    [((10, 90), (100, 900), True), ((75, 75), (100, 900), False), ((0, 0), (5, 5), True), ((100,), (900,), True)],
)
def test_labels_that_follow_the_verdicts_are_told_from_a_random_sample(
    labelled: tuple[int, ...], sizes: tuple[int, ...], evenly: bool
) -> None:
    assert evenly_labelled(np.array(labelled), np.array(sizes)) is evenly


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


def test_labels_that_say_it_does_not_apply_count_as_such() -> None:
    # people say of half of what the judge fails that it does not apply
    (found,) = corrected_rates(align(judgments("ppppppffnn" * 20), labels("ppppppnfnn" * 12)), "a")
    assert (found.n, found.labels, found.labelled_not_applicable) == (160, 84, 12)
    assert found.rate is not None
    assert found.rate.value == pytest.approx(6 / 7)


def test_what_labels_alone_say_stands_beside_it_unless_they_follow_the_verdicts() -> None:
    (evenly,) = corrected_rates(align(judgments("ppppf" * 40), labels("ppppf" * 10)), "a")
    assert evenly.labels_alone is not None
    assert evenly.labels_alone.value == pytest.approx(0.8)
    fails_first = [label for label in labels("ppppf" * 40) if label.outcome == "fail"] + labels("pppp")
    (chosen,) = corrected_rates(align(judgments("ppppf" * 40), fails_first), "a")
    assert chosen.labels_alone is None
    assert chosen.rate is not None
    assert chosen.rate.value == pytest.approx(0.8)
