"""`safetyqc` and `python -m safetyqc`: ends quietly on Ctrl-C already while the rest is being loaded."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it; from there on it answers Ctrl-C itself."""
    signal.signal(signal.SIGINT, _stop)
    for stream in (sys.stdout, sys.stderr):
        # A pipe on Windows, or PYTHONIOENCODING, may ask for an encoding that has no ✓ and no 锁; half a character
        # has no encoding at all
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    from safetyqc.cli import main as command_line

    command_line()


def _stop(*_: object) -> NoReturn:
    os.write(2, b"safetyqc: stopped before anything was done\n")
    os._exit(130)  # an exception in the middle of an import could be swallowed there


if __name__ == "__main__":
    main()
