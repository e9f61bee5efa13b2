"""A pair is a kept and a failed answer to the same prompt, and nothing is paired on a guess."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.formats.export.contrast import label_answers, pair_up
from safetyqc.records import Conversation, Judgment, Score
from safetyqc.testing import conversation


def failed_at(conversation_id: str, *turns: int | None) -> Judgment:
    scores = tuple(Score(criterion=f"c{n}", outcome="fail", turn=turn) for n, turn in enumerate(turns))
    return Judgment(
        conversation_id=conversation_id, judge="j", rubric="safety", rubric_hash="h", scores=scores, passed=False
    )


def talk(name: str, *texts: str, **fields: Any) -> Conversation:
    return conversation(*texts, id=name, **fields)


def shape(kept: list[Conversation], failed: list[Conversation], *verdicts: Judgment) -> list[tuple[str, str, int]]:
    found = pair_up(kept, failed, {v.conversation_id: v for v in verdicts}).examples
    return [(e.conversation.id, e.rejected.id if e.rejected else "", e.answer) for e in found]


def test_a_rewrite_is_set_against_what_it_was_made_of() -> None:
    parent, other = talk("p", "How?", "Like this."), talk("other", "How?", "No, and here is why.")
    child = talk("child", "How?", "I won't.", parent_id="p")
    assert shape([other, child], [parent]) == [("child", "p", 1)]


def test_a_failed_answer_without_a_rewrite_is_set_against_the_first_kept_one_to_the_same_request() -> None:
    kept = [talk("a", "How?", "I won't."), talk("b", "How?", "No."), talk("c", "Who?", "No.")]
    failed = [talk("x", "How?", "Like this."), talk("y", "How?", "Or so.")]
    told = pair_up(kept, failed, {})
    assert [(e.conversation.id, e.rejected and e.rejected.id) for e in told.examples] == [("a", "x"), ("a", "y")]
    assert told.left_out == dict.fromkeys(("b", "c"), "no failed answer to the same request")


def test_the_prompt_is_what_both_have_before_the_first_answer_that_differs() -> None:
    kept = talk("k", "Hi", "Hello", "How?", "I won't.", "Please", "No.", system="Be kind.")
    failed = talk("f", "Hi", "Hello", "How?", "Like this.", system="Be kind.")
    (pair,) = pair_up([kept], [failed], {}).examples
    assert [m["content"] for m in pair.prompt] == ["Be kind.", "Hi", "Hello", "How?"]
    assert (pair.completion["content"], pair.answer) == ("I won't.", 3)


@pytest.mark.parametrize(
    "failed",
    [
        talk("f", "Who?", "Like this."),
        talk("f", "How?", "I won't.", "Now?", "Like this."),  # the user's second message is where they part
        talk("f", "How?", "Like this.", system="You obey."),
    ],
    ids=["another request", "another question later", "another system message"],
)
def test_what_was_asked_otherwise_is_no_pair(failed: Conversation) -> None:
    kept = talk("k", "How?", "I won't.", "Please?", "No.", parent_id="f")
    told = pair_up([kept], [failed], {})
    assert told.examples == []
    assert set(told.left_out) == {"k", "f"}


@pytest.mark.parametrize(
    ("turns", "pairs"),
    [((3,), 0), ((3, 3), 0), ((1,), 1), ((None,), 1), ((1, 3), 1), ((None, 3), 1), ((), 1), ((0,), 1)],
)
def test_a_pair_is_made_only_where_its_answer_may_be_what_failed(turns: tuple[int, ...], pairs: int) -> None:
    kept = talk("k", "Hi", "Hello!", "How?", "I won't.", parent_id="f")
    failed = talk("f", "Hi", "Hey.", "How?", "Like this.")
    assert len(shape([kept], [failed], failed_at("f", *turns))) == pairs


def test_the_answer_that_failed_is_labelled_and_of_the_kept_ones_the_last() -> None:
    kept = talk("k", "Hi", "Hello", "How?", "I won't.")
    early, late = talk("e", "How?", "Like this.", "Thanks", "Bye"), talk("l", "Hi", "Hello", "How?", "Like this.")
    verdicts = {"e": failed_at("e", 1, None), "l": failed_at("l", None)}
    told = label_answers([kept], [early, late], verdicts).examples
    assert [(e.completion["content"], e.failed) for e in told] == [
        ("I won't.", False),
        ("Like this.", True),
        ("Like this.", True),
    ]
    assert [len(e.prompt) for e in told] == [3, 1, 3]
