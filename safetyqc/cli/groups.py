"""A command group with a default: `safetyqc judge FILE` and `safetyqc judge attack` both read naturally."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from safetyqc.cli.panels import Command


class _Unnamed(typer.Context):
    """Names a default command as it is typed: by its group alone."""

    @property
    def command_path(self) -> str:
        """`safetyqc judge`, in usage lines and errors."""
        return self.parent.command_path if self.parent else super().command_path


class DefaultCommand(Command):
    """The command `run` of a DefaultGroup."""

    context_class = _Unnamed


class DefaultGroup(TyperGroup):
    """Runs its command `run` unless the first argument names another one; a file of that name is given as ./NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where none was typed."""
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)
