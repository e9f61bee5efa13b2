"""The exceptions of safetyqc, and the exit code each of them ends a command with.

    SafetyqcError                 exit 1   a bug or a condition nobody planned for
    |-- UserError                 exit 2   something the user can mend: a flag, a file, a rubric, a key
    |   |-- InputError            exit 2   a line of a data file (carries path and line)
    |   |-- ConfigError           exit 2   safetyqc.yaml, taxonomy, rubric or filter file (path, line, key)
    |   |-- OutputError           exit 2   a file that cannot be written, or is there already
    |   |-- RunError              exit 2   a run folder: absent, of another version, in use, read-only, disk full
    |   `-- NotComparableError    exit 2   judges or runs whose numbers must not stand side by side
    |-- ModelError              a call to a model went wrong; becomes a Failure record, never a number
    |   `-- FatalModelError       exit 3   wrong key, no such model, no credit: the run stops at once, all saved
    |-- BudgetReached             exit 0   --max-cost stopped the run cleanly
    |-- Deferred                  exit 2   the answer comes with a batch, and this command cannot do without it
    `-- Interrupted               exit 130 the user pressed Ctrl-C; everything answered is saved

Every message says what (with the value), where (file, line, record) and how to mend it.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from safetyqc.records import FailureKind, Usage


class SafetyqcError(Exception):
    """Root of everything that safetyqc raises on purpose."""

    exit_code = 1

    def __reduce__(self) -> tuple[Callable[..., SafetyqcError], tuple[type[SafetyqcError], str, dict[str, Any]]]:
        """Arrive in another process as it was raised; Python would call the class with the message alone."""
        return _arrive, (type(self), str(self.args[0]) if self.args else "", vars(self))


def _arrive(kind: type[SafetyqcError], message: str, state: dict[str, Any]) -> SafetyqcError:
    error = kind.__new__(kind, message)
    vars(error).update(state)
    return error


class UserError(SafetyqcError):
    """Something that the user can mend.

    Args:
        what: the problem, with the offending value.
        where: file, line, key or record; None when the problem has no place.
        fix: one sentence: valid choices, nearest match, or the command to run.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(": ".join(part for part in (where, what) if part) + (f"\n  fix: {fix}" if fix else ""))


class InputError(UserError):
    """A record of a data file that cannot be read; `path` and `line` (1-based) say which."""

    def __init__(self, what: str, *, path: str | Path, line: int | None = None, fix: str | None = None) -> None:
        self.path, self.line = str(path), line
        super().__init__(what, where=f"{path}:{line}" if line else str(path), fix=fix)


class OutputError(UserError):
    """A file that cannot be written: no such folder, read-only, disk full, or there already."""


class ConfigError(UserError):
    """A hand-written YAML file (configuration, taxonomy, rubric, patterns) that says something impossible."""


class RunError(UserError):
    """A run folder that cannot be used as asked."""


class NotComparableError(UserError):
    """Two sets of numbers that do not describe the same thing."""


class ModelError(SafetyqcError):
    """One call to a model that gave no usable answer.

    Args:
        kind: the typed reason, which a Failure or an unscored Score carries on.
        reason: one line for people; never holds a key.
        retryable: the same request may succeed later.
        retry_after_s: what the server asked to wait, in seconds; None if it did not say.
        overload: the server said "too many" (429, 529): all tasks of this provider should slow down.
        unreachable: no connection came about: nobody listens there, or the host does not exist.
        status: the HTTP status, where there was one.
        about_item: this one request is at fault (too long), and says nothing about others.
        usage: what the server counted although it gave no answer: it was paid for.
    """

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        overload: bool = False,
        unreachable: bool = False,
        status: int | None = None,
        about_item: bool = False,
        usage: Usage | None = None,
    ) -> None:
        self.kind, self.reason = kind, reason
        self.retryable, self.retry_after_s, self.overload = retryable, retry_after_s, overload
        self.unreachable, self.status, self.about_item, self.usage = unreachable, status, about_item, usage
        super().__init__(f"{kind}: {reason}")


class FatalModelError(ModelError):
    """A call that no retry can mend and that every other call would repeat: wrong key, unknown model, no credit."""

    exit_code = 3

    def __init__(self, reason: str, *, fix: str | None = None) -> None:
        self.fix = fix
        super().__init__("provider_error", reason)

    def __str__(self) -> str:
        return self.reason + (f"\n  fix: {self.fix}" if self.fix else "")


class BudgetReached(SafetyqcError):
    """`--max-cost` was reached; what was answered is saved and the same command goes on later."""

    exit_code = 0


class Deferred(SafetyqcError):
    """The answer comes with a batch; a stage leaves what needs it to a later call, anything else ends here."""

    exit_code = 2


class Interrupted(SafetyqcError):
    """The user asked to stop; what was answered is saved."""

    exit_code = 130


def choose_from(value: str, choices: Iterable[str]) -> str:
    """Word the fix for an unknown name: the nearest match first, then the valid ones, as many as can be read."""
    names = sorted(choices)
    near = get_close_matches(value[:_LONGEST_NAME], names, n=1)
    shown = [name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…" for name in names[:_MOST_NAMES]]
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return (f"did you mean {near[0]!r}? " if near else "") + "valid: " + ", ".join(shown) + more


_MOST_NAMES, _LONGEST_NAME = 30, 100
