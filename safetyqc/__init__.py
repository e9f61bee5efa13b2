"""safetyqc: quality control of safety SFT data with judges that were measured against labels.

In Python: `import safetyqc as sq`, then `sq.judge(rows)`; see safetyqc.api and docs/python.md. Everything is loaded
when it is first asked for, so that the import costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyqc.api import (
        agenerate,
        ajudge,
        aprobe,
        arewrite,
        check,
        compare,
        dedup,
        export,
        filter,
        generate,
        judge,
        label_export,
        label_import,
        open_run,
        probe,
        report,
        rewrite,
    )
    from safetyqc.errors import SafetyqcError

__version__ = "0.1.0"
__all__ = [
    "SafetyqcError",
    "agenerate",
    "ajudge",
    "aprobe",
    "arewrite",
    "check",
    "compare",
    "dedup",
    "export",
    "filter",
    "generate",
    "judge",
    "label_export",
    "label_import",
    "open_run",
    "probe",
    "report",
    "rewrite",
]

_ROOMS = frozenset({"dedup", "generate", "judge", "probe"})
"""Functions whose name is that of a room of the package too."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{'errors' if name == 'SafetyqcError' else 'api'}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Room(ModuleType):
    """A room that can be called: `sq.judge(rows)` must not end with the first import of `safetyqc.judge.table`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        package, _, name = self.__name__.rpartition(".")
        return getattr(import_module(f"{package}.api"), name)


class _Package(ModuleType):
    """Python sets a room as an attribute of its package as soon as anything imports it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ROOMS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
