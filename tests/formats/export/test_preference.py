"""TRL's and LLaMA-Factory's forms, line by line; what a form cannot hold is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.export.encoding import Example
from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.formats.export.losses import tell_losses
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.testing import conversation

SYSTEM, HI, HELLO = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi 你好 🙂"},
    {"role": "assistant", "content": "Hello"},
)
HOW = {"role": "user", "content": "How?"}
GOOD, BAD = {"role": "assistant", "content": "I won't."}, {"role": "assistant", "content": "Like this."}
KEPT = conversation(
    "Hi 你好 🙂", "Hello", "How?", "I won't.", id="k", category="fraud", intent="harmful", system="Be kind."
)
FAILED = conversation("Hi 你好 🙂", "Hello", "How?", "Like this.", id="f", system="Be kind.")
FACTS = {"id": "k", "category": "fraud", "intent": "harmful", "language": ""}
PROMPT = [SYSTEM, HI, HELLO, HOW]
PAIR = Example(KEPT, answer=3, rejected=FAILED)


@pytest.mark.parametrize(
    ("name", "example", "line"),
    [
        ("prompt-completion", Example(KEPT), {"prompt": PROMPT, "completion": [GOOD], **FACTS}),
        ("dpo", PAIR, {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD], **FACTS, "rejected_id": "f"}),
        ("kto", Example(KEPT), {"prompt": PROMPT, "completion": [GOOD], "label": True, **FACTS}),
        (
            "kto",
            Example(FAILED, failed=True),
            {
                **{"prompt": PROMPT, "completion": [BAD], "label": False},
                **{"id": "f", "category": "", "intent": "", "language": ""},
            },
        ),
        ("llamafactory", Example(KEPT), {"messages": [*PROMPT, GOOD], **FACTS}),
        ("llamafactory-dpo", PAIR, {"messages": PROMPT, "chosen": GOOD, "rejected": BAD, **FACTS, "rejected_id": "f"}),
        ("llamafactory-kto", Example(KEPT), {"messages": [*PROMPT, GOOD], "kto_tag": True, **FACTS}),
    ],
)
def test_a_line_has_the_columns_that_the_trainer_documents(
    tmp_path: Path, name: str, example: Example, line: dict[str, Any]
) -> None:
    export_conversations([example], ExportPlan(format=name, path=tmp_path / "a.jsonl"))
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8")) == line


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("nanochat", {"system message": 1, "keys of messages": 1, "category": 1, "intent": 1, "meta": 1}),
        ("openai", {"category": 1, "intent": 1, "meta": 1}),
        ("sharegpt", {"keys of messages": 1, "meta": 1}),
        ("prompt-completion", {"answers beside the one trained on": 1, "keys of messages": 1, "meta": 1}),
        ("safetyqc", {}),
    ],
)
def test_what_a_form_cannot_hold_is_counted(tmp_path: Path, name: str, losses: dict[str, int]) -> None:
    one = KEPT.model_copy(update={"meta": {"topic": "x", "message_keys": {"1": {"weight": 0}}}})
    plain = conversation("a", "b", id="p")
    manifest = export_conversations([one, plain], ExportPlan(format=name, path=tmp_path / "a"))
    assert manifest.losses == losses


def test_losses_are_said_in_one_line() -> None:
    assert tell_losses("nanochat", {}) == []
    assert tell_losses("nanochat", {"system message": 1200, "intent": 3}) == [
        "nanochat has no place for: system message (1,200), intent (3)"
    ]


def test_what_has_pairs_to_write_says_so_where_there_are_none(tmp_path: Path) -> None:
    for name in [n for n, e in EXPORTERS.items() if e.takes == "pairs"]:
        from safetyqc.errors import UserError

        with pytest.raises(UserError, match=r"no kept .* failed one.*\n  fix: `safetyqc rewrite -m MODEL`"):
            export_conversations([], ExportPlan(format=name, path=tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_pairs_of_one_conversation_are_split_and_repeated_together(tmp_path: Path) -> None:
    examples = [
        Example(
            conversation(f"q {n}", "good", id=f"k{n}", category="rare" if n % 2 else "other"),
            answer=1,
            rejected=conversation(f"q {n}", f"bad {m}", id=f"f{n}-{m}"),
        )
        for n in range(10)
        for m in range(2)
    ]
    plan = ExportPlan(format="dpo", path=tmp_path / "a.jsonl", val_share=0.2, oversample={"rare": 3})
    train, val = export_conversations(examples, plan).files
    assert (val.conversations, val.lines, train.conversations) == (2, 4, 8)
    assert train.by_category == {"rare": 24, "other": 8}
