"""Twenty forms go in; what passed comes out in three forms, each opened by what reads it elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.export.chat import validate_nanochat_file
from safetyqc.store import Store

Cli = Callable[..., Any]
A = "Mix flour, water, salt and yeast, let it rise for two hours, and bake it. 你好"
B = "Buy one."
HH = "\n\nHuman: {}\n\nAssistant: {}"


def turns(question: str, answer: str = A) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _table(question: str, delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["prompt", "response"], [question, A]])
    return text.getvalue()


FORMS: dict[str, Callable[[str], Any]] = {
    "nanochat": turns,
    "messages": lambda q: {"messages": turns(q)},
    "sharegpt": lambda q: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": A}]},
    "parts": lambda q: {"messages": [turns(q)[0], {"role": "assistant", "content": [{"type": "text", "text": A}]}]},
    "json in a text": lambda q: {"messages": json.dumps(turns(q))},
    "turns as columns": lambda q: {"messages": {"role": ["user", "assistant"], "content": [q, A]}},
    "ultrachat": lambda q: {"id": "7", "data": [q, A]},
    "alpaca": lambda q: {"instruction": q, "input": "", "output": A},
    "prompt, completion": lambda q: {"prompt": q, "completion": A},
    "prompt, responses": lambda q: {"prompt": q, "responses": [A]},
    "trl pair": lambda q: {"prompt": turns(q)[:1], "chosen": turns(q)[1:], "rejected": turns(q, B)[1:]},
    "pair of whole lists": lambda q: {"chosen": turns(q), "rejected": turns(q, B)},
    "hh-rlhf": lambda q: {"chosen": HH.format(q, A), "rejected": HH.format(q, B)},
    "beavertails": lambda q: {"prompt": q, "response": A, "category": {"violence": False}, "is_safe": True},
    "wildguardmix": lambda q: {
        "prompt": q,
        "adversarial": False,
        "response": A,
        "prompt_harm_label": "unharmful",
        "response_refusal_label": "compliance",
        "response_harm_label": "unharmful",
    },
    "aegis 2": lambda q: {"prompt": q, "response": A, "prompt_label": "safe", "response_label": "safe"},
    "chatml": lambda q: {"text": f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>\n"},
    "one list in an object": lambda q: json.dumps({"data": [{"messages": turns(q)}]}, indent=1),
    "a.csv": lambda q: _table(q, ","),
    "a.tsv": lambda q: _table(q, "\t"),
}


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Path:
    """One run of all forms, judged."""
    paths = []
    for name, form in FORMS.items():
        value = form(question(name))
        paths.append(tmp_path / (f"{name}".replace(" ", "_") if "." in name else f"{name}.jsonl"))
        paths[-1].write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) + "\n")
    ended = cli("import", *paths, "--run", "r")
    assert ended.code == 0, ended.err
    ended = cli("judge", "-m", "local", "--rubric", "no_dangerous_steps", "--run", "r", "-q")
    assert ended.code == 0, ended.err
    return tmp_path / "r"


def question(name: str) -> str:
    return f"How do I bake a loaf as in the old book called {name}?"


def test_twenty_forms_come_out_in_three_that_their_readers_open(cli: Cli, run: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    asked = sorted(map(question, FORMS))
    assert len(asked) == 20
    with Store.read(run) as store:
        assert sorted(c.user_turns[0] for c in store.conversations()) == asked
        assert {c.assistant_turns[0] for c in store.conversations()} == {A}

    assert cli("export", "nano.jsonl", "--run", "r").code == 0
    assert validate_nanochat_file(tmp_path / "nano.jsonl") == 20
    lines = (tmp_path / "nano.jsonl").read_text(encoding="ascii").splitlines()
    assert sorted(json.loads(line)[0]["content"] for line in lines) == asked

    for name, column in (("openai", "messages"), ("prompt-completion", "prompt")):
        ended = cli("export", "--folder", name, "--format", name, "--run", "r")
        assert ended.code == 0, ended.err
        rows = datasets.load_dataset(str(tmp_path / name), cache_dir=str(tmp_path / "cache"))["train"]
        assert sorted(row[column][0]["content"] for row in rows) == asked
        assert {row[column][0]["role"] for row in rows} == {"user"}
