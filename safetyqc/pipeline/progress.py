"""Shows on stderr how a stage is going: a live line on a terminal, a plain line every 10 s elsewhere, or nothing.

It counts; what happens to conversations is decided elsewhere. A thread of its own draws, so that a busy event loop
neither delays the line nor pays for drawing it. rich is imported only on a terminal. Money
and tokens are those of all stages since the command began, because that is what a person watches.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO, runtime_checkable

from safetyqc.text import reveal

_DRAW_S = 0.25
_PATIENCE_S = 2.0
"""What is over sooner needs no progress, unless it asks models."""
_RATE_S = 30.0
"""How far back the rate looks."""


class Counts(Protocol):
    """What the door counts."""

    in_flight: int
    retries: int
    reused: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced: int
    trouble: Callable[[], str]


@runtime_checkable
class _Counting(Protocol):
    counters: Any


@dataclass
class Line:
    """One stage on its way; `advance` it once per item."""

    stage: str
    total: int
    done: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    done_before: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, *, failed: str | None = None, count: int = 1) -> None:
        """Count an item as done, under the kind of its failure if it has one."""
        self.done += count
        if failed is not None:
            self.failures[failed] += count

    def rate(self) -> float:
        """Items a second: of the last half minute while the stage goes on, of all of it in the end.

        What was done before is left out, and so are a slow start and a long pause as soon as they are over.
        """
        now = time.monotonic()
        since, done = self.started, self.done_before
        if self.done < self.total:
            self._marks.append((now, self.done))
            while len(self._marks) > 1 and (
                self._marks[1][0] <= now - _RATE_S or self._marks[1][1] == self.done_before
            ):
                self._marks.popleft()
            if now - self._marks[0][0] >= _RATE_S / 4:
                since, done = self._marks[0]
        return (self.done - done) / (now - since) if now > since else 0.0

    def state(self) -> str:
        """How far it is, as `2/18 (11%)`."""
        return f"{self.done:,}/{self.total:,} ({self.done / self.total:.0%})"

    def left_s(self) -> float | None:
        """Seconds that the rest will take; None before anything is known."""
        rate = self.rate()
        return (self.total - self.done) / rate if rate > 0 else None


class Phase(Line):
    """Work that is over at once in most runs, and that often cannot be counted on its way."""

    def state(self) -> str:
        """How far it is, or how long it takes while nothing was counted."""
        taken = duration(time.monotonic() - self.started)
        counted = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        return f"{counted}, {taken}" if self.done else taken


class Progress:
    """Draws the line of the current stage; close it when the command ends.

    Args:
        quiet: show nothing.
        stream: stderr unless told.
        every_s: seconds between plain lines.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.quiet, self.every_s = quiet, every_s
        self._counts: Counts | None = None
        self._live = not quiet and self.stream.isatty()

    def note(self, text: str) -> None:
        """Say a line of its own, also while a bar is drawn."""
        if not self.quiet:
            clear = "\r\x1b[K" if self._live else ""
            self.stream.write(f"{clear}safetyqc: {reveal(text)}\n")
            self.stream.flush()

    def watch(self, client: object) -> None:
        """Show what this client counts, if it counts anything."""
        if isinstance(client, _Counting):
            self._counts = client.counters

    @contextmanager
    def stage(self, name: str, total: int, *, done: int = 0) -> Iterator[Line]:
        """Show a stage of `total` items, `done` of which were done by earlier commands, while the block runs."""
        line = Line(name, total, done, done_before=done)
        if self.quiet or total == 0:
            yield line
            return
        with _Drawing(lambda: self._drawer(line), self._interval_s()):
            yield line

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Line]:
        """Show what is over at once in most runs: nothing of it is drawn within two seconds.

        Args:
            total: how many items there are; 0 where that is not known before. What is not advanced shows its time.
        """
        line = Phase(name, total)
        if self.quiet:
            yield line
            return
        with _Drawing(lambda: self._drawer(line), self._interval_s(), _PATIENCE_S):
            yield line
            line.done = line.done or total

    def _drawer(self, line: Line) -> Drawer:
        return self._bar(line) if self._live else _Plain(line, self._tell)

    def _interval_s(self) -> float:
        return _DRAW_S if self._live else self.every_s

    def _bar(self, line: Line) -> Drawer:
        return _Bar(line, self.stream, lambda: ", ".join(facts(line, self._counts)))

    def _tell(self, line: Line) -> None:
        parts = [f"{line.stage}: {line.state()}", *speed(line), *facts(line, self._counts)]
        self.stream.write(", ".join(parts) + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Stop watching; every stage has put its line away itself."""
        self._counts = None


def speed(line: Line) -> list[str]:
    """How fast the stage is and how long the rest takes, once that is known."""
    rate, left_s = line.rate(), line.left_s()
    if not rate or left_s is None:
        return []
    return [f"{rate:.1f}/s", *([f"{duration(left_s)} left"] if line.done < line.total else [])]


def facts(line: Line, counts: Counts | None) -> list[str]:
    """What else there is to say: in flight, retries, failures by kind, tokens, money; zeros are left out."""
    parts = []
    if counts is not None:
        parts += [f"{counts.in_flight} in flight"] if counts.in_flight else []
        parts += [f"{counts.reused:,} from the ledger"] if counts.reused else []
        parts += [f"{counts.retries:,} retries"] if counts.retries else []
    parts += [f"{kind} {count:,}" for kind, count in line.failures.most_common()]
    if counts is not None:
        tokens = counts.prompt_tokens + counts.completion_tokens
        parts += [f"{short_number(tokens)} tokens"] if tokens else []
        parts += [f"${counts.cost_usd:.4f}{'+' if counts.unpriced else ''}"] if counts.cost_usd else []
        parts += [trouble] if (trouble := counts.trouble()) else []
    return parts


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short_number(count: int) -> str:
    """A count as `950`, `12.3k` or `4.1M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 999_950 else f"{count / 1e6:.1f}M"


class Drawer(Protocol):
    """Something that can be drawn again and again, and put away."""

    def draw(self, *, last: bool = False) -> None:
        """Draw the present state; the last time before it is put away."""
        ...


class _Plain:
    def __init__(self, line: Line, tell: Any) -> None:
        self._line, self._tell = line, tell
        self._told: tuple[int, int] | None = None

    def draw(self, *, last: bool = False) -> None:
        state = self._line.done, self._line.failures.total()
        if not last or state != self._told:  # a stage that an error ends at once has nothing new to say
            self._tell(self._line)
        self._told = state


class _Bar:
    """A live line by rich; made only on a terminal."""

    def __init__(self, line: Line, stream: TextIO, tail: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._line, self._tail = line, tail
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TextColumn("{task.fields[tail]}"),
            console=Console(file=stream),
            auto_refresh=False,
        )
        total = line.total or None  # None: the bar only moves
        self._task = self._bar.add_task(line.stage, total=total, completed=line.done, state="", tail="")
        self._bar.start()

    def draw(self, *, last: bool = False) -> None:
        tail = ", ".join([*speed(self._line), *([text] if (text := self._tail()) else [])])
        self._bar.update(self._task, completed=self._line.done, state=self._line.state(), tail=tail)
        self._bar.refresh()
        if last:
            self._bar.stop()


class _Drawing:
    """Draws at once or after some patience, then in a thread at every interval, and a last time at the end."""

    def __init__(self, make: Callable[[], Drawer], interval_s: float, patience_s: float = 0.0) -> None:
        self._make, self._interval_s, self._patience_s = make, interval_s, patience_s
        self._drawer: Drawer | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="safetyqc-progress", daemon=True)

    def _run(self) -> None:
        if self._drawer is None and not self._ended.wait(self._patience_s):
            self._draw()
        while not self._ended.wait(self._interval_s):
            self._draw()

    def _draw(self, *, last: bool = False) -> None:
        with contextlib.suppress(OSError):  # a terminal that went away must not cost what is being saved
            self._drawer = self._drawer or self._make()
            self._drawer.draw(last=last)

    def __enter__(self) -> None:
        if not self._patience_s:
            self._draw()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._drawer:
            self._draw(last=True)


_SHOWN: ContextVar[Progress | None] = ContextVar("safetyqc_progress", default=None)


def shown() -> Progress:
    """The progress of the command that runs; elsewhere one that shows nothing."""
    return _SHOWN.get() or Progress(quiet=True)


def is_hushed() -> bool:
    """Whether the command that runs was asked to be quiet."""
    progress = _SHOWN.get()
    return progress is not None and progress.quiet


@contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """Let everything that the block calls show its phases there."""
    token = _SHOWN.set(progress)
    try:
        yield
    finally:
        _SHOWN.reset(token)
