"""A whole conversation in one text -> turns: chat templates (ChatML, Llama, Gemma) and "Human: ... Assistant: ...".

A text is one only if it begins with such a mark and has more than one; nothing is guessed from what it says. Marks are
taken off, the rest stays as it is but for white space around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from safetyqc.formats.readers.form import TURNS, Columns, Found, RecordForm
from safetyqc.formats.turns import Reading, read_turns
from safetyqc.records import Source

_NAMES = r"(?P<role>system|user|human|assistant|gpt|bot|model|tool|developer)"
_HUMAN, _USER = r"(?P<role>system|human|assistant)", r"(?P<role>system|user|assistant)"
_MARKS = {
    "ChatML": rf"<\|im_start\|>\s*{_NAMES}\b[^\n]*\n?",
    "Llama 3": rf"<\|start_header_id\|>\s*{_NAMES}\s*<\|end_header_id\|>\s*",
    "Gemma": rf"<start_of_turn>\s*{_NAMES}\s*\n?",
    "Zephyr, Phi": rf"<\|{_NAMES}\|>\s*",
    "Human: Assistant:": rf"(?:\A\s*|\n\s*\n){_HUMAN}:[ \t]*",
    "User: Assistant:": rf"(?:\A\s*|\n\s*\n){_USER}:[ \t]*",
    "### Human:": rf"(?:\A|\n)\s*###\s*{_HUMAN}:[ \t]*",
    "### User:": rf"(?:\A|\n)\s*###\s*{_USER}:[ \t]*",
    "nanochat": r"<\|(?P<role>user|assistant)_start\|>",
}
"""How each style marks the beginning of a turn."""
_COMPILED = [re.compile(mark, re.IGNORECASE) for mark in _MARKS.values()]
_ENDS = re.compile(
    r"\s*(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|end_of_text\|>|<\|endoftext\|>|</s>"
    r"|<\|(?:user|assistant)_end\|>|<eos>)\s*"
)
_BEGINS = re.compile(r"\s*(?:<\|begin_of_text\|>|<bos>|<s>|<\|bos\|>|<\|endoftext\|>)?\s*")
_INST = re.compile(r"\s*(?:<s>)?\s*\[INST\](.*?)\[/INST\](.*?)(?=(?:</s>|\Z))(?:</s>)?", re.DOTALL)
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>\s*", re.DOTALL)
_TEXT_KEYS = ("text", "chat", "conversation", "messages", "conversations", "transcript", "dialogue", "dialog", "sample")


def split_transcript(text: str) -> list[dict[str, Any]] | None:
    """The turns of a text that is a whole conversation; None for any other text."""
    begin = _BEGINS.match(text)
    start = begin.end() if begin else 0
    if text.startswith("[INST]", start):
        return _split_inst(text, start)
    for mark in _COMPILED:
        if mark.match(text, start) or mark.match(text):
            found = list(mark.finditer(text))
            if len(found) > 1:
                return _between(text, found)
    return None


def _between(text: str, found: list[re.Match[str]]) -> list[dict[str, Any]]:
    turns = []
    for match, after in zip(found, [*found[1:], None], strict=True):
        said = text[match.end() : after.start() if after else len(text)]
        said = _ENDS.sub("\n", said).strip()
        if said or after:  # a template may end by opening the next answer
            turns.append({"role": match["role"].casefold(), "content": said})
    return turns


def _split_inst(text: str, start: int) -> list[dict[str, Any]] | None:
    """Llama 2 and Mistral: a request between marks, the answer behind it."""
    turns: list[dict[str, Any]] = []
    for match in _INST.finditer(text, start):
        request = match[1]
        if told := _SYS.match(request):
            turns.append({"role": "system", "content": told[1].strip()})
            request = request[told.end() :]
        turns.append({"role": "user", "content": request.strip()})
        turns.append({"role": "assistant", "content": match[2].strip()})
    return turns or None


def _key(value: Any) -> str | None:
    """Which key of a record, whose other ones say nothing of turns, holds a whole conversation."""
    if not isinstance(value, Mapping):
        return None
    return next((k for k in _TEXT_KEYS if isinstance(value.get(k), str) and split_transcript(value[k])), None)


def _matches(value: Any) -> bool:
    return _key(value) is not None or (isinstance(value, str) and split_transcript(value) is not None)


def _read(value: Any, source: Source, how: Reading) -> Found:
    if isinstance(value, str):
        return read_turns(split_transcript(value) or [], {}, source, how)
    key = _key(value) or ""
    beside = {name: held for name, held in value.items() if name != key and held is not None}
    return read_turns(split_transcript(value[key]) or [], beside, source, how)


def _columns(value: Any) -> Columns:
    key = _key(value)
    return {key: TURNS} if key else {}


TRANSCRIPT = RecordForm(_matches, _read, _columns)
