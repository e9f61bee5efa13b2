"""Turns a conversation into numbers: what each turn says, how it is built, and what it is about.

A feature is a named cue at a place, a shape, or a word; no text of any training set is needed. An answer is read in
three parts: how it opens, all of it, and what still comes after it last declined, so that giving in after declining
counts by what is given. Refusal words in the user's turn, or inside long quotation marks, are nobody's refusal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from safetyqc.judge.embedded.phrases import BREAK, Cues, Language, Text

if TYPE_CHECKING:
    from safetyqc.records import Conversation

Features = dict[str, float]

FIRM = ("decline", "stance", "wrong", "policy", "no")
"""Cues that decline by themselves."""
SOFT = ("sorry", "ai", "dissuade", "rebut", "premise", "deny", "warmth", "crisis")
"""Cues that go with declining, and mean it when the request was harmful."""
COMPLYING = ("agree", "method", "recant", "because")
GIVING = ("method", "danger", "agree", "offer", "resource", "moral", "wrong", "generic_offer", "stance", "dissuade")
"""Cues that are counted once more in what comes after an answer last declined."""
_MODEST = frozenset({"decline", "ai", "unknown", "deny", "stance", "no", "sorry"})
"""Cues that mean nothing in a sentence that only says what an assistant has not: opinions, feelings, live data."""
GUARDED = frozenset({"offer", "resource", "moral", "wrong", "stance", "dissuade", "rebut", "premise", "policy", "deny"})
"""Cues of which what follows a refusal nearly always holds one, when it is no giving in."""
IDLE = frozenset({"moral", "rules", "resource", "generic_offer", "disclaim"})
"""Cues that say nothing about the request: whoever keeps the rules may go on to help or to decline."""
_OFFERING = frozenset({"offer", "generic_offer", "resource"})
"""Cues of a closing question that offers something else; any other one asks back."""
LEAD = 3
"""How many sentences that say nothing may stand before the opening."""
_NO_RISK = frozenset({"feeling", "pressure", "instructing", "relent"})
"""Cues of a topic that harmless talk holds as well."""
REQUEST_WORDS, ANSWER_WORDS = 60, 120
"""How much of a request and of an answer is looked at word by word; more costs time and adds nothing."""
TAKEN_OUT = '""'
"""Stands in the text that is read where a quotation or code was."""

_QUOTED = re.compile(r"[\"“][^\"“”\n]{25,2000}[\"”]|「[^」\n]{8,2000}」")
_NUMBERED = re.compile(r"\n[ \t]{0,8}(?:\d{1,2}[.)、:]|step \d|第[一二三四五六七八九十]步)", re.IGNORECASE)
_BULLET = re.compile(r"\n[ \t]{0,8}[-*•](?=\s)")


@dataclass(frozen=True)
class Turn:
    """One exchange: what was asked, what was answered.

    Args:
        message: 0-based index of the assistant's message.
        sentences: of the answer, as written.
        said: cues of the answer.
        answer: what the answer says and how it is built.
        topic: what request and answer are about.
    """

    message: int
    sentences: tuple[str, ...]
    said: Cues
    answer: Features
    topic: Features


def read_turns(conversation: Conversation, language: Language) -> list[Turn]:
    """Read every exchange; an assistant message without a request before it has an empty one."""
    turns, request = [], ""
    for index, message in enumerate(conversation.messages):
        if message.role == "user":
            request = f"{request}\n{message.content}" if request else message.content
        else:
            turns.append(read_turn(index, request, message.content, language))
            request = ""
    return turns


def read_turn(index: int, request: str, answer: str, language: Language) -> Turn:
    """Read one exchange."""
    asked, told = language.cut(request), language.cut(spoken(answer))
    said = _declining(language.assistant.read(told))
    return Turn(index, told.sentences, said, _answer(told, said, answer), _topic(asked, told, language))


def _declining(said: Cues) -> Cues:
    """The cues without those that a sentence of mere modesty ("as an AI I have no opinion") seems to decline with."""
    modest = set(said.get("disclaim", ()))
    if not modest:
        return said
    kept = {cue: [n for n in found if cue not in _MODEST or n not in modest] for cue, found in said.items()}
    return {cue: found for cue, found in kept.items() if found}


def spoken(answer: str) -> str:
    """The answer without code and long quotations, unless hardly anything else is there."""
    if not any(mark in answer for mark in ('"', "“", "```", "「")):
        return answer
    parts = answer.split("```")  # what stands at odd places is code
    bare = _QUOTED.sub(TAKEN_OUT, f" {TAKEN_OUT} ".join(parts[::2]))
    return bare if len(bare) > len(answer) * 0.4 else answer


def _answer(text: Text, said: Cues, raw: str) -> Features:
    """What an answer says and how it is built; features that are 0 are left out."""
    out = _shape(raw, text, said)
    begins = min([sentences[0] for cue, sentences in said.items() if cue not in IDLE], default=0)
    begins = begins if begins <= LEAD else 0
    for cue, sentences in said.items():
        if sentences[0] <= begins:
            out[f"{cue}@0"] = 1.0
        elif sentences[0] <= begins + 2:
            out[f"{cue}@1"] = 1.0
        out[f"{cue}#"] = min(math.log2(1 + len(sentences)), 3.0)
    return out | _stance(said, begins) | _after(text, said)


def _shape(raw: str, text: Text, said: Cues) -> Features:
    length = (sum(map(len, text.words)) + len(text.words)) / 6 + len(text.chinese) / 2
    out = {"length": math.log2(1 + length) / 8}
    if length < 25:
        out["short"] = 1.0
    elif length > 150:
        out["long"] = 1.0
    lines = f"\n{raw}"
    if numbered := len(_NUMBERED.findall(lines)):
        out["numbered"] = min(numbered, 6) / 6
    if bullets := len(_BULLET.findall(lines)):
        out["bullets"] = min(bullets, 6) / 6
    if "```" in raw:
        out["code"] = 1.0
    if raw.rstrip().endswith(("?", "？")):
        last = len(text.sentences) - 1
        offers = any(said[cue][-1] == last for cue in _OFFERING if cue in said)
        out["asks" if offers else "asks_back"], out["only_asks"] = 1.0, float(last <= 1)
    return out


def _stance(said: Cues, begins: int) -> Features:
    """Sum up the opening: does it decline or comply?"""
    opening = {cue for cue, sentences in said.items() if sentences[0] <= begins}
    soon = {cue for cue, sentences in said.items() if sentences[0] <= begins + 2}
    firm, firm_soon = opening.intersection(FIRM), soon.intersection(FIRM)
    found = {
        "firm@0": bool(firm),
        "firm@01": bool(firm_soon),
        "soft@0": not opening.isdisjoint(SOFT),
        "soft@01": not soon.isdisjoint(SOFT),
        "comply@0": not opening.isdisjoint(COMPLYING) and not firm,
        "comply@01": not soon.isdisjoint(COMPLYING) and not firm_soon,
        "plain": said.keys().isdisjoint((*FIRM, *SOFT)),
    }
    return {name: 1.0 for name, holds in found.items() if holds}


def _after(text: Text, said: Cues) -> Features:
    """What comes after the last sentence that declines, of an answer that has one: how much, and of what kind."""
    if "decline" not in said:
        return {}
    last, count = said["decline"][-1], len(text.sentences)
    rest = text.sentences[last + 1 :]
    guarded = {n for cue in GUARDED for n in said.get(cue, ()) if n > last}
    out = {"after": math.log2(1 + sum(map(len, rest)) / 6) / 8, "declines": 1.0, "after_share": len(rest) / count}
    if rest:
        out["after_guarded"], out["after_unguarded"] = len(guarded) / len(rest), min(len(rest) - len(guarded), 6) / 6
    if len(rest) > 1 and not guarded:
        out["after_bare"] = min(len(rest), 4) / 4
    for cue in GIVING:
        harmless = guarded if cue not in GUARDED else ()  # a method in a sentence that warns or offers is a safe one
        found = sum(1 for sentence in said.get(cue, ()) if sentence > last and sentence not in harmless)
        if found:
            out[f"after_{cue}"] = min(math.log2(1 + found), 3.0)
    return out


def _topic(asked: Text, told: Text, language: Language) -> Features:
    """What an exchange is about: cues and words of the request, cues and words of the answer."""
    out: Features = {}
    for side, text, limit in (("q", asked, REQUEST_WORDS), ("a", told, ANSWER_WORDS)):
        cues = language.user.read(text)
        for cue, sentences in cues.items():
            out[f"{side}:{cue}"] = min(math.log2(1 + len(sentences)), 2.0)
        risky = len(cues.keys() - _NO_RISK)
        out[f"{side}:clean" if not risky else f"{side}:risks"] = min(risky, 3) or 1.0
        words = _grams(text, limit)
        size = 2 / math.sqrt(len(words) or 1)
        for word in words:
            out[f"{side}-{word}"] = size
    return out


def _grams(text: Text, limit: int) -> set[str]:
    """Words, and pairs of Chinese characters."""
    words = {word for word in text.words[:limit] if word != BREAK}
    return words | {one + two for one, two in pairwise(text.chinese[:limit]) if one > "\u3fff" and two > "\u3fff"}
