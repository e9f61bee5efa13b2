"""Learns from a server's refusals how it wants a request worded that is otherwise the same.

What is asked does not change: a limit has another name, a parameter is left out, the instructions stand in the first
user message. Response formats are another matter (`structured`), because there the prompt itself changes. It sends
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

_OPTIONAL = ("temperature", "seed", "top_logprobs", "logprobs")
"""Parameters that can be left out: a model that takes none of them answers all the same."""
_REFUSES = (
    r"(?:un|not |n['’]t )support|not (?:be )?(?:allowed|permitted|enabled|available|accepted)|unrecogni[sz]ed|unknown"
    r"|unexpected|invalid|deprecated|extra (?:inputs|fields)|\bonly\b|\bmust\b|\bshould\b|strictly positive|instead"
)
_NAMES = {
    name: re.compile(rf"(?i)\b{name}\b.{{0,120}}?(?:{_REFUSES})|(?:{_REFUSES}).{{0,60}}?\b{name}\b", re.DOTALL)
    for name in (*_OPTIONAL, "max_tokens", "max_completion_tokens")
}
_NO_SYSTEM = re.compile(
    rf"(?i)\b(?:system|developer)\b['\"]? ?(?:role|message|prompt|instruction)s?\b.{{0,60}}?(?:{_REFUSES})"
    rf"|\brole\b.{{0,40}}?(?:{_REFUSES}).{{0,30}}?\bsystem\b"
    rf"|\brole\b.{{0,60}}?\bsystem\b.{{0,40}}?(?:{_REFUSES})|(?:{_REFUSES}).{{0,60}}?\brole\b.{{0,20}}?\bsystem\b"
    rf"|(?:{_REFUSES}).{{0,40}}?\bsystem\b['\"]? (?:role|message|prompt|instruction)|roles? must alternate"
    r"|only (?:the )?['\"]?user['\"]?,? and ['\"]?assistant",
    re.DOTALL,
)
_MOST_TOKENS = re.compile(
    r"(?i)at most (\d{2,7}) (?:completion|output) tokens|max_(?:completion_)?tokens\b.{0,80}?(?:<="
    r"|less than or equal to|at most|maximum (?:value|allowed)?(?: \w+){0,4}?) ?(\d{2,7})\b(?! tokens\. however)"
)


@dataclass(frozen=True)
class Dialect:
    """How one server wants to be asked.

    Args:
        tokens: its name for the most tokens of an answer.
        without: parameters that it refuses.
        system: whether it takes a system message.
        most_tokens: more room than this it refuses.
    """

    tokens: str = "max_tokens"
    without: frozenset[str] = frozenset()
    system: bool = True
    most_tokens: int | None = None

    def learn(self, complaint: str) -> Dialect:
        """This dialect, or the one that a refusal in these words asks for."""
        if (
            self.tokens == "max_tokens"
            and "max_completion_tokens" in complaint
            and _NAMES["max_tokens"].search(complaint)
        ):
            return replace(self, tokens="max_completion_tokens")
        if most := _MOST_TOKENS.search(complaint):
            return replace(self, most_tokens=int(most[1] or most[2]))
        for name in _OPTIONAL:
            if name not in self.without and _NAMES[name].search(complaint):
                return replace(self, without=self.without | {name})
        if self.system and _NO_SYSTEM.search(complaint):
            return replace(self, system=False)
        if self.tokens == "max_completion_tokens" and _NAMES["max_completion_tokens"].search(complaint):
            return replace(self, tokens="max_tokens")
        return self

    def room(self, wanted: int) -> int:
        """Most tokens to ask for."""
        return wanted if self.most_tokens is None else min(wanted, self.most_tokens)

    def messages(self, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The messages, with a system message at the head of the first user message where none is taken."""
        if self.system or not messages or messages[0]["role"] != "system":
            return list(messages)
        system, *others = messages
        if others and others[0]["role"] == "user":
            first, *others = others
            return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]
        return [{**system, "role": "user"}, *others]

    def parameters(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the parameters that are taken."""
        return {name: value for name, value in wanted.items() if name not in self.without}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `Dialect.of` reads it."""
        return {
            "tokens": self.tokens,
            "without": sorted(self.without),
            "system": self.system,
            "most_tokens": self.most_tokens,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Dialect:
        """Read what `as_dict` wrote."""
        return cls(told["tokens"], frozenset(told["without"]), told["system"], told["most_tokens"])
