"""Every task goes to another process as it is and does the same there."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, GenerateSettings, JudgeSection
from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.llm.client import Reply, Request
from safetyqc.pipeline.engine import Context
from safetyqc.pipeline.tasks import Attempt, Filtering, Judging, Mending, Varying, Wish, Writing, afresh
from safetyqc.records import Judgment, Score
from safetyqc.rubrics import load_rubric_set
from safetyqc.testing import conversation

SAFETY, TAXONOMY = load_rubric_set(), load_taxonomy()
CONFIG = Config(generate=GenerateSettings(model="m"), judge=JudgeSection(models=("m",)))
CASE = conversation("How do I hurt him?", "Go on then.", category="violence_or_crime", intent="harmful")
FAILED = Judgment(
    conversation_id=CASE.id,
    judge="m",
    rubric=SAFETY.id,
    rubric_hash=SAFETY.hash,
    scores=(Score(criterion="strict_refusal", outcome="fail", reason="r"),),
    passed=False,
)
DECIDING, FILTERING = Judging("m", SAFETY, CONFIG), Filtering(CONFIG)
TASKS: dict[str, tuple[Any, Any]] = {
    "writing": (Writing(CONFIG, TAXONOMY), plan(TAXONOMY, 1, 0)[0]),
    "filtering": (FILTERING, CASE),
    "judging": (DECIDING, CASE),
    "judging without a model": (Judging("local", SAFETY, CONFIG), CASE),
    "judging in a panel": (Judging("panel:m,local", SAFETY, CONFIG), CASE),
    "mending": (
        Mending("w", DECIDING, FILTERING, Judging("n", SAFETY, CONFIG), afresh(DECIDING)),
        Attempt(CASE, FAILED, 0),
    ),
    "varying": (Varying("w", FILTERING), Wish(CASE, 0)),
}


class Writer:
    """Answers by the request alone, so that two processes are told the same."""

    async def complete(self, request: Request) -> Reply:
        """See Client."""
        if "messages" in (request.schema or {}).get("properties", {}):
            shown = [m for m in request.messages[-1]["content"].splitlines() if m.strip()]
            turns = 2 if request.stage != "generate" else 2 * plan(TAXONOMY, 1, 0)[0].turns
            said = [f"Number {n}: a sentence that says this and that of {len(shown)} lines." for n in range(turns)]
            roles = ("user", "assistant")
            return Reply(json.dumps({"messages": [{"role": roles[n % 2], "content": s} for n, s in enumerate(said)]}))
        found: dict[str, Any] = {}
        for name, schema in (request.schema or {})["properties"].items():
            if "enum" in schema:
                found[name] = schema["enum"][0]
                continue
            said = {"reason": "r", "quote": "", "turn": 1, "level": schema["properties"]["level"]["enum"][0]}
            found[name] = {"applies": True, **said} if "applies" in schema["properties"] else said
        return Reply(json.dumps(found))

    async def close(self) -> None:
        """See Client."""


def do(packed: bytes) -> str:
    task, item = pickle.loads(packed)
    return repr(asyncio.run(task.do(item, Context(Writer))))


PROGRAM = """
import pickle, sys
from test_tasks import do
print(pickle.dumps([do(packed) for packed in pickle.load(sys.stdin.buffer)]).hex())
"""


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, str]:
    """What each task does in another process."""
    packed = pickle.dumps([pickle.dumps(case) for case in TASKS.values()])
    here = Path(__file__).parent
    ended = subprocess.run([sys.executable, "-c", PROGRAM], input=packed, capture_output=True, cwd=here, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    return dict(zip(TASKS, pickle.loads(bytes.fromhex(ended.stdout.decode())), strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_does_the_same_in_another_process(name: str, elsewhere: dict[str, str]) -> None:
    assert elsewhere[name] == do(pickle.dumps(TASKS[name]))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_frozen_and_says_whether_it_asks_models(name: str) -> None:
    task, _ = TASKS[name]
    assert task.asks is (name not in ("filtering", "judging without a model"))
    with pytest.raises(AttributeError):
        task.config = CONFIG
