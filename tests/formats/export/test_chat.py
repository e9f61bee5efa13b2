"""The forms that hold whole conversations; nanochat reads its own as the docs say."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import InputError
from safetyqc.formats.export.chat import validate_nanochat_file
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation
from safetyqc.testing import conversation

DOCS = Path(__file__).parents[3] / "docs" / "nanochat.md"


def kept(number: int, category: str | None = "general_safety", **fields: Any) -> Conversation:
    return conversation(f"Question {number}? 你好 🙂", f"Answer {number}.", category=category, **fields)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_system_message_of_the_input_comes_back_where_there_is_a_place(tmp_path: Path) -> None:
    case = kept(1, system="Be kind.", meta={"system": "macOS 14"})
    for name, key, first in [
        ("openai", "messages", {"role": "system", "content": "Be kind."}),
        ("sharegpt", "conversations", {"from": "system", "value": "Be kind."}),
    ]:
        export_conversations([case], ExportPlan(format=name, path=tmp_path / name))
        assert lines_of(tmp_path / name)[0][key][0] == first
    export_conversations([case], ExportPlan(path=tmp_path / "nanochat"))
    assert validate_nanochat_file(tmp_path / "nanochat") == 1


def test_whole_records_survive(tmp_path: Path) -> None:
    case = kept(1, origin="rewritten", parent_id="c_0", revision=1, meta={"x": [1]})
    export_conversations([case], ExportPlan(format="safetyqc", path=tmp_path / "a.jsonl"))
    (found,) = read_conversations(tmp_path / "a.jsonl").conversations
    assert found.model_copy(update={"source": None}) == case


def test_nanochat_goes_where_nanochat_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    assert EXPORTERS["nanochat"].default_path() == tmp_path / "base" / "safety_conversations.jsonl"
    monkeypatch.setenv("NANOCHAT_BASE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EXPORTERS["nanochat"].default_path() == tmp_path / ".cache" / "nanochat" / "safety_conversations.jsonl"
    export_conversations([kept(1)], ExportPlan())
    assert validate_nanochat_file(tmp_path / ".cache" / "nanochat" / "safety_conversations.jsonl") == 1


def test_nanochat_lines_are_escaped_arrays(tmp_path: Path) -> None:
    hard = conversation('\u2028 \x00 " \\ \r\n 你好 🙂', "ok\ttab")
    export_conversations([hard, kept(1)], ExportPlan(path=tmp_path / "a.jsonl"))
    raw = (tmp_path / "a.jsonl").read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 2
    assert raw.endswith(b"\n")
    assert validate_nanochat_file(tmp_path / "a.jsonl") == 2
    assert lines_of(tmp_path / "a.jsonl")[0] == hard.as_messages()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: is not JSON"),
        ('{"messages": []}', ":2: is not a list"),
        ('[{"role": "user", "content": "x"}]', ":2: is not a list of at least two"),
        ('[{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}]', ":2: message 1 has the role"),
        (
            '[{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]',
            ":2: message 1 has the role 'system'",
        ),
        ('[{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]', ":2: message 2 has no text"),
        ('[{"role": "user", "content": "x"}, "x"]', ":2: message 2 has no text"),
        ('[{"role": "user", "content": "é"}, {"role": "assistant", "content": "x"}]', ":2: is not ASCII"),
    ],
)
def test_a_file_that_training_would_stop_at_is_told(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps(conversation("a", "b").as_messages())
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        validate_nanochat_file(tmp_path / "a.jsonl")


class Task:
    """Stands in for nanochat's base class: a sliced view over num_examples and get_example."""

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        self.start, self.stop, self.step = start, stop, step

    def __len__(self) -> int:
        stop = self.num_examples() if self.stop is None else self.stop  # type: ignore[attr-defined]
        return -(-(stop - self.start) // self.step)

    def __getitem__(self, index: int) -> Any:
        return self.get_example(self.start + index * self.step)  # type: ignore[attr-defined]


@pytest.fixture
def drop_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task that docs/nanochat.md offers, executed as it stands there."""
    code = re.search(r"<!-- drop-in:.*?-->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    for name, content in {
        "nanochat": {},
        "nanochat.common": {"get_base_dir": lambda: str(tmp_path)},
        "tasks": {},
        "tasks.common": {"Task": Task},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    namespace: dict[str, Any] = {"__name__": "tasks.safety"}
    exec(compile(code.group(1), str(DOCS), "exec"), namespace)
    return namespace["SafetyConversations"]


def test_the_documented_task_reads_an_export(drop_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    conversations = [kept(n) for n in range(5)]
    export_conversations(conversations, ExportPlan(val_share=0.2))
    train, val = drop_in(), drop_in(str(tmp_path / "safety_conversations.val.jsonl"))
    assert (len(train), len(val), len(drop_in(stop=2))) == (4, 1, 2)
    found = [train[i] for i in range(4)] + [val[0]]
    assert sorted(m["messages"][1]["content"] for m in found) == [f"Answer {n}." for n in range(5)]


def test_the_documented_task_is_empty_without_a_file_and_refuses_a_wrong_one(drop_in: Any, tmp_path: Path) -> None:
    assert len(drop_in()) == 0
    (tmp_path / "safety_conversations.jsonl").write_text('[{"role": "assistant", "content": "x"}]\n')
    with pytest.raises(ValueError, match="conversation 1 does not alternate"):
        drop_in()


def test_keys_of_messages_stand_beside_them_again(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "weight": 0, "reasoning_content": "hm"},
        ]
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_conversations(tmp_path / "in.jsonl").conversations
    export_conversations([read], ExportPlan(format="openai", path=tmp_path / "out.jsonl"))
    assert lines_of(tmp_path / "out.jsonl") == [row]
