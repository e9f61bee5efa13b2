"""A request and its answer in columns of their own: Alpaca, prompt and completion, and sets of labelled answers.

The first columns that hold something are taken; a record without an answer is a prompt, which is said. Labels that a
set is known for become recorded verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from safetyqc.formats.readers import verdicts
from safetyqc.formats.readers.form import (
    ANSWER,
    PROMPT,
    PROMPT_FIX,
    SYSTEM,
    TURNS,
    Columns,
    Found,
    RecordForm,
    first_key,
    has_keys,
    read_exchange,
    turns_of,
    without,
)
from safetyqc.formats.turns import Reading, bad_line
from safetyqc.records import Source

PROMPT_KEYS = ("prompt", "instruction", "question", "query", "request", "user", "human", "problem", "input")
ANSWER_KEYS = (
    *("completion", "response", "responses", "answer", "output", "reply", "assistant", "bot", "gpt", "generation"),
    *("generations", "solution", "answers", "model_response"),
)
_MORE = ("input", "context")
"""What goes on after an Alpaca instruction."""
SYSTEM_KEYS = ("system", "system_prompt", "system_message")
"""Where a row has its system message; the first is read beside any turns."""
_ANSWER_OF = re.compile(r"(.+)_response")


def _keys(value: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """The columns of the request, of what goes on after it, and of the answer."""
    prompt = first_key(value, PROMPT_KEYS)
    more = first_key(value, _MORE) if prompt and prompt.casefold() == "instruction" else None
    answer = first_key({key: held for key, held in value.items() if key not in (prompt, more)}, ANSWER_KEYS)
    return prompt, more, answer


def _has_exchange(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    names = {str(key).casefold() for key in value}
    return _keys(value)[0] is not None and not names.isdisjoint(ANSWER_KEYS)


def _columns(value: Mapping[str, Any]) -> Columns:
    prompt, more, answer = _keys(value)
    told = {prompt: PROMPT, more: PROMPT, answer: ANSWER, _system_key(value): SYSTEM}
    told |= {"history": TURNS} if value.get("history") else {}
    return {key: what for key, what in told.items() if key}


def _system_key(value: Mapping[str, Any]) -> str | None:
    return first_key(value, SYSTEM_KEYS[1:])


def _read(value: dict[str, Any], source: Source, how: Reading) -> Sequence[Found]:
    """Read an exchange; several answers to one request are several conversations."""
    prompt, more, answer = _keys(value)
    turns = requested(value, prompt, more)
    blank = None if value.get("input") else "input"
    beside = without(value, prompt, more, answer, blank, "history", _system_key(value))
    answers = _answers(value[answer]) if answer else []
    if len(answers) < 2:
        said, about = answers[0] if answers else (None, {})
        return [read_exchange(turns, said, {**beside, **about}, source, how)]
    numbered = [(said, {**about, "response": number}) for number, (said, about) in enumerate(answers)]
    return [read_exchange(turns, said, {**beside, **about}, source, how) for said, about in numbered]


def requested(value: Mapping[str, Any], prompt: str | None, more: str | None = None) -> list[dict[str, Any]]:
    """The turns up to the last request: a system message, what was said before, and the request."""
    system = _system_key(value)
    turns = turns_of(value[system], "system") if system else []
    if isinstance(history := value.get("history"), list):
        for exchange in history:
            if isinstance(exchange, (list, tuple)) and len(exchange) == 2:
                turns += [*turns_of(exchange[0], "user"), *turns_of(exchange[1], "assistant")]
    said = value[prompt] if prompt else None
    if more and isinstance(said, str) and isinstance(value[more], str):
        said = f"{said.strip()}\n\n{value[more].strip()}"
    return [*turns, *turns_of(said, "user")]


def _answers(told: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Each answer with what stands beside it; turns are one answer."""
    if not isinstance(told, list) or (told and isinstance(told[0], dict) and ("role" in told[0] or "from" in told[0])):
        return [(told, {})]
    found: list[tuple[Any, dict[str, Any]]] = []
    for item in told:
        if isinstance(item, dict):
            key = first_key(item, ("text", "content", *ANSWER_KEYS))
            found.append((item[key] if key else None, without(item, key)))
        else:
            found.append((item, {}))
    return found


EXCHANGE = RecordForm(_has_exchange, _read, _columns)
"""Any two columns that are called so: Alpaca, prompt and completion (texts or turns), question and answers."""


def _labelled(name: str, label: str, prompt_label: str | None = None, refusal: str | None = None) -> RecordForm:
    """A set of prompt, response and what its makers say of both."""
    keys = tuple(key for key in (label, prompt_label, refusal) if key)

    def read(value: dict[str, Any], source: Source, how: Reading) -> Found:
        intent = verdicts.intent_of(value.get(prompt_label)) if prompt_label else None
        said = verdicts.of_safety(value.get(label))
        said |= verdicts.of_refusal(value.get(refusal), intent) if refusal else {}
        beside = without(value, "prompt", "response")
        beside |= verdicts.recorded(name, said, beside)
        if intent and "intent" not in beside:
            beside["intent"] = intent
        return read_exchange(turns_of(value["prompt"], "user"), value["response"], _with_category(beside), source, how)

    def columns(_: Any) -> Columns:
        told = {"prompt": PROMPT, "response": ANSWER, label: "verdict of " + name}
        told |= {prompt_label: "intent"} if prompt_label else {}
        return told | ({refusal: "verdict of " + name} if refusal else {})

    return RecordForm(lambda value: has_keys(value, "prompt", "response", *keys), read, columns)


def _with_category(beside: dict[str, Any]) -> dict[str, Any]:
    """The category where the labels name exactly one: a word, or the one kind of harm that is true."""
    held = beside.get("category")
    if isinstance(held, dict):
        true = [name for name, here in held.items() if here is True]
        return {**without(beside, "category"), "harms": held, **({"category": true[0]} if len(true) == 1 else {})}
    return beside


BEAVERTAILS = _labelled("BeaverTails", "is_safe")
WILDGUARD = _labelled("WildGuardMix", "response_harm_label", "prompt_harm_label", "response_refusal_label")
AEGIS = _labelled("Aegis 2", "response_label", "prompt_label")


_XSTEST_LABELS = {"final_label": "final", "annotation_1": "annotation_1", "annotation_2": "annotation_2"}


def _is_xstest(value: Any) -> bool:
    labelled = has_keys(value, "prompt", "completion", "final_label")
    return labelled and str(value["final_label"]).strip() in verdicts.XSTEST_CLASSES


def _read_xstest(value: dict[str, Any], source: Source, how: Reading) -> Found:
    """Read a row of XSTest's completions; what people said becomes labels, as in files that have them as `human`."""
    said = {name: told for key, name in _XSTEST_LABELS.items() if (told := str(value.get(key) or "").strip())}
    beside = without(value, "prompt", "completion", *_XSTEST_LABELS)
    turns = turns_of(value["prompt"], "user")
    return read_exchange(turns, value["completion"], {**beside, "human": said}, source, how)


XSTEST = RecordForm(
    _is_xstest,
    _read_xstest,
    lambda value: {
        "prompt": PROMPT,
        "completion": ANSWER,
        **{key: "label" for key in _XSTEST_LABELS if value.get(key)},
    },
)


def _is_do_not_answer(value: Any) -> bool:
    return has_keys(value, "question", "risk_area")


def _read_do_not_answer(value: dict[str, Any], source: Source, how: Reading) -> Sequence[Found]:
    """Read each model's answer of a record, with what its makers say of it."""
    models = _models_of(value)
    if not models:
        return [bad_line(source, "ends_with_user", "has a prompt and no answer", PROMPT_FIX)]
    shared = {"intent": "harmful", "category": value["risk_area"]}
    own = {f"{model}_{what}" for model in models for what in ("response", "harmful", "action")}
    shared |= without(value, "question", "risk_area", *own)
    found = []
    for model in models:
        harmful = verdicts.is_safe(value.get(f"{model}_harmful"))  # 1 is harmful, so the words are turned round
        said = {} if harmful is None else verdicts.of_safety(not harmful)
        about = {"model": model, **without({"action": value.get(f"{model}_action")})}
        beside = {**shared, **about, **verdicts.recorded("Do-Not-Answer", said, shared)}
        turns = turns_of(value["question"], "user")
        found.append(read_exchange(turns, value[f"{model}_response"], beside, source, how))
    return found


def _models_of(value: Mapping[str, Any]) -> list[str]:
    names = [match[1] for key in value if (match := _ANSWER_OF.fullmatch(key))]
    return [name for name in names if value[f"{name}_response"]]


DO_NOT_ANSWER = RecordForm(
    _is_do_not_answer,
    _read_do_not_answer,
    lambda value: {
        "question": PROMPT,
        "risk_area": "category",
        **{f"{name}_response": ANSWER for name in _models_of(value)},
        **{f"{name}_harmful": "verdict of Do-Not-Answer" for name in _models_of(value)},
    },
)
