import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyqc.dedup.tokens import (
    ANALYZERS,
    LONE,
    REMOVED,
    SEPARATOR,
    WORD,
    character_class,
    characters,
    feature_hash,
    features,
    foldable,
    tokens,
    word_hash,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't help, sorry.", ["i", "can", "t", "help", "sorry"]),
        ("ＦＵＬＬ width ①", ["full", "width", "1"]),
        ("我不能help你", ["我", "不", "能", "help", "你"]),
        ("すし寿司", ["す", "し", "寿", "司"]),
        ("안녕", ["안", "녕"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("e\u0301te\u0301 ÉTÉ", ["été", "été"]),
        ("in\u200bvisible \u202ebidi", ["invisible", "bidi"]),
        ("under_score 42", ["under_score", "42"]),
        ("🙂 — !?", []),
        ("", []),
        ("𠀀𠀁", ["𠀀", "𠀁"]),
    ],
)
def test_words_of_any_script(text, expected):
    assert tokens(text) == expected


def test_thai_splits_into_characters_because_it_has_no_spaces():
    assert tokens("ไทย") == ["ไ", "ท", "ย"]


@pytest.mark.parametrize(
    "variant",
    ["Don’t  do\n\nthat!", "DON'T DO THAT", "don`t do that...", "ｄｏｎ't do\u00a0that", "don't do that\ufeff"],
)
def test_typography_does_not_change_the_words(variant):
    assert tokens(variant) == tokens("don't do that")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't!", "i can t"),
        ("  你好，世界… 🙂 ok ", "你好 世界 ok"),
        ("in\u200bvisible", "invisible"),
        ("🙂", ""),
    ],
)
def test_characters_are_letters_digits_and_single_spaces(text, expected):
    assert characters(text) == expected


def test_by_characters_features_are_runs_of_three_and_four_with_counts():
    assert features("Papapa", "char") == {"pap": 2, "apa": 2, "papa": 2, "apap": 1}
    assert features("是!否", "char") == {"是 否": 1}
    assert features("ab", "char") == {}


@given(st.text(max_size=30), st.sampled_from(ANALYZERS))
def test_different_features_have_different_hashes(text, analyzer):
    counted = features(text, analyzer)
    assert len({feature_hash(name, analyzer) for name in counted}) == len(counted)


def test_features_are_words_and_pairs_with_counts():
    assert features("to be or not to be") == {
        "to": 2, "be": 2, "or": 1, "not": 1, "to be": 2, "be or": 1, "or not": 1, "not to": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("character", "kind"), [("a", WORD), ("_", WORD), ("5", WORD), ("你", LONE), (" ", SEPARATOR), ("\n", SEPARATOR),
                            ("\u200b", REMOVED), ("\x00", REMOVED), ("🙂", SEPARATOR), ("\ufe0f", REMOVED)]
)  # fmt: skip
def test_character_classes(character, kind):
    assert character_class(ord(character)) == kind


def test_hash_of_a_pair_depends_on_its_order_and_is_not_that_of_the_joined_word():
    assert len({feature_hash(name) for name in ("a b", "b a", "ab", "a", "b")}) == 5


def test_hashes_of_many_words_do_not_collide():
    words = [f"{a}{b}" for a in range(300) for b in ("", "x", "yy", "你")]
    assert len({word_hash(word) for word in words}) == len(words)


@given(st.text(max_size=30))
def test_folding_for_the_kernel_keeps_the_words(text):
    assert tokens(foldable(text)) == tokens(text)


@given(st.characters())
def test_no_word_holds_a_separator(character):
    for word in tokens(character):
        assert word.strip()
        assert unicodedata.category(word[0]) not in ("Zs", "Cc")
