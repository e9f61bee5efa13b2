"""The code of docs/python.md runs as it stands, from top to bottom, as in a notebook."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.testing.server import FaultServer

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
SETTINGS = "models: {prices: {openai/my-model: [1, 1]}}\n"


def test_every_block_runs_in_one_notebook(
    serve: Callable[..., FaultServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safetyqc.yaml").write_text(SETTINGS)
    url = serve().base_url

    async def notebook() -> None:
        names: dict[str, Any] = {}
        for block in BLOCKS:
            code = block.replace("http://localhost:8000/v1", url)
            cell = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            ended = eval(cell, names)
            if inspect.isawaitable(ended):
                await ended

    assert len(BLOCKS) > 5
    asyncio.run(notebook())
    assert {"report.html", "report.md", "my-run", "written"} <= {path.name for path in tmp_path.iterdir()}
