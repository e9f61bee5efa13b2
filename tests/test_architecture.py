"""The shape of the tree holds: layers, no cycles, no stage that imports another, nothing heavy at start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
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


@cache
def imported(path: Path, *, at_run_time: bool = False) -> frozenset[str]:
    """Modules and names that a file imports; with `at_run_time`, those under TYPE_CHECKING are left out."""
    found: set[str] = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if at_run_time and isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def imports(path: Path, *, at_run_time: bool) -> set[str]:
    """What a file imports of safetyqc."""
    return {name for name in imported(path, at_run_time=at_run_time) if name.split(".")[0] == "safetyqc"}


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


def module_name(path: Path) -> str:
    return ".".join(("safetyqc", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def test_modules_import_each_other_without_cycles() -> None:
    modules = {module_name(p): p for p in FILES}
    graph = {
        # an error may name a record's type in a hint
        name: {
            i
            for i in imports(path, at_run_time=name == "safetyqc.errors")
            if i in modules and i != name and not name.startswith(i + ".")
        }
        for name, path in modules.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError and names the cycle


def test_rooms_form_no_circle_type_hints_included() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        here = room(path)
        if here in ANYWHERE:
            continue
        names = imports(path, at_run_time=here == "errors")
        rooms = {name.split(".")[1] for name in names if "." in name}
        graph.setdefault(here, set()).update(rooms - {here} - ANYWHERE)
    list(TopologicalSorter(graph).static_order())


def test_the_root_is_seen_at_a_glance() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 9


LINES_OF_MODULE, LINES_OF_FUNCTION, LINES_OF_COMMAND, PARAMETERS = 400, 50, 70, 8
LONG_MODULES = {
    "dedup/kernels.py": (530, "the compiled join: numba wants its functions in one module to cache them"),
    "llm/door.py": (540, "everything that a call goes through, in the order in which it does"),
    "pipeline/duplicates.py": (420, "one dedup of a run, from its texts to what is stored"),
    "reports/terminal.py": (490, "a section of the report after the other"),
    "results/report.py": (470, "the shapes of one JSON document"),
}
LONG_FUNCTIONS = {
    "dedup": "the Python door documents each of its arguments",
    "ajudge": "the Python door documents each of its arguments",
    "aprobe": "the Python door documents each of its arguments",
    "read_reply": "one look at each field of a reply, in order",
    "read_snapshot": "the one place that reads a run for a report",
}
MANY_PARAMETERS = {
    "group_texts": "a stage's settings, each of which a caller may leave out",
    "probe": "numba's kernels take arrays, not objects",
    "weigh_rows": "numba's kernels take arrays, not objects",
    "__init__": "keyword settings with defaults",
    "serve": "keyword settings with defaults",
    "report": "the Python door: keyword settings with defaults",
    "ajudge": "the Python door: keyword settings with defaults",
    "aprobe": "the Python door: keyword settings with defaults",
    "agenerate": "the Python door: keyword settings with defaults",
    "arewrite": "the Python door: keyword settings with defaults",
    "_line": "one line of the estimate, its columns by name",
}
"""What goes beyond its budget, and why."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_keep_to_their_budgets(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    text = path.read_text(encoding="utf-8")
    most, _ = LONG_MODULES.get(name, (LINES_OF_MODULE, ""))
    assert text.count("\n") <= most, f"{name} has {text.count(chr(10))} lines: has it a second reason to change?"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        of_command = name.startswith("cli/")
        allowed = LINES_OF_COMMAND if of_command or node.name in LONG_FUNCTIONS else LINES_OF_FUNCTION
        assert lines <= allowed, f"{name}:{node.lineno} {node.name} has {lines} lines"
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len(set(arguments) - {"self", "cls"})
        if not of_command and node.name not in MANY_PARAMETERS:
            assert count <= PARAMETERS, f"{name}:{node.lineno} {node.name} has {count} parameters"


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


def uses(path: Path, package: str) -> bool:
    return package in {name.split(".")[0] for name in imported(path)}


def test_only_one_module_imports_litellm() -> None:
    users = [str(p.relative_to(PACKAGE)) for p in FILES if uses(p, "litellm")]
    assert users == ["llm/litellm_client.py"]


def test_only_the_store_knows_sql() -> None:
    users = [str(p.relative_to(PACKAGE)) for p in FILES if uses(p, "sqlite3")]
    assert {Path(user).parts[0] for user in users} == {"store"}
