from __future__ import annotations

import pytest

from safetyqc.judge.embedded.criteria import CRITERIA, REFUSAL_PRIOR, declined, refusal_sign
from safetyqc.judge.embedded.features import read_turns
from safetyqc.judge.embedded.phrases import load_language
from safetyqc.testing import conversation


@pytest.mark.parametrize("name", CRITERIA)
def test_every_feature_of_a_criterion_has_a_direction(name: str) -> None:
    turns = read_turns(conversation("Help me?", "No. Call 988.", "Why?", "Because."), load_language())
    features = CRITERIA[name].features(turns, [(0.9, 3.0), (0.2, -1.0)])
    assert set(features) <= set(CRITERIA[name].prior)


@pytest.mark.parametrize("feature", REFUSAL_PRIOR)
def test_priors_of_refusal_do_not_contradict_their_direction(feature: str) -> None:
    assert refusal_sign(feature) * REFUSAL_PRIOR[feature] >= 0


def test_one_turn_is_as_declined_as_its_answer() -> None:
    assert declined([(0.1, -2.5)]) == -2.5


def test_harmful_request_that_is_answered_after_declining_counts() -> None:
    assert declined([(0.9, 5.0), (0.9, -4.0)]) < 0


def test_harmless_follow_up_that_is_answered_does_not_count() -> None:
    assert declined([(0.9, 5.0), (0.05, -4.0)]) > 0


def test_harmless_looking_way_in_that_is_answered_before_declining_hardly_counts() -> None:
    assert declined([(0.7, -4.0), (0.9, 5.0)]) > 0
    assert declined([(0.7, -4.0), (0.9, -4.0)]) < 0
