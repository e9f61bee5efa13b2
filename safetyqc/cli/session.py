"""Calls what a command stands for: its progress and notes on stderr, and a clean stop that says how to go on."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from safetyqc.cli.output import NOTHING_CHANGED, in_run, is_quiet, next_step, note, say, tell_skipped
from safetyqc.errors import BudgetReached, Interrupted, UserError

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.pipeline.session import Session
    from safetyqc.reports.hints import Hints

T = TypeVar("T")


@contextmanager
def called(config: Config, *, saves: bool = True) -> Iterator[None]:
    """While the block runs, the command line hears what functions do; one that is stopped names the command to go on.

    Args:
        saves: whether what was done so far stays in the run; a command that only reads, or writes in one step, has
            nothing to save.

    Raises:
        Interrupted: with the command that resumes.
        BudgetReached: with the command that goes on.
    """
    from safetyqc.pipeline.loop import Listener, listening
    from safetyqc.pipeline.progress import Progress, showing

    try:
        with listening(Listener(say, note, tell_skipped, command())), showing(Progress(quiet=is_quiet())):
            yield
    except Interrupted as error:
        saved = f"everything answered is saved in {config.run}. Go on with" if saves else f"{NOTHING_CHANGED}. Again"
        raise Interrupted(f"stopped; {saved}:\n  {command()}") from error
    except BudgetReached as error:
        raise BudgetReached(
            f"{error}\n  everything answered is saved in {config.run}; go on with a higher --max-cost"
        ) from error
    except UserError as error:
        _say_which_run(error, config)
        raise


_OF_A_RUN = re.compile(
    r"`(safetyqc (?:import|filter|dedup|judge|generate|rewrite|augment|compare|report|export)\b[^`]*)`"
)


def _say_which_run(error: UserError, config: Config) -> None:
    """Let the commands of an error's fix mean the run that it is about; rooms below do not know how it was typed."""
    flags = in_run(config)
    if not error.fix or not flags:
        return

    def of_run(found: re.Match[str]) -> str:
        return found[0] if "--run" in found[1] or " guards" in found[1] else f"`{found[1]}{flags}`"

    fix = _OF_A_RUN.sub(of_run, error.fix)
    error.args = (str(error).replace(error.fix, fix),)
    error.fix = fix


def in_session(
    config: Config, work: Callable[[Session], Awaitable[T]], *, create: bool = False, quiet: bool = False
) -> T:
    """Open the run, do the work, close everything; Ctrl-C once lets what is in flight finish, twice cancels it."""
    from safetyqc.pipeline.loop import Opening, run_here
    from safetyqc.pipeline.loop import in_session as in_opened

    opening = Opening(config, create=create, quiet=quiet or is_quiet())
    with called(config):
        return run_here(lambda: in_opened(opening, work), note)


def read_files(
    names: Sequence[str], config: Config, *, skip_bad_lines: bool, apart: bool = False
) -> list[tuple[str, ReadResult]]:
    """Read conversation files, before anything is done with one of them; says what was left out.

    Args:
        apart: read folders file by file (see `readers.read_conversations`), so that memory does not grow with them.
    """
    from safetyqc.formats.sources import files_of, is_folder
    from safetyqc.pipeline.intake import read_data
    from safetyqc.pipeline.labelling import with_labels
    from safetyqc.pipeline.loop import Listener

    listener, how = Listener(say, note, tell_skipped), config.reading.how
    found = []
    for name in names:
        files = files_of(name) if apart and is_folder(name) else None
        read = read_data(name, listener, skip_bad=skip_bad_lines, how=how, only_files=files)
        found.append((name, with_labels(read, config)))
    return found


def hints_of(config: Config) -> Hints:
    """The next commands of a run, with the models that it remembers."""
    from safetyqc.reports.hints import Hints
    from safetyqc.store import Store
    from safetyqc.store.roles import read_cast

    with Store.read(config.run) as store:
        return Hints(read_cast(store), config.run, in_run(config))


def is_unjudged(config: Config) -> bool:
    """Whether the judge that decides has not seen something that nothing else speaks against."""
    from safetyqc.pipeline.stages import has_unjudged
    from safetyqc.store import Store

    with Store.read(config.run) as store:
        return has_unjudged(store)


def next_after_batch(config: Config) -> None:
    """Say what to type while something waits for a batch."""
    next_step(f"safetyqc batch collect{in_run(config)} --wait", f"{command()}  # uses the answers")


def command() -> str:
    """The command line that is running, ready to be typed again."""
    return shlex.join(["safetyqc", *sys.argv[1:]])
