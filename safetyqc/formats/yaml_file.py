"""Reads a YAML file that a person wrote into a Record; every mistake is reported with its line, its key and a fix.

Nothing here knows what the file is about: the record type says what is valid. A validator
may raise `Misfit` to point at an entry deeper than itself. A key written twice is an error; YAML would keep the last.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from safetyqc.errors import ConfigError, choose_from

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pydantic_core import ErrorDetails

R = TypeVar("R", bound=BaseModel)
# The C loader reads a long file ten times faster; wheels of PyYAML hold it, source builds may not
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Location = tuple[int | str, ...]
_MOST_ENTRIES = 200_000
_NO_SUCH_VALUE = (ValueError, OverflowError, AttributeError, LookupError, TypeError)
"""What PyYAML raises for text that is not of the kind it is said to be: `!!int abc`, `!!timestamp x`, `!!bool so`."""


class Misfit(ValueError):
    """Raised in a record's validator: entries that are each valid and do not fit together.

    Args:
        what: the problem, with the offending value.
        at: keys and 0-based list positions from the validated record down to the entry.
        fix: one sentence on how to mend it.
    """

    def __init__(self, what: str, *, at: Location = (), fix: str | None = None) -> None:
        self.what, self.at, self.fix = what, at, fix
        super().__init__(what)


def read_yaml(path: Path | Traversable, model: type[R]) -> R:
    """Read a file as one record.

    Raises:
        ConfigError: the file is absent, is not YAML, or does not fit the record; names file, line, key and a fix.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), fix="save it as UTF-8") from error
    return parse_yaml(text, model, where=str(path))


def parse_yaml(text: str, model: type[R], *, where: str) -> R:
    """Read YAML text as one record; `where` names it in errors, which are those of `read_yaml`."""
    loader = LOADER(text)
    node: yaml.Node | None = None
    try:
        node = loader.get_single_node()
        _refuse_unreadable(node, where)
        data = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise _syntax_error(error, where) from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply", where=where, fix="write it flatter") from error
    except _NO_SUCH_VALUE as error:
        raise _impossible(error, node, where) from error
    finally:
        loader.dispose()
    if node is None or not isinstance(data, dict):
        kind = "is empty" if data is None else f"holds a {type(data).__name__}"
        raise ConfigError(f"{kind} where a mapping should be", where=where, fix=_known(model))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _misfit(error, model, node, where) from error


def _syntax_error(error: yaml.YAMLError, where: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be parsed"
    place = f"{where}:{mark.line + 1}" if mark else where
    return ConfigError(f"is not valid YAML: {problem}", where=place, fix="check indentation, colons and quotes there")


def _impossible(error: Exception, node: yaml.Node | None, where: str) -> ConfigError:
    """Word a value that is none of its kind, by the first that cannot be made."""
    for scalar in _scalars(node):  # what failed before keeps a loader from trying again
        try:
            LOADER("").construct_object(scalar)
        except _NO_SUCH_VALUE as found:
            told = (
                f": {found}"
                if isinstance(found, (ValueError, OverflowError))
                else f" as {scalar.tag.rpartition(':')[2]}"
            )
            what = f"{_short(scalar.value)} cannot be read{told}"
            return ConfigError(
                what, where=f"{where}:{scalar.start_mark.line + 1}", fix="correct it, or put it in quotes"
            )
    return ConfigError(f"cannot be read: {error}", where=where)


def _scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    for child in _children(node):
        yield from _scalars(child)


def _children(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_unreadable(root: yaml.Node | None, where: str) -> None:
    """Refuse keys that stand twice, and aliases that hold themselves or write out to more than anybody typed.

    Every node is looked at once: nine lines of aliases to aliases stand for a billion entries.
    """
    sizes: dict[int, int | None] = {}

    def size_of(node: yaml.Node) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise _refused("an alias holds itself", node, where, "write out what it stands for")
        if known:
            return known
        sizes[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node, where)
        size = sizes[id(node)] = 1 + sum(map(size_of, _children(node)))
        if size > _MOST_ENTRIES:
            raise _refused(f"aliases stand for more than {_MOST_ENTRIES:,} entries", node, where, "write fewer of them")
        return size

    if root is not None:
        size_of(root)


def _refused(what: str, node: yaml.Node, where: str, fix: str) -> ConfigError:
    return ConfigError(what, where=f"{where}:{node.start_mark.line + 1}", fix=fix)


def _refuse_repeated_keys(node: yaml.MappingNode, where: str) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):  # any other key is refused when the node is constructed
            line = key.start_mark.line + 1
            if key.value in seen:
                what = f"key {key.value!r} stands twice (first in line {seen[key.value]})"
                raise ConfigError(what, where=f"{where}:{line}", fix="keep one of the two")
            seen[key.value] = line


def _misfit(error: ValidationError, model: type[BaseModel], node: yaml.Node, where: str) -> ConfigError:
    details = error.errors(include_url=False)
    # A mistyped key is also a missing one; the typo is the better explanation
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    at = tuple(part for part in first["loc"] if part != "[key]")
    what, fix = _explain(first, at, model)
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, Misfit):
        at, what, fix = at + inner.at, inner.what, inner.fix
    if len(details) > 1:
        what += f" (and {len(details) - 1} more)"
    return ConfigError(what, where=f"{where}:{_line(node, at)}" + (f" ({_dotted(at)})" if at else ""), fix=fix)


def _explain(detail: ErrorDetails, at: Location, model: type[BaseModel]) -> tuple[str, str | None]:
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        owner = _model_at(model, at[:-1])
        return f"unknown key {at[-1]!r}", choose_from(str(at[-1]), owner.model_fields) if owner else None
    if kind == "missing":
        return f"key {at[-1]!r} is missing", f"add `{at[-1]}:` here"
    if kind == "literal_error":
        return f"unknown value {value!r}", choose_from(str(value), re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    message = detail["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}, got {_short(value)}", None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known(model: type[BaseModel]) -> str:
    return "top-level keys: " + ", ".join(model.model_fields)


def _dotted(at: Location) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")


def _line(node: yaml.Node, at: Location) -> int:
    """Find the 1-based line of an entry, or of the deepest parent that exists."""
    line: int = node.start_mark.line + 1
    for part in at:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is None:
                return line
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _model_at(annotation: Any, at: Location) -> type[BaseModel] | None:
    """Follow keys and positions through the annotations down to the record that stands there."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not at:
            return annotation
        field = annotation.model_fields.get(str(at[0]))
        return _model_at(field.annotation, at[1:]) if field else None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and at and issubclass(origin, (Mapping, Sequence)):
        return _model_at(arguments[-1] if issubclass(origin, Mapping) else arguments[0], at[1:])
    return next((found for part in arguments if (found := _model_at(part, at))), None)
