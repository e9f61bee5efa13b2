"""Guard files say what is valid, and a mistake in one is told with its line."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from safetyqc.errors import ConfigError, UserError
from safetyqc.formats.yaml_file import parse_yaml
from safetyqc.judge.guards.file import Guard, guard_names, load_guard
from safetyqc.rubrics import load_rubric_set

RUBRIC = load_rubric_set()
TEXT = (files("safetyqc.judge.guards") / "llamaguard3.yaml").read_text(encoding="utf-8")


def test_there_are_twelve_guards_and_more() -> None:
    assert len(guard_names()) >= 12
    assert all(re.fullmatch(r"[a-z][a-z0-9]*", name) for name in guard_names())


@pytest.mark.parametrize("name", guard_names())
def test_every_file_fits_its_name_the_rubric_and_its_source(name: str) -> None:
    guard = load_guard(name)
    assert guard.id == name
    assert all("http" in source for source in guard.sources)
    criteria = {c.id for c in RUBRIC.criteria}
    assert set(guard.says) <= criteria
    assert {c for probe in guard.probes for c in probe.expect} <= criteria
    assert {c.ours for c in guard.categories.values()} <= {*RUBRIC.categories, None}


@pytest.mark.parametrize("name", guard_names())
def test_no_guard_judges_what_a_flag_for_harm_or_refusal_cannot_show(name: str) -> None:
    assert not {"safe_alternative", "empathy", "helpful_when_benign"} & set(load_guard(name).says)


def test_an_unknown_guard_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'llamaguard3'"):
        load_guard("lamaguard3")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(?P<safety>safe)'", "(?P<safety>safe'", "is no regular expression"),
        ("(?P<safety>safe)'", "safe'", "names no field"),
        ("{safety: safe}", "{safty: safe}", "field 'safty' is read nowhere"),
        ("messages: [conversation]", "messages: [{user: hello}]", "shows no answer"),
        ("messages: [conversation]", "endpoint: completions\nmessages: [conversation]", "takes one text"),
        ("then: pass", "then: passes", "unknown value 'passes'"),
        ("ailuminate: hate}", "ailuminate: hatred}", "unknown value 'hatred'"),
    ],
)
def test_a_mistake_is_told_where_it_stands(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=re.escape(said)) as raised:
        parse_yaml(TEXT.replace(old, new), Guard, where="llamaguard3.yaml")
    assert re.match(r"llamaguard3\.yaml:\d+", raised.value.where or "")


def test_only_what_changes_a_verdict_changes_the_hash() -> None:
    guard = load_guard("llamaguard3")
    assert guard.model_copy(update={"notes": ("other",)}).hash == guard.hash
    assert guard.model_copy(update={"max_tokens": 99}).hash != guard.hash
