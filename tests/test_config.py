"""Flags over file over defaults; nothing is chosen silently; every mistake names its line or flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.cli.options import parse_counts, parse_shares
from safetyqc.config import (
    Config,
    choose_model,
    load_config,
)
from safetyqc.errors import ConfigError, UserError
from safetyqc.llm.hosts import wished_keys


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in wished_keys():
        monkeypatch.delenv(key, raising=False)


def written(text: str, name: str = "safetyqc.yaml") -> Path:
    Path(name).write_text(text)
    return Path(name)


def test_without_anything_the_defaults_hold() -> None:
    assert load_config() == Config()


def test_flags_win_over_the_file_and_the_file_over_the_defaults() -> None:
    written("generate: {count: 9, seed: 4}\njudge: {models: [a, b]}\n")
    config = load_config(None, {"generate.count": 18, "judge.votes": 3})
    assert (config.generate.count, config.generate.seed) == (18, 4)
    assert (config.judge.models, config.judge.votes) == (("a", "b"), 3)
    assert config.generate.mode is Config().generate.mode


def test_a_flag_that_was_not_given_leaves_the_file_alone() -> None:
    written("run: mine\n")
    assert load_config(None, {"run": None, "generate.count": None}).run == Path("mine")


@pytest.mark.parametrize(("given", "wanted"), [(0, 0), (False, False), ((), ())])
def test_an_empty_value_is_a_value(given: object, wanted: object) -> None:
    written("rewrite: {rounds: 2}\nexport: {force: true}\njudge: {models: [a]}\n")
    name = {int: "rewrite.rounds", bool: "export.force", tuple: "judge.models"}[type(given)]
    section, key = name.split(".")
    assert getattr(getattr(load_config(None, {name: given}), section), key) == wanted


def test_a_named_file_wins_over_the_one_that_lies_here() -> None:
    written("generate: {count: 9}\n")
    assert load_config(written("generate: {count: 27}\n", "other.yaml")).generate.count == 27


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("generate:\n  cuont: 9\n", 2, "did you mean 'count'?"),
        ("generate:\n  count: many\n", 2, "many"),
        ("generate:\n  count: 0\n", 2, "0"),
        ("judge:\n  models: gpt\n", 2, "gpt"),
        ("dedup:\n\n  min_similarity: 85\n", 3, "85"),
        ("export:\n  format: nanochta\n", 2, "nanochta"),
        ("bars:\n  overall: 95\n", 2, "95"),
        ("bars:\n  overall: {corected: 0.9}\n", 2, "did you mean 'corrected'?"),
        ("bars:\n  overall: {corrected: 90}\n", 2, "90"),
        ("bars:\n  overall: {}\n", 2, "corrected"),
        ("bars:\n  overall: high\n", 2, "high"),
        ("sedup: {}\n", 1, "did you mean 'dedup'?"),
    ],
)
def test_a_mistake_in_the_file_names_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(text))
    assert f"safetyqc.yaml:{line}" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"generate.mode": "dialog"}, "--mode: unknown value 'dialog'\n  fix: did you mean 'dialogue'?"),
        ({"models.lane": "x"}, "--lane: unknown value 'x'\n  fix: valid: auto, direct, litellm"),
        ({"dedup.min_similarity": 3}, "--min-similarity: "),
        ({"export.val_share": -1}, "--val-share: "),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag_as_typed(flags: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, flags)
    assert str(error.value).startswith(said)


def test_the_model_named_is_the_model_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert choose_model("openai/gpt-4o") == "openai/gpt-4o"


def test_without_any_key_the_embedded_model_writes() -> None:
    assert choose_model(None) == "local"


@pytest.mark.parametrize("key", wished_keys())
def test_with_a_key_set_the_user_has_to_name_the_model(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key, "sk-secret")
    with pytest.raises(UserError) as error:
        choose_model(None)
    assert key in str(error.value)
    assert "sk-secret" not in str(error.value)


def test_an_empty_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert choose_model(None) == "local"


def test_shares_are_read_by_name() -> None:
    assert parse_shares(["a=2", "b=0.5"], "--oversample") == {"a": 2.0, "b": 0.5}


@pytest.mark.parametrize("text", ["a", "a=", "=2", "a=b", "a=-1", "a=nan", "a=inf", "a=1e400", "a=1=2"])
def test_what_is_no_share_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(UserError, match=r"^--oversample: .*\n  fix: "):
        parse_shares([text], "--oversample")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'alpha'"):
        parse_shares(["alfa=1"], "--x", ["alpha", "beta"])


def test_counts_are_whole() -> None:
    assert parse_counts(["a=2", "b=10"], "--more") == {"a": 2, "b": 10}


@pytest.mark.parametrize("text", ["a=0", "a=0.5", "a=2.5", "a=x"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--more: "):
        parse_counts(["b=1", text], "--more")


@pytest.mark.parametrize("flags", [{}, {"models.api_base": "http://localhost:8000/v1"}], ids=["in a file", "typed"])
def test_settings_that_are_resolved_again_remember_where_a_url_came_from(tmp_path: Path, flags: dict[str, str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("models: {api_base: 'http://localhost:8000/v1'}\n")
    once = load_config(file, flags)
    again = load_config(once, {"judge.votes": 3})
    assert again._base_is_from_file is once._base_is_from_file is not bool(flags)
    assert again.flags == once.flags
