"""What an estimate promises is what a run then asks: votes, single criteria, panels and cascades included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, load_config
from safetyqc.formats.readers import read_conversations
from safetyqc.judge.question import Question
from safetyqc.llm.prices import count_messages
from safetyqc.pipeline.estimate import Kind, StageEstimate, estimate_run, question_of
from safetyqc.pipeline.importing import import_conversations
from safetyqc.pipeline.order import judge_all
from safetyqc.pipeline.session import open_session
from safetyqc.records import RoleModel
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing.server import FaultServer

Serve = Callable[..., FaultServer]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n} about my neighbour's door, please?"},
                {"role": "assistant", "content": f"I won't help with door {n}. Ask them, or the landlord."},
            ],
            **({"category": category, "kind": intent} if category else {}),
        }
        for n, (category, intent) in enumerate(
            [
                ("violence_or_crime", "harmful"),
                ("self_harm_support", "distress"),
                ("general_safety", "benign"),
                ("", ""),
            ]
        )
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


async def estimate_and_judge(config: Config, data: Path) -> list[StageEstimate]:
    session = open_session(config, create=True, quiet=True)
    read = read_conversations(str(data))
    try:
        lines = estimate_run(session, [read])
        import_conversations(session, str(data), read)
        await judge_all(session)
    finally:
        await session.close()
    return [line for line in lines if line.stage == "judge"]


@pytest.mark.parametrize(
    "judge",
    [
        {"models": ["openai/a"]},
        {"models": ["openai/a"], "votes": 3},
        {"models": ["openai/a", "openai/b"]},
        {"models": ["panel:openai/a,openai/b,local"], "votes": 2},
        {"models": ["local"]},
    ],
)
async def test_as_many_calls_are_made_as_were_estimated(
    tmp_path: Path, serve: Serve, data: Path, judge: dict[str, Any]
) -> None:
    server = serve()
    config = Config.model_validate({"run": tmp_path / "r", "models": {"api_base": server.base_url}, "judge": judge})
    lines = await estimate_and_judge(config, data)
    assert sum(line.estimate.calls for line in lines) == server.witness.received.total()


async def test_calls_per_criterion_are_those_that_apply_and_one_to_classify(
    tmp_path: Path, serve: Serve, data: Path
) -> None:
    data.write_text("\n".join(data.read_text().splitlines()[:3]))
    server = serve()
    judge = {"models": ["openai/a"], "per_criterion": True, "votes": 2}
    config = Config.model_validate({"run": tmp_path / "r", "models": {"api_base": server.base_url}, "judge": judge})
    [line] = await estimate_and_judge(config, data)
    assert line.estimate.calls == server.witness.received.total()
    unknown = question_of(config, [Kind(None, None)])
    assert unknown.calls == 1 + len(load_rubric_set("safety").criteria)


def test_a_question_is_as_long_as_the_one_that_is_asked(data: Path) -> None:
    rubric = load_rubric_set("safety")
    conversation = read_conversations(str(data)).conversations[0]
    kind = Kind(conversation.category, conversation.intent)
    asked = rubric.applicable(*kind)
    question = Question(rubric, asked, conversation, (), conversation.messages)
    real = count_messages(question.messages()) + len(json.dumps(question.schema)) // 4
    told = question_of(Config(), [kind])
    assert told.calls == 1
    assert told.prompt_tokens + count_messages(conversation.as_messages()) == pytest.approx(real, rel=0.03)


@pytest.mark.parametrize(("settings", "most"), [({"rounds": 2}, 8), ({"rounds": 2, "limit": 3}, 3), ({"limit": 9}, 4)])
async def test_rewriting_is_estimated_up_to_its_limit(
    data: Path, tmp_path: Path, settings: dict[str, int], most: int
) -> None:
    rewrite = {"model": "openai/o1", **settings}
    session = open_session(Config.model_validate({"run": tmp_path / "r", "rewrite": rewrite}), create=True, quiet=True)
    lines = estimate_run(session, [read_conversations(str(data))])
    await session.close()
    assert [(line.left, line.estimate.calls) for line in lines if line.stage == "rewrite"] == [(most, most)]


def test_a_dry_run_tells_every_member_and_keeps_at_most_out_of_the_sum(cli: Callable[..., Any], data: Path) -> None:
    ended = cli(
        "run", data, "--judge", "panel:openai/gpt-4o-mini,openai/gpt-4o", "--rewriter", "openai/o1", "--dry-run"
    )
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.err.splitlines() if line.startswith("  judge ")]
    assert [line[:2] for line in lines if "again" not in line] == [
        ["judge", "openai/gpt-4o-mini"],
        ["judge", "openai/gpt-4o"],
    ]
    assert "in all: 8 calls" in ended.err
    assert "judge again" in ended.err


async def test_what_the_run_holds_and_is_open_is_estimated_too(tmp_path: Path, data: Path) -> None:
    config = Config.model_validate({"run": tmp_path / "r", "judge": {"models": ["openai/a"]}})
    session = open_session(config, create=True, quiet=True)
    import_conversations(session, str(data), read_conversations(str(data)))
    more = load_config(config, {"generate.count": 9, "generate.model": "openai/a"})
    session.config = more
    judging = [line for line in estimate_run(session) if line.stage == "judge"]
    again = [line for line in estimate_run(session, [read_conversations(str(data))]) if line.stage == "judge"]
    session.config = load_config(more, {"judge.canaries": True})
    canaries = [line for line in estimate_run(session, [read_conversations(str(data))]) if line.stage == "judge"]
    await session.close()
    assert [line.left for line in judging] == [4 + 9]
    assert [line.left for line in again] == [4]
    assert canaries[0].left > 4


async def test_who_goes_on_deciding_is_estimated_too(tmp_path: Path, data: Path) -> None:
    config = Config.model_validate({"run": tmp_path / "r", "judge": {"models": ["openai/b"]}})
    session = open_session(config, create=True, quiet=True)
    import_conversations(session, str(data), read_conversations(str(data)))
    session.store.set_roles({"decider": RoleModel(model="openai/a")})
    more = [read_conversations(str(data))]
    asked = [line.model for line in estimate_run(session, more) if line.stage == "judge"]
    changed = [line.model for line in estimate_run(session, more, decide=True) if line.stage == "judge"]
    await session.close()
    assert (asked, changed) == (["openai/a", "openai/b"], ["openai/b"])
