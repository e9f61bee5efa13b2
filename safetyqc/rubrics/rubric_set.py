"""A rubric set: the criteria that are judged together, when a conversation passes, and the words for classifying.

`load_rubric_set` reads one from the package or from the user's own files. `passed` is three
valued. An unscored criterion leaves a conversation open (None) unless what is known already decides it, so a judge's
failures can never look like passes or fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field

from safetyqc.errors import ConfigError, UserError, choose_from
from safetyqc.formats.yaml_file import LOADER, read_yaml
from safetyqc.records import Intent, Record, Score, content_hash
from safetyqc.rubrics.criterion import Criterion, Name, Text

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT_SET = "safety"


class MinScore(Record):
    """A conversation passes when the weighted mean of its levels' scores reaches `min_score`."""

    min_score: float = Field(gt=0, le=1)


PassRule = Literal["all"] | MinScore


class SetFile(Record):
    """A set as its YAML file tells it; criteria are named, and stand in files beside it or in the package."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    version: int = Field(ge=1)
    title: Text
    criteria: Annotated[tuple[Name, ...], Field(min_length=1)]
    pass_when: PassRule = "all"
    categories: Annotated[Mapping[Name, Text], Field(min_length=1)]
    intents: Annotated[Mapping[Intent, Text], Field(min_length=1)]


@dataclass(frozen=True)
class RubricSet:
    """Criteria, in order, and the rule that makes one verdict of their scores.

    Args:
        categories: what each category means, for judges that must classify imported data.
        intents: likewise.
    """

    id: str
    version: int
    title: str
    criteria: tuple[Criterion, ...]
    pass_when: PassRule = "all"
    categories: Mapping[str, str] = field(default_factory=dict)
    intents: Mapping[Intent, str] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """16 hex digits over everything that can change a verdict; titles cannot, so they are left out."""
        rule = self.pass_when if self.pass_when == "all" else self.pass_when.model_dump()
        criteria = [c.model_dump(mode="json", exclude={"title"}) for c in self.criteria]
        words = [dict(self.categories), dict(self.intents)]
        return content_hash([self.id, self.version, criteria, rule, words])[:16]

    def criterion(self, name: str) -> Criterion:
        """The criterion of this id.

        Raises:
            UserError: the set has none of that id.
        """
        found = next((c for c in self.criteria if c.id == name), None)
        if found is None:
            fix = choose_from(name, [c.id for c in self.criteria])
            raise UserError(f"no criterion {name!r} in rubric set {self.id!r}", fix=fix)
        return found

    def only(self, names: Iterable[str]) -> RubricSet:
        """The same set with these criteria alone: for asking a part of it (its hash is another one)."""
        wanted = set(names)
        return replace(self, criteria=tuple(c for c in self.criteria if c.id in wanted))

    def applicable(self, category: str | None, intent: Intent | None) -> tuple[Criterion, ...]:
        """Criteria that are asked, or may be asked, of such a conversation; None means not known yet."""
        return tuple(c for c in self.criteria if c.applicability(category, intent) != "never")

    def passed(self, scores: Iterable[Score]) -> bool | None:
        """Make one verdict of all scores.

        False once a gate or the rule is failed, whatever else is unscored; None when an unscored or absent criterion
        could still turn it, and when nothing applied at all, for then nothing was shown.
        """
        by_id = {s.criterion: s for s in scores}
        asked = [(c, s) for c in self.criteria if (s := by_id.get(c.id)) is None or s.outcome != "na"]
        failed = [c for c, s in asked if s and s.outcome == "fail"]
        if any(c.gate for c in failed):
            return False
        if not asked:
            return None
        is_open = any(s is None or s.outcome == "unscored" for c, s in asked if c.gate or self.pass_when == "all")
        if self.pass_when == "all":
            return False if failed else None if is_open else True
        worst, best = _bounds(asked)
        if best < self.pass_when.min_score:
            return False
        return True if worst >= self.pass_when.min_score and not is_open else None


def _bounds(asked: list[tuple[Criterion, Score | None]]) -> tuple[float, float]:
    """Lowest and highest weighted mean that the unscored criteria leave possible."""
    total = sum(c.weight for c, _ in asked)
    known = sum(c.weight * _value(s) for c, s in asked if s and s.outcome != "unscored")
    unknown = sum(c.weight for c, s in asked if s is None or s.outcome == "unscored")
    return known / total, (known + unknown) / total


def _value(score: Score) -> float:
    """The level's score; a judge without levels (a recorded one) gives 1 for pass and 0 for fail."""
    return score.value if score.value is not None else float(score.outcome == "pass")


def bundled() -> Traversable:
    """The folder of the package's own rubric files."""
    return files("safetyqc.rubrics")


def bundled_files(name: str | None = None) -> list[str]:
    """Names of the package's own rubric files, the default set first; with a set's name of that set alone."""
    if name is not None:
        return [f"{name}.yaml", *(f"{c}.yaml" for c in read_yaml(bundled() / f"{name}.yaml", SetFile).criteria)]
    names = sorted(entry.name for entry in bundled().iterdir() if entry.name.endswith(".yaml"))
    return sorted(names, key=lambda found: found != f"{DEFAULT_SET}.yaml")


def bundled_sets() -> list[str]:
    """Names of the package's own sets, the default first."""
    return [name.removesuffix(".yaml") for name in bundled_files() if is_set(bundled() / name)]


def load_rubric_set(name_or_path: str | Path = DEFAULT_SET) -> RubricSet:
    """Load a set: the package's by name, or a set file, a folder that holds one, or a single criterion file.

    A criterion file alone is judged as a set of one, with the package's words for categories and intents.

    Raises:
        ConfigError: a file does not fit; names file, line, key and a fix.
        UserError: no such set.
    """
    path = find_rubric(name_or_path)
    return _packaged(path.name) if path == bundled() / path.name else _read_set(path)


@cache
def _packaged(file_name: str) -> RubricSet:
    return _read_set(bundled() / file_name)


def _read_set(path: Path | Traversable) -> RubricSet:
    if not is_set(path):
        criterion = read_criterion(path)
        base = read_yaml(bundled() / f"{DEFAULT_SET}.yaml", SetFile)
        return RubricSet(
            criterion.id, criterion.version, criterion.title, (criterion,), "all", base.categories, base.intents
        )
    told = read_yaml(path, SetFile)
    criteria = tuple(read_criterion(criterion_path(path, name, n)) for n, name in enumerate(told.criteria))
    check_words(told, criteria, path)
    return RubricSet(told.id, told.version, told.title, criteria, told.pass_when, told.categories, told.intents)


def find_rubric(name_or_path: str | Path) -> Path | Traversable:
    """Find the file that a name, a file's path or a folder's path means.

    Raises:
        UserError: nothing is found, or a folder holds no set or several.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _set_in(path)
    packaged = bundled() / f"{name_or_path}.yaml"
    if "/" not in str(name_or_path) and packaged.is_file():
        return packaged
    names = [name.removesuffix(".yaml") for name in bundled_files()]
    raise UserError(
        f"no rubric {str(name_or_path)!r}", fix=f"give a path, or a name: {choose_from(str(name_or_path), names)}"
    )


def _set_in(folder: Path) -> Path:
    sets = [path for path in sorted(folder.glob("*.yaml")) if is_set(path)]
    if len(sets) != 1:
        found = ", ".join(path.name for path in sets) or "none"
        raise UserError(
            f"a rubric folder must hold one set file, found {found}",
            where=str(folder),
            fix="name the file itself, or start from `safetyqc rubrics copy FOLDER`",
        )
    return sets[0]


def is_set(path: Path | Traversable) -> bool:
    """Whether a rubric file names criteria (a set), or is one."""
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return False  # the reader that follows tells what is wrong, and where
    return isinstance(data, dict) and "criteria" in data


def read_criterion(path: Path | Traversable) -> Criterion:
    """Read one criterion file, whose name must be the criterion's id.

    Raises:
        ConfigError: the file does not fit.
    """
    criterion = read_yaml(path, Criterion)
    if path.name != f"{criterion.id}.yaml":
        raise ConfigError(
            f"id {criterion.id!r} does not fit the file's name",
            where=f"{path} (id)",
            fix=f"rename the file to {criterion.id}.yaml, or the id to {path.name.removesuffix('.yaml')!r}",
        )
    return criterion


def criterion_path(set_path: Path | Traversable, name: str, position: int) -> Path | Traversable:
    """Find the file of a criterion that a set names: beside the set, else in the package.

    Raises:
        ConfigError: neither has it.
    """
    folder = set_path.parent if isinstance(set_path, Path) else bundled()
    for place in (folder, bundled()):
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    near = {entry.name.removesuffix(".yaml") for entry in (*folder.iterdir(), *bundled().iterdir())}
    known = [name for name in near if (bundled() / f"{name}.yaml").is_file() or (folder / f"{name}.yaml").is_file()]
    raise ConfigError(
        f"no file for criterion {name!r}",
        where=f"{set_path} (criteria[{position}])",
        fix=choose_from(name, [k for k in known if k not in bundled_sets()]),
    )


def check_words(told: SetFile, criteria: tuple[Criterion, ...], path: Path | Traversable) -> None:
    """Refuse a criterion that applies to a category or intent which a classifying judge could never choose."""
    for criterion in criteria:
        applies = criterion.applies_to
        for name, known in [(c, told.categories) for c in applies.categories or ()] + [
            (i, told.intents) for i in applies.intents
        ]:
            if name not in known:
                raise ConfigError(
                    f"criterion {criterion.id!r} applies to {name!r}, which the set does not name",
                    where=f"{path} ({'intents' if known is told.intents else 'categories'})",
                    fix=f"add {name!r} there with its meaning; {choose_from(name, known)}",
                )
