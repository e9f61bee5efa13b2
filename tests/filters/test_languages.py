"""A language that is declared and not written is named; where it cannot be told, nothing is said."""

from __future__ import annotations

import pytest

from safetyqc.filters.check import language_notes
from safetyqc.filters.languages import written_in
from safetyqc.testing import conversation

ENGLISH = "How do I say no to a friend who asks me for the keys? I want to be kind, and it is not easy for me."
GERMAN = "Wie sage ich einem Freund ab, der mich um den Schlüssel bittet? Ich will nett sein, und das ist nicht leicht."
FRENCH = "Je ne sais pas comment dire non à un ami qui veut les clés de la maison, et ce n'est pas facile pour moi."
CHINESE = "朋友总是向我借钥匙，我该怎么温和地拒绝他？我不想伤害我们的友谊。"
PINYIN = "Wo de pengyou zong shi xiang wo jie yaoshi, wo gai zenme wenhe de jujue ta? Wo bu xiang shanghai youyi."
RUSSIAN = "Как отказать другу, который просит у меня ключи от дома?"
JAPANESE = "友だちに鍵を貸してと言われたとき、どうやってやさしく断ればいいですか。"


@pytest.mark.parametrize(
    ("text", "declared", "written"),
    [
        (ENGLISH, "zh", "en"),
        (GERMAN, "en", "de"),
        (FRENCH, "en", "fr"),
        (CHINESE, "en", "zh"),
        (CHINESE, "pt-BR", "zh"),
        (RUSSIAN, "en", "Cyrillic letters"),
        (PINYIN, "zh", "Latin letters"),
        (JAPANESE, "zh", "ja"),
        (JAPANESE, "en", "ja"),
    ],
)
def test_another_language_is_named(text: str, declared: str, written: str) -> None:
    assert written_in(text, declared) == written


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        (ENGLISH, "en"),
        (ENGLISH, "EN_us"),
        (ENGLISH, "xx"),
        (ENGLISH, "sv"),
        (GERMAN, "de"),
        (CHINESE, "zh-Hant"),
        (JAPANESE, "ja"),
        (RUSSIAN, "uk"),
        (CHINESE + ENGLISH, "en"),
        ("Ok.", "zh"),
        ("```python\nprint(x)\n``` 12345", "zh"),
    ],
)
def test_what_fits_or_cannot_be_told_is_left_alone(text: str, declared: str) -> None:
    assert written_in(text, declared) is None


def test_languages_are_counted_over_a_file() -> None:
    told = [
        conversation(CHINESE, CHINESE, language="en"),
        conversation(ENGLISH, ENGLISH),
        conversation(ENGLISH, "Ok.", language="en"),
    ]
    assert language_notes(told) == {"declared as en, written in zh": 1}
