"""The `safetyqc` command: parses, calls, prints. Every decision is made elsewhere.

The one surprising thing: command modules import only what parsing needs, and each command imports its stage when it
runs, so that `safetyqc --help` answers at once and loads no litellm, scikit-learn, numpy or rich.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from safetyqc.cli import batching, checking, comparing, judging, modelling, reporting, rubrics, running, writing
from safetyqc.errors import Interrupted, SafetyqcError

app = typer.Typer(
    name="safetyqc",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Quality control of safety SFT data with LLM judges whose numbers can be trusted.\n\n"
    "Start with `safetyqc demo` (no key needed), or check your own file: `safetyqc check FILE`.",
)
for module in (running, writing, checking, judging, comparing, reporting, rubrics, modelling, batching):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        from safetyqc import __version__

        typer.echo(f"safetyqc {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; every planned error ends in one clear message and its own exit code."""
    # litellm would fetch a price list at import, and retry when there is no network
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    signal.signal(signal.SIGINT, _stop)
    try:
        app(prog_name="safetyqc")
    except SafetyqcError as error:
        sys.stdout.flush()
        typer.echo(f"safetyqc: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has gone: not an error; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _stop(*_: object) -> NoReturn:
    raise Interrupted("stopped; everything that was finished is saved")
