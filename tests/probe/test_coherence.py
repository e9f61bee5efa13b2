from __future__ import annotations

import pytest

from safetyqc.probe.coherence import incoherence

PROSE = "The tide rose slowly over the flats while the children ran along the dyke and counted boats. " * 2


@pytest.mark.parametrize(
    ("text", "language", "why"),
    [
        ("", "en", "empty"),
        (" …!? \n", "zh", "empty"),
        ("I like to read. " * 30, "en", "repeats itself"),
        ("the cat and the dog " * 20, "en", "repeats itself"),
        ("哈哈" * 60, "zh", "repeats itself"),
        ("美食美食美食美食美食美食美食美食美食美食美", "zh", "repeats itself"),
        ("12乘以15的意思是12乘以15的意思是12乘以15的意思是12乘以15的意思是12乘以15的", "zh", "repeats itself"),
        ("Well, the answer is the answer is the answer is the answer is the answer is", "en", "repeats itself"),
        ("This is an answer in plain English words.", "zh", "another language than the prompt's"),
        ("天空是蓝色的，因为空气会散射阳光。", "en", "another language than the prompt's"),
        ("Это совсем другой язык, чем вопрос.", "en", "another language than the prompt's"),
    ],
)
def test_what_is_no_answer(text: str, language: str, why: str) -> None:
    assert incoherence(text, language) == why


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (PROSE, "en"),
        ("144", "zh"),
        ("哈哈哈哈，好的！先把水烧开，再把面条放进去，煮三分钟就可以了。", "zh"),
        ("Hahahaha! Ha ha ha, good one.", "en"),
        ("| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |", "en"),
        ("10000000000", "en"),
        ("1. walk\n2. walk fast\n3. walk slowly\n4. walk home\n5. walk on", "en"),
        ("No.", "en"),
        ("用 Python 的 print 函数即可。", "zh"),
        ("The word 你好 means hello.", "en"),
        ("\n".join(f"{n}. item number {n} of the list is {chr(96 + n)} and more" for n in range(1, 20)), "en"),
        ("Это ответ.", "ru"),
    ],
)
def test_what_is_one(text: str, language: str) -> None:
    assert incoherence(text, language) is None
