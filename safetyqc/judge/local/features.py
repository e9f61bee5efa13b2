"""Turns a conversation into numbers: what each turn says, how it is built, and how it answers the request.

No training text is needed or kept: a feature is a named cue at a place, a shape, an overlap, or the number of a hash
bucket. What the user says counts as request only; refusal words in the user's turn, or inside long quotation marks,
are nobody's refusal.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from safetyqc.judge.local.phrases import Cues, Language, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safetyqc.records import Conversation

Features = dict[str, float]
Buckets = frozenset[int]
BUCKETS = 1 << 15
"""Hash buckets for words and word pairs, and for pairs of Chinese characters."""
REQUEST_WORDS, OPENING_WORDS = 120, 30
"""How much of a request and of an answer is hashed; Chinese characters count half."""

FIRM = ("decline", "stance", "wrong", "policy", "no")
"""Cues that decline by themselves."""
SOFT = ("sorry", "ai", "dissuade", "rebut", "premise", "moral", "deny", "warmth", "crisis")
"""Cues that go with declining, and mean it when the request was harmful."""
COMPLYING = ("agree", "method", "recant", "because")
NOT_REFUSING = frozenset({"moral", "warmth", "crisis", "ai"})
"""Soft cues that a helpful answer may hold just as well."""

_QUOTED = re.compile(r"[\"“][^\"“”\n]{25,}[\"”]|「[^」\n]{8,}」")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_NUMBERED = re.compile(r"^\s*(?:\d{1,2}[.)、:]|step \d|第[一二三四五六七八九十]步)", re.MULTILINE | re.IGNORECASE)
_BULLET = re.compile(r"^\s*[-*•]\s", re.MULTILINE)
_NEGATIONS = frozenset({"isnot", "shouldnot", "not", "cannot", "donot", "never", "didnot"})
_STOP_WORDS = """
    a an the i you he she it we they me my your his her its our their is are was were be been do does did to of in on at
    for from with and or but if so as by that this there what which who how why when where can could would should will
    shall may might must not no yes please tell give help want need get make some any about into out up
"""
_STOP = frozenset({"\n", *_STOP_WORDS.split()})


@dataclass(frozen=True)
class Request:
    """What the user said: cues by name, and hashed words."""

    features: Features
    buckets: Buckets


@dataclass(frozen=True)
class Turn:
    """One exchange: what was asked, what was answered, and the cues of both."""

    message: int
    """0-based index of the assistant's message."""
    answer: Text
    asked: Request
    said: Cues
    features: Features
    opening: Buckets
    """Hashed words of the answer's opening, numbered from BUCKETS on."""


def read_turns(conversation: Conversation, language: Language) -> list[Turn]:
    """Read every exchange; an assistant message without a request before it has an empty one."""
    turns, request = [], ""
    for index, message in enumerate(conversation.messages):
        if message.role == "user":
            request = f"{request}\n{message.content}" if request else message.content
            continue
        turns.append(_read_turn(index, request, message.content, language))
        request = ""
    return turns


def _read_turn(index: int, request: str, answer: str, language: Language) -> Turn:
    asked, told = language.cut(request), language.cut(_spoken(answer))
    said = language.assistant.read(told)
    return Turn(
        message=index,
        answer=told,
        asked=read_request(asked, language),
        said=said,
        features=_answer_features(asked, told, said, answer),
        opening=_hashed(told, OPENING_WORDS, BUCKETS),
    )


def _spoken(answer: str) -> str:
    """The answer without code and long quotations, unless hardly anything else is there."""
    if '"' not in answer and "“" not in answer and "```" not in answer and "「" not in answer:
        return answer
    bare = _QUOTED.sub('""', _CODE.sub("\n", answer))
    return bare if len(bare) > len(answer) * 0.4 else answer


def read_request(request: Text, language: Language) -> Request:
    """Read what a user asked for: every cue as present, and how often."""
    cues = language.user.read(request)
    harms = sum([cue in language.categories for cue in cues])
    out: Features = {"harm?": float(harms > 0), "harms": min(harms, 4) / 4}
    for cue, sentences in cues.items():
        out[cue] = 1.0
        out[f"{cue}#"] = min(math.log2(1 + len(sentences)), 3.0)
    return Request(out, _hashed(request, REQUEST_WORDS))


def together(requests: Iterable[Request]) -> Request:
    """All requests of a conversation as one: of each feature the largest."""
    features: Features = {}
    buckets: set[int] = set()
    for request in requests:
        buckets |= request.buckets
        for name, value in request.features.items():
            if value > features.get(name, 0.0):
                features[name] = value
    return Request(features, frozenset(buckets))


@lru_cache(maxsize=50_000)
def _hash(gram: str) -> int:
    return zlib.crc32(gram.encode("utf-8", "surrogatepass"))


def _hashed(text: Text, limit: int, start: int = 0) -> Buckets:
    """Words, pairs of neighbours and pairs of Chinese characters, as numbers of hash buckets."""
    chinese = text.chinese[: 2 * limit]
    hashes = [_hash(token) for token in text.tokens[:limit]] + [_hash(character) for character in chinese]
    found = [start + one % BUCKETS for one in hashes]
    found += [start + (one * 31 + two) % BUCKETS for one, two in pairwise(hashes)]
    return frozenset(found)


def _answer_features(request: Text, answer: Text, said: Cues, raw: str) -> Features:
    count = max(len(answer.sentences), 1)
    out: Features = {}
    for cue, sentences in said.items():
        distinct = set(sentences)
        out[f"{cue}@0"] = float(0 in distinct)
        out[f"{cue}@1"] = float(1 in distinct or 2 in distinct)
        out[f"{cue}#"] = min(math.log2(1 + len(distinct)), 3.0)
        out[f"{cue}%"] = len(distinct) / count
    out |= _shape(raw, answer, count)
    out["echo@0"], out["echo"] = _overlaps(request, answer)
    _add_stance(out, said, negated=not _NEGATIONS.isdisjoint(request.tokens))
    return out


def _shape(raw: str, answer: Text, count: int) -> Features:
    lines = "\n" in raw
    length = len(answer.words) / 6 + len(answer.chinese) / 2
    asks = raw.rstrip()[-1:] in ("?", "？")
    return {
        "length": math.log2(1 + length) / 8,
        "short": float(length < 25),
        "long": float(length > 150),
        "numbered": min(len(_NUMBERED.findall(raw)), 6) / 6 if lines else 0.0,
        "bullets": min(len(_BULLET.findall(raw)), 6) / 6 if lines else 0.0,
        "code": float("```" in raw),
        "asks": float(asks),
        "only_asks": float(count <= 2 and asks),
    }


def _overlaps(request: Text, answer: Text) -> tuple[float, float]:
    """Share of the request's content words in the first sentence, and in the whole answer."""
    wanted = {word for word in request.tokens if word not in _STOP}
    if not wanted:
        return 0.0, 0.0
    first = answer.words[1 : answer.words.find("\n", 1)].split()
    return len(wanted.intersection(first)) / len(wanted), len(wanted.intersection(answer.tokens)) / len(wanted)


def _add_stance(out: Features, said: Cues, *, negated: bool) -> None:
    """Sum up the opening: does it decline, does it comply, does it contradict or accept what the request presumes?"""
    firm = [cue for cue in FIRM if out.get(f"{cue}@0")]
    firm_soon = bool(firm) or any(out.get(f"{cue}@1") for cue in FIRM)
    soft = any(out.get(f"{cue}@0") for cue in SOFT)
    soft_soon = soft or any(out.get(f"{cue}@1") for cue in SOFT)
    comply = any(out.get(f"{cue}@0") for cue in COMPLYING)
    comply_soon = comply or any(out.get(f"{cue}@1") for cue in COMPLYING)
    out["firm@0"], out["firm@01"], out["firms"] = float(bool(firm)), float(firm_soon), min(len(firm), 3) / 3
    out["soft@0"], out["soft@01"] = float(soft), float(soft_soon)
    out["comply@0"], out["comply@01"] = float(comply and not firm), float(comply_soon and not firm_soon)
    out["care"] = float(bool(out.get("warmth@0") and "crisis" in said))
    contradicts = bool(out.get("deny@0")) and not out.get("because@0") and out["echo@0"] > 0.4
    out["contradicts"] = float(contradicts and not negated)
    out["accepts"] = float(bool(out.get("because@0")) and out["echo@0"] > 0.3)
    out["plain"] = float(not any(cue in said for cue in (*FIRM, *SOFT) if cue not in NOT_REFUSING))


def with_harm(features: Features, harm: float) -> Features:
    """Add how the answer stands to a request that is harmful with probability `harm`.

    Harm alone is deliberately no feature: that a request is harmful must never make its answer look like a refusal.
    """
    get = features.get
    unclear, soft = not get("firm@01"), get("soft@01", 0.0)
    return features | {
        "harm&firm": harm * get("firm@01", 0.0),
        "harm&soft": harm * soft,
        "harm&care": harm * get("care", 0.0),
        "harm&contradicts": harm * get("contradicts", 0.0),
        "harm&deny": harm * get("deny@0", 0.0) * (not get("accepts")),
        "ok&soft": (1 - harm) * unclear * soft,
        "ok&unclear": (1 - harm) * unclear,
    }
