"""What a format has no place for: counted over the examples, and said in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from safetyqc.formats.export.encoding import Example, Exporter, Held, system_turns
from safetyqc.formats.turns import keys_beside

_HAS: dict[Held, Callable[[Example], bool]] = {
    "system": lambda e: bool(system_turns(e.conversation, "role", "content")),
    "turns": lambda e: bool(_further_answers(e)),
    "keys": lambda e: bool(keys_beside(e.conversation)),
    "category": lambda e: e.conversation.category is not None,
    "intent": lambda e: e.conversation.intent is not None,
    "language": lambda e: e.conversation.language is not None,
    "meta": lambda e: bool(e.conversation.meta.keys() - {"message_keys"}),
}
_WORDS: dict[Held, str] = {
    "system": "system message",
    "turns": "answers beside the one trained on",
    "keys": "keys of messages",
}


def _further_answers(example: Example) -> int:
    return len(example.conversation.assistant_turns) - 1


def count_losses(exporter: Exporter, examples: Iterable[Example]) -> dict[str, int]:
    """How many conversations have what the format cannot hold, by what it is; what none has is left out."""
    lost: dict[Held, set[str]] = {name: set() for name in _HAS if name not in exporter.holds}
    for example in examples:
        for name, ids in lost.items():
            if _HAS[name](example):
                ids.add(example.conversation.id)
    return {_WORDS.get(name, name): len(ids) for name, ids in lost.items() if ids}


def tell_losses(name: str, losses: Mapping[str, int]) -> list[str]:
    """Say it in one line; none where nothing is lost."""
    if not losses:
        return []
    told = ", ".join(f"{what} ({count:,})" for what, count in losses.items())
    return [f"{name} has no place for: {told}"]
