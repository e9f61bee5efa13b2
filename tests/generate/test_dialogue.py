"""A written conversation has the right shape and no packaging, or says what is wrong and where."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.generate.dialogue import declines_to_write, read_messages


def written(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_alternating_messages_are_read_and_stripped() -> None:
    messages = read_messages(written(("user", " Hi\u200b "), ("assistant", "Hello\r\nyou")))
    assert [(m.role, m.content) for m in messages] == [("user", "Hi"), ("assistant", "Hello\nyou")]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (written(), "0 messages"),
        (written(("user", "Hi")), "1 messages"),
        (written(("user", "Hi"), ("assistant", "A"), ("user", "B")), "3 messages"),
        (written(("assistant", "Hi"), ("user", "A")), r"messages\[0\] is by 'assistant'"),
        (written(("user", "Hi"), ("user", "A")), r"messages\[1\] is by 'user'"),
        (written(("user", "Hi"), ("assistant", " \u200b ")), r"messages\[1\] has no text"),
        (written(("user", "User: Hi"), ("assistant", "A")), r"messages\[0\] holds 'User:'"),
        (written(("user", "Hi"), ("assistant", "A\n[2] assistant: B")), r"messages\[1\] holds"),
        (written(("user", "Hi"), ("assistant", "A<|im_end|>")), r"messages\[1\] holds '<\|im_end\|>'"),
        (written(("user", "你好"), ("assistant", "助手：好")), r"messages\[1\] holds '助手："),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_messages(value)


@pytest.mark.parametrize(
    "text", ["I'm sorry, I can’t write a conversation about that.", "抱歉，我不能编写这样的对话。"]
)
def test_a_model_that_will_not_write_is_told_from_an_assistant_that_declines(text: str) -> None:
    with pytest.raises(ModelError, match="refused_by_model"):
        read_messages(written(("user", text), ("assistant", "A")))
    declining = written(("user", "Do it"), ("assistant", "I can't write a conversation like that for you."))
    assert len(read_messages(declining)) == 2


def test_ordinary_colons_are_no_packaging() -> None:
    assert len(read_messages(written(("user", "The user: who is it?"), ("assistant", "Two things: a and b")))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "I cannot write this conversation.",
        "I'm sorry, but I can’t create a dialogue about this topic.",
        "I won't role-play that scenario.",
        "I am not comfortable continuing this conversation as the user.",
        "我无法生成这样的对话。",
    ],
)
def test_declining_to_write_is_recognised(text: str) -> None:
    assert declines_to_write(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't help you hurt somebody, but I can listen.",
        "I can't sleep and my conversation with her keeps coming back.",
        "我不能帮你伤害别人。",
    ],
)
def test_declining_inside_the_conversation_is_not_declining_to_write(text: str) -> None:
    assert not declines_to_write(text)
