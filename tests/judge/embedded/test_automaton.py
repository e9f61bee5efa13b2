from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyqc.judge.embedded.automaton import BREAK, Automaton, Item

WORDS = ("a", "b", "c", "able", "abler", "d")


def line(*sentences: str) -> list[str]:
    return [word for sentence in sentences for word in (BREAK, *sentence.split())] + [BREAK, ""]


def words(*choices: str) -> Item:
    return Item("words", choices)


@pytest.mark.parametrize(
    ("phrase", "sentence", "hits"),
    [
        ([words("a", "b"), words("c")], "b c", True),
        ([words("a", "b"), words("c")], "b d c", False),
        ([words("a"), Item("gap", most=2), words("c")], "a b b c", True),
        ([words("a"), Item("gap", most=2), words("c")], "a b b b c", False),
        ([words("a"), Item("optional", ("b",)), words("c")], "a c", True),
        ([words("a b", "d"), words("c")], "a b c", True),
        ([words("ab*")], "d abler", True),
        ([Item("start"), words("a")], "b a", False),
        ([words("a"), Item("end")], "b a", True),
        ([words("a"), Item("end")], "a b", False),
    ],
)
def test_phrase_is_found_where_it_stands(phrase: list[Item], sentence: str, hits: bool) -> None:
    automaton = Automaton([("cue", phrase)])
    assert automaton.find(line("d", sentence)) == ({"cue": [1]} if hits else {})


def test_phrase_does_not_reach_over_a_sentence() -> None:
    assert Automaton([("cue", [words("a"), Item("gap", most=3), words("c")])]).find(line("a", "c")) == {}


def test_cue_counts_once_a_start_however_many_phrases_fit() -> None:
    automaton = Automaton([("cue", [words("a")]), ("cue", [words("a"), words("b")]), ("other", [words("b")])])
    assert automaton.find(line("a b", "a")) == {"cue": [0, 1], "other": [0]}


ITEMS = st.one_of(
    st.lists(st.sampled_from(("a", "b", "c", "ab*", "a b")), min_size=1, max_size=3).map(
        lambda c: Item("words", (*c,))
    ),
    st.lists(st.sampled_from(("a", "d")), min_size=1, max_size=2).map(lambda c: Item("optional", (*c,))),
    st.integers(1, 3).map(lambda most: Item("gap", most=most)),
)


def pattern(phrase: list[Item]) -> re.Pattern[str]:
    """The same phrase as a regular expression over the line's text."""
    parts = []
    for item in phrase:
        if item.kind == "gap":
            parts.append(rf"(?:[^ .]+ ){{0,{item.most}}}")
        else:
            either = "|".join(choice.replace("*", "[^ .]*") for choice in item.choices)
            parts.append(f"(?:(?:{either}) )" + "?" * (item.kind == "optional"))
    return re.compile("".join(parts))


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.lists(ITEMS, max_size=3)), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from(WORDS), max_size=6), max_size=3),
)
def test_automaton_finds_what_regular_expressions_find(
    rest: list[tuple[str, list[Item]]], sentences: list[list[str]]
) -> None:
    phrases = [(cue, [words("a", "ab*"), *items]) for cue, items in rest]
    text = line(*map(" ".join, sentences))
    expected: dict[str, list[int]] = {}
    place, sentence = 0, -1
    for word in text[:-1]:
        sentence += word == BREAK
        for cue in sorted({c for c, phrase in phrases if pattern(phrase).match(" ".join(text), place)}):
            expected.setdefault(cue, []).append(sentence)
        place += len(word) + 1
    assert Automaton(phrases).find(text) == expected
