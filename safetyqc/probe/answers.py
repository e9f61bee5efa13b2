"""A file of answers that a model gave elsewhere -> Answers to prompts: `answers:FILE`, or `answers:FILE#NAME`.

Takes JSON Lines or tables with a prompt (or its id) and an answer a row, conversations, and JSON documents with many
models' answers in the order of their prompts (`{"prompts": [...], "answers": {"after#0": [...]}}`, where what stands
behind `#` counts training runs). Several answers to one prompt are samples. It asks nobody.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from safetyqc.errors import InputError, choose_from
from safetyqc.formats.opened import read_text
from safetyqc.formats.references import Reference, read_references
from safetyqc.probe.prompts import fields_of, prompt_of
from safetyqc.records import Conversation
from safetyqc.results.probe import Answer, Prompt
from safetyqc.text import normalise

KIND = "answers:"
_ANSWERS = ("answer", "answers", "response", "completion", "output", "generation", "prediction", "reply")
_RUNS = ("run", "seed", "model_seed")


@dataclass(frozen=True)
class AnswerFile:
    """What a file holds: answers by the prompt's text, and its prompts where it says what they want."""

    name: str
    answers: tuple[tuple[Prompt | None, str, Answer], ...]
    """(prompt as the file describes it, its folded text or id, answer)."""

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that say what they want, once each."""
        return list({prompt.id: prompt for prompt, _, _ in self.answers if prompt is not None}.values())

    @property
    def runs(self) -> int:
        """How many training runs it holds."""
        return 1 + max((answer.run for _, _, answer in self.answers), default=0)

    def to(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The answers to these prompts, found by their id or text."""
        known = {prompt.id: prompt.id for prompt in prompts} | {fold(p.turns): p.id for p in prompts}
        found = [(known[name], answer) for _, name, answer in self.answers if name in known]
        seen: Counter[tuple[str, int]] = Counter()
        numbered = []
        for prompt, answer in found:
            sample = seen[prompt, answer.run]
            seen[prompt, answer.run] += 1
            numbered.append(answer.model_copy(update={"prompt": prompt, "sample": sample}))
        return numbered


def fold(turns: Sequence[str]) -> str:
    """A prompt's text as it is compared."""
    return "\n".join(map(normalise, turns))


def read_answers(spec: str, order: Sequence[Prompt] = ()) -> AnswerFile:
    """Read what stands behind `answers:`.

    Args:
        order: the prompts that were asked, for a document that holds answers alone.

    Raises:
        InputError: the file cannot be read, holds no answer, or holds several models' and none is named.
    """
    path, name = _split(spec.removeprefix(KIND))
    document = _document(path)
    if document is not None:
        found = list(_of_document(document, path, name, order))
    elif name:
        raise InputError(f"holds one model's answers, and none called {name!r}", path=path, fix=f"give answers:{path}")
    else:
        found = [one for reference in read_references(path) for one in _of_row(reference)]
    return AnswerFile(f"{PurePath(path).name}{'#' if name else ''}{name}", tuple(found))


def _split(text: str) -> tuple[str, str]:
    if Path(text).exists() or "#" not in text:
        return text, ""
    path, _, name = text.rpartition("#")
    while not Path(path).exists() and "#" in path:  # a name may hold the run's number
        path, _, more = path.rpartition("#")
        name = f"{more}#{name}"
    return path, name


def _document(path: str) -> Mapping[str, Any] | None:
    """The file as one JSON object whose values are lists of answers; None when it is of another form."""
    text = read_text(path).lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # JSON Lines, or broken: the reader of rows says where
    lists = value.get("answers", value) if isinstance(value, dict) else None
    if not isinstance(lists, dict) or not lists or not all(isinstance(v, list) for v in lists.values()):
        return None
    return value if isinstance(value.get("answers"), dict) else {"answers": lists}


def _of_document(
    document: Mapping[str, Any], path: str, name: str, order: Sequence[Prompt]
) -> Iterator[tuple[Prompt | None, str, Answer]]:
    asked = _asked(document, path, order)
    lists: Mapping[str, list[Any]] = document["answers"]
    groups: dict[str, list[str]] = {}
    for key in lists:
        groups.setdefault(key.rpartition("#")[0] or key, []).append(key)
    wanted = [name] if name in lists and name not in groups else groups.get(name or next(iter(groups)), [])
    if not wanted or (not name and len(groups) > 1):
        fix = f"name one behind #: {choose_from(name, groups)}"
        raise InputError(
            f"holds {len(groups)} models' answers" + (f", none called {name!r}" * bool(name)), path=path, fix=fix
        )
    for run, key in enumerate(wanted):
        if len(lists[key]) != len(asked):
            what = f"{key!r} has {len(lists[key])} answers to {len(asked)} prompts"
            raise InputError(what, path=path, fix="give answers in the order of the prompts, one each")
        for (prompt, text), said in zip(asked, lists[key], strict=True):
            yield prompt, text, Answer(prompt="", run=run, texts=(str(said or ""),))


def _asked(document: Mapping[str, Any], path: str, order: Sequence[Prompt]) -> list[tuple[Prompt | None, str]]:
    prompts = document.get("prompts")
    if prompts is None:
        if not order:
            raise InputError("does not say what was asked", path=path, fix="give the prompts too: --prompts FILE")
        return [(prompt, prompt.id) for prompt in order]
    rows = [row if isinstance(row, dict) else {"prompt": str(row)} for row in prompts]
    references = [Reference(str(row.get("prompt", "")), path, None, "prompt", row) for row in rows]
    return [
        (prompt, fold((reference.content,)))
        for prompt, reference in prompt_of(references)
        if isinstance(reference.content, str)
    ]


def _of_row(reference: Reference) -> Iterator[tuple[Prompt | None, str, Answer]]:
    fields = fields_of(reference)
    if isinstance(reference.content, Conversation):
        conversation = reference.content
        ((prompt, _),) = prompt_of([reference])
        said = tuple(conversation.assistant_turns)
        yield prompt, _name(conversation.user_turns, fields), Answer(prompt="", run=_run(fields), texts=said)
        return
    told = next((fields[key] for key in _ANSWERS if key in fields), None)
    if told is None:
        fix = f"give it under one of the keys {', '.join(_ANSWERS)}, beside the prompt"
        raise InputError("has no answer", path=reference.path, line=reference.line, fix=fix)
    ((prompt, _),) = prompt_of([reference])
    name = _name((reference.content,), fields)
    for text in told if isinstance(told, list) else [told]:
        yield prompt, name, Answer(prompt="", run=_run(fields), texts=(str(text or ""),))


def _name(turns: Sequence[str], fields: Mapping[str, Any]) -> str:
    """What names the prompt of a row: the id that a probe gave it, else its text."""
    told = str(fields.get("prompt_id") or fields.get("id") or "")
    return told if told.startswith("p_") else fold(turns)


def _run(fields: Mapping[str, Any]) -> int:
    return next((int(fields[key]) for key in _RUNS if str(fields.get(key, "")).isdecimal()), 0)
