"""What commands say: results on stdout, everything else on stderr, and always what to type next."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import textwrap
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from safetyqc.errors import OutputError
from safetyqc.text import HIDDEN, reveal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.pipeline.stages import Tally


NOTHING_CHANGED = "no file and no run was changed"
"""What is said when Ctrl-C ends a command that had nothing to save yet."""
_quiet = False


def be_quiet(quiet: bool) -> None:
    """Say nothing but errors and the result from now on, or everything again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether the command was asked to be."""
    return _quiet


def note(text: str = "") -> None:
    """Say something that is not the result; what could drive the terminal, or hide in it, is shown as its code.

    Broken between words on a terminal, which would break inside them.
    """
    if not _quiet:
        typer.echo(_broken(reveal(text)) if sys.stderr.isatty() else reveal(text), err=True)


def complain(text: str) -> None:
    """Say what went wrong, also where everything else is quiet; a command in it stays in one piece."""
    typer.echo(reveal(text), err=True)


def result(text: str) -> None:
    """Print a line of the result, as `note` says what is none."""
    typer.echo(reveal(text))


def _broken(text: str) -> str:
    width = max(shutil.get_terminal_size().columns, 40)
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        wide = textwrap.TextWrapper(
            width, subsequent_indent=indent + "  ", break_long_words=False, break_on_hyphens=False
        )
        lines += wide.wrap(line) or [""]
    return "\n".join(lines)


def show(renderable: Any) -> None:
    """Print a rich renderable as the result; plain text, without the padding of tables, when stdout is no terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(renderable)
        return
    drawn = StringIO()
    width = shutil.get_terminal_size(fallback=(100, 24)).columns  # COLUMNS where it is set
    Console(file=drawn, width=width, highlight=False).print(renderable)
    typer.echo("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()))


def show_json(value: Any) -> None:
    """Print a JSON value as the result; what could drive a terminal, or hide in it, is escaped."""
    typer.echo(escaped(json.dumps(value, ensure_ascii=False, indent=2)))


def escaped(text: str) -> str:
    """JSON of the same value in which every character can be seen."""
    return HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def next_step(*commands: str) -> None:
    """Say what to type next; nothing where there is nothing."""
    if commands and not _quiet:
        typer.echo("next:  " + "\n       ".join(commands), err=True)


_DONE = {"filter": "pass", "dedup": "stay", "rewrite": "kept", "augment": "kept", "import": "new", "labels": "new"}
"""What became of the conversations that a stage counts as done; any other stage just did them."""
_LEFT = {
    "filter": "rejected",
    "judge": "criteria unscored",
    "dedup": "dropped",
    "rewrite": "not kept",
    "augment": "not kept",
}
"""What a stage counts as failed: of a judge single criteria, not whole conversations."""


def say(tally: Tally) -> None:
    """Tell one line of what a stage did."""
    stage = tally.stage.split()[0]
    parts = [f"{tally.done:,} {_DONE.get(stage, 'done')}"]
    if tally.already:
        parts.append(f"{tally.already:,} already {'there' if stage in ('import', 'labels') else 'done'}")
    if tally.changed:
        parts.append(f"{tally.changed:,} changed")
    if tally.failed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(tally.failed.items(), key=lambda x: -x[1]))
        left = _LEFT.get(stage, "without a result")
        left = left.replace("criteria", "criterion") if tally.missing == 1 else left
        parts.append(f"{tally.missing:,} {left} ({kinds})")
    if tally.waiting:
        parts.append(f"{tally.waiting:,} wait for a batch")
    note(f"{tally.stage}: " + "; ".join(parts))
    for line in tally.told:
        note(f"  {line}")


def in_run(config: Config) -> str:
    """The flags that a follow-up command needs to mean the same run and settings: none for the default ones."""
    return config.flags


def typed_flags(given: Mapping[str, object]) -> str:
    """Flags as they are typed in a follow-up command: a list repeats its flag, True has no value, None is no flag."""
    words: list[str] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            words += [name] if one is True else [name, str(one)] if one else []
    return "".join(f" {shlex.quote(word)}" for word in words)


def typed(file: str) -> str:
    """A file as it is typed in a follow-up command; what came from stdin is gone, so there it is only named."""
    return "FILE" if file == "-" else shlex.quote(file)


def tell_skipped(read: ReadResult) -> None:
    """Say what was left out of a file."""
    note(f"{read.path}: skipped {len(read.skipped):,} of {len(read.skipped) + len(read.conversations):,} lines")
    for bad in read.skipped[:5]:
        note(f"  {bad.path}:{bad.line}: {bad.what}")
    if len(read.skipped) > 5:
        name = typed("-" if read.path == "stdin" else read.path)
        note(f"  and {len(read.skipped) - 5:,} more: safetyqc check {name} --skip-bad-lines")


def write_jsonl(path: Path, lines: Iterable[str], noun: str) -> None:
    """Write JSON lines to a file, whole or not at all; `-` is stdout, where then nothing else is printed."""
    if str(path) == "-":
        for line in lines:
            typer.echo(escaped(line))
        return
    from safetyqc.formats.opened import name_of
    from safetyqc.formats.writing import write_lines
    from safetyqc.text import counted

    note(f"wrote {counted(write_lines(path, lines), noun)} to {name_of(path)}")


_PAGES = ("--html", "--md", "--csv")
_DATA = (".jsonl", ".json", ".gz", ".parquet", ".yaml", ".yml")
"""What a page never replaces: nobody means to, and a flag too many in a line would cost the data."""


def refuse_overwriting(
    outputs: Mapping[str, Path | None], *inputs: str | Path | None, config: Config | None = None
) -> None:
    """Refuse outputs that would destroy something, before any work is done.

    Args:
        outputs: paths by the flag that gave them.
        inputs: what the command reads, beside the files that the configuration names.

    Raises:
        OutputError: an output is an input, a file of a run, the same as another output, or a page over a data file.
    """
    read_from = {_real(name) for name in (*inputs, *_files_of(config)) if name and str(name) != "-"}
    taken: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None or (flag == "--jsonl" and str(path) == "-"):
            continue
        target = _real(path)
        if target.exists() and not target.is_file():
            continue  # /dev/stdout, a pipe: nothing there can be lost
        if target in read_from and target.exists():
            what = "would replace what this command reads"
        elif _is_of_run(target, config):
            what = "would replace a file of the run"
        elif target in taken:
            what = f"{taken[target]} is to be written there too"
        elif flag in _PAGES and target.suffix in _DATA and target.exists():
            what = "is there already, and is data rather than a page"
        else:
            taken[target] = flag
            continue
        raise OutputError(what, where=f"{flag} {path}", fix=f"give {flag} another path")


def _real(path: str | Path) -> Path:
    from safetyqc.formats.opened import name_of

    return Path(os.path.realpath(name_of(path) if str(path).startswith("file:") else path))


def _files_of(config: Config | None) -> Iterator[str]:
    """Everything in the configuration that may name a file, also behind a judge's kind (`recorded:FILE`)."""
    from safetyqc.config import FILE_NAME

    yield FILE_NAME
    left: list[Any] = [config.model_dump(exclude={"run": True, "export": True})] if config else []
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value
        elif isinstance(value, (str, Path)):
            yield from (str(value), str(value).partition(":")[2])


def _is_of_run(target: Path, config: Config | None) -> bool:
    from safetyqc.store.file import FILE_NAME

    if not (target.name.startswith(FILE_NAME) or target.name == "lock"):
        return False
    return (target.parent / FILE_NAME).exists() or (config is not None and target.parent == _real(config.run))
