"""A command group with a default: `safetyqc judge FILE` and `safetyqc judge attack` both read naturally."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """Runs its command `run` unless the first argument names another one; a file of that name is given as ./NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where none was typed."""
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)
