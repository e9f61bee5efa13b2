"""The shape of the tree holds: layers, no cycles, no stage that imports another, nothing heavy at start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "safetyqc"

LAYERS = (
    {"errors", "text"},
    {"records"},
    {"results"},
    {"formats"},
    {"rubrics", "prompts"},
    {"llm"},
    {"store"},
    {"generate", "filters", "judge", "dedup", "probe"},
    {"config"},
    {"reports", "review"},
    {"pipeline"},
    {"api"},
    {"cli"},
)
"""From the bottom up; a module may import from its own room and from the layers below, a stage from no other stage."""
STAGES = {"generate", "filters", "judge", "dedup", "probe"}
ANYWHERE = {"__init__", "__main__", "testing"}
HEAVY = {"litellm", "sklearn", "numpy", "scipy", "numba", "rich", "xllamacpp", "pyarrow", "jinja2", "aiohttp"}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path, *, at_run_time: bool) -> set[str]:
    """Modules of safetyqc that a file imports; with `at_run_time`, those under TYPE_CHECKING are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if at_run_time:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "safetyqc"}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only_and_no_stage_imports_another(path: Path) -> None:
    here = room(path)
    if here in ANYWHERE:
        return
    layer = next((i for i, names in enumerate(LAYERS) if here in names), None)
    assert layer is not None, f"{here} has no layer: add it to LAYERS"
    for name in imports(path, at_run_time=here == "errors"):  # an error may name a record's type
        target = name.split(".")[1] if "." in name else "__init__"
        if target in ANYWHERE or target == here:
            continue
        found = next((i for i, names in enumerate(LAYERS) if target in names), None)
        if found is None:
            continue  # a name of the package itself, such as __version__
        assert found <= layer, f"{here} imports {name}, which lies above it"
        if here in STAGES:
            assert target not in STAGES, f"stage {here} imports stage {target}"


def test_modules_import_each_other_without_cycles() -> None:
    modules = {
        ".".join(("safetyqc", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p
        for p in FILES
    }
    graph = {
        name: {
            i for i in imports(path, at_run_time=True) if i in modules and i != name and not name.startswith(i + ".")
        }
        for name, path in modules.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError and names the cycle


@pytest.mark.parametrize(
    "code", ["import safetyqc", "import sys; sys.argv = ['safetyqc', '--help']; import safetyqc.__main__"]
)
def test_start_up_loads_nothing_heavy(code: str) -> None:
    program = (
        f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', sorted({HEAVY!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "LOADED []" in result.stdout, result.stdout[-300:]


def test_only_one_module_imports_litellm() -> None:
    users = [str(p.relative_to(PACKAGE)) for p in FILES if _imports_top(p, "litellm")]
    assert users == ["llm/litellm_client.py"]


def test_only_the_store_knows_sql() -> None:
    users = [str(p.relative_to(PACKAGE)) for p in FILES if _imports_top(p, "sqlite3")]
    assert {Path(user).parts[0] for user in users} == {"store"}


def _imports_top(path: Path, module: str) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(a.name.split(".")[0] == module for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module:
            return True
    return False
