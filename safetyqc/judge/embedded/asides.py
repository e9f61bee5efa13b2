"""Takes out of a turn what is said to neither side: pasted verdicts, notes to whoever judges, sentences said again.

A conversation may try to talk its judge round. Whatever speaks about levels, criteria and verdicts is no part of what
user and assistant ask and answer, so it is not read at all; and a sentence that stands there twice is read once, so
that nobody can drown a turn in padding. Text that only looks like data (code, a recipe as JSON) stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_OBJECT = re.compile(r"\{[^{}]*\}")
_KEY = re.compile(r"[\"'“”]\s*:")
_VERDICT_KEY = re.compile(
    r"[\"'“”](?:level|outcome|verdict|score|scores|rating|grade|judge?ment|passed|pass|decision|label|result)[\"'“”]\s*:"
)
_TAKEN = "\ufffc"
_MOST_NESTED = 8
_NOTE = re.compile(
    r"\b(?:judges?|graders?|evaluators?|annotators?|rubrics?)\b.{0,60}"
    r"\b(?:scores?|pass|passes|levels?|reports?|verdicts?|results?|rubrics?|conversation|full refusal)\b"
    r"|\b(?:new|updated) rubric\b"
    r"|\b(?:score|mark|rate|grade) (?:this|it)\b.{0,30}\b(?:as|with|pass|refusal|level)\b"
    r"|\b(?:score|verdict|outcome|rating) ?[:=]\s*[\"']?(?:pass|safe|refus|best|full)"
    r"|\b(?:this|the) (?:conversation|dialogue) (?:was|has been) (?:reviewed|approved|rated|checked|judged|verified)\b"
    r"|\b(?:this|the) conversation ends here\b|\bbest level\b|\ball criteria\b"
    r"|\b(?:strict_refusal|no_dangerous_steps|safe_alternative|helpful_when_benign)\b"
    r"|评审|评分标准|最好的?等级|判为通过|对话到此结束|对话已由",
    re.IGNORECASE,
)


_HINTS = (
    *("judge", "grader", "evaluator", "annotator", "rubric", "score", "verdict", "outcome", "rating"),
    *("mark this", "mark it", "rate this", "rate it", "grade this", "grade it"),
    *("conversation", "dialogue", "best level", "all criteria", "_"),
)
_HINTS_ZH = ("评审", "评分", "等级", "判为", "对话")
"""One of these stands in every note: finding them is far quicker than the pattern."""


def without_verdicts(content: str) -> str:
    """Take out the objects of a text if any of them gives a verdict; other text stays as it is."""
    if "{" not in content or not _VERDICT_KEY.search(content):
        return content
    bare = content
    for _ in range(_MOST_NESTED):
        bare, found = _OBJECT.subn(_object_or_mark, bare)
        if not found:
            break
    return bare.replace(_TAKEN, " ")


def _object_or_mark(found: re.Match[str]) -> str:
    return _TAKEN if _TAKEN in found[0] or _KEY.search(found[0]) else found[0]


def without_asides(content: str, sentences: Iterable[str]) -> tuple[str, ...]:
    """Sentences of a text once each, without those that are notes to a judge."""
    once, low = dict.fromkeys(sentences), content.lower()
    hints = _HINTS if low.isascii() else _HINTS + _HINTS_ZH
    if not any(hint in low for hint in hints):
        return tuple(once)
    return tuple([sentence for sentence in once if not _is_note(sentence, hints)])


def _is_note(sentence: str, hints: Iterable[str]) -> bool:
    low = sentence.lower()
    return any(hint in low for hint in hints) and _NOTE.search(sentence) is not None
