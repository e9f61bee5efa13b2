"""Writes docs/cli.md from the command line's own help, so that the two cannot disagree.

Run `python scripts/write_cli_docs.py` after a change of a command; a test fails while the page is stale. An option
that says nothing about itself stops the script, because the page would be useless.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from typer.main import get_command

from safetyqc.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """\
# Commands

Written by `python scripts/write_cli_docs.py` from the help of the commands themselves: change it there.

Every command takes `-h`. Results go to stdout, everything else to stderr; the last lines there say what to type next.
Files may be `.jsonl`, `.json` or `.jsonl.gz`, and `-` is stdin. Settings that are not given as flags come from
`safetyqc.yaml` in the working folder, where there is one. For exit codes and the formats that programs can rely on see
[machine-interface.md](machine-interface.md).
"""


def commands(group: Any = None, path: tuple[str, ...] = ("safetyqc",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, in the order of the help."""
    group = get_command(app) if group is None else group
    for name, command in group.commands.items():
        words = (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, words)
        else:
            yield words, command


def typed(words: tuple[str, ...]) -> str:
    """How a command is called: `safetyqc judge`, whose default command has no name of its own."""
    return " ".join(words[:-1] if words[1:] == ("judge", "run") else words)


def render() -> str:
    """Word the whole page."""
    all_commands = list(commands())
    index = [f"- [`{typed(words)}`](#{typed(words).replace(' ', '-')}): {_summary(c)}" for words, c in all_commands]
    return "\n".join([HEAD, *index, *(line for words, c in all_commands for line in _section(words, c)), ""])


def _summary(command: Any) -> str:
    return str(cleandoc(command.help).splitlines()[0])


def _section(words: tuple[str, ...], command: Any) -> Iterator[str]:
    yield from ("", f"## {typed(words)}")
    for paragraph in cleandoc(command.help).split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("Example: "):
            yield from ("", "```bash", text.removeprefix("Example: "), "```")
        elif text.startswith("See also: "):
            yield from ("", f"See also: `{text.removeprefix('See also: ')}`")
        else:
            yield from ("", text)
    yield from ("", "| | |", "|---|---|")
    for parameter in command.params:
        yield f"| `{_cell(_names(parameter))}` | {_cell(_told(command, parameter))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names(parameter: Any) -> str:
    metavar = parameter.metavar or "VALUE"
    if parameter.param_type_name == "argument":
        return f"{metavar}{' ...' if parameter.nargs == -1 else ''}"
    return ", ".join(sorted(parameter.opts, key=len)) + ("" if parameter.is_flag else f" {metavar}")


def _told(command: Any, parameter: Any) -> str:
    if not parameter.help:
        raise SystemExit(f"{command.name} {parameter.name}: has no help")
    default = parameter.default if parameter.show_default and not getattr(parameter, "is_flag", False) else None
    needed = " Required." if parameter.required else ""
    said = f" Default: {default}." if default not in (None, "", ()) and not needed else ""
    repeat = " Repeatable." if getattr(parameter, "multiple", False) and "repeat" not in parameter.help.lower() else ""
    return " ".join(parameter.help.split()) + needed + said + repeat


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
