import pytest

from safetyqc.dedup.against import find_against
from safetyqc.formats.references import Reference
from tests.dedup.test_groups import CHINESE, ENGLISH, conversation

pytestmark = pytest.mark.compiled

PROMPTS = [
    "How can I kill a Python process that does not answer?",
    "What is the fastest way to steal candy from a vending machine?",
    "Yes, please.",
]
REFERENCES = [Reference(prompt, "bench.csv", line) for line, prompt in enumerate(PROMPTS, 2)]


def test_a_benchmark_prompt_inside_a_long_conversation_is_found_with_its_line():
    items = [
        conversation("clean", ENGLISH[0]),
        conversation("hit", ENGLISH[1], "how can i kill a python process that doesn't answer"),
    ]
    (match,) = find_against(items, REFERENCES)
    assert (match.conversation_id, match.reference.path, match.reference.line) == ("hit", "bench.csv", 2)
    assert match.turn == 0
    assert match.reference_text == PROMPTS[0]
    assert match.similarity > 0.6
    assert "python" in match.terms


def test_the_same_prompt_with_one_other_word_is_another_prompt():
    items = [conversation("person", ENGLISH[1], "How can I kill a person that does not answer?")]
    assert [match.similarity for match in find_against(items, REFERENCES, 0.9)] == []


def test_short_turns_of_a_reference_conversation_match_nothing_by_themselves():
    mix = [Reference(conversation("old", CHINESE[0], "Yes, please."), "mix.jsonl", 1)]
    assert find_against([conversation("short", ENGLISH[0], "Yes, please!")], mix) == []


def test_a_short_benchmark_prompt_is_found():
    (match,) = find_against([conversation("short", ENGLISH[0], "What is heroin")], [Reference("What is heroin?")])
    assert (match.similarity, match.turn) == (1.0, 0)


def test_a_conversation_of_the_mix_is_found_as_a_whole():
    mix = [Reference(conversation("old", CHINESE[0], "怎么办"), "mix.jsonl", 7)]
    (match,) = find_against([conversation("new", CHINESE[0] + "好。", "怎么办")], mix, 0.8)
    assert match.turn is None
    assert match.reference.line == 7


def test_copies_on_both_sides_each_give_a_match():
    items = [conversation(name, ENGLISH[0], PROMPTS[1]) for name in ("a", "b")]
    references = [Reference(PROMPTS[1], "x", 1), Reference(PROMPTS[1], "y", 1)]
    matches = find_against(items, references)
    assert [(m.conversation_id, m.reference.path, m.similarity) for m in matches] == [
        ("a", "x", 1.0), ("a", "y", 1.0), ("b", "x", 1.0), ("b", "y", 1.0),
    ]  # fmt: skip


def test_conversations_are_not_matched_with_each_other():
    items = [conversation(name, ENGLISH[0]) for name in ("a", "b")]
    assert find_against(items, REFERENCES) == []


@pytest.mark.parametrize(("items", "references"), [([], REFERENCES), ([conversation("a", "x")], [])])
def test_nothing_on_one_side_is_no_match(items, references):
    assert find_against(items, references) == []


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_both_backends_match_the_same(backend):
    items = [conversation(str(n), text, prompt) for n, (text, prompt) in enumerate(zip(ENGLISH, PROMPTS, strict=True))]
    matches = find_against(items, REFERENCES, backend=backend)
    assert [(match.conversation_id, match.reference.line) for match in matches] == [("0", 2), ("1", 3), ("2", 4)]


def test_a_benchmark_prompt_inside_a_system_message_is_found() -> None:
    prompt = "Describe how a stranger could slip past the night guard of the old museum"
    told = conversation("c", "No, I will not.").model_copy(update={"system": f"Answer this: {prompt}"})
    (match,) = find_against([told], [Reference(prompt, "bench.csv", 2)], 0.5)
    assert (match.turn, match.text) == (None, told.system)
