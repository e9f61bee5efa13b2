"""A reference set -> References: what a run's conversations must not repeat, each with its place in its file.

A reference is a single prompt or a whole conversation. Benchmarks come as CSV with a column of prompts, as one prompt a
line, or as JSON Lines; data that is already in a training mix comes as conversations. It reads all of these and
compares nothing. A record that is no conversation because nobody answers it is prompts here, while `readers` refuses
it; to whoever has them answered (`read_requests`) it is one conversation that ends with a request.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from safetyqc.errors import InputError
from safetyqc.formats.opened import STDIN, name_of, read_text
from safetyqc.formats.readers import iter_with_values
from safetyqc.formats.readers.exchanges import SYSTEM_KEYS, requested
from safetyqc.formats.readers.form import without
from safetyqc.formats.sources import holds_rows
from safetyqc.formats.turns import LISTS, Reading, is_list_of_turns, read_turns
from safetyqc.records import Conversation, Source
from safetyqc.results.findings import BadLine
from safetyqc.text import counted

PROMPT_KEYS = (
    "prompt",
    "forbidden_prompt",  # StrongREJECT
    "goal",  # AdvBench, JailbreakBench: beside it, `Behavior` is a short name
    "behavior",  # HarmBench
    "question",
    "instruction",
    "request",
    "query",
    "text",
    "input",
    "content",
)
"""Under which key or column a prompt is looked for, in this order; case does not matter."""
_MORE = ("input", "context", "contextstring")
"""What goes on under another key: an Alpaca instruction's input, a HarmBench behavior's context."""
_TURN_LISTS = ("messages", "conversations", "prompt", "turns")
_OPEN_FIX = "turns go from user to assistant in turn, and end with the request that is to be answered"
_END_OF_LINE = re.compile("\r\n|[\r\n]")  # and no other: a prompt may hold U+2028
_TABLES = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Reference:
    """One record of a reference set: a prompt or a whole conversation, and where it stands (`line` is 1-based).

    `key` is the column or key that the prompt was read from, where it has one; `record` is the whole of a prompt's row,
    and what a benchmark says of it. `later` is what the user goes on with once the prompt is answered.
    """

    content: str | Conversation
    path: str = ""
    line: int | None = None
    key: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    later: tuple[str, ...] = ()


def read_references(path: str | Path) -> list[Reference]:
    """Read prompts or conversations: tables, JSON, text with a prompt a line, also gzipped; Parquet, Arrow, a folder.

    Raises:
        InputError: the file cannot be read, holds nothing, or a record that is neither a prompt nor a conversation.
    """
    return _read(path, _from_json)


def read_requests(path: str | Path) -> list[Reference]:
    """Read what a model is to answer, from whatever `read_references` reads; a record of turns is one conversation.

    It ends with a request where nobody answers; its system message and what was said before are part of it.

    Raises:
        InputError: also where the turns of a record do not alternate.
    """
    return [_in_its_setting(request) for request in _read(path, _requests_from_json)]


def _read(path: str | Path, from_json: Callable[[str | Path], Iterator[Reference]]) -> list[Reference]:
    suffixes = PurePath(str(path)).suffixes
    table = next((suffix for suffix in suffixes if suffix.lower() in _TABLES), None)
    if table:
        found = list(_from_table(path, _TABLES[table.lower()]))
    elif (
        str(path) == STDIN
        or holds_rows(path)
        or any(suffix in (".json", ".jsonl") for suffix in suffixes)
        or _looks_like_json(path)
    ):
        found = list(from_json(path))
    else:
        found = list(_from_lines(path))
    if not found:
        raise InputError("holds no prompt and no conversation", path=name_of(path), fix="give a file with one a line")
    return found


def describe_references(references: Iterable[Reference]) -> list[str]:
    """Say of each file what was read of it: `JailbreakBench.csv: 100 prompts from Goal`."""
    found: dict[str, Counter[str]] = {}
    for reference in references:
        kind = "prompt" if isinstance(reference.content, str) else "conversation"
        source = f" from {reference.key}" if reference.key else ""
        found.setdefault(PurePath(reference.path).name, Counter())[f"{kind}|{source}"] += 1
    return [
        f"{name}: "
        + ", ".join(counted(n, what.partition("|")[0]) + what.partition("|")[2] for what, n in kinds.items())
        for name, kinds in found.items()
    ]


def _looks_like_json(path: str | Path) -> bool:
    return read_text(path).lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"')


def _from_lines(path: str | Path) -> Iterator[Reference]:
    for line, text in enumerate(_END_OF_LINE.split(read_text(path)), start=1):
        if prompt := text.strip("\ufeff \t"):
            yield Reference(prompt, name_of(path), line)


def _from_table(path: str | Path, delimiter: str) -> Iterator[Reference]:
    text = read_text(path).removeprefix("\ufeff")
    head = text.partition("\n")[0]
    if delimiter == "," and "," not in head and ";" in head:
        delimiter = ";"  # what spreadsheets write where the comma is the decimal point
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names, line, last = list[str](), 1, 1
    usual = csv.field_size_limit(max(len(text), csv.field_size_limit()))  # many-shot prompts are longer than it
    try:
        for row in rows:
            if not names:
                names = [name.strip() for name in row]
                if not _key_of(dict.fromkeys(names, "x")) and len(names) > 1:
                    raise _no_column(names, path)
            elif prompt := _prompt_of(record := dict(zip(names, row, strict=False))):
                yield Reference(prompt[1], name_of(path), line, prompt[0], record)
            line, last = rows.line_num + 1, line
        line = last
        _refuse_open_quote("".join(list(io.StringIO(text, newline=""))[last - 1 :]), delimiter)
    except csv.Error as error:
        raise InputError(f"is no table: {error}", path=name_of(path), line=line, fix="mend that row") from error
    finally:
        csv.field_size_limit(usual)


def _refuse_open_quote(last_row: str, delimiter: str) -> None:
    """A quote that is never closed takes all that follows for one cell."""
    try:
        list(csv.reader(io.StringIO(last_row, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error("a quote is never closed") from error


def _no_column(names: Sequence[str], path: str | Path) -> InputError:
    what = f"has no column of prompts (columns: {', '.join(names)})"
    return InputError(what, path=name_of(path), line=1, fix=f"name one {', '.join(PROMPT_KEYS)}")


def _key_of(record: Mapping[str, Any]) -> str | None:
    """Under which of its keys a record has its prompt; the only one it has, whatever its name."""
    by_name = {str(key).casefold(): str(key) for key, text in record.items() if isinstance(text, str) and text.strip()}
    return next((by_name[key] for key in PROMPT_KEYS if key in by_name), None)


def _prompt_of(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key and the text of a record's prompt, with what goes on under another key."""
    key = _key_of(record) or (next(iter(record)) if len(record) == 1 else None)
    if key is None or not str(record[key]).strip():
        return None
    more = {
        name: str(record[name]) for name in record if name != key and str(name).casefold() in _MORE and record[name]
    }
    text = "\n".join([str(record[key]).strip(), *(part.strip() for part in more.values())])
    return " + ".join([key, *more]), text


def _from_json(path: str | Path) -> Iterator[Reference]:
    for record, value in iter_with_values(path, Reading(side="both")):
        if isinstance(record, Conversation):
            yield Reference(record, name_of(path), record.source.line if record.source else None)
            continue
        prompts = _prompts(value)
        if not prompts:
            raise _no_reference(record)
        for key, prompt in prompts:
            yield Reference(prompt, name_of(path), record.line, key, value if isinstance(value, Mapping) else {})


def _requests_from_json(path: str | Path) -> Iterator[Reference]:
    for record, value in iter_with_values(path, Reading(side="both")):
        if isinstance(record, Conversation):
            yield Reference(record, name_of(path), record.source.line if record.source else None)
        elif (turns := _turns(value)) is not None:
            yield Reference(_unanswered(*turns, record), name_of(path), record.line)
        elif prompts := _prompts(value):
            (key, prompt), row = prompts[0], value if isinstance(value, Mapping) else {}
            yield Reference(prompt, name_of(path), record.line, key, row, _later(value))
        else:
            raise _no_reference(record)


def _turns(value: Any) -> tuple[list[Any], dict[str, Any]] | None:
    """The turns of a record with what stands beside them; None where it has none with roles."""
    if is_list_of_turns(value):
        return value, {}
    if not isinstance(value, dict):
        return None
    key = next((key for key in (*LISTS, *_TURN_LISTS) if is_list_of_turns(value.get(key))), None)
    return (value[key], without(value, key)) if key else None


def _later(value: Any) -> tuple[str, ...]:
    """What the user says after the first of several bare texts."""
    told = [value] if isinstance(value, list) else [value.get(key) for key in _TURN_LISTS if isinstance(value, Mapping)]
    texts = next((texts for texts in told if isinstance(texts, list)), [])
    return tuple(text for text in texts[1:] if isinstance(text, str))


def _in_its_setting(request: Reference) -> Reference:
    """A prompt with the system message and the history that stand in its row."""
    row, content = request.record, request.content
    if not isinstance(content, str) or not any(row.get(key) for key in ("history", *SYSTEM_KEYS)):
        return request
    beside = without(row, request.key, "history", *SYSTEM_KEYS[1:])
    bad = BadLine(path=request.path, line=request.line or 0, index=0, kind="ends_with_user", what="", fix="")
    said = _unanswered(requested({**row, "prompt": content}, "prompt"), beside, bad)
    return replace(request, content=said)


def _unanswered(turns: list[Any], beside: dict[str, Any], bad: BadLine) -> Conversation:
    """A conversation without its last answer, read as one that has it."""
    source = Source(path=bad.path, line=bad.line, index=bad.index)
    read = read_turns([*turns, {"role": "assistant", "content": "-"}], beside, source)
    if isinstance(read, BadLine):
        raise InputError(read.what, path=read.path, line=read.line, fix=_OPEN_FIX)
    return read.model_copy(update={"messages": read.messages[:-1]})


def _prompts(value: Any) -> list[tuple[str | None, str]]:
    """The prompts of a record that is no conversation, each with its key; none when it has none either."""
    if isinstance(value, str):
        return [(None, value)] if value.strip() else []
    if isinstance(value, list):
        return [(None, text) for text in _user_texts(value)]
    if not isinstance(value, Mapping) or value.keys() >= {"chosen", "rejected"}:
        return []
    for key in _TURN_LISTS:
        if isinstance(value.get(key), list):
            return [(key, text) for text in _user_texts(value[key])]
    found = _prompt_of({str(key): text for key, text in value.items() if isinstance(text, str)}) if value else None
    return [found] if found and _key_of(value) else []


def _user_texts(turns: Sequence[Any]) -> list[str]:
    """What the user says: of bare texts the first, because the others follow on answers that are not there."""
    said = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in turns if _is(turn)]
    texts = [text for role, text in said if role in ("user", "human")] or turns[:1]
    return [text for text in texts if isinstance(text, str) and text.strip()]


def _is(turn: Any) -> bool:
    return isinstance(turn, Mapping)


def _no_reference(bad: BadLine) -> InputError:
    if bad.kind == "unreadable":
        return bad.error()
    fix = f"give conversations (docs/formats.md), or prompts under one of the keys {', '.join(PROMPT_KEYS)}"
    return InputError(bad.what, path=bad.path, line=bad.line, fix=fix)
