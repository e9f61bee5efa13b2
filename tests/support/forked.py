"""Real processes for tests that kill and interrupt them, forked from one in which everything is imported already.

Each has a process number, signals, streams and an exit code of its own, and is started in a hundredth of the second
that a fresh interpreter and its imports take. How an interpreter itself starts and ends is not shown here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(
    [
        "pytest",
        "safetyqc.api",
        "safetyqc.cli",
        "safetyqc.dedup.search",
        "safetyqc.judge.embedded.judge",
        "safetyqc.llm.direct",
        "safetyqc.pipeline.order",
        "safetyqc.pipeline.session",
        "safetyqc.reports.terminal",
        "sklearn.feature_extraction.text",
    ]
)


class Forked:
    """A function that runs in a process of its own, in `folder` and with this process's environment."""

    def __init__(self, folder: Path, work: Callable[..., object], *arguments: Any) -> None:
        self._streams = Path(mkdtemp(dir=folder.parent, prefix="streams-"))
        told = (folder, self._streams, dict(os.environ), work, arguments)
        self._process = _FORK.Process(target=_begin, args=told, daemon=True)
        self._process.start()

    @property
    def code(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self._process.exitcode

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return self._said("stdout")

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._said("stderr")

    def _said(self, name: str) -> str:
        path = self._streams / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.code is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def reaches(self, state: Callable[[], bool]) -> bool:
        """Wait until something is so, or the process has ended; says which."""
        while self.code is None:
            if state():
                return True
            time.sleep(0.002)
        return False

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end; a process that does not end fails the test, and is killed."""
        self._process.join(timeout_s)
        if self.code is None:
            self._process.kill()
            raise TimeoutError(f"still running after {timeout_s} s; it said: {self.err}")
        return self.code


def typed(folder: Path, *words: object) -> Forked:
    """Start a command line in a folder: `typed(tmp_path, "check", "a.jsonl")`."""
    return Forked(folder, command_line, *map(str, words))


def _begin(
    folder: Path, streams: Path, environment: dict[str, str], work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in ("stdout", "stderr"):
        lead(name, os.open(streams / name, os.O_WRONLY | os.O_CREAT))
    work(*arguments)


def lead(name: str, where: int) -> None:
    """Have stdout or stderr of this process go to an open file, as an interpreter that starts there finds it."""
    number = ("stdin", "stdout", "stderr").index(name)
    os.dup2(where, number)
    setattr(sys, name, open(number, "w", buffering=1 if name == "stderr" else -1, closefd=False))  # noqa: SIM115


def command_line(*words: str) -> None:
    """Run a command line in this process, which ends with it."""
    from safetyqc.__main__ import main

    sys.argv = ["safetyqc", *words]
    main()
