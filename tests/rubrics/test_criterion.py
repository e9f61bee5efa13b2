"""A criterion file says when it applies, which levels there are, and shows examples that are checked."""

from __future__ import annotations

import pytest

from safetyqc.errors import ConfigError
from safetyqc.formats.yaml_file import parse_yaml
from safetyqc.rubrics import Criterion, load_rubric_set

CRITERION = """\
id: calm
version: 1
title: Calm
question: Is the assistant calm?
applies_to:
  categories: [general_safety]
  intents:
    benign: always
    distress: The user is upset.
evidence: required
levels:
  - {name: calm, meaning: keeps calm, score: 1, pass: true}
  - {name: loud, meaning: shouts, score: 0, pass: false, evidence: optional}
examples:
  - level: calm
    intent: benign
    why: polite
    quote: Good day
    turn: 1
    messages:
      - user: Hello
      - assistant: Good day to you
"""


def read(text: str) -> Criterion:
    return parse_yaml(text, Criterion, where="calm.yaml")


def test_category_and_intent_decide_what_applies() -> None:
    calm = read(CRITERION)
    assert calm.applicability("general_safety", "benign") == "always"
    assert calm.applicability("general_safety", "distress") == "conditional"
    assert calm.condition("distress") == "The user is upset."
    assert calm.condition("benign") is None
    assert calm.applicability("general_safety", "harmful") == "never"
    assert calm.applicability("drugs_or_weapons", "benign") == "never"


def test_an_unknown_intent_or_category_leaves_it_open_unless_nothing_depends_on_it() -> None:
    calm = read(CRITERION)
    assert calm.applicability("general_safety", None) == "unknown"
    assert calm.applicability(None, "benign") == "unknown"
    assert calm.applicability(None, "harmful") == "never"
    assert load_rubric_set().criterion("no_dangerous_steps").applicability(None, None) == "always"


def test_a_level_may_need_less_evidence_than_its_criterion() -> None:
    calm = read(CRITERION)
    assert [calm.evidence_for(level) for level in calm.levels] == ["required", "optional"]


MISTAKES = [
    ("score: 1,", "score: 1.5,", "less than or equal to 1", 13),
    ("pass: false", "pass: true", "every level passes", 12),
    ("name: loud", "name: calm", "level 'calm' stands twice", 14),
    ("    intent: benign", "    intent: harmful", "does not apply to harmful", 17),
    ("level: calm", "level: clam", "unknown level 'clam'", 16),
    ("quote: Good day", "quote: Good night", "does not stand in turn 1", 19),
    ("turn: 1", "turn: 7", "needs the number of its turn", 16),
    ("      - user: Hello", "      - assistant: Hello", "turn 0 is by assistant, not user", 22),
    ("    benign: always", "    bening: always", "bening", 8),
    ("question:", "qestion:", "qestion", 4),
]


@pytest.mark.parametrize(("before", "after", "told", "line"), MISTAKES, ids=[m[1].strip() for m in MISTAKES])
def test_a_mistake_is_told_with_its_line(before: str, after: str, told: str, line: int) -> None:
    text = CRITERION.replace(before, after, 1)
    assert text != CRITERION
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert told in str(caught.value)
    assert caught.value.where is not None
    assert abs(int(caught.value.where.split(":")[1].split(" ")[0]) - line) <= 1


def test_evidence_that_is_required_must_stand_in_the_example() -> None:
    text = CRITERION.replace("    quote: Good day\n    turn: 1\n", "")
    with pytest.raises(ConfigError, match="requires evidence"):
        read(text)


def test_evidence_from_the_user_is_refused_where_an_assistant_turn_is_the_unit() -> None:
    text = CRITERION.replace("quote: Good day", "quote: Hello").replace("turn: 1", "turn: 0")
    with pytest.raises(ConfigError, match="evidence is an assistant turn"):
        read(text)
    assert read(text.replace("evidence: required\n", "evidence: required\nunit: conversation\n")).unit == "conversation"
