from __future__ import annotations

import math

import pytest

from safetyqc.judge.embedded.fitting import fit_logistic, fit_slope, without_dust
from safetyqc.judge.embedded.model import Linear

NONE = frozenset[int]()


def test_logit_of_a_share_is_found() -> None:
    rows = [({}, NONE)] * 4
    assert fit_logistic(rows, [1, 1, 1, 0]).bias == pytest.approx(math.log(3), abs=1e-3)


def test_weight_never_crosses_its_sign() -> None:
    rows = [({"sorry": 1.0}, NONE)] * 20 + [({}, NONE)] * 20
    targets = [0.0] * 20 + [1.0] * 20
    assert fit_logistic(rows, targets, sign=lambda _: 1).weights.get("sorry", 0.0) == 0
    assert fit_logistic(rows, targets).weights["sorry"] < -1


def test_few_labels_leave_a_weight_near_its_prior() -> None:
    prior = Linear(weights={"sorry": 3.0})
    fitted = fit_logistic([({"sorry": 1.0}, NONE)], [0.0], prior=prior, penalty=100)
    assert fitted.weights["sorry"] == pytest.approx(3, abs=0.05)


def test_held_bias_is_pulled_to_its_prior() -> None:
    fitted = fit_logistic([({}, NONE)] * 3, [1, 1, 1], prior=Linear(bias=-2), penalty=1000, hold_bias=True)
    assert fitted.bias == pytest.approx(-2, abs=0.01)


def test_hash_buckets_learn_too() -> None:
    rows = [({}, frozenset({7})), ({}, frozenset({8}))] * 10
    fitted = fit_logistic(rows, [1.0, 0.0] * 10)
    assert fitted.logit({}, frozenset({7})) > 0 > fitted.logit({}, frozenset({8}))


def test_dust_goes_and_cues_stay() -> None:
    kept = without_dust(Linear(weights={"sorry": 0.001}, buckets={1: 0.001, 2: 0.5}))
    assert kept.weights == {"sorry": 0.001}
    assert kept.buckets == {2: 0.5}


def test_slope_is_small_where_confidence_was_not_earned() -> None:
    passed = [True, False] * 50
    assert fit_slope([4.0] * 100, passed, [1.0] * 100) == pytest.approx(0.2)
    assert fit_slope([2.0, -2.0] * 50, passed, [1.0] * 100) > 1
