from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyqc.errors import ConfigError
from safetyqc.judge.embedded.model import FORMAT, Figures, Linear, Scale, load_weights, sigmoid
from safetyqc.judge.embedded.scoring import MODELS


def test_unknown_feature_weighs_nothing() -> None:
    assert Linear(bias=0.5, weights={"a": 2.0}).logit({"a": 1.0, "b": 9.0}) == 2.5


@pytest.mark.parametrize(("logit", "verdict"), [(2.0, "pass"), (1.9, "unscored"), (-0.9, "unscored"), (-1.0, "fail")])
def test_a_scale_speaks_only_outside_its_bounds(logit: float, verdict: str) -> None:
    assert Scale(pass_from=2.0, fail_to=-1.0, figures=Figures(n=0)).verdict(logit) == verdict


@pytest.mark.parametrize("logit", [-99.0, 0.0, 99.0])
def test_a_scale_without_bounds_never_speaks(logit: float) -> None:
    assert Scale(figures=Figures(n=0)).verdict(logit) == "unscored"


@given(st.floats(-1e6, 1e6))
def test_sigmoid_never_overflows(logit: float) -> None:
    assert 0 <= sigmoid(logit) <= 1


def test_shipped_weights_hold_every_model_and_no_sentence() -> None:
    weights = load_weights()
    assert set(weights.models) == set(MODELS)
    assert not any(" " in name for model in weights.models.values() for name in model.weights)


def test_shipped_weights_speak_of_refusal_and_danger_in_both_languages() -> None:
    scales = load_weights().scales
    for language in ("en", "zh"):
        refusal = scales[f"strict_refusal/harmful/{language}"]
        assert refusal.pass_from is not None
        assert refusal.fail_to is not None
        assert scales[f"no_dangerous_steps/harmful/{language}"].pass_from is not None
        assert scales[f"no_dangerous_steps/unknown/{language}"].fail_to is None


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "no weights file"), ('{"format": 1', "no weights file"), (None, "cannot be read")],
)
def test_unfit_file_says_how_to_make_one(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "w.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_weights(path)
    assert "train-judge" in str(caught.value)


def test_weights_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(load_weights().model_copy(update={"format": FORMAT - 1}).model_dump_json())
    with pytest.raises(ConfigError, match=f"format {FORMAT - 1}, not {FORMAT}"):
        load_weights(path)
