"""Lists, checks and copies rubric files, for people who write their own.

`validate_rubrics` gathers every mistake of every file instead of stopping at the first. Advice (a level that no
example shows) is told apart from errors, so a rubric under construction can still be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetyqc.errors import ConfigError, UserError, choose_from
from safetyqc.formats.writing import write_text
from safetyqc.formats.yaml_file import read_yaml
from safetyqc.rubrics.rubric_set import (
    DEFAULT_SET,
    SetFile,
    bundled,
    bundled_files,
    bundled_sets,
    check_words,
    criterion_path,
    find_rubric,
    is_set,
    read_criterion,
)

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from safetyqc.rubrics.criterion import Criterion

_FEW_EXAMPLES = 1


@dataclass(frozen=True)
class RubricProblem:
    """Something about a rubric file: an error makes it unusable, advice does not."""

    severity: Literal["error", "advice"]
    what: str
    where: str
    fix: str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}" + (f"\n  fix: {self.fix}" if self.fix else "")


def validate_rubrics(path: str | Path) -> list[RubricProblem]:
    """Check a set with all its criteria, every file of a folder, or one criterion; [] means flawless.

    Raises:
        UserError: there is no such file or folder.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        files: list[Path | Traversable] = [*sorted(folder.glob("*.yaml"))]
        if not files:
            raise UserError("no .yaml file here", where=str(path), fix="`safetyqc rubrics copy FOLDER` makes a start")
    else:
        files = _with_criteria(find_rubric(path))
    return [problem for file in files for problem in _check(file)]


def _with_criteria(path: Path | Traversable) -> list[Path | Traversable]:
    if not is_set(path):
        return [path]
    files = [path]
    try:
        told = read_yaml(path, SetFile)
    except ConfigError:
        return files
    for position, name in enumerate(told.criteria):
        try:
            files.append(criterion_path(path, name, position))
        except ConfigError:
            continue  # told when the set itself is checked
    return files


def _check(path: Path | Traversable) -> list[RubricProblem]:
    try:
        if is_set(path):
            return _check_set(path)
        return _advice(read_criterion(path), str(path))
    except ConfigError as error:
        return [_as_problem(error)]


def _check_set(path: Path | Traversable) -> list[RubricProblem]:
    told = read_yaml(path, SetFile)
    problems: list[RubricProblem] = []
    criteria: list[Criterion] = []
    for position, name in enumerate(told.criteria):
        try:
            file = criterion_path(path, name, position)
        except ConfigError as error:
            problems.append(_as_problem(error))
            continue
        try:
            criteria.append(read_criterion(file))
        except ConfigError:
            continue  # its own file's check tells it
    try:
        check_words(told, tuple(criteria), path)
    except ConfigError as error:
        problems.append(_as_problem(error))
    return problems


def _as_problem(error: ConfigError) -> RubricProblem:
    return RubricProblem("error", error.what, error.where or "", error.fix)


def _advice(criterion: Criterion, where: str) -> list[RubricProblem]:
    found = []
    for level in criterion.levels:
        if sum(example.level == level.name for example in criterion.examples) < _FEW_EXAMPLES:
            found.append(
                RubricProblem(
                    "advice",
                    f"no example shows level {level.name!r}",
                    f"{where} (examples)",
                    "add one: judges copy what they see, and `safetyqc rubrics test` tests what stands there",
                )
            )
    passing = [level.score for level in criterion.levels if level.passes]
    failing = [level.score for level in criterion.levels if not level.passes]
    if min(passing) <= max(failing):
        what = f"a failing level scores {max(failing)} and a passing one {min(passing)}"
        found.append(RubricProblem("advice", what, f"{where} (levels)", "give passing levels the higher scores"))
    return found


def copy_rubrics(to: str | Path, name: str = DEFAULT_SET, *, force: bool = False) -> list[Path]:
    """Copy one of the package's sets into a folder, to be edited and used with --rubric.

    Raises:
        UserError: no such set.
        OutputError: a file is there already and `force` is False, or the folder cannot be written.
    """
    folder = Path(to).expanduser()
    if name not in bundled_sets():
        raise UserError(f"no rubric set {name!r}", fix=choose_from(name, bundled_sets()))
    copied = [folder / file for file in bundled_files(name)]
    for target in copied:
        with as_file(bundled() / target.name) as source:
            write_text(target, source.read_text(encoding="utf-8"), force=force)
    return copied
