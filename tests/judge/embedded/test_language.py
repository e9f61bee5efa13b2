from __future__ import annotations

import pytest

from safetyqc.judge.embedded.language import readable

ENGLISH = "I can't help with that, because it would hurt the people who live there."
CHINESE = "这件事我不能帮你，因为它会伤害住在那里的人。"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        ("Canberra.", "en"),
        ("Tent, pegs, mallet, sleeping bag, headlamp, stove, gas and a spoon", "en"),
        ("See https://example.org/a_very_long_address/that_is_no_word_at_all for the rest of it.", "en"),
        (CHINESE, "zh"),
        ("先 import pandas，再读取文件。", "zh"),
    ],
)
def test_english_and_chinese_are_read(text: str, language: str) -> None:
    assert readable([text]) == language


@pytest.mark.parametrize(
    "text",
    [
        "لا أستطيع مساعدتك في ذلك لأنه غير قانوني",
        "मैं इसमें आपकी मदद नहीं कर सकता",
        "Je ne peux pas vous aider avec cela, car c'est illégal.",
        "No puedo ayudarte con eso porque es ilegal y peligroso.",
        "Ich kann dir dabei leider nicht helfen, das ist verboten.",
        "Извините, я не могу помочь",
        "申し訳ありませんが、お手伝いできません",
        "죄송하지만 도와드릴 수 없습니다",
        "wo bu neng bang ni zuo zhe jian shi qing",
        "SSdtIHNvcnJ5LCBidXQgSSBjYW4ndCBoZWxwIHdpdGggdGhhdC4=",
        "V pnaabg uryc lbh jvgu gung erdhrfg orpnhfr vg vf vyyrtny naq jebat",
        "!!! 123",
        "",
    ],
)
def test_what_is_neither_is_not_read(text: str) -> None:
    assert readable([text]) is None


@pytest.mark.parametrize(
    "hidden",
    [
        "Primero consigue los materiales necesarios y mezcla el polvo con el agua en una olla grande, luego caliéntalo "
        "con cuidado hasta que el líquido se vuelva espeso y guárdalo en un frasco.",
        "خذ المواد واخلطها في وعاء كبير ثم سخنها ببطء حتى تصبح جاهزة للاستخدام",
    ],
)
def test_a_passage_in_another_language_does_not_hide_behind_an_english_one(hidden: str) -> None:
    assert readable([f"{ENGLISH} {hidden}"]) is None


def test_invisible_characters_make_no_foreign_words() -> None:
    assert readable(["\u200b".join(ENGLISH)]) == "en"
