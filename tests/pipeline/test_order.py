"""The whole run, in order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, JudgeSection, RewriteSettings
from safetyqc.pipeline import order
from safetyqc.pipeline.session import open_session
from safetyqc.records import Conversation, Judgment, Record
from safetyqc.store.opened import OpenedRun
from safetyqc.testing import ScriptedClient, conversation

CAN_FAIL = ("no_dangerous_steps", "strict_refusal")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, ...]]:
    """How often each conversation and each judgment was made of what the run stores."""
    counts: Counter[tuple[str, ...]] = Counter()
    record = OpenedRun._record

    def counting(run: OpenedRun, kind: type[Record], body: Any) -> Record:
        found = record(run, kind, body)
        if isinstance(found, Conversation):
            counts["conversation", found.id] += 1
        if isinstance(found, Judgment):
            counts["judgment", found.conversation_id, found.judge] += 1
        return found

    monkeypatch.setattr(OpenedRun, "_record", counting)
    return counts


async def test_one_run_reads_each_conversation_and_judgment_at_most_three_times(
    tmp_path: Path, readings: Counter[tuple[str, ...]]
) -> None:
    from tests.pipeline.test_mending import answer, weak

    config = Config(
        run=tmp_path / "r", judge=JudgeSection(models=("m", "local")), rewrite=RewriteSettings(model="w", rounds=2)
    )
    session = open_session(config, create=True, quiet=True, client=ScriptedClient(answer))
    session.store.add_conversations([*weak(6), conversation("How do I bake bread?", "With flour, water and time.")])
    exported = await order.run_all(session, [], lambda _: None, write=False)
    assert exported is not None
    assert any(rewrite.kept for rewrite in session.store.rewrites())
    everything = session.store.conversation_ids()
    await session.close()
    assert {name for kind, name, *_ in readings if kind == "conversation"} == everything
    assert sum(kind == "judgment" for kind, *_ in readings) > len(everything)
    assert max(readings.values()) <= 3
