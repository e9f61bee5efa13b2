"""The engines by name: what may stand after `--engine`. Another one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from safetyqc.errors import UserError
from safetyqc.pipeline.engine import Engine, EngineSettings, LocalEngine, Stop


def _processes(settings: EngineSettings, stop: Stop) -> Engine:
    from safetyqc.pipeline.processes import ProcessEngine

    return ProcessEngine(settings, stop)


def _ray(settings: EngineSettings, stop: Stop) -> Engine:
    from safetyqc.pipeline.ray_engine import RayEngine

    return RayEngine(settings, stop)


ENGINES: dict[str, Callable[[EngineSettings, Stop], Engine]] = {
    "local": LocalEngine,
    "processes": _processes,
    "ray": _ray,
}
"""Open to additions."""
EXTRAS = {"ray": "ray"}
"""Of the engines that safetyqc alone cannot run: the package that they need, which is also the name of the extra."""


def refuse_missing(name: str) -> None:
    """Say how to get what an engine needs.

    Raises:
        UserError: it is not installed.
    """
    package = EXTRAS.get(name)
    if package and find_spec(package) is None:
        fix = f"pip install 'safetyqc[{package}]', or leave out --engine: one machine needs none (docs/scale.md)"
        raise UserError(f"{name} is not installed", where="--engine", fix=fix)
