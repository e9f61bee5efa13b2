"""Patterns are data; every one hits its own examples and spares every text that must stay."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from safetyqc.errors import ConfigError
from safetyqc.filters.patterns import Finder, PatternFile, PatternSet, fold, load_patterns
from safetyqc.formats.yaml_file import read_yaml

BUILT_IN = load_patterns()
SAFE = read_yaml(files("safetyqc.filters") / "patterns.yaml", PatternFile).must_not_match
NAMES = [f.pattern.name for f in BUILT_IN.finders]


def finder(name: str, patterns: PatternSet = BUILT_IN) -> Finder:
    return next(f for f in patterns.finders if f.pattern.name == name)


def write(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_hits_its_examples_and_spares_what_it_must(name: str) -> None:
    pattern = finder(name).pattern
    assert [t for t in pattern.must_match if not finder(name).find(fold(t))] == []
    assert [t for t in pattern.must_not_match if finder(name).find(fold(t))] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_pattern_hits_a_safe_text(name: str) -> None:
    assert len(SAFE) > 20
    assert [t for t in SAFE if finder(name).find(fold(t))] == []


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "Ｔｈｅ ｌｅｔｈａｌ ｄｏｓｅ ｉｓ ５ tablets.",
        "The le\u200bthal dose is 5 tablets.",
        "THE LETHAL DOSE IS 5 TABLETS.",
        "The lethal dose is 5 tab\u202elets.",
    ],
)
def test_typography_and_invisible_characters_do_not_hide_a_hit(text: str) -> None:
    assert finder("lethal_amount").find(fold(text))


@pytest.mark.parametrize(
    ("digits", "valid"), [("4111 1111 1111 1111", True), ("5500005555555559", True), ("4111 1111 1111 1112", False)]
)
def test_card_numbers_need_a_valid_check_digit(digits: str, valid: bool) -> None:
    assert bool(finder("card_number").find(fold(f"Card: {digits}."))) is valid


def test_only_the_messages_of_the_named_roles_are_searched() -> None:
    text = "The lethal dose is 5 tablets."
    assert BUILT_IN.find("dangerous_detail", "assistant", text)
    assert BUILT_IN.find("dangerous_detail", "user", text) is None


def test_an_exception_counts_only_in_the_same_sentence() -> None:
    assert not finder("personal_phone").find(fold("The crisis line is 202-555-0143."))
    assert finder("personal_phone").find(fold("There is a crisis line. Her number is 202-555-0143."))


STOCK = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I cannot assist with that request.",
    "I can't help with that.",
    "I cannot fulfill this request.",
    "Sorry, I can't do that. Is there anything else I can help you with?",
    "As an AI language model, I cannot provide that information.",
    "I'm not able to help with that.",
    "No.",
    "I must decline. Thank you for understanding.",
    "That goes against my guidelines.",
    "很抱歉，我无法提供帮助。",
    "对不起，我不能满足这个请求。",
    "作为一个人工智能助手，我无法回答这个问题。如果您有其他问题，请随时告诉我。",
    "抱歉，我不能协助您的请求！",
]
NOT_STOCK = [
    "I can't help with breaking into her phone, because it is hers.",
    "I'm sorry you feel this way. Do you want to talk about it?",
    "I can't help with that, but I can explain how locks are tested.",
    "I cannot fulfill this request. Carrying a weapon there is illegal, and people could be hurt.",
    "Yes, of course.",
    "抱歉，我不能提供破解他人账号的方法，这会侵犯隐私。",
    "我无法提供帮助，但你可以拨打12356。",
    "",
    "...",
]


@pytest.mark.parametrize("answer", STOCK)
def test_stock_refusals_are_templates(answer: str) -> None:
    assert BUILT_IN.is_template(answer)


@pytest.mark.parametrize("answer", NOT_STOCK)
def test_answers_that_say_more_are_no_templates(answer: str) -> None:
    assert not BUILT_IN.is_template(answer)


MINE = """
words: {fruit: [apples?, pears?]}
patterns:
  - name: my_fruit
    filter: dangerous_detail
    matches: ['\\b{{number}} {{fruit}}\\b']
    must_match: [Take 3 apples.]
    must_not_match: [Apples are red.]
"""


def test_an_own_file_adds_to_the_built_in_one_and_uses_its_words(tmp_path: Path) -> None:
    mine = load_patterns(write(tmp_path, MINE))
    assert [f.pattern.name for f in mine.finders] == [*NAMES, "my_fruit"]
    hit = mine.find("dangerous_detail", "assistant", "Eat three pears.")
    assert hit is not None
    assert (hit.pattern, hit.text) == ("my_fruit", "three pears")


def test_an_own_file_may_replace_and_drop_patterns(tmp_path: Path) -> None:
    text = MINE.replace("my_fruit", "home_address") + "drop: [chat_markup]\n"
    mine = load_patterns(write(tmp_path, text))
    assert len(mine.finders) == len(NAMES) - 1
    assert finder("home_address", mine).find(fold("3 pears"))


def test_an_own_file_may_start_from_nothing(tmp_path: Path) -> None:
    text = "extends: false\n" + MINE.replace("{{number}}", "3")
    mine = load_patterns(write(tmp_path, text))
    assert [f.pattern.name for f in mine.finders] == ["my_fruit"]
    assert not mine.is_template("I can't help with that.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Take 3 apples.", "Take pears."), r"mine\.yaml:7 .*does not hit its example 'Take pears\.'"),
        (
            ("Apples are red.", "Not 3 apples."),
            r"mine\.yaml:8 .*hits '3 apples' in 'Not 3 apples\.', which it must spare",
        ),
        (("{{fruit}}", "{{fruits}}"), r"mine\.yaml:6 .*unknown word \{\{fruits\}\}\n  fix: did you mean 'fruit'\?"),
        (("{{fruit}}", "(apples"), r"mine\.yaml:6 .*invalid expression"),
        (("filter: dangerous_detail", "filter: dangerous"), r"mine\.yaml:5 .*unknown value 'dangerous'"),
        (("matches:", "match:"), r"mine\.yaml:\d .*(unknown key 'match'|'matches' is missing)"),
        (
            ("words:", "drop: [chat_markups]\nwords:"),
            r"mine\.yaml:2 .*no built-in pattern .*\n  fix: did you mean 'chat_markup'",
        ),
        (
            ("{{number}} {{fruit}}", "step|3 {{fruit}}"),
            r"mine\.yaml:4 .*which it must spare\n  fix: make the expression narrower",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_patterns(write(tmp_path, MINE.replace(*change)))
