"""What answers use too often is named, by language, and nothing else is."""

from __future__ import annotations

from safetyqc.generate.worn import NAMED, Worn
from safetyqc.records import Conversation, Message


def conversation(n: int, answer: str, language: str = "en") -> Conversation:
    messages = (Message(role="user", content=f"Question {n}"), Message(role="assistant", content=answer))
    return Conversation(id=f"c_{n}", messages=messages, language=language)


STARTS = (
    "Stealing hurts people",
    "No, that is not",
    "Let us look",
    "What you describe",
    "Somebody could die",
    "Breathe first",
)


def test_an_opening_that_comes_back_is_named_and_one_that_varies_is_not() -> None:
    worn = Worn(conversation(n, f"I can't help with number {n}.") for n in range(6))
    for n, start in enumerate(STARTS):
        worn.add(conversation(10 + n, f"{start} at place {n}."))
    named = worn.named("en")
    assert named[0] == "i can't help"
    assert not any(start.lower() in named for start in STARTS)


def test_a_phrase_in_the_midst_of_answers_is_named_as_a_frame() -> None:
    worn = Worn(
        conversation(n, f"{start} here. It is important to remember thing {n}.") for n, start in enumerate(STARTS)
    )
    assert "it is important to" in worn.named("en")


def test_few_uses_and_other_languages_are_no_habit() -> None:
    worn = Worn(conversation(n, f"I can't help with number {n}.") for n in range(3))
    assert worn.named("en") == ()
    worn.add(conversation(9, "I can't help with number 9."))
    assert worn.named("en")[0] == "i can't help"
    assert worn.named("zh") == ()


def test_chinese_openings_are_named_by_characters() -> None:
    worn = Worn(conversation(n, f"这件事我不能帮你做，因为会伤到人{n}。", "zh") for n in range(5))
    assert any(words.startswith("这件事我不") for words in worn.named("zh"))


def test_no_more_are_named_than_a_prompt_can_bear_and_none_within_another() -> None:
    answers = [f"Start number {n % 12} of this kind. And then part {n % 12} goes on and on." for n in range(120)]
    named = Worn(conversation(n, answer) for n, answer in enumerate(answers)).named("en")
    assert len(named) <= NAMED
    assert not any(one != other and one in other for one in named for other in named)
