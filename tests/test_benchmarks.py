"""Benchmarks are not run here, but what they name has to be there, and sets that they make have to be what they say."""

from __future__ import annotations

import ast
import importlib
import runpy
from pathlib import Path
from types import ModuleType

import pytest

from safetyqc.probe.prompts import shipped_prompts
from safetyqc.probe.words import declines
from safetyqc.results.openings import measure_refusals

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_of_the_package_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "safetyqc":
            module = _imported(node.module)
            for name in node.names:
                found = hasattr(module, name.name) or _imported(f"{node.module}.{name.name}")
                assert found, f"{script.name}:{node.lineno} {node.module}.{name.name}"


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("safetyqc"):
            pytest.skip(f"{error.name} comes with an extra")
        raise


def test_the_sets_of_effect_refuse_in_many_ways_and_hold_no_prompt_that_is_probed() -> None:
    found = runpy.run_path(str(ROOT / "benchmarks" / "effect.py"))["planned"]()
    refusals = [said for _, said, _ in found]
    assert len(found) > 100
    assert all(map(declines, refusals))
    assert not measure_refusals(refusals).collapsed
    asked = {turn for prompt in shipped_prompts() for turn in prompt.turns}
    assert not asked & {text for opener, _, twin in found for text in (opener, twin)}
