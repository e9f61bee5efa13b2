"""The `safetyqc` command: parses, calls, prints. Every decision is made elsewhere.

Command modules import only what parsing needs, and each command imports its stage when it
runs, so that `safetyqc --help` answers at once and loads no litellm, scikit-learn, numpy or rich.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import typer

from safetyqc.cli import (
    batching,
    checking,
    comparing,
    judging,
    labels,
    modelling,
    probing,
    reporting,
    reviewing,
    rubrics,
    running,
    taxonomy,
    writing,
)
from safetyqc.cli.output import NOTHING_CHANGED, be_quiet, complain
from safetyqc.cli.panels import Group, with_panels
from safetyqc.errors import ConfigError, Interrupted, OutputError, SafetyqcError

READER_GONE = 141
"""Exit code when the reader of stdout has gone before all was written, as a shell tells it of any program."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="safetyqc",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Quality control of safety SFT data with LLM judges whose numbers can be trusted.\n\n"
    "Start with `safetyqc demo` (no key needed), or check your own file: `safetyqc check FILE`.",
)
for module in (
    running,
    writing,
    checking,
    judging,
    comparing,
    labels,
    reviewing,
    reporting,
    probing,
    rubrics,
    taxonomy,
    modelling,
    batching,
):
    module.register(app)
with_panels(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    be_quiet(False)
    if version:
        from safetyqc import __version__

        typer.echo(f"safetyqc {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; every planned error ends in one clear message and its own exit code."""
    # litellm would fetch a price list at import, and retry when there is no network
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    signal.signal(signal.SIGINT, _stop)
    _open_closed_streams()
    try:
        app(prog_name="safetyqc")
        sys.stdout.flush()
    except SafetyqcError as error:
        _end(error)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # click ends with 1 then
            _give_up_stdout()
            sys.exit(READER_GONE)
        raise
    except OSError as error:
        # Files and runs explain themselves: what still has no file name was printed
        if error.filename is not None or error.errno not in _FULL:
            raise
        _give_up_stdout()
        what = f"cannot be written: {error.strerror}"
        _end(OutputError(what, where="standard output", fix="free some space, or send it elsewhere"))
    sys.exit(0)


def _end(error: SafetyqcError) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        _give_up_stdout()
    with contextlib.suppress(OSError):  # the terminal itself may be what went away
        complain(f"safetyqc: {_without_keys(error)}")
    sys.exit(error.exit_code)


def _without_keys(error: SafetyqcError) -> str:
    """What an error says; one about settings quotes them, and a key may stand where it does not belong."""
    if not isinstance(error, ConfigError):
        return str(error)
    from safetyqc.llm.secrets import redact

    file, bracket, key = (error.where or "").partition(" (")
    return str(ConfigError(redact(error.what), where=f"{file}{bracket}{redact(key)}" or None, fix=error.fix))


def _give_up_stdout() -> None:
    """Keep Python from failing again at exit, over what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_closed_streams() -> None:
    """Give a stream that the caller closed (`>&-`) a place, or the next file opened would get its number and output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _stop(*_: object) -> NoReturn:
    raise Interrupted(f"stopped; {NOTHING_CHANGED}")
