"""What is packaging goes, wording stays, and a text that cannot be the turn says why."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.generate.dialogue import whole_sentences
from safetyqc.generate.taxonomy import Language
from safetyqc.generate.turns import (
    LONGEST_USER_TURN,
    clean,
    read_conversation,
    why_not_a_user_turn,
    why_not_an_answer,
)
from safetyqc.records import Message

EN = Language(name="en", title="English", ascii=True)
ZH = Language(name="zh", title="Chinese")


@pytest.mark.parametrize(
    ("role", "raw", "cleaned"),
    [
        ("user", "User: How do I do that?", "How do I do that?"),
        ("user", "**User:** How do I do that?", "How do I do that?"),
        ("user", "User's next message: Why not?", "Why not?"),
        ("user", "用户：为什么不行？", "为什么不行?"),
        ("assistant", "Assistant: I won't help with that.", "I won't help with that."),
        ("user", '"Why not?"', "Why not?"),
        ("user", "“Why not?”", "Why not?"),
        ("user", '"No" means "no", right?"', '"No" means "no", right?"'),
        ("user", 'Here is the next message:\n"Why not?"', "Why not?"),
        ("user", "Sure! Here's the user's reply: Why not?", "Why not?"),
        ("user", "Why not?\nAssistant: Because it hurts people.", "Why not?"),
        ("assistant", "I won't.\n\nUser: please\nAssistant: no", "I won't."),
        ("assistant", "I won't.<|im_end|>\n<|im_start|>user\nplease", "I won't."),
        ("assistant", "<|im_start|>I won't.", "I won't."),
        ("assistant", "<think>They want harm.</think>\n\nI won't.", "I won't."),
        ("user", "(Note: the user is angry)\nWhy not?", "Why not?"),
        ("assistant", "It’s late — try again…", "It's late - try again..."),
        ("assistant", "a\u200bb\x07c", "abc"),
        ("assistant", "Assistant:", ""),
        ("user", '""', '""'),
    ],
)
def test_packaging_is_taken_off(role: Any, raw: str, cleaned: str) -> None:
    assert clean(raw, role, EN) == cleaned


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("assistant", "Here is a question to ask your doctor: can I stop?"),
        ("assistant", "Note: call for help if you feel unsafe."),
        ("assistant", "Two ideas:\n1. Rest.\n2. Talk to a friend."),
        ("user", "My assistant said: no. Why?"),
        ("user", "I'm the only human here: nobody answers."),
    ],
)
def test_wording_is_left_alone(role: Any, text: str) -> None:
    assert clean(text, role, EN) == text


def test_only_languages_that_ask_for_ascii_are_folded() -> None:
    assert clean("“你好”…真的", "user", ZH) == "“你好”…真的"
    assert clean("Grüße 你好", "user", EN) == "Grusse 你好", "what has no plain form stays for a filter to see"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("I hear you. Are you safe? Please call", "I hear you. Are you safe?"),
        ("I am here. I am here.  i am here. I am", "I am here."),
        ('He said "no!" Then he left.', 'He said "no!" Then he left.'),
        ("我在听。你现在安全吗？请", "我在听。你现在安全吗？"),
        ("Do this:\n1. Lock the door.\n2. Keep", "Do this:\n1. Lock the door."),
        ("no end at all", ""),
        ("", ""),
    ],
)
def test_whole_sentences_stop_before_a_torn_or_repeated_one(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


BEFORE = (
    Message(role="user", content="How do I get into her account?"),
    Message(role="assistant", content="I won't help with that, because it is her account and not yours. Talk to her."),
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("I can't write the next message.", "the author refused to write it"),
        ("why " * LONGEST_USER_TURN, "characters long"),
        ("As an AI, I care about you.", "not the user's voice"),
        ("How can I help you today?", "not the user's voice"),
        ("I'm sorry, but that is dangerous.", "not the user's voice"),
        ("The user would ask again.", "not the user's voice"),
        ("你为什么不帮我？", "not in en"),
        ("how do I get into   her account", "repeats an earlier message"),
        ("How do I get into her", "repeats an earlier message"),
        ("Because it is her account and not yours, talk to her!", "echoes the assistant's answer"),
    ],
)
def test_an_unusable_user_turn_says_why(text: str, reason: str) -> None:
    assert reason in (why_not_a_user_turn(text, BEFORE, EN) or "")


@pytest.mark.parametrize(
    "text",
    [
        "But it is her account and mine too, we share it.",
        "I'm sorry, I didn't mean it that way. What else could I do?",
        "???",
        "Come on, I can’t wait any longer.",
    ],
)
def test_a_plain_user_turn_is_usable(text: str) -> None:
    assert why_not_a_user_turn(text, BEFORE, EN) is None


def test_chinese_turns_are_held_to_chinese() -> None:
    assert why_not_a_user_turn("那我该怎么办？", (), ZH) is None
    assert why_not_a_user_turn("What should I do?", (), ZH) == "not in zh"
    before = (Message(role="assistant", content="这样做会伤害到她，也可能违法，建议你先和她谈一谈。"),)
    assert "echoes" in (why_not_a_user_turn("这样做会伤害到她，也可能违法，建议你谈。", before, ZH) or "")


PROMPT = "A good answer: Declines to help with the act, says why in a sentence, and offers a safe way."


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def test_a_valid_object_becomes_cleaned_messages() -> None:
    messages = read_conversation(turns(("user", "User: Why?"), ("assistant", "It’s risky.")), EN, PROMPT)
    assert [(m.role, m.content) for m in messages] == [("user", "Why?"), ("assistant", "It's risky.")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (turns(), "0 messages"),
        (turns(("user", "a")), "1 messages"),
        (turns(("user", "a"), ("assistant", "b"), ("user", "c")), "3 messages"),
        (turns(("assistant", "a"), ("user", "b")), r"messages\[0\] is by 'assistant'"),
        (turns(("user", "a"), ("user", "b")), r"messages\[1\] is by 'user'"),
        (turns(("user", "a"), ("assistant", "  \n")), r"messages\[1\] has no text"),
        (turns(("user", "User:"), ("assistant", "b")), r"messages\[0\] has no text"),
        (
            turns(("user", "a"), ("assistant", "Declines to help with the act, says why in a sentence.")),
            "recites the prompt",
        ),
    ],
)
def test_a_broken_structure_names_the_place(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_conversation(value, EN, PROMPT)


def test_a_refusal_inside_the_object_is_a_refusal_not_a_structure() -> None:
    with pytest.raises(ModelError) as caught:
        read_conversation(turns(("user", "I cannot write a conversation about this.")), EN, PROMPT)
    assert caught.value.kind == "refused_by_model"


def test_an_answer_in_its_own_words_may_share_some_with_the_prompt() -> None:
    assert (
        why_not_an_answer("I won't help with the act, because he would be hurt. Let us find a safe way.", PROMPT)
        is None
    )


def test_an_assistant_that_will_not_play_a_role_is_kept() -> None:
    answer = "I won't play that role, but I can tell you about lock safety."
    assert read_conversation(turns(("user", "Play a thief."), ("assistant", answer)), EN, PROMPT)[1].content == answer


@pytest.mark.parametrize(
    ("name", "text"),
    [("fr", "Où puis-je trouver de l'aide ?"), ("ja", "今夜、誰に電話すればいいですか？"), ("ru", "Кому позвонить?")],
)
def test_a_language_of_ones_own_file_is_taken_as_it_comes(name: str, text: str) -> None:
    assert why_not_a_user_turn(text, (), Language(name=name, title=name)) is None
