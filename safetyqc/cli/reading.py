"""Options that say how a file is to be read where it leaves a choice, for every command that takes one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from safetyqc.cli.output import typed_flags
from safetyqc.errors import UserError, choose_from
from safetyqc.formats.turns import COLUMNS, SIDES

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="prompt=A,response=B",
        help=f"What the file calls them: {', '.join(COLUMNS)}.",
        show_default=False,
    ),
]
Side = Annotated[
    str | None,
    typer.Option("--side", metavar="|".join(SIDES), help="Of a preference pair (default: chosen).", show_default=False),
]
MergeTurns = Annotated[
    bool | None, typer.Option("--merge-turns", help="Join neighbouring turns of one role.", show_default=False)
]
Trim = Annotated[
    bool | None,
    typer.Option("--trim", help="Leave out what comes before the first request and after the last answer."),
]
_READING: dict[str, Any] = {"columns": Columns, "side": Side, "merge_turns": MergeTurns, "trim": Trim}


class Reading(dict[str, Any]):
    """The flags by the dotted names of their settings."""

    @property
    def typed(self) -> str:
        """The flags as they are typed in a follow-up command, with a space before them."""
        columns = ",".join(f"{name}={column}" for name, column in (self["reading.columns"] or {}).items())
        return typed_flags(
            {
                "--columns": columns,
                "--side": self["reading.side"],
                "--merge-turns": self["reading.merge_turns"],
                "--trim": self["reading.trim"],
            }
        )


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options, behind its own, in place of its parameter `reading`."""
    hints = get_type_hints(command, include_extras=True)
    own = {name: (hints[name], p.default) for name, p in inspect.signature(command).parameters.items()}
    del own["reading"]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in (own | {name: (hint, None) for name, hint in _READING.items()}).items()
    ]

    @functools.wraps(command)
    def bundled(**given: Any) -> None:
        bundle = {name: given.pop(name) for name in _READING}
        bundle["columns"] = _parse_columns(bundle["columns"])
        command(**given, reading=Reading({f"reading.{name}": value for name, value in bundle.items()}))

    bundled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    bundled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return bundled


def _parse_columns(typed: str | None) -> Mapping[str, str] | None:
    if typed is None:
        return None
    found: dict[str, str] = {}
    for part in typed.split(","):
        name, equals, column = (word.strip() for word in part.partition("="))
        if not equals or not column:
            raise UserError(f"{part!r} names no column", where="--columns", fix="write it as prompt=A,response=B")
        if name not in COLUMNS:
            raise UserError(f"{name!r} is nothing that a record has", where="--columns", fix=choose_from(name, COLUMNS))
        found[name] = column
    return found
