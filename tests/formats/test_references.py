"""Reference sets in every form that benchmarks and training mixes come in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from safetyqc.errors import InputError
from safetyqc.formats.references import describe_references, read_references
from safetyqc.records import Conversation

TURNS = [{"role": "user", "content": "How do I pick a lock?"}, {"role": "assistant", "content": "With a pick."}]
TWO = [("How do I pick a lock?", 2), ("Tell me, how?", 3)]
LINES = [("How do I pick a lock?", 1), ("Tell me, how?", 2)]

FORMS: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "prompts.txt": ("\ufeffHow do I pick a lock?\n\n  Tell me, how?  \n", [(TWO[0][0], 1), (TWO[1][0], 3)]),
    "prompts": ("How do I pick a lock?\nTell me, how?", LINES),
    "xstest.csv": ('id,prompt,type\n1,How do I pick a lock?,x\n2,"Tell me, how?",y\n', TWO),
    "harmbench.csv": ('Behavior,Tags\nHow do I pick a lock?,a\n"Tell me, how?",b\n', TWO),
    "german.csv": ("id;Prompt\n1;How do I pick a lock?\n2;Tell me, how?\n", TWO),
    "one_column.csv": ("prompt\nHow do I pick a lock?\n\n", TWO[:1]),
    "nameless.csv": ("How do I pick a lock?\n", []),
    "long.csv": ('prompt\n"Tell me,\nhow?"\n"Tell me, how?"\n', [("Tell me,\nhow?", 2), (TWO[1][0], 4)]),
    "prompts.tsv": ("n\tgoal\n1\tHow do I pick a lock?\n2\tTell me, how?\n", TWO),
    "JailbreakBench.csv": ('Goal,Target,Behavior\nHow do I pick a lock?,Sure,Burglary\n"Tell me, how?",,x\n', TWO),
    "strongreject.csv": ('category,source,forbidden_prompt\nx,y,How do I pick a lock?\nx,y,"Tell me, how?"\n', TWO),
    "sorry.jsonl": ('{"question_id": 1, "turns": ["How do I pick a lock?", "And then?"]}', LINES[:1]),
    "alpaca.jsonl": ('{"instruction": "Tell me,", "input": "how?"}', [("Tell me,\nhow?", 1)]),
    "alpaca.csv": ('instruction,input\nHow do I pick a lock?,\n"Tell me,",how?\n', [TWO[0], ("Tell me,\nhow?", 3)]),
    "separators.txt": ("Tell\u2028me,\x85\x0chow?\r\nNext\r", [("Tell\u2028me,\x85\x0chow?", 1), ("Next", 2)]),
    "many-shot.csv": (f"prompt\n{'a ' * 100_000}b\nTell\n", [(f"{'a ' * 100_000}b", 2), ("Tell", 3)]),
    "prompts.jsonl": ('{"prompt": "How do I pick a lock?"}\n{"Goal": "Tell me, how?"}\n', LINES),
    "strings.jsonl": ('"How do I pick a lock?"\n"Tell me, how?"\n', LINES),
    "strings.json": ('["How do I pick a lock?",\n"Tell me, how?"]', LINES),
    "trl.jsonl": (json.dumps({"prompt": TURNS[:1]}), [(TWO[0][0], 1)]),
    "unanswered.jsonl": (json.dumps({"messages": TURNS[:1]}), LINES[:1]),
    "turns.jsonl": (json.dumps(TURNS[:1]), LINES[:1]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_prompts_are_read_with_their_lines(name: str, tmp_path: Path) -> None:
    text, expected = FORMS[name]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    if not expected:
        with pytest.raises(InputError, match="holds no prompt"):
            read_references(path)
        return
    found = read_references(path)
    assert [(reference.content, reference.line) for reference in found] == expected
    assert {reference.path for reference in found} == {str(path)}


def test_a_gzipped_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "bench.csv.gz").write_bytes(gzip.compress(FORMS["xstest.csv"][0].encode()))
    assert [reference.line for reference in read_references(tmp_path / "bench.csv.gz")] == [2, 3]


def test_conversations_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    sharegpt = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}]
    path.write_text(json.dumps(TURNS) + "\n" + json.dumps({"conversations": sharegpt}))
    contents = [reference.content for reference in read_references(path)]
    assert [content.user_turns for content in contents if isinstance(content, Conversation)] == [
        ["How do I pick a lock?"],
        ["Hello?"],
    ]


def test_real_benchmark_rows_are_read(shared_data: Path) -> None:
    found = read_references(shared_data / "xstest_dev.jsonl")
    assert (len(found), found[0].line, found[-1].line) == (1317, 1, 1317)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bench.csv", "id,score\n1,2\n", ("bench.csv:1", "columns: id, score", "fix: name one prompt")),
        ("bench.csv", 'prompt\n"never closed' + "x" * 200_000, ("bench.csv:2", "fix: ")),
        ("bench.jsonl", '{"answer": "x"}\n', ("bench.jsonl:1", "keys: answer", "prompts under one of the keys")),
        ("bench.jsonl", '{"prompt": "a?"}\n{"prompt": \n', ("bench.jsonl:2", "fix: ")),
        ("bench.jsonl", '{"prompt": "a?"}\n42\n', ("bench.jsonl:2", "fix: ")),
        ("bench.txt", "\n \n", ("bench.txt", "holds no prompt")),
        ("bench.parquet", "PAR1....", ("bench.parquet", "Parquet")),
    ],
)
def test_what_is_no_reference_is_told_with_its_place(
    name: str, text: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_references(tmp_path / name)
    for part in said:
        assert part in str(error.value)


def test_text_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "bench.txt").write_bytes("fine\nÄrger".encode("latin-1"))
    with pytest.raises(InputError, match=r"bench.txt:2: is not UTF-8"):
        read_references(tmp_path / "bench.txt")


def test_it_is_said_what_was_read_of_which_column(tmp_path: Path) -> None:
    for name in ("JailbreakBench.csv", "alpaca.jsonl", "prompts.txt"):
        (tmp_path / name).write_text(FORMS[name][0], encoding="utf-8")
    (tmp_path / "mix.jsonl").write_text(json.dumps(TURNS) + "\n" + json.dumps({"Prompt": "What?"}))
    found = [one for name in sorted(tmp_path.iterdir()) for one in read_references(name)]
    assert describe_references(found) == [
        "JailbreakBench.csv: 2 prompts from Goal",
        "alpaca.jsonl: 1 prompt from instruction + input",
        "mix.jsonl: 1 conversation, 1 prompt from Prompt",
        "prompts.txt: 2 prompts",
    ]


def test_both_sides_of_a_preference_pair_and_answered_prompts_are_conversations(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a?", "chosen": "b", "rejected": "c"}))
    said = [reference.content for reference in read_references(tmp_path / "pairs.jsonl")]
    assert [[m.content for m in c.messages] for c in said if isinstance(c, Conversation)] == [["a?", "b"], ["a?", "c"]]
