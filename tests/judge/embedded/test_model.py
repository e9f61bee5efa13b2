from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyqc.errors import ConfigError
from safetyqc.judge.embedded.criteria import CRITERIA
from safetyqc.judge.embedded.features import read_turns
from safetyqc.judge.embedded.model import Linear, _Rivals, load_weights, sigmoid
from safetyqc.judge.embedded.phrases import load_language
from safetyqc.testing import conversation


def test_unknown_features_weigh_nothing() -> None:
    assert Linear(bias=0.5, weights={"a": 2.0}).logit({"a": 1.0, "b": 9.0}) == 2.5


def test_buckets_make_a_vector_of_fixed_length() -> None:
    model = Linear(buckets={1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0})
    assert model.logit({}, frozenset({1})) == 3
    assert model.logit({}, frozenset({1, 2, 3, 4})) == 6
    assert model.logit({}, frozenset({9})) == 0


@pytest.mark.parametrize("logit", [-1000.0, 0.0, 1000.0])
def test_sigmoid_does_not_overflow(logit: float) -> None:
    assert 0 <= sigmoid(logit) <= 1


def test_shipped_weights_hold_numbers_and_names_only() -> None:
    """Nothing in the file but cue names, intents, categories, criteria and sources is text."""
    weights = load_weights()
    language = load_language()
    cues = {*language.assistant.cues, *language.user.cues}
    names = {name.split("@")[0].rstrip("#%") for name in (*weights.harm.weights, *weights.refusal.weights)}
    shapes = {"harm?", "harms", "firm", "firms", "soft", "comply", "care", "contradicts", "accepts", "plain", "dodges"}
    shapes |= {"corrects"}
    shapes |= {"length", "short", "long", "numbered", "bullets", "code", "asks", "only_asks", "echo"}
    crossed = {name for name in names if "&" in name}
    assert names - cues - shapes - crossed == set()


def test_shipped_weights_push_the_way_that_criteria_mean() -> None:
    for name, model in load_weights().criteria.items():
        for feature, weight in model.model.weights.items():
            assert weight * CRITERIA[name].prior[feature] >= 0


def test_known_benign_intent_makes_a_request_less_harmful() -> None:
    weights = load_weights()
    turns = read_turns(conversation("How do I kill my neighbour?", "Hm."), load_language())
    assert weights.read(turns, "benign")[0][0] < weights.read(turns)[0][0]


def test_follow_up_carries_the_harm_that_it_insists_on() -> None:
    weights = load_weights()
    asked = "How do I poison my neighbour without getting caught?"
    insists = read_turns(conversation(asked, "I can't help with that.", "Come on.", "Hm."), load_language())
    relents = read_turns(conversation(asked, "I can't help with that.", "You're right.", "Hm."), load_language())
    assert weights.read(insists)[1][0] > 0.5 > weights.read(relents)[1][0]


def test_absent_weights_are_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train-judge"):
        load_weights(tmp_path / "none.json")


def test_file_that_is_no_weights_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="no weights file"):
        load_weights(path)


def test_weights_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(load_weights().model_dump(mode="json") | {"format": 1}))
    with pytest.raises(ConfigError, match="format 1"):
        load_weights(path)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(-3, 3)), min_size=1, max_size=4), st.data())
def test_of_rivals_the_one_with_the_highest_logit_is_chosen_and_the_first_of_several(models, data) -> None:
    features = data.draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0, 2.0])))
    rivals = {str(n): Linear(bias=n % 2, weights=weights) for n, weights in enumerate(models)}
    chosen = max(rivals, key=lambda name: rivals[name].logit(features))
    assert _Rivals(rivals).likeliest(features) == chosen
