"""A guard's answer in, its fields and how sure it was out; what does not look as it must is an error, never a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.errors import ModelError
from safetyqc.llm.client import check_finish
from safetyqc.llm.structured import looks_refused
from safetyqc.text import shorten

if TYPE_CHECKING:
    from safetyqc.judge.guards.file import Category, Certainty, Guard
    from safetyqc.llm import Reply
    from safetyqc.llm.client import TokenChoices

_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """The fields of one answer, and where in the reply's text each begins."""

    reply: Reply
    fields: Mapping[str, str]
    starts: Mapping[str, int]

    def has(self, when: Mapping[str, str]) -> bool:
        """Whether every field says this, whatever its case."""
        return all(self.fields.get(name, "").casefold() == said.casefold() for name, said in when.items())

    def probability(self, certainty: Certainty) -> float | None:
        """Probability of pass by the first token of a field; None where the server told none."""
        start = self.starts.get(certainty.field)
        if start is None or not self.reply.logprobs:
            return None
        choices = _choices_at(self.reply.logprobs, self.reply.text, start)
        passes, fails = (_mass(choices, words) for words in (certainty.passes, certainty.fails))
        # One side alone was listed: the other is less likely than all that were, which is no number
        return passes / (passes + fails) if passes and fails else None


def read_answer(reply: Reply, guard: Guard) -> Answer:
    """Read what a guard answered, thoughts taken off.

    Raises:
        ModelError: `bad_json` for another form, `truncated`, `filtered_by_provider` or `refused_by_model`.
    """
    thought = _THOUGHT.match(reply.text)
    text, offset = (reply.text[thought.end() :], thought.end()) if thought else (reply.text, 0)
    lead = len(text) - len(text.lstrip())
    for pattern in guard.reads:
        if found := re.fullmatch(pattern, text.strip()):
            named = {name: value for name, value in found.groupdict().items() if value is not None}
            return Answer(reply, named, {name: offset + lead + found.start(name) for name in named})
    if reply.is_empty and reply.finish_reason == "stop" and not reply.refusal:
        raise ModelError("bad_json", reply.said_nothing)
    check_finish(reply)
    if looks_refused(text):
        raise ModelError("refused_by_model", shorten(text, 200))
    raise ModelError("bad_json", f"not in the form of {guard.id}: {shorten(reply.text.strip(), 120)!r}")


def categories_of(answer: Answer, guard: Guard) -> list[tuple[str, Category | None]]:
    """The guard's own categories in an answer, each with its crosswalk where the file has one."""
    told = re.split(r"[,;]", answer.fields.get("categories", ""))
    keys = [part.strip(" \t\n\"'[]").partition(":")[0].strip() for part in told]
    known = {key.casefold(): category for key, category in guard.categories.items()}
    return [(key, known.get(key.casefold())) for key in keys if key and key.casefold() != "none"]


def _choices_at(tokens: Sequence[TokenChoices], text: str, start: int) -> Mapping[str, float]:
    """What could have stood where the character at `start` of the text was written."""
    said = "".join(token for token, _ in tokens)
    shift = said.rfind(text)  # a server that keeps thoughts apart lists their tokens all the same
    if shift < 0:
        shift = said.rfind(text.strip()) - (len(text) - len(text.lstrip()))
        if shift + start < 0 or text.strip() not in said:
            return {}
    place = 0
    for token, choices in tokens:
        if place <= shift + start < place + len(token):
            return choices
        place += len(token)
    return {}


def _mass(choices: Mapping[str, float], words: Sequence[str]) -> float:
    """Probability of all tokens that begin one of these words, or that one of them begins with."""
    lowered = [word.casefold() for word in words]
    return sum(
        math.exp(min(logprob, 0.0))
        for token, logprob in choices.items()
        if (said := token.strip(" \n\t\u0120\u2581").casefold())
        and any(word.startswith(said) or said.startswith(word) for word in lowered)
    )


def reads_like(text: str, guards: Sequence[Guard]) -> Iterator[str]:
    """Names of guards whose answers look like this one."""
    bare = _THOUGHT.sub("", text).strip()
    return (guard.id for guard in guards if any(re.fullmatch(pattern, bare) for pattern in guard.reads))
