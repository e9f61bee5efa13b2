"""Help in panels: the daily commands first, and the options of a command before those that all such commands share.

Which panel a command is in is told by its name or, for one that nobody placed, by the module that it stands in. Plain
text: rich is not loaded for help.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

OTHERS = "More"
PANELS: dict[str, tuple[str, ...]] = {
    "Every day": ("demo", "check", "judge", "report", "export", "run"),
    "Write and mend": ("generate", "rewrite", "augment", "taxonomy"),
    "Files and copies": ("import", "filter", "dedup", "push"),
    "Labels": ("label", "review"),
    "Measure": ("compare", "probe", "train-judge", "rubrics"),
    "Models": ("models", "batch"),
}
"""Commands by their panel, in the order in which they are shown."""
_OF_MODULE = {
    "writing": "Write and mend",
    "running": "Every day",
    "reporting": "Every day",
    "judging": "Every day",
    "checking": "Files and copies",
    "labels": "Labels",
    "reviewing": "Labels",
    "comparing": "Measure",
    "probing": "Measure",
    "rubrics": "Measure",
    "modelling": "Models",
    "batching": "Models",
}
_SHARED: dict[str, tuple[str, ...]] = {
    "The run": ("--run", "--config", "--skip-bad-lines", "--json", "--quiet", "--help"),
    "How models are asked": (
        *("--api-base", "--concurrency", "--max-cost", "--fallback", "--lane", "--engine", "--workers"),
        *("--fresh", "--batch", "--batch-dir"),
    ),
}
"""Options that many commands have, by their panel; any other is the command's own."""


class Command(TyperCommand):
    """A command whose help shows its own options before those that others have too."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then a section for each panel that has an option."""
        told: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], **{name: [] for name in _SHARED}}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                told[_panel_of(parameter)].append(record)
        if not told["Options"]:
            told = {"Arguments": told.pop("Arguments"), **told}
        for name, records in told.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class Group(TyperGroup):
    """A group whose help shows its commands in panels."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel; one line a command, cut between words."""
        shown = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))}
        longest = max(map(len, shown), default=0)
        for panel, names in _in_panels(shown).items():
            with formatter.section(panel):
                formatter.write_dl(
                    [(name.ljust(longest), _line_of(shown[name], formatter.width - longest - 4)) for name in names]
                )


def _line_of(command: Any, width: int) -> str:
    """What a command does, in one line: its help, or the first clause of it that fits."""
    text = " ".join((command.help or "").split("\n\n")[0].split()).removesuffix(".")
    if len(text) <= width:
        return text
    ends = [place for mark in ("; ", ": ", ", ") if (place := text.find(mark, 0, width)) > 0]
    return text[: ends[0]] if ends else text[:width].rpartition(" ")[0]


def _panel_of(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return next((name for name, flags in _SHARED.items() if not {*flags}.isdisjoint(parameter.opts)), "Options")


def _in_panels(commands: dict[str, Any]) -> dict[str, list[str]]:
    """Names of commands by panel: the known ones in their order, each followed by those that nobody placed."""
    placed = {name for names in PANELS.values() for name in names}
    found = {panel: [name for name in names if name in commands] for panel, names in PANELS.items()} | {OTHERS: []}
    for name in sorted(commands.keys() - placed):
        found[_OF_MODULE.get(_module_of(commands[name]), OTHERS)].append(name)
    return {panel: names for panel, names in found.items() if names}


def _module_of(command: Any) -> str:
    """The module that a command, or the first one of a group, stands in."""
    while getattr(command, "commands", None):
        command = next(iter(command.commands.values()))
    return str(getattr(command.callback, "__module__", "")).rpartition(".")[2]


def with_panels(app: typer.Typer) -> None:
    """Have every command that was registered show its help in panels."""
    for command in app.registered_commands:
        if command.cls is TyperCommand:
            command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance:
            with_panels(group.typer_instance)
