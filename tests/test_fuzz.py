"""Some hundred hostile answers and files, each time the same; `benchmarks/fuzz.py` tries as many as one likes."""

from __future__ import annotations

import asyncio
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from safetyqc.errors import ModelError
from safetyqc.generate.author import Author, Voice
from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.judge.rubric import RubricJudge
from safetyqc.llm.client import Request
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.testing import ScriptedClient, conversation
from safetyqc.testing.answers import answer

SAFETY = load_rubric_set()


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = spec_from_file_location("fuzz", Path(__file__).parents[1] / "benchmarks" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    import sys

    sys.modules["fuzz"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def hostile(fuzz: ModuleType, rng: Random) -> ScriptedClient:
    def said(request: Request) -> str:
        body = {"messages": list(request.messages)}
        if request.schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": request.schema}}
        text: str = fuzz.hostile_text(answer(body, rng), rng)
        return text

    return ScriptedClient(said)


def test_no_answer_ends_a_judge_and_every_judgment_can_be_kept(fuzz: ModuleType, tmp_path: Path) -> None:
    rng = Random(1)
    judge = RubricJudge(hostile(fuzz, rng), "m", SAFETY)
    said = [conversation(f"How is it done, {n}?", "I will not help.", category="general_safety") for n in range(150)]
    judgments = [asyncio.run(judge.judge(one)) for one in said]
    with Store.create(tmp_path / "run") as store:
        store.add_conversations(said)
        store.put_judgments(judgments).result()
        assert len(list(store.judgments())) == 150
    assert {len(one.scores) for one in judgments} == {len(SAFETY.criteria)}
    json.dumps([one.model_dump(mode="json") for one in judgments]).encode()


def test_no_answer_ends_an_author(fuzz: ModuleType) -> None:
    rng = Random(2)
    taxonomy = load_taxonomy()
    author = Author(taxonomy, Voice(hostile(fuzz, rng), "m"))
    written = 0
    for scenario in plan(taxonomy, 100, 0):
        try:
            asyncio.run(author.write(scenario)).model_dump_json().encode()
            written += 1
        except ModelError:
            pass
    assert 0 < written < 100


def test_no_file_ends_a_reader_without_a_planned_error(fuzz: ModuleType, tmp_path: Path) -> None:
    assert fuzz.through_readers(300, Random(3), tmp_path) == []
