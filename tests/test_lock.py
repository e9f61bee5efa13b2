"""requirements.lock pins what pyproject.toml asks for: it is made from an environment, which may be older than that."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parents[1]
LOCKED = {"dev", "local", "parquet"}  # Ray is opt-in, and as new as the cluster


def test_every_requirement_of_the_tool_and_its_tests_is_pinned_at_a_version_it_allows() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for name in LOCKED for text in project["optional-dependencies"][name]]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras)]
    lines = (HERE / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    unmet = [
        str(need)
        for need in wanted
        if (name := canonicalize_name(need.name)) != project["name"]
        and not (name in pins and need.specifier.contains(pins[name]))
    ]
    assert not unmet, f"run scripts/lock in an environment that holds them: {unmet}"
