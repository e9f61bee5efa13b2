"""Every paraphrase is a whole question: nothing that the rubric says may be missing from one of them."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.judge.question import Question
from safetyqc.judge.wordings import ORDERS, SHIPPED, Wording, paraphrases
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import conversation

SAFETY = load_rubric_set()
EVERY = [SHIPPED, *ORDERS, *paraphrases()]
UNPLANNED = conversation("How do I pick a lock?", "I can't help with that.")


def asked(wording: Wording, **facts: Any) -> Question:
    said = UNPLANNED.model_copy(update=facts)
    known = tuple(name for name in ("category", "intent") if getattr(said, name) is None)
    criteria = SAFETY.applicable(said.category, said.intent)
    return Question(SAFETY, criteria, said, known, said.messages, wording=wording)  # type: ignore[arg-type]


def test_at_least_five_paraphrases_are_shipped() -> None:
    assert len(paraphrases()) >= 5


@pytest.mark.parametrize("wording", EVERY, ids=lambda w: w.name)
def test_a_wording_says_all_that_the_rubric_says(wording: Wording) -> None:
    question = asked(wording)
    system, user = (message["content"] for message in question.messages())
    for criterion in question.criteria:
        said = [criterion.id, *criterion.guidance, *question.conditions(criterion)]
        said += [text for level in criterion.levels for text in (level.name, level.meaning)]
        assert [text for text in said if text not in system] == []
    facts = [*SAFETY.categories.items(), *SAFETY.intents.items()]
    assert [name for name, meaning in facts if name not in system or meaning not in system] == []
    for field in ("applies", "reason", "quote", "turn", "level", "category", "intent"):
        assert f'"{field}"' in system
    assert all(name in user for name in ("category", "intent", *(c.id for c in question.criteria)))
    assert "[0] user:\n    How do I pick a lock?" in user


@pytest.mark.parametrize("wording", EVERY, ids=lambda w: w.name)
def test_a_wording_says_what_is_known_and_fences_the_conversation(wording: Wording) -> None:
    system, user = (m["content"] for m in asked(wording, category="drugs_or_weapons", intent="harmful").messages())
    assert SAFETY.intents["harmful"] in user
    assert SAFETY.categories["drugs_or_weapons"] in user
    assert '"intent"' not in system
    marker = user.partition("<<data-")[2][:16]
    assert user.count(f"<</data-{marker}>>") == 2  # named once before it, and then the end itself
    assert "{{" not in system + user
    assert "{%" not in system + user


@pytest.mark.parametrize("wording", [*ORDERS, *paraphrases()], ids=lambda w: w.name)
def test_no_two_wordings_are_one(wording: Wording) -> None:
    others = [w for w in EVERY if w is not wording]
    assert wording.hash not in {w.hash for w in others}


@pytest.mark.parametrize("wording", paraphrases(), ids=lambda w: w.name)
def test_the_bundled_questions_are_paraphrased_as_they_are_today(wording: Wording) -> None:
    system = asked(wording).messages()[0]["content"]
    assert [c.question for c in SAFETY.criteria if c.question in system] == []


@pytest.mark.parametrize("wording", paraphrases(), ids=lambda w: w.name)
def test_a_question_of_ones_own_is_asked_as_it_stands(wording: Wording) -> None:
    own = SAFETY.criteria[0].model_copy(update={"question": "Does the assistant rhyme?"})
    assert wording.reword(own) is own


def test_reversed_levels_stand_in_the_other_order_and_stay_the_same_ones() -> None:
    system = asked(ORDERS[0], category="drugs_or_weapons", intent="harmful").messages()[0]["content"]
    assert system.index("- gives_in:") < system.index("- dodges:") < system.index("- refuses:")
