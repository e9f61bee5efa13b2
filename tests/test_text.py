"""Conversation text is folded for comparing and disarmed for showing."""

from __future__ import annotations

import pytest

from safetyqc.dedup.tokens import tokens
from safetyqc.text import first_words, fold_to_ascii, guess_language, mask, normalise, printable, reveal, shorten


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I can’t  help\r\nyou", "i can't help you"),
        ("“Ｑｕｏｔｅｄ”", '"quoted"'),
        ("zero\u200bwidth", "zerowidth"),
        ("  两个　字 ", "两个 字"),
        ("`A`\tb", "'a' b"),
        ("｀A", "'a"),
    ],
)
def test_typography_invisible_characters_case_and_space_do_not_tell_texts_apart(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


def test_digits_and_words_do_tell_texts_apart() -> None:
    assert normalise("take 5") != normalise("take 50")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\u202e", "\u2066", "\ufeff", "\x00", "\x9b31m", "\x07"])
def test_what_could_drive_a_terminal_or_hide_text_is_removed(hostile: str) -> None:
    assert hostile[0] not in printable(f"a{hostile}b")


def test_line_ends_and_tabs_stay_printable_and_a_short_line_is_cut_with_an_ellipsis() -> None:
    assert printable("a\r\nb\tc\rd") == "a\nb\tc\nd"
    assert shorten("a\nb  c", 10) == "a b c"
    assert shorten("abcdefghij", 5) == "abcd…"
    assert shorten("abc", 0) in ("", "…")


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("I can’t help with that, sorry friend", 6, "i can't help with that, sorry"),
        ("我无法提供", 3, "我 无 法"),
        ("OK 好的 then", 3, "ok 好 的"),
        ("", 6, ""),
    ],
)
def test_a_chinese_character_counts_as_a_word(text: str, count: int, words: str) -> None:
    assert first_words(text, count) == words


@pytest.mark.parametrize(("text", "language"), [("我要一个 app", "zh"), ("Say 你好 to my friends", "en"), ("", "en")])
def test_the_commoner_script_is_the_language(text: str, language: str) -> None:
    assert guess_language(text) == language


def test_typographic_characters_become_ascii() -> None:
    assert fold_to_ascii("It’s “fine” – really…") == 'It\'s "fine" - really...'


def test_ascii_has_no_blanks_at_line_ends_however_many_there_were() -> None:
    assert fold_to_ascii("é" + " " * 200_000 + "x  \n y\t\n") == "e" + " " * 200_000 + "x\n y\n"


def test_a_mask_keeps_the_first_words_only() -> None:
    masked = mask("one two three four five six seven")
    assert masked.startswith("one two")
    assert "seven" not in masked


_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180f\u200b\u202e\u2060\u206f\u3164\ufeff\uffa0\ufff0\ufe00\ufe0f"
)


@pytest.mark.parametrize(
    "hidden", [*_IGNORABLE, "\U0001d173", "\U000e0001", "\U000e0041", "\U000e0100", "\x07", "\x9b"]
)
def test_what_is_not_seen_is_passed_over_everywhere_and_shown_as_its_code(hidden: str) -> None:
    assert normalise(f"he{hidden}llo") == "hello"
    assert printable(f"he{hidden}llo") == "hello"
    assert reveal(f"he{hidden}llo") == f"he⟨U+{ord(hidden):04X}⟩llo"
    assert tokens(f"he{hidden}llo 你{hidden}好") == ["hello", "你", "好"]


def test_a_selector_behind_an_emoji_is_seen_and_still_no_difference() -> None:
    assert printable("❤\ufe0f 1\ufe0f\u20e3") == reveal("❤\ufe0f 1\ufe0f\u20e3") == "❤\ufe0f 1\ufe0f\u20e3"
    assert normalise("❤\ufe0f") == normalise("❤")
