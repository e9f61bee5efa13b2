"""The engines by name: what may stand after `--engine`. Another one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from safetyqc.pipeline.engine import Engine, EngineSettings, LocalEngine, Stop


def _processes(settings: EngineSettings, stop: Stop) -> Engine:
    from safetyqc.pipeline.processes import ProcessEngine

    return ProcessEngine(settings, stop)


ENGINES: dict[str, Callable[[EngineSettings, Stop], Engine]] = {"local": LocalEngine, "processes": _processes}
"""Open to additions."""
