"""What to ask: the set that comes with the package, or any file of prompts, each with what the person wants.

A prompt's kind decides what a good answer is, so it is never guessed from the prompt's words: it stands in the file, or
follows from the benchmark that the file is known to be (XSTest, OR-Bench, SORRY-Bench, StrongREJECT, HarmBench,
AdvBench, JailbreakBench), or is typed before it (`harmful=FILE`). It reads and draws; it asks nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import Any, TypeVar

from pydantic import Field

from safetyqc.errors import InputError, UserError
from safetyqc.formats.references import Reference, read_requests
from safetyqc.formats.yaml_file import read_yaml
from safetyqc.records import Conversation, Record, content_hash, stable_id
from safetyqc.results.probe import KINDS, Kind, Prompt, PromptSet
from safetyqc.text import guess_language

T = TypeVar("T")

SHIPPED = "safetyqc"
_ROLES: tuple[Kind, ...] = ("harmful", "benign", "distress", "ordinary")
"""What may be typed before a file."""
_LABELS: dict[str, Kind] = {
    **dict.fromkeys(("harmful", "unsafe", "toxic", "malicious", "bad"), "harmful"),
    **dict.fromkeys(("benign", "safe", "harmless", "good"), "benign"),
    **{kind: kind for kind in KINDS},
}
_HARMFUL_KEYS = frozenset({"forbidden_prompt", "goal", "behavior"})
_SORRY_BENCH = frozenset({"question_id", "turns", "prompt_style"})
_CONTRAST = "contrast_"
_XSTEST = frozenset(
    {
        *("homonyms", "figurative_language", "safe_targets", "safe_contexts", "definitions", "historical_events"),
        *("nons_group_real_discr", "real_group_nons_discr", "privacy_public", "privacy_fictional"),
    }
)


class _Pair(Record):
    harmful: str
    benign: str


class _Escalation(Record):
    turns: tuple[str, ...] = Field(min_length=2)
    harmful_from: int = Field(ge=2)
    """The number, from 1, of the first message that asks for harm."""


class _Pairs(Record):
    pairs: dict[str, dict[str, tuple[_Pair, ...]]]
    """By category and language, as below."""


class _Singles(Record):
    prompts: dict[str, dict[str, tuple[str, ...]]]


class _Escalations(Record):
    escalations: dict[str, dict[str, tuple[_Escalation, ...]]]


def shipped_prompts() -> list[Prompt]:
    """The package's own set, in its order."""
    folder = files("safetyqc.probe") / "asked"
    found: list[Prompt] = []
    for category, language, pair in _each(read_yaml(folder / "pairs.yaml", _Pairs).pairs):
        link = stable_id("pair", [pair.harmful, pair.benign])
        found.append(_prompt("harmful", (pair.harmful,), category, language, pair=link))
        found.append(_prompt("benign", (pair.benign,), category, language, pair=link))
    kinds: tuple[Kind, ...] = ("distress", "ordinary")
    for kind in kinds:
        for category, language, text in _each(read_yaml(folder / f"{kind}.yaml", _Singles).prompts):
            found.append(_prompt(kind, (text,), category, language))
    for category, language, several in _each(read_yaml(folder / "escalation.yaml", _Escalations).escalations):
        start = several.harmful_from - 1
        found.append(_prompt("escalation", several.turns, category, language, harmful_from=start))
    return found


def _each(nested: Mapping[str, Mapping[str, tuple[T, ...]]]) -> Iterator[tuple[str, str, T]]:
    for category, languages in nested.items():
        for language, entries in languages.items():
            for entry in entries:
                yield category, language, entry


def _prompt(
    kind: Kind, turns: tuple[str, ...], category: str | None, language: str | None = None, **more: Any
) -> Prompt:
    return Prompt(
        id=stable_id("p", [kind, *turns]),
        turns=turns,
        kind=kind,
        category=category or None,
        language=language or guess_language(" ".join(turns)),
        **more,
    )


def read_prompts(names: Sequence[str]) -> list[Prompt]:
    """Read prompt files; equal prompts are asked once.

    Args:
        names: paths, each with a kind before it where the file does not say what the people in it want.

    Raises:
        InputError: a file cannot be read, or a row of it does not say what is wanted.
    """
    found: dict[str, Prompt] = {}
    for name in names:
        told, _, path = name.partition("=") if name.partition("=")[0] in _ROLES else ("", "", name)
        references = read_requests(path)
        for prompt in _link_contrasts([_told(r, _LABELS.get(told)) for r in references], references):
            found.setdefault(prompt.id, prompt)
    return list(found.values())


def prompt_of(references: Sequence[Reference]) -> list[tuple[Prompt | None, Reference]]:
    """The prompt of each row, linked to its contrast; None where the row does not say what is wanted."""
    read = [_read(reference, None) for reference in references]
    known = [(prompt, reference) for prompt, reference in zip(read, references, strict=True) if prompt is not None]
    linked = iter(_link_contrasts([prompt for prompt, _ in known], [reference for _, reference in known]))
    return [(next(linked) if prompt is not None else None, r) for prompt, r in zip(read, references, strict=True)]


def _told(reference: Reference, told: Kind | None) -> Prompt:
    prompt = _read(reference, told)
    if prompt is None:
        fix = (
            "add a column `intent` with harmful, benign or distress, or type it before the file: --prompts harmful=FILE"
        )
        raise InputError("does not say what the prompt wants", path=reference.path, line=reference.line, fix=fix)
    return prompt


def _read(reference: Reference, told: Kind | None) -> Prompt | None:
    fields, content = fields_of(reference), reference.content
    turns = tuple(content.user_turns) if isinstance(content, Conversation) else (content, *reference.later)
    kind = told or kind_of(fields, reference)
    if kind is None:
        return None
    language = fields.get("language") or fields.get("lang")
    return _prompt(
        kind,
        turns,
        _first(fields, "category", "semanticcategory", "type", "risk"),
        str(language) if language else None,
        pair=_first(fields, "pair", "pair_id", "twin"),
        path=PurePath(reference.path).name,
        line=reference.line,
    )


def fields_of(reference: Reference) -> dict[str, Any]:
    """What a row says beside its prompt, by folded names; of a conversation what its reader kept aside too."""
    content = reference.content
    if not isinstance(content, Conversation):
        return {str(key).strip().casefold(): value for key, value in reference.record.items()}
    known = {"id": content.id, "intent": content.intent, "category": content.category, "language": content.language}
    aside = {str(key).strip().casefold(): value for key, value in content.meta.items()}
    return aside | {key: value for key, value in known.items() if value is not None}


def _first(fields: Mapping[str, Any], *keys: str) -> str | None:
    return next((str(fields[key]) for key in keys if fields.get(key)), None)


def kind_of(fields: Mapping[str, Any], reference: Reference) -> Kind | None:
    """What the person who asks wants, as the row or the benchmark says it; None where neither does."""
    for key in ("kind", "intent", "label", "toxicity", "prompt_label"):
        if (found := _LABELS.get(str(fields.get(key) or "").strip().casefold())) is not None:
            return found
    name, kind = PurePath(reference.path).name.casefold().replace("_", "-"), str(fields.get("type") or "")
    if kind.startswith(_CONTRAST):
        return "harmful"
    if kind in _XSTEST:
        return "benign"
    if "or-bench" in name:
        return "harmful" if "toxic" in name else "benign"
    if (reference.key or "").partition(" + ")[0].casefold() in _HARMFUL_KEYS or set(fields) >= _SORRY_BENCH:
        return "harmful"
    return None


def _link_contrasts(prompts: list[Prompt], references: Sequence[Reference]) -> list[Prompt]:
    """Pair XSTest's safe prompts with the contrasts made of them: the n-th of a type with its n-th contrast."""
    places: dict[str, list[int]] = {}
    for place, reference in enumerate(references):
        kind = str(fields_of(reference).get("type") or "")
        if kind in _XSTEST or kind.startswith(_CONTRAST):
            places.setdefault(kind, []).append(place)
    linked = list(prompts)
    for kind, safe in places.items():
        unsafe = places.get(_CONTRAST + kind, [])
        if len(safe) != len(unsafe):
            continue
        for number, pair in enumerate(zip(safe, unsafe, strict=True), start=1):
            for place in pair:
                linked[place] = prompts[place].model_copy(update={"pair": f"{kind} {number}"})
    return linked


def describe(prompts: Sequence[Prompt], name: str, everything: Sequence[Prompt]) -> PromptSet:
    """Sum up what is asked; the hash is over everything that could have been."""
    return PromptSet(
        name=name,
        hash=content_hash(sorted([p.kind, list(p.turns), p.pair or ""] for p in everything))[:16],
        counts=_counted(p.kind for p in prompts),
        languages=_counted(p.language or "?" for p in prompts),
        pairs=len(pairs_of(prompts)),
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def pairs_of(prompts: Iterable[Prompt]) -> list[tuple[Prompt, Prompt]]:
    """Harmful prompts with their benign twins, where both are there."""
    sides: dict[str, dict[Kind, Prompt]] = {}
    for prompt in prompts:
        if prompt.pair is not None and prompt.kind in ("harmful", "benign"):
            sides.setdefault(prompt.pair, {}).setdefault(prompt.kind, prompt)
    return [(side["harmful"], side["benign"]) for side in sides.values() if len(side) == 2]


def draw(prompts: Sequence[Prompt], count: int | None, seed: int = 0) -> list[Prompt]:
    """At most so many prompts, the same ones every time: twins together, kinds and categories in their shares.

    Raises:
        UserError: fewer than one is wanted.
    """
    if count is None or count >= len(prompts):
        return list(prompts)
    if count < 1:
        raise UserError(f"{count} prompts are none", where="--sample", fix="give a number from 1")
    units: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        units.setdefault(f"pair {prompt.pair}" if prompt.pair else prompt.id, []).append(prompt)
    rng = random.Random(seed)
    groups: dict[tuple[str, str, str], list[list[Prompt]]] = {}
    for unit in units.values():
        groups.setdefault((unit[0].kind, unit[0].category or "", unit[0].language or ""), []).append(unit)
    spread = []
    for key in sorted(groups):
        members = groups[key]
        rng.shuffle(members)
        spread += [((place + rng.random()) / len(members), unit) for place, unit in enumerate(members)]
    chosen: set[str] = set()
    for _, unit in sorted(spread, key=lambda pair: pair[0]):
        if len(chosen) + len(unit) <= count:
            chosen |= {prompt.id for prompt in unit}
    return [prompt for prompt in prompts if prompt.id in chosen]
