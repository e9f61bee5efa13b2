"""What the documents say can be typed and followed: command lines parse, links resolve, docs/cli.md is fresh."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from safetyqc.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
INLINE = re.compile(r"`(safetyqc [^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SHELLS = ("bash", "sh", "console", "shell", "")
END_OF_COMMAND = frozenset(("|", "||", "&&", ";", ">", ">>", "<", "2>", "&"))
# A machine's own folders, and where packages came from on it
FORBIDDEN = re.compile(
    r"(?<![\w.~/-])/(?:work|tmp|root|home)/|\b(?:127\.0\.0\.1|localhost):\d+/(?:simple|pypi)|index-url"
)


def command_lines(page: Path) -> Iterator[tuple[str, bool]]:
    """(command line, whether it stands in a block to be copied)."""
    text = page.read_text(encoding="utf-8")
    for _, language, body in FENCE.findall(text):
        if language in SHELLS:
            for line in body.replace("\\\n", " ").splitlines():
                if re.match(r"^\s*(\$ )?(\w+=\S+ )*safetyqc\b", line):
                    yield line.strip().removeprefix("$ "), True
    for line in INLINE.findall(FENCE.sub("", text)):
        yield line, False


def words_of(line: str) -> list[str]:
    """The words of the first safetyqc command of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    words = words[words.index("safetyqc") + 1 :]
    return words[: next((i for i, word in enumerate(words) if word in END_OF_COMMAND), len(words))]


@cache
def commands() -> Any:
    """The commands as click has them."""
    return get_command(app)


def parse(words: list[str], *, whole: bool) -> None:
    """Parse as the real command line does, without running anything; `whole` also asks for required arguments."""
    command = commands()
    while True:
        context = command.make_context("safetyqc", list(words), resilient_parsing=not whole and not words)
        if not hasattr(command, "commands"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        _, command, words = command.resolve_command(context, rest)
        if not whole:
            unknown = [w for w in words if w.startswith("-") and not known(command, w)]
            assert not unknown, f"no such flag: {unknown}"
            if not hasattr(command, "commands"):
                return


def known(command: Any, flag: str) -> bool:
    if hasattr(command, "commands") or flag == "-" or flag in ("-h", "--help"):
        return True
    options = {name for parameter in command.params for name in parameter.opts}
    return flag.split("=")[0] in options


LINES = [(str(p.relative_to(ROOT)), line, copied) for p in PAGES for line, copied in command_lines(p)]


def test_the_documents_show_commands() -> None:
    assert len(LINES) > 30


@pytest.mark.parametrize(("page", "line", "copied"), LINES)
def test_every_command_line_in_the_documents_parses(page: str, line: str, copied: bool) -> None:
    words = words_of(line)
    asks_for_help = bool(set(words) & {"-h", "--help", "--version"})
    words = [w for w in words if w not in ("...", "…", "-h", "--help", "--version")]
    parse(words, whole=copied and not asks_for_help)


@pytest.mark.parametrize(
    "line", ["safetyqc judg x", "safetyqc check", "safetyqc check x --jsn", "safetyqc run -n many"]
)
def test_a_wrong_command_line_would_be_found(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|Missing|Input should be"):
        parse(words_of(line), whole=True)


# A command as messages name one: in backticks or brackets, or at the start of what is said
NAMED = re.compile(r"(?:^|[`(]|: )safetyqc ([a-z]\S*)(?: ([a-z][a-z-]*)\b)?", re.M)


def said_by(module: Path) -> Iterator[str]:
    """The strings of a module; what is filled in is left as a gap."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def test_every_command_that_a_message_names_exists() -> None:
    group: Any = get_command(app)
    found = {
        named
        for module in (ROOT / "safetyqc").rglob("*.py")
        for text in said_by(module)
        for named in NAMED.findall(text)
    }
    assert len(found) > 30
    for name, second in found:
        name = re.split(r"[\0`,.)]", name)[0]
        assert name in group.commands, f"safetyqc {name}: no such command"
        inside = {} if name == "judge" else getattr(group.commands[name], "commands", {})  # judge takes a file too
        assert not inside or not second or second in inside, f"safetyqc {name} {second}: no such command"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_to_files_and_headings_resolve(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), f"{target} leads nowhere"
        if heading and path.suffix == ".md":
            assert heading in anchors(path), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        todo += [(page.parent / t.partition("#")[0]).resolve() for t in LINK.findall(page.read_text(encoding="utf-8"))]
    assert {p.resolve() for p in (ROOT / "docs").rglob("*.md")} <= {p.resolve() for p in seen}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert not FORBIDDEN.findall(page.read_text(encoding="utf-8"))


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    tests = ROOT / "tests"
    file = tests / "README.md"
    for name, test in re.findall(r"`([\w/]+\.py)?(?:::)?(test_\w+)?`", file.read_text(encoding="utf-8")):
        if name:
            file = tests / name.removeprefix("tests/")
            assert file.is_file(), name
        if test:
            where = [file] if name or file.suffix == ".py" else []
            assert any(f"def {test}(" in path.read_text(encoding="utf-8") for path in where), f"{file}: {test}"


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("write_cli_docs", ROOT / "scripts" / "write_cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == module.render(), "stale: run `python scripts/write_cli_docs.py`"
