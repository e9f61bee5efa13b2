"""Help is shown in panels: daily commands first, a command's own options before shared ones, nothing left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.main import get_command

from safetyqc.cli import app
from safetyqc.cli.panels import OTHERS, PANELS, Group, with_panels

Cli = Callable[..., Any]


def sections(text: str) -> dict[str, list[str]]:
    """First words of the lines of each section."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\w[\w ]*:", line):
            found[line[:-1]] = []
        elif found and (name := re.match(r"  (\S+)", line)):
            found[list(found)[-1]].append(name[1].rstrip(","))
    return found


def test_the_daily_commands_come_first_and_none_is_left_out(cli: Cli) -> None:
    found = sections(cli("--help").out)
    assert list(found)[1] == "Every day"
    assert found["Every day"][:4] == ["demo", "check", "judge", "report"]
    shown = [name for panel in (*PANELS, OTHERS) for name in found.get(panel, [])]
    assert sorted(shown) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_no_line_of_a_command_is_cut_in_its_midst(cli: Cli) -> None:
    lines = cli("--help").out.partition("Every day:")[2].splitlines()
    assert not [line for line in lines if "..." in line or len(line) > 80]


def test_a_command_that_nobody_placed_is_found_by_its_module_or_last() -> None:
    made = typer.Typer(cls=Group, rich_markup_mode=None)

    def stray() -> None:
        """Do something new."""

    def relabel() -> None:
        """Label again."""

    relabel.__module__ = "safetyqc.cli.labels"
    made.command()(stray)
    made.command()(relabel)
    with_panels(made)
    found = sections(get_command(made).get_help(get_command(made).make_context("x", ["stray"], resilient_parsing=True)))
    assert (found["Labels"], found[OTHERS]) == (["relabel"], ["stray"])


@pytest.mark.parametrize("line", ["judge", "run", "report"])
def test_own_options_come_before_those_that_others_have_too(line: str, cli: Cli) -> None:
    found = sections(cli(line, "--help").out)
    assert list(found).index("Options") < list(found).index("The run")
    assert {"--run", "-q"} <= set(found["The run"])
    assert "--run" not in found["Options"]
